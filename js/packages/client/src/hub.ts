// The subscriptions of one client.
//
// Owns: which subscription hangs on which source, and what the sources have to carry. Does not know: streams, data.

import type { Subscription } from './client.js';
import { TidingsError } from './error.js';
import { createFeed, type Feed, type FeedOptions } from './feed.js';
import { createLane, type LaneOptions } from './lane.js';
import { STREAM_CHANNELS_MAX } from './limits.js';
import type { Context } from './link.js';
import { means, type Source, type SourceSink } from './source.js';
import type { Status } from './status.js';

export interface Hub {
  /** `own` is a stream for this subscription alone. */
  subscribe(channels: string | readonly string[], options?: FeedOptions, own?: LaneOptions['own']): Subscription;
  readonly status: Status;
  readonly closed: boolean;
  reconnect(): void;
  close(): void;
}

/** Makes a source: a stream of this page, or of another tab. With options, it is one that no other subscription shares. */
export type SourceMaker = (context: Context, sink: SourceSink, options?: LaneOptions) => Source;

/** A source and those that hang on it. */
interface Track {
  readonly source: Source;
  readonly feeds: Set<Feed>;
  readonly shared: boolean;
  status: Status;
}

const IDLE: Status = { state: 'idle' };

export function createHub(context: Context, onStatus: (status: Status) => void, share: SourceMaker): Hub {
  /** Those that are shared come first. */
  let tracks: Track[] = [];
  /** Refused for their channels: nothing comes, and they are not asked for again, before `reconnect()`. */
  const denied = new Set<Feed>();
  let closed: Status | undefined;
  let told = IDLE;

  /** Neither those nor such as are finished, though they may still have to read what came before. */
  const asking = (feeds: Set<Feed>): Feed[] => [...feeds].filter((feed) => !denied.has(feed) && !feed.finished());

  function track(make: SourceMaker, options?: LaneOptions): Track {
    const shared = !options;
    const feeds = new Set<Feed>();
    // One may be closed by the handler of another.
    const each = (call: (feed: Feed) => void): void => asking(feeds).forEach((feed) => feeds.has(feed) && call(feed));
    const source = make(context, {
      joined: (channels) => each((feed) => feed.joined(channels)),
      event(event) {
        let held: void | Promise<void> = undefined;
        // Only a stream that one feed has for itself is ever held.
        each((feed) => feed.channels.includes(event.channel) && (held = feed.take(event)));
        return held;
      },
      reset: (reset) => each((feed) => feed.reset(reset)),
      ended(channels) {
        each((feed) => feed.ended(channels));
        want(it);
      },
      refused(channels, error) {
        each((feed) => {
          if (!means(channels, feed.channels)) return;
          if (channels) {
            // What it misses from here on it reads when it is asked for anew.
            feed.moved();
            denied.add(feed);
          }
          feed.refused(error);
        });
        if (channels) want(it);
      },
      moved: () => each((feed) => feed.moved()),
      status(status) {
        it.status = status;
        tell();
      },
    }, options);
    const it: Track = { source, feeds, shared, status: IDLE };
    tracks = shared ? [it, ...tracks] : [...tracks, it];
    return it;
  }

  /** That of the stream that is shared; others only help out. */
  function tell(): void {
    const next = closed ?? (tracks.find(({ feeds }) => feeds.size > 0) ?? tracks[0])?.status ?? IDLE;
    if (next !== told) onStatus((told = next));
  }

  const channelsOf = (feeds: Iterable<Feed>): Set<string> => new Set([...feeds].flatMap(({ channels }) => channels));

  function want({ source, feeds }: Track): void {
    source.want(channelsOf(asking(feeds)));
  }

  /** A stream that is shared and has room. */
  function place(feed: Feed): Track {
    const room = tracks.find(({ shared, feeds }) => shared && channelsOf([...feeds, feed]).size <= STREAM_CHANNELS_MAX);
    return room ?? track(tracks[0]?.shared ? createLane : share);
  }

  function subscribe(names: string | readonly string[], options: FeedOptions = {}, own?: LaneOptions['own']): Subscription {
    if (closed) throw new TidingsError('closed', 'the client is closed');
    const channels = [...new Set([names].flat())];
    if (channels.length < 1 || channels.length > STREAM_CHANNELS_MAX) throw new RangeError(`a subscription has 1 to ${STREAM_CHANNELS_MAX} channels`);
    let home: Track | undefined;

    function join(it: Track): void {
      home = it;
      it.feeds.add(feed);
      want(it);
      feed.joined(channels.filter((channel) => it.source.has(channel)));
    }

    function leave(): void {
      const it = home;
      home = undefined;
      denied.delete(feed);
      if (!it) return;
      it.feeds.delete(feed);
      want(it);
      if (it.shared) return;
      it.source.close();
      tracks = tracks.filter((other) => other !== it);
      tell();
    }

    const feed = createFeed(context, channels, options, {
      position: () => home?.source.position ?? null,
      release: leave,
      dedicate(begin) {
        leave();
        join(track(createLane, { begin }));
      },
    });
    if (!options.signal?.aborted) join(own === undefined ? place(feed) : track(createLane, { own }));
    return feed.subscription;
  }

  return {
    subscribe,
    get status() {
      return told;
    },
    get closed() {
      return !!closed;
    },
    reconnect() {
      denied.clear();
      for (const it of tracks) {
        for (const feed of it.feeds) feed.again();
        it.source.reconnect();
        want(it);
      }
    },
    close() {
      closed = { state: 'closed', reason: { code: 'aborted', message: 'the client is closed' } };
      for (const { source, feeds } of tracks) {
        for (const feed of feeds) feed.subscription.close();
        source.close();
      }
      tell();
    },
  };
}
