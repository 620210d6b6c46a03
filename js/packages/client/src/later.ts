// A source whose code is fetched when it is needed, and the rest with it: a tab whose leader goes away needs that, and by then the
// site may have been deployed anew.
//
// Owns: what was said to it meanwhile. Does not know: which source it is.

import type { TidingsError } from './error.js';
import { createLane } from './lane.js';
import type { Context } from './link.js';
import { sharing } from './part.js';
import type { Source, SourceSink } from './source.js';

/** Tabs share a stream; where that code cannot be had, this one has a stream of its own. */
export function createSharedLater(context: Context, sink: SourceSink): Source {
  let source: Source | undefined;
  let wanted: ReadonlySet<string> | undefined = new Set();
  void sharing()
    .then(
      ([{ createShared }, parts]) => createShared(context, sink, createLane, parts),
      (error: TidingsError) => {
        context.report(error);
        return createLane(context, sink);
      },
    )
    .then((made) => {
      if (wanted) (source = made).want(wanted);
    });
  return {
    get position() {
      return source?.position ?? null;
    },
    has: (channel) => !!source?.has(channel),
    want(channels) {
      wanted = channels;
      source?.want(channels);
    },
    reconnect: () => source?.reconnect(),
    close() {
      wanted = undefined;
      source?.close();
    },
  };
}
