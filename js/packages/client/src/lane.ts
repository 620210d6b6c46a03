// A source with a stream of its own.
//
// Owns: which channels the stream has, and how more are added to it. Does not know: subscriptions, or what events say.
// Flow: `want` → a stream of these channels, or one request that adds what is missing → `SourceSink`.

import type { TidingsError } from './error.js';
import type { Joining } from './join.js';
import { LINGER_MS, STREAM_CHANNELS_MAX } from './limits.js';
import { createLink, type Context } from './link.js';
import { rest } from './part.js';
import { without, type Begin, type Source, type SourceSink } from './source.js';
import { createTimer } from './timer.js';
import type { Outcome } from './transport.js';

export interface LaneOptions {
  /** Where its first stream begins; default with what comes next. */
  begin?: Begin | undefined;
  /** The path of a stream of its own, which has one channel. */
  own?: { readonly path: string; readonly channel: string } | undefined;
}

export interface Lane extends Source {
  /** The server's name of the open stream. */
  readonly connection: string | null;
  /** The open stream is about to have these too: somebody else has added them. */
  widen(channels: readonly string[]): void;
}

export type LaneMaker = typeof createLane;

export function createLane(context: Context, sink: SourceSink, { begin = null, own }: LaneOptions = {}): Lane {
  const { env, api, report } = context;
  let wanted: ReadonlySet<string> = new Set();
  /** The channels of the open stream, or of the next one. */
  let streaming: ReadonlySet<string> = new Set();
  /** Those that have been told as joined; of them, those that are streaming are there. */
  let told: ReadonlySet<string> = new Set();
  let running = false;
  /** The URL of the open stream, or of the one before. */
  let target: URL | undefined;
  /** The server, or what is in front of it, cannot add channels. */
  let fixed = false;
  /** Where the stream stood when it was refused. */
  let refusedAt: string | null = null;
  let adding = false;
  const linger = createTimer(env);

  const link = createLink(context, url, {
    ...sink,
    hello() {
      told = streaming;
      sink.joined([...told]);
      sync();
    },
    // From where the stream stands.
    joined(channels) {
      widen(channels);
      told = new Set([...told, ...channels]);
      sink.joined(channels);
    },
    done() {
      const finished = [...streaming];
      over();
      sink.ended(finished);
    },
    refused,
  }, own?.channel);

  const joining: Joining = {
    misses: 0,
    widen,
    refused: sink.refused,
  };

  /** The open stream has these too, or is about to. Its URL says so, for events of which only a guess says their channel. */
  function widen(channels: readonly string[]): void {
    nameInUrl(without(new Set(channels), streaming));
    streaming = new Set([...streaming, ...channels]);
  }

  function nameInUrl(channels: Iterable<string>): void {
    for (const channel of channels) target?.searchParams.append('channel', channel);
  }

  function url(): URL {
    target = api.resolve(own?.path ?? api.stream);
    target.search = api.stream.search;
    if (!own) nameInUrl(streaming);
    if (begin && link.position === null) target.searchParams.append('from', begin.last === undefined ? 'start' : `last:${begin.last}`);
    return target;
  }

  function open(channels: Iterable<string>): void {
    streaming = new Set(channels);
    running = true;
    // After a refusal, those that were there go on where they were.
    link.start(refusedAt ?? begin?.id ?? null);
    refusedAt = null;
  }

  function over(): void {
    running = false;
    streaming = told = new Set();
  }

  /** What is subscribed in one go is one request. */
  function schedule(): void {
    queueMicrotask(sync);
  }

  function sync(): void {
    linger();
    if (wanted.size === 0) {
      if (running) linger(stop, LINGER_MS);
      return;
    }
    if (!running) return open(wanted);
    const missing = without(wanted, streaming);
    if (missing.size === 0 || link.connection === null || adding) return;
    if (fixed || streaming.size + missing.size > STREAM_CHANNELS_MAX) replace(missing);
    else void add([...missing]);
  }

  function stop(): void {
    refusedAt = null;
    over();
    link.stop();
  }

  /** A new stream at the same position, without what nobody wants; with what is missing, if that cannot be added to it. */
  function replace(missing: ReadonlySet<string>): void {
    streaming = fixed ? wanted : without(wanted, missing);
    if (streaming.size === 0) open(wanted);
    else link.reconnect();
  }

  async function add(channels: readonly string[]): Promise<void> {
    adding = true;
    try {
      fixed = await (await rest()).join(context, link, joining, channels);
    } catch (error) {
      fixed = true;
      report(error as TidingsError);
    }
    adding = false;
    sync();
  }

  function refused(error: TidingsError, closed: () => void, named?: Outcome['channels']): void {
    running = false;
    refusedAt = link.position;
    // Neither channels that nobody wants any more nor those that were to join a stream end it.
    const unwanted = without(streaming, wanted);
    const suspects = named ?? (unwanted.size > 0 ? unwanted : without(streaming, told));
    const others = without(streaming, suspects);
    const whole = others.size === streaming.size || !(named || others.size);
    if (whole || !without(wanted, suspects).size) closed();
    if (whole) return sink.refused(null, error);
    streaming = others;
    sink.refused([...suspects], error);
  }

  return {
    get position() {
      return link.position;
    },
    get connection() {
      return link.connection;
    },
    widen,
    has: (channel) => running && streaming.has(channel) && told.has(channel),
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
