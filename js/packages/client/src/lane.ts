// A source with a stream of its own.
//
// Owns: which channels the stream has, and how more are added to it. Does not know: subscriptions, or what events say.
// Flow: `want` → a stream of these channels, or one request that adds what is missing → `SourceSink`.

import type { From } from './client.js';
import type { TidingsError } from './error.js';
import { LINGER_MS, STREAM_CHANNELS_MAX } from './limits.js';
import { createLink, type Context } from './link.js';
import { without, type Source, type SourceSink } from './source.js';
import { createTimer } from './timer.js';

export interface LaneOptions {
  /** Where its first stream begins; default with what comes next. */
  start?: From | undefined;
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

export function createLane(context: Context, sink: SourceSink, { start = 'now', own }: LaneOptions = {}): Lane {
  const { env, api } = context;
  let wanted: ReadonlySet<string> = new Set();
  /** The channels of the open stream, or of the next one. */
  let streaming: ReadonlySet<string> = new Set();
  /** Of these, those that have not been told as joined. */
  let news: ReadonlySet<string> = new Set();
  let running = false;
  let target: URL | undefined;
  /** The server, or what is in front of it, cannot add channels. */
  let fixed = false;
  let misses = 0;
  /** Where the stream stood when it was refused. */
  let refusedAt: string | null = null;
  let adding = false;
  let scheduled = false;
  const linger = createTimer(env);
  const retry = createTimer(env);

  const link = createLink(context, url, {
    ...sink,
    hello(position) {
      const joined = [...news];
      news = new Set();
      if (joined.length > 0) sink.joined(joined, position);
      sync();
    },
    done() {
      const finished = [...streaming];
      over();
      sink.ended(finished);
      schedule();
    },
    refused,
  }, own?.channel);

  /** The open stream has these too. Its URL says so, for events of which only a guess says their channel. */
  function widen(channels: readonly string[]): void {
    streaming = new Set([...streaming, ...channels]);
    for (const channel of channels) target?.searchParams.append('channel', channel);
  }

  function url(): URL {
    const { searchParams } = api.stream;
    const url = own ? api.resolve(own.path) : new URL(api.stream);
    const append = (name: string, value: string): void => url.searchParams.append(name, value);
    if (own) searchParams.forEach((value, name) => append(name, value));
    else for (const channel of streaming) append('channel', channel);
    if (link.position === null && start === 'start') append('from', start);
    if (link.position === null && typeof start === 'object' && 'last' in start) append('from', `last:${start.last}`);
    return (target = url);
  }

  function open(channels: Iterable<string>): void {
    const before = streaming;
    streaming = new Set(channels);
    // After a refusal, those that were there go on where they were.
    news = refusedAt === null ? streaming : without(streaming, before);
    running = true;
    link.start(refusedAt ?? (typeof start === 'object' && 'id' in start ? start.id : null));
    refusedAt = null;
  }

  function over(): void {
    running = false;
    streaming = news = new Set();
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
    linger();
    if (wanted.size === 0) {
      if (running) linger(stop, LINGER_MS);
      return;
    }
    if (!running) return open(wanted);
    const missing = [...without(wanted, streaming)];
    if (missing.length === 0 || link.connection === null || adding) return;
    if (fixed || streaming.size + missing.length > STREAM_CHANNELS_MAX) replace(fixed ? missing : []);
    else void add(link.connection, missing);
  }

  function stop(): void {
    refusedAt = null;
    over();
    retry();
    link.stop();
  }

  /** A new stream at the same position, with `more` and without what nobody wants. */
  function replace(more: readonly string[]): void {
    streaming = new Set([...[...streaming].filter((channel) => wanted.has(channel)), ...more]);
    news = new Set([...news, ...more]);
    if (streaming.size === 0) open(wanted);
    else link.reconnect();
  }

  async function add(connection: string, channels: readonly string[]): Promise<void> {
    adding = true;
    retry();
    let position: string | undefined;
    let failed: TidingsError | undefined;
    try {
      position = await api.join(connection, channels);
    } catch (error) {
      failed = error as TidingsError;
    }
    adding = false;
    // What was added to a stream that is gone has to be added to the next one.
    if (link.connection !== connection) return sync();
    if (failed) return notAdded(failed, connection, channels);
    misses = 0;
    widen(channels);
    sink.joined(channels, position!);
    sync();
  }

  function notAdded(error: TidingsError, connection: string, channels: readonly string[]): void | Promise<void> {
    const { code, status = 0 } = error;
    if (code === 'connection_not_found' && (misses += 1) < 2) return link.reconnect();
    if (OF_A_CHANNEL.includes(code)) return channels.length === 1 ? leave(channels, error) : each(connection, channels);
    // A preflight that is refused looks like a network that is down.
    if (status === 429 || (status >= 500 && status !== 501) || (code === 'network' && api.ownOrigin(api.stream))) {
      return retry(sync, 1_000 + env.random() * 1_000);
    }
    // Who brought no credentials may name channels, but not change a stream. What else is wrong, the next stream is told.
    fixed = true;
    sync();
  }

  /** Which of them it is that is refused, each has to be asked for alone. */
  async function each(connection: string, channels: readonly string[]): Promise<void> {
    for (const channel of channels) if (link.connection === connection && wanted.has(channel)) await add(connection, [channel]);
  }

  function leave(channels: Iterable<string>, error: TidingsError): void {
    const refused = new Set(channels);
    wanted = without(wanted, refused);
    sink.refused([...refused], error);
    schedule();
  }

  function refused(error: TidingsError): void {
    const { position } = link;
    running = false;
    // Channels that were to join a stream do not end it.
    if (position !== null && news.size > 0 && news.size < streaming.size) {
      const refused = news;
      refusedAt = position;
      streaming = without(streaming, refused);
      news = new Set();
      return leave(refused, error);
    }
    if (position !== null || streaming.size === 0 || !OF_A_CHANNEL.includes(error.code)) {
      refusedAt = position;
      return sink.refused(null, error);
    }
    // One channel that is refused may not take the others with it.
    const [first] = streaming;
    if (streaming.size > 1) return open([first!]);
    streaming = new Set();
    leave([first!], error);
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
      widen(channels);
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
      linger();
      stop();
    },
  };
}
