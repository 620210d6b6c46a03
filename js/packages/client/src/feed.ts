// One subscription: its events in order, from where it began to where it stands.
//
// Owns: the cursor, the queue, handlers and the loop over it. Does not know: streams, tabs, who else subscribes, or how what
// lies before the stream it joins is read.
// Flow: a source's events → queue → handlers and loop; what the queue cannot hold is read from history when its turn comes.

import { callEach, guard } from './callbacks.js';
import type { Backlog, Behind } from './catchup.js';
import type { From, Subscription } from './client.js';
import { TidingsError } from './error.js';
import type { EventOf, Reset, TidingsEvent } from './event.js';
import type { Incoming } from './incoming.js';
import { QUEUE_EVENTS_MAX } from './limits.js';
import type { Context, LinkReset } from './link.js';
import { rest } from './part.js';
import { checked, type Schemas } from './schema.js';
import { beginOf, means, type Begin } from './source.js';

type Events = { [event: string]: unknown };
type Handler = (data: unknown, event: TidingsEvent) => void;
/** Delivers what waits in the queue; a promise says when the next may be. */
type Item = () => void | Promise<void>;

export interface Feed {
  readonly subscription: Subscription;
  readonly channels: readonly string[];
  joined(channels: readonly string[]): void;
  /** Takes an event of its channels. A promise says when there is room again. */
  take(event: Incoming): void | Promise<void>;
  reset(reset: LinkReset): void;
  ended(channels: readonly string[]): void;
  /** It wants nothing more of its source, though it may still have to read what came before. */
  finished(): boolean;
  refused(error: TidingsError): void;
  /** It is asked for anew: reads on where a refusal has stopped it. */
  again(): void;
  /** Its source is going to be another one. */
  moved(): void;
}

export interface FeedHost {
  /** The source's position. */
  position(): string | null;
  /** Nothing more is wanted. */
  release(): void;
  /** A stream that nobody shares, from there. */
  dedicate(begin: Begin): void;
}

export interface FeedOptions {
  from?: From | undefined;
  signal?: AbortSignal | undefined;
  schema?: Schemas | undefined;
  format?: 'json' | 'text' | undefined;
  /** Called when nothing that comes can be missed any more. */
  live?: (() => void) | undefined;
}

/** A `for await` that waits for its next event. */
interface Waiting {
  resolve(result: IteratorResult<EventOf<Events>>): void;
  reject(error: TidingsError): void;
}

const OVER: IteratorReturnResult<undefined> = { done: true, value: undefined };

export function createFeed(context: Context, channels: readonly string[], options: FeedOptions, host: FeedHost): Feed {
  const { report } = context;
  const { signal, from = 'now', format, schema } = options;
  const handlers = new Map<string, Set<Handler>>();
  const onAny = new Set<(event: TidingsEvent) => void>();
  const onReset = new Set<(reset: Reset) => void>();
  const onEnd = new Set<() => void>();
  const onRefused = new Set<(error: TidingsError) => void>();

  // Joining: not all channels come yet. Behind: what comes waits for what lies before it. Live: it comes as it is.
  let mode: 'joining' | 'behind' | 'live' | 'closed' = 'joining';
  let begin = beginOf(from);
  let missing = new Set(channels);
  const gone = new Set<string>();
  const queue: Item[] = [];
  let backlog: Backlog;
  let reading = new AbortController();
  let room: (() => void)[] = [];
  /** Everything up to here was delivered. */
  let cursor = begin?.id ?? null;
  /** Everything up to here is delivered or in the queue; counts while it is not live. */
  let queued = cursor;
  /** Handlers run, or the loop has not asked for more. */
  let busy = false;
  let ownStream = false;
  let failure: TidingsError | undefined;
  let looped = false;
  let waiting: Waiting | undefined;
  /** The loop has asked for more: what it had counts. */
  let settle: (() => void) | undefined;

  // Out.

  /** Where nothing is under way, it stands where the stream stands. */
  function follow(): string | null {
    if (mode === 'live' && queue.length === 0 && !busy) cursor = host.position() ?? cursor;
    return cursor;
  }

  function push(item: Item): void {
    queue.push(item);
    flush();
  }

  function flush(): void {
    while (!busy && queue.length > 0 && (looped ? waiting : handlers.size + onAny.size + onReset.size + onEnd.size > 0)) {
      busy = true;
      const slow = queue.shift()!();
      if (slow) {
        void slow.then(() => {
          busy = false;
          flush();
        });
      } else busy = false;
    }
    if (queue.length <= QUEUE_EVENTS_MAX / 2) makeRoom();
  }

  function makeRoom(): void {
    for (const go of room.splice(0)) go();
  }

  const roomFor = (resolve: () => void): void => void room.push(resolve);

  /** Checks an event and hands it on. */
  function deliver(incoming: Incoming): void | Promise<void> {
    const { event, channel, id } = incoming;
    let code = 'data_invalid';
    const hand = (data: unknown): void | Promise<void> => (mode === 'closed' ? undefined : handOn(incoming, data));
    const failed = (cause: unknown): void => {
      report(new TidingsError(code, `the data of ${event} on ${channel}: ${String(cause)}`, { cause, raw: incoming.text() }));
      cursor = id ?? cursor;
    };
    let data: unknown;
    try {
      if (format === 'text') data = incoming.text();
      else {
        data = incoming.json();
        code = 'schema_invalid';
        data = checked(schema, event, data);
      }
    } catch (cause) {
      return failed(cause);
    }
    // A schema that takes its time.
    return data instanceof Promise ? data.then(hand, failed) : hand(data);
  }

  function handOn({ text, json, ...said }: Incoming, data: unknown): void | Promise<void> {
    const event: TidingsEvent = { ...said, data };
    for (const handler of handlers.get(event.event) ?? []) guard(report, () => handler(data, event));
    callEach(report, onAny, event);
    const counts = (): void => void (cursor = event.id ?? cursor);
    if (!waiting) return counts();
    waiting.resolve({ done: false, value: event as EventOf<Events> });
    waiting = undefined;
    // It counts when the loop asks for the next one.
    return new Promise((resolve) => {
      settle = () => {
        settle = undefined;
        counts();
        resolve();
      };
    });
  }

  /** To how many of its channels it goes. */
  function pushResets({ reason, channels: meant, first = null }: LinkReset): number {
    const hit = channels.filter((channel) => means(meant, [channel]));
    if (hit.length > 0) push(() => hit.forEach((channel) => callEach(report, onReset, { reason, channel, first })));
    return hit.length;
  }

  function pushEvent(event: Incoming): void {
    queued = event.id ?? queued;
    push(() => deliver(event));
  }

  function pushEnd(): void {
    push(() => {
      busy = false;
      over();
    });
  }

  // Where it stands to the stream.

  const finished = (): boolean => channels.every((channel) => gone.has(channel));

  /** Goes on with what the source sends, from the source's position on. */
  function live(): void {
    mode = 'live';
    guard(report, () => options.live?.());
    backlog.later.splice(0).forEach(pushEvent);
    if (finished()) pushEnd();
  }

  /** What comes waits until what lies before it, up to `until`, has been read. */
  function behind(begin: Begin, until: string | null): void {
    mode = 'behind';
    const { signal } = (reading = new AbortController());
    const lagging: Behind = {
      ...feed,
      backlog,
      signal,
      event: pushEvent,
      reset: pushResets,
      reached: (position) => void (queued = position),
      room: () => (queue.length > 0 ? new Promise(roomFor) : undefined),
      live,
      dedicate,
    };
    rest().then(
      ({ catchUp }) => catchUp(context, lagging, { ...begin, until }),
      (error: TidingsError) => {
        report(error);
        if (!signal.aborted) dedicate();
      },
    );
  }

  /** There is no history, so it gets a stream of its own from where it stands. */
  function dedicate(): void {
    rejoin();
    ownStream = true;
    host.dedicate(begin);
    begin = null;
  }

  function rejoin(): void {
    const at = mode === 'live' ? host.position() : queued;
    stopReading();
    mode = 'joining';
    missing = new Set(channels);
    gone.clear();
    if (at === null) return;
    begin = { id: at };
    queued = at;
  }

  function stopReading(): void {
    reading.abort();
    backlog = { later: [], dropped: null };
  }

  function refused(error: TidingsError): void {
    report(error);
    stopReading();
    failure = error;
    waiting?.reject(error);
    waiting = undefined;
    callEach(report, onRefused, error);
  }

  function over(): void {
    if (mode === 'closed') return;
    follow();
    mode = 'closed';
    stopReading();
    queue.length = 0;
    signal?.removeEventListener('abort', over);
    host.release();
    callEach(report, onEnd, undefined);
    waiting?.resolve(OVER);
    makeRoom();
  }

  /** A consumer has come; the next one may be about to. */
  function attach<T>(callbacks: Set<T>, callback: T): Subscription {
    callbacks.add(callback);
    queueMicrotask(flush);
    return subscription;
  }

  function next(): Promise<IteratorResult<EventOf<Events>>> {
    settle?.();
    return new Promise((resolve, reject) => {
      if (failure) return reject(failure);
      if (mode === 'closed') return resolve(OVER);
      waiting = { resolve, reject };
      flush();
    });
  }

  const subscription: Subscription = {
    channels,
    get cursor() {
      return follow();
    },
    on(event, callback) {
      const set = handlers.get(event) ?? new Set();
      handlers.set(event, set);
      return attach(set, callback as Handler);
    },
    off(event, callback) {
      const set = handlers.get(event);
      set?.delete(callback as Handler);
      if (set?.size === 0) handlers.delete(event);
      return subscription;
    },
    onAny: (callback) => attach(onAny, callback as (event: TidingsEvent) => void),
    onReset: (callback) => attach(onReset, callback),
    onEnd(callback) {
      if (mode === 'closed') queueMicrotask(() => guard(report, callback));
      return attach(onEnd, callback);
    },
    onRefused: (callback) => attach(onRefused, callback),
    close: over,
    [Symbol.asyncIterator]() {
      if (looped) throw new TypeError('a subscription has one loop');
      looped = true;
      return {
        next,
        async return() {
          settle?.();
          over();
          return OVER;
        },
      };
    },
  };

  const feed: Feed = {
    subscription,
    channels,
    joined(more) {
      if (mode !== 'joining') return;
      for (const channel of more) missing.delete(channel);
      if (missing.size > 0) return;
      failure = undefined;
      if (begin) behind(begin, host.position());
      else live();
    },
    take(event) {
      const { id } = event;
      const { later } = backlog;
      follow();
      if (mode === 'behind' || (mode === 'joining' && begin)) {
        // What is not stored goes to those who are in step.
        if (id === null) return;
        if (backlog.dropped === null && later.length < QUEUE_EVENTS_MAX) later.push(event);
        else {
          backlog.later = [];
          backlog.dropped = id;
        }
      } else if (queue.length < QUEUE_EVENTS_MAX || ownStream) {
        pushEvent(event);
        if (queue.length > QUEUE_EVENTS_MAX) return new Promise(roomFor);
      } else if (id !== null) behind({ id: queued! }, id);
      return undefined;
    },
    reset(reset) {
      // What lies before it of channels that are not meant is still owed.
      if (pushResets(reset) < channels.length) return;
      stopReading();
      begin = null;
      if (missing.size === 0) live();
    },
    finished,
    ended(more) {
      for (const channel of more) gone.add(channel);
      if (!finished()) return;
      if (mode === 'live') pushEnd();
      else feed.joined(channels);
    },
    refused,
    again() {
      if (!failure) return;
      failure = undefined;
      if (mode === 'behind') rejoin();
    },
    moved: rejoin,
  };

  stopReading();
  signal?.addEventListener('abort', over);
  if (signal?.aborted) queueMicrotask(over);
  return feed;
}
