// The subscriptions of one client.
//
// Owns: which subscription hangs on which source, and what the sources have to carry. Does not know: streams, data.

import type { Subscription } from './client.js';
import { TidingsError } from './error.js';
import { createFeed, type Feed, type FeedOptions } from './feed.js';
import { createLane, type LaneOptions } from './lane.js';
import { STREAM_CHANNELS_MAX } from './limits.js';
import type { Context } from './link.js';
import type { Source, SourceSink } from './source.js';
import type { Status } from './status.js';

export interface Hub {
  /** `own` is the path of a stream for this subscription alone. */
  subscribe(channels: readonly string[], options: FeedOptions, own?: string): Subscription;
  readonly status: Status;
  reconnect(): void;
  close(): void;
}

/** Makes the source that subscriptions share: a stream of this page, or of another tab. */
export type SourceMaker = (context: Context, sink: SourceSink) => Source;

interface Track {
  source: Source;
  readonly feeds: Set<Feed>;
  status: Status;
  readonly shared: boolean;
}

export function createHub(context: Context, onStatus: (status: Status) => void, share: SourceMaker = (ctx, sink) => createLane(ctx, sink)): Hub {
  const tracks = new Set<Track>();
  let closed: Status | null = null;
  let told: Status = { state: 'idle' };

  function track(make: SourceMaker, shared: boolean): Track {
    const feeds = new Set<Feed>();
    const own = (channel: string): Feed[] => [...feeds].filter((feed) => feed.channels.includes(channel));
    const sink: SourceSink = {
      joined(channels, position) {
        for (const feed of [...feeds]) {
          const more = feed.channels.filter((channel) => channels.includes(channel));
          if (more.length > 0) feed.joined(more, position);
        }
      },
      event(event) {
        let slow: Promise<void>[] | undefined;
        for (const feed of own(event.channel)) {
          const held = feed.take(event);
          if (held !== undefined) (slow ??= []).push(held);
        }
        return slow === undefined ? undefined : Promise.all(slow).then(() => {});
      },
      reset(reset) {
        for (const feed of [...feeds]) feed.reset(reset);
      },
      ended(channels) {
        for (const feed of [...feeds]) feed.ended(channels);
      },
      refused(channels, error) {
        for (const feed of [...feeds]) {
          if (channels !== null && !feed.channels.some((channel) => channels.includes(channel))) continue;
          if (channels !== null) denied.add(feed);
          feed.refused(error);
        }
      },
      moved() {
        for (const feed of [...feeds]) feed.rejoin();
      },
      status(status) {
        it.status = status;
        tell();
      },
    };
    const it: Track = { source: undefined as unknown as Source, feeds, status: { state: 'idle' }, shared };
    it.source = make(context, sink);
    tracks.add(it);
    return it;
  }

  /** That of the stream that is shared; others only help out. */
  function tell(): void {
    const all = [...tracks];
    const first = all.find(({ shared, feeds }) => shared && feeds.size > 0) ?? all.find(({ feeds }) => feeds.size > 0) ?? all[0];
    const next = closed ?? first?.status ?? { state: 'idle' };
    if (next !== told) onStatus((told = next));
  }

  function want({ source, feeds }: Track): void {
    source.want(new Set([...feeds].filter((feed) => !denied.has(feed)).flatMap((feed) => feed.channels)));
  }

  function place(feed: Feed): Track {
    for (const it of tracks) {
      const all = new Set([...it.feeds].flatMap((other) => other.channels).concat(feed.channels));
      if (it.shared && all.size <= STREAM_CHANNELS_MAX) return it;
    }
    return track([...tracks].every((it) => !it.shared) ? share : (ctx, sink) => createLane(ctx, sink), true);
  }

  function join(feed: Feed, it: Track): void {
    home.set(feed, it);
    it.feeds.add(feed);
    const there = feed.channels.filter((channel) => it.source.has(channel));
    want(it);
    if (there.length > 0) feed.joined(there, it.source.position);
  }

  const home = new Map<Feed, Track>();
  /** Refused for their channels: not asked for again before `reconnect()`. */
  const denied = new Set<Feed>();

  function leave(feed: Feed): void {
    const it = home.get(feed);
    home.delete(feed);
    denied.delete(feed);
    if (it === undefined) return;
    it.feeds.delete(feed);
    want(it);
    if (it.shared) return;
    it.source.close();
    tracks.delete(it);
    tell();
  }

  function alone(options: LaneOptions): Track {
    return track((ctx, sink) => createLane(ctx, sink, options), false);
  }

  return {
    subscribe(names, options, own) {
      if (closed !== null) throw new TidingsError('closed', 'the client is closed');
      const channels = [...new Set(names)];
      if (channels.length === 0) throw new TypeError('a subscription needs a channel');
      if (channels.length > STREAM_CHANNELS_MAX) throw new RangeError(`a subscription has at most ${STREAM_CHANNELS_MAX} channels`);
      const feed = createFeed(context, channels, options, {
        position: () => home.get(feed)?.source.position ?? null,
        release: leave,
        dedicate() {
          const at = feed.alone();
          leave(feed);
          join(feed, alone({ start: at === 'now' ? undefined : at }));
        },
      });
      if (options.signal?.aborted !== true) join(feed, own === undefined ? place(feed) : alone({ own: { path: own, channel: channels[0]! } }));
      return feed.subscription;
    },
    get status() {
      return told;
    },
    reconnect() {
      const again = denied.size > 0;
      denied.clear();
      for (const it of tracks) {
        it.source.reconnect();
        if (again) want(it);
      }
    },
    close() {
      closed = { state: 'closed', reason: { code: 'aborted', message: 'close() was called' } };
      for (const { feeds } of tracks) for (const feed of [...feeds]) feed.subscription.close();
      for (const { source } of tracks) source.close();
      tell();
    },
  };
}
