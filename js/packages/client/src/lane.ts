// A source with a stream of its own.
//
// Owns: which channels the stream has, and how more are added to it. Does not know: subscriptions, or what events say.
// Flow: `want` → a stream of these channels, or one request that adds what is missing → `SourceSink`.

import { TidingsError } from './error.js';
import { LINGER_MS, STREAM_CHANNELS_MAX } from './limits.js';
import { createLink, type Context } from './link.js';
import type { Source, SourceSink } from './source.js';

export interface LaneOptions {
  /** Where its first stream begins, if not with what comes next. */
  start?: 'start' | { readonly id: string } | undefined;
  /** The stream of one channel that has a path of its own. */
  own?: { readonly path: string; readonly channel: string } | undefined;
}

export interface Lane extends Source {
  /** The server's name of the open stream. */
  readonly connection: string | null;
  /** Somebody else has added channels to the stream; whether it is the one that is open. */
  adopt(connection: string, channels: readonly string[]): boolean;
}

/** Refusals that are about a channel, not about the caller. */
const OF_A_CHANNEL = ['forbidden', 'channel_name_invalid', 'channels_too_many'];

export function createLane(context: Context, sink: SourceSink, { start, own }: LaneOptions = {}): Lane {
  const { env, api, report } = context;
  let wanted: ReadonlySet<string> = new Set();
  /** The channels of the open stream, or of the next one. */
  let streaming = new Set<string>();
  /** Of these, those that have not been told as joined. */
  let news = new Set<string>();
  let running = false;
  /** The server, or what is in front of it, cannot add channels. */
  let fixed = false;
  let misses = 0;
  /** Where the stream stood when it was refused. */
  let refusedAt: string | null = null;
  let adding = false;
  let scheduled = false;
  let linger: unknown;
  let retry: unknown;

  const link = createLink(context, url, {
    hello(position) {
      const joined = [...news];
      news = new Set();
      if (joined.length > 0) sink.joined(joined, position);
      sync();
    },
    event: (event) => sink.event(event),
    moved: () => {},
    reset: (reset) => sink.reset(reset),
    done() {
      running = false;
      const finished = [...streaming];
      streaming = new Set();
      news = new Set();
      sink.ended(finished);
      schedule();
    },
    refused,
    status: (status) => sink.status(status),
  }, own?.channel);

  function url(): URL {
    const url = new URL(own === undefined ? api.stream : api.resolve(own.path));
    if (own !== undefined) {
      for (const [name, value] of api.stream.searchParams) url.searchParams.append(name, value);
      return url;
    }
    for (const channel of streaming) url.searchParams.append('channel', channel);
    if (link.position === null && start === 'start') url.searchParams.set('from', 'start');
    return url;
  }

  function open(channels: Iterable<string>): void {
    // After a refusal, those that were there go on where they were.
    const before = refusedAt === null ? new Set<string>() : streaming;
    streaming = new Set(channels);
    news = new Set([...streaming].filter((channel) => !before.has(channel)));
    running = true;
    link.start(refusedAt ?? (typeof start === 'object' ? start.id : null));
    refusedAt = null;
  }

  function schedule(): void {
    if (scheduled) return;
    scheduled = true;
    // What is subscribed in one go is one request.
    queueMicrotask(() => {
      scheduled = false;
      sync();
    });
  }

  function sync(): void {
    env.clearTimeout(linger);
    if (wanted.size === 0) {
      if (running) linger = env.setTimeout(stop, LINGER_MS);
      return;
    }
    if (!running) return open(wanted);
    const missing = [...wanted].filter((channel) => !streaming.has(channel));
    if (missing.length === 0 || link.connection === null || adding) return;
    if (fixed || streaming.size + missing.length > STREAM_CHANNELS_MAX) return replace(fixed ? missing : []);
    void add(link.connection, missing);
  }

  function stop(): void {
    running = false;
    refusedAt = null;
    streaming = new Set();
    news = new Set();
    env.clearTimeout(retry);
    link.stop();
  }

  /** A new stream at the same position, with `more` and without what nobody wants. */
  function replace(more: readonly string[]): void {
    streaming = new Set([...[...streaming].filter((channel) => wanted.has(channel)), ...more]);
    news = new Set([...news, ...more]);
    if (streaming.size === 0) return open(wanted);
    link.reconnect();
  }

  async function add(connection: string, channels: readonly string[]): Promise<void> {
    adding = true;
    env.clearTimeout(retry);
    let failed: TidingsError | null = null;
    let position: string | null = null;
    try {
      const answer = (await api.call('POST', `connections/${connection}/channels`, { body: { channels } })) as { position?: unknown };
      if (typeof answer?.position === 'string') position = answer.position;
      else failed = new TidingsError('http', 'the answer names no position', { status: 501 });
    } catch (error) {
      failed = error as TidingsError;
    }
    adding = false;
    // What was added to a stream that is gone has to be added to the next one.
    if (link.connection !== connection) return sync();
    if (failed === null) {
      misses = 0;
      for (const channel of channels) streaming.add(channel);
      sink.joined(channels, position);
      return sync();
    }
    notAdded(failed, connection, channels);
  }

  function notAdded(error: TidingsError, connection: string, channels: readonly string[]): void {
    const { code, status = 0 } = error;
    if (code === 'connection_not_found' && (misses += 1) < 2) return link.reconnect();
    if (OF_A_CHANNEL.includes(code)) {
      if (channels.length === 1) return leave(channels, error);
      // Which of them it is, each has to be asked for alone.
      return void (async () => {
        for (const channel of channels) if (link.connection === connection && wanted.has(channel)) await add(connection, [channel]);
      })();
    }
    if (status === 429 || status >= 500 && status !== 501 || code === 'network' && !crossOrigin()) {
      retry = env.setTimeout(sync, 1_000 + env.random() * 1_000);
      return;
    }
    // Who brought no credentials may name channels, but not change a stream.
    if (![401, 404, 405, 501].includes(status) && code !== 'network') report(error);
    fixed = true;
    sync();
  }

  function crossOrigin(): boolean {
    // A preflight that is refused looks like a network that is down.
    return !api.ownOrigin(api.stream);
  }

  function leave(channels: readonly string[], error: TidingsError): void {
    wanted = new Set([...wanted].filter((channel) => !channels.includes(channel)));
    sink.refused(channels, error);
    schedule();
  }

  function refused(error: TidingsError): void {
    running = false;
    const [first, ...others] = streaming;
    // Channels that were to join a stream do not end it.
    if (news.size > 0 && others.length >= news.size && link.position !== null) {
      const refused = [...news];
      refusedAt = link.position;
      for (const channel of refused) streaming.delete(channel);
      news = new Set();
      leave(refused, error);
      return;
    }
    if (!OF_A_CHANNEL.includes(error.code) || first === undefined || link.position !== null) {
      refusedAt = link.position;
      return sink.refused(null, error);
    }
    // One channel that is refused may not take the others with it.
    if (others.length > 0) return open([first]);
    streaming = new Set();
    leave([first], error);
  }

  return {
    get position() {
      return link.position;
    },
    get connection() {
      return link.connection;
    },
    adopt(connection, channels) {
      if (link.connection !== connection) return false;
      for (const channel of channels) streaming.add(channel);
      return true;
    },
    has: (channel) => running && streaming.has(channel) && !news.has(channel),
    want(channels) {
      wanted = channels;
      schedule();
    },
    reconnect() {
      if (running) link.reconnect();
      else schedule();
    },
    close() {
      wanted = new Set();
      env.clearTimeout(linger);
      stop();
    },
  };
}
