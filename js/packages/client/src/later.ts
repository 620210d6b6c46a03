// A source whose code is fetched when it is needed.
//
// Owns: what was said to it meanwhile. Does not know: which source it is.

import { createLane } from './lane.js';
import type { Context } from './link.js';
import type { Source, SourceSink } from './source.js';

/** Tabs share a stream; where that code cannot be had, this one has a stream of its own. */
export function createSharedLater(context: Context, sink: SourceSink): Source {
  let source: Source | null = null;
  let wanted: ReadonlySet<string> = new Set();
  let closed = false;
  void import('./share.js')
    .then(({ createShared }) => createShared(context, sink), () => createLane(context, sink))
    .then((made) => {
      if (closed) return;
      source = made;
      source.want(wanted);
    });
  return {
    get position() {
      return source === null ? null : source.position;
    },
    has: (channel) => source !== null && source.has(channel),
    want(channels) {
      wanted = channels;
      source?.want(channels);
    },
    reconnect: () => source?.reconnect(),
    close() {
      closed = true;
      source?.close();
    },
  };
}
