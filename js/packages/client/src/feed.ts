// One subscription: its events in order, from where it began to where it stands.
//
// Owns: the cursor, the queue, handlers and the loop over it; fetching what lies before the stream it joins. Does not know:
// streams, tabs, or who else subscribes.
// Flow: a source's events → queue → handlers and loop; what the queue cannot hold is read from history when its turn comes.

import { callEach, guard } from './callbacks.js';
import type { From, Subscription } from './client.js';
import { TidingsError } from './error.js';
import type { EventOf, Reset, TidingsEvent } from './event.js';
import { NO_HISTORY, readHistory } from './history.js';
import type { Incoming } from './incoming.js';
import { QUEUE_EVENTS_MAX } from './limits.js';
import type { Context, LinkReset } from './link.js';
import type { SchemaResult, Schemas, StandardSchema } from './schema.js';

type Events = { [event: string]: unknown };
type Handler = (data: unknown, event: TidingsEvent) => void;

export interface Feed {
  readonly subscription: Subscription;
  readonly channels: readonly string[];
  /** Where it has to go on if its source goes away; `null` for what comes next. */
  readonly tail: string | null;
  joined(channels: readonly string[], position: string | null): void;
  /** Takes an event of its channels. A promise says when there is room again. */
  take(event: Incoming): void | Promise<void>;
  reset(reset: LinkReset): void;
  ended(channels: readonly string[]): void;
  refused(error: TidingsError): void;
  /** Its source is going to be another one. */
  rejoin(): void;
  /** Its source is going to be a stream that nobody shares and that begins where this says. */
  alone(): From;
}

export interface FeedHost {
  /** The source's position. */
  position(): string | null;
  /** Nothing more is wanted. */
  release(feed: Feed): void;
  /** There is no history: a stream of its own from `tail` on. */
  dedicate(feed: Feed): void;
}

export interface FeedOptions {
  from?: From | undefined;
  signal?: AbortSignal | undefined;
  schema?: Schemas | undefined;
  format?: 'json' | 'text' | undefined;
  /** Called when nothing that comes can be missed any more. */
  live?: (() => void) | undefined;
}

/** A `for await` and what it waits for. */
interface Loop {
  wanted: ((result: IteratorResult<EventOf<Events>>) => void) | null;
  failed: ((error: TidingsError) => void) | null;
}

type Item = { event: Incoming } | { resets: Reset[] } | 'end';

export function createFeed(context: Context, channels: readonly string[], options: FeedOptions, host: FeedHost): Feed {
  const { report } = context;
  const handlers = new Map<string, Set<Handler>>();
  const any = new Set<(event: TidingsEvent) => void>();
  const onReset = new Set<(reset: Reset) => void>();
  const onEnd = new Set<() => void>();
  const onRefused = new Set<(error: TidingsError) => void>();

  // Joining: not all channels come yet. Behind: what comes waits for what lies before it. Live: it comes as it is.
  let mode: 'joining' | 'behind' | 'live' | 'closed' = 'joining';
  let from = options.from ?? 'now';
  let missing = new Set(channels);
  const finished = new Set<string>();
  const queue: Item[] = [];
  /** While it is behind: what came since. */
  let later: Incoming[] = [];
  /** Events behind this one did not fit into `later`. */
  let dropped: string | null = null;
  let reading: AbortController | null = null;
  let room: (() => void)[] = [];
  /** Everything up to here was delivered. */
  let cursor: string | null = typeof from === 'object' ? from.id : null;
  /** Everything up to here is delivered or in the queue; counts while it is not live. */
  let queued: string | null = cursor;
  /** A handler runs, or the loop has not asked for more. */
  let busy = false;
  let flushing = false;
  let ownStream = false;
  let failure: TidingsError | null = null;
  let loop: Loop | null = null;
  let unsettled: Incoming | null = null;
  /** What was read from history and may still come on the stream, which is a request behind. */
  const early = new Set<string>();

  const consumed = (): boolean => loop !== null || handlers.size + any.size + onReset.size + onEnd.size > 0;

  // In.

  /** Where nothing is under way, it stands where the stream stands. */
  function follow(): string | null {
    if (mode === 'live' && queue.length === 0 && !busy && unsettled === null) cursor = host.position() ?? cursor;
    return cursor;
  }

  function push(item: Item): void {
    queue.push(item);
    flush();
  }

  function flush(): void {
    if (flushing || busy || !consumed()) return;
    flushing = true;
    while (queue.length > 0 && (loop === null || loop.wanted !== null)) {
      const item = queue.shift()!;
      if (item === 'end') {
        over();
        break;
      }
      if ('resets' in item) for (const reset of item.resets) callEach(report, onReset, reset);
      else {
        const slow = deliver(item.event);
        if (slow !== undefined) {
          // A schema that takes its time.
          busy = true;
          void slow.then(() => {
            busy = false;
            flush();
          });
          break;
        }
      }
    }
    flushing = false;
    if (queue.length <= QUEUE_EVENTS_MAX / 2) for (const go of room.splice(0)) go();
  }

  function deliver(event: Incoming): void | Promise<void> {
    busy = true;
    const checked = check(event);
    if (checked instanceof Promise) return checked.then((value) => hand(event, value));
    hand(event, checked);
  }

  function hand(incoming: Incoming, checked: { data: unknown } | null): void {
    busy = false;
    if (mode === 'closed') return;
    if (checked !== null) {
      const { event: type, channel, from, time, id } = incoming;
      const event: TidingsEvent = { event: type, data: checked.data, channel, from, time, id };
      busy = true;
      for (const handler of handlers.get(type) ?? []) guard(report, () => handler(event.data, event));
      callEach(report, any, event);
      busy = false;
      const wanted = loop?.wanted;
      if (loop !== null && wanted != null) {
        loop.wanted = loop.failed = null;
        // It counts when the loop asks for the next one.
        unsettled = incoming;
        return wanted({ done: false, value: event as EventOf<Events> });
      }
    }
    settle(incoming);
  }

  function settle({ id }: Incoming): void {
    if (id !== null) cursor = id;
  }

  function check(event: Incoming): { data: unknown } | null | Promise<{ data: unknown } | null> {
    let data: unknown;
    if (options.format === 'text') return { data: event.text() };
    try {
      data = event.json();
    } catch (cause) {
      report(new TidingsError('data_invalid', `the data of ${name(event)} is not JSON`, { cause, raw: event.text() }));
      return null;
    }
    const schema = schemaOf(options.schema, event.event);
    if (schema === undefined) return { data };
    const judge = (result: SchemaResult<unknown>): { data: unknown } | null => {
      if (result.issues === undefined) return { data: result.value };
      const message = `the data of ${name(event)} does not fit: ${result.issues.map((issue) => issue.message).join('; ')}`;
      report(new TidingsError('schema_invalid', message, { raw: event.text() }));
      return null;
    };
    const broken = (cause: unknown): null => (report(new TidingsError('schema_invalid', `the schema for ${name(event)} threw`, { cause })), null);
    try {
      const result = schema['~standard'].validate(data);
      return result instanceof Promise ? result.then(judge, broken) : judge(result);
    } catch (cause) {
      return broken(cause);
    }
  }

  // Where it stands to the stream.

  /** Goes on with what the source sends, from the source's position on. */
  function live(): void {
    mode = 'live';
    options.live?.();
    for (const event of later.splice(0)) push({ event });
    if (finished.size === channels.length) push('end');
  }

  function behind(after: string | null, until: string | null, here: string | null = host.position()): void {
    mode = 'behind';
    queued = after;
    const own = (reading = new AbortController());
    void read(after, here, until, own.signal).catch((cause: unknown) => {
      if (own.signal.aborted) return;
      const error = cause as TidingsError;
      if (NO_HISTORY.includes(error.status ?? 0)) host.dedicate(feed);
      else if (error instanceof TidingsError) feed.refused(error);
      else report(new TidingsError('http', 'history could not be read', { cause }));
    });
  }

  async function read(after: string | null, here: string | null, joinedAt: string | null, signal: AbortSignal): Promise<void> {
    // Where the stream was joined may lie ahead of what has come of it. Up to here, it has; what is read between the two
    // comes again on the stream, of those channels that it had before.
    let until = here ?? joinedAt;
    for (;;) {
      if (queue.length > 0) await new Promise<void>((resolve) => room.push(resolve));
      if (signal.aborted) return;
      const page = await readHistory(context, channels, after, until, signal);
      if (signal.aborted) return;
      if (page.reset !== null) push({ resets: resets(page.reset) });
      // A position that the log does not know: what comes on the stream is all that follows the reset.
      const unknown = page.reset !== null && ['epoch', 'ahead', 'malformed'].includes(page.reset.reason);
      for (const event of unknown ? [] : page.events) {
        const at = later.findIndex(({ id }) => id === event.id);
        if (at >= 0) later.splice(0, at + 1);
        else if (until === joinedAt && joinedAt !== here && early.size < QUEUE_EVENTS_MAX && event.id !== null) early.add(event.id);
        queued = event.id;
        push({ event });
      }
      // Not `until`, which may lie before where this began.
      queued = after = page.next;
      if (page.more && !unknown) continue;
      if (until === here && joinedAt !== null && joinedAt !== here && !unknown) until = joinedAt;
      else if (dropped === null) return live();
      else [until, dropped] = [dropped, null];
    }
  }

  function stopReading(): void {
    reading?.abort();
    reading = null;
    later = [];
    dropped = null;
    early.clear();
  }

  function resets({ reason, channels: meant, first }: LinkReset): Reset[] {
    return channels.filter((channel) => meant === null || meant.includes(channel)).map((channel) => ({ reason, channel, first }));
  }

  function over(): void {
    if (mode === 'closed') return;
    follow();
    mode = 'closed';
    stopReading();
    queue.length = 0;
    options.signal?.removeEventListener('abort', over);
    host.release(feed);
    callEach(report, onEnd, undefined);
    loop?.wanted?.({ done: true, value: undefined });
    for (const go of room.splice(0)) go();
  }

  /** A consumer has come; the next one may be about to. */
  function attached(): void {
    queueMicrotask(flush);
  }

  const subscription: Subscription = {
    channels,
    get cursor() {
      return follow();
    },
    on(event, callback) {
      const set = handlers.get(event) ?? new Set();
      handlers.set(event, set.add(callback as Handler));
      attached();
      return this;
    },
    off(event, callback) {
      const set = handlers.get(event);
      set?.delete(callback as Handler);
      if (set?.size === 0) handlers.delete(event);
      return this;
    },
    onAny(callback) {
      any.add(callback as (event: TidingsEvent) => void);
      attached();
      return this;
    },
    onReset(callback) {
      onReset.add(callback);
      attached();
      return this;
    },
    onEnd(callback) {
      if (mode === 'closed') queueMicrotask(() => guard(report, callback));
      else onEnd.add(callback);
      attached();
      return this;
    },
    onRefused(callback) {
      onRefused.add(callback);
      return this;
    },
    close: over,
    [Symbol.asyncIterator]() {
      if (loop !== null) throw new TypeError('a subscription has one loop; subscribe again for another one');
      const own: Loop = (loop = { wanted: null, failed: null });
      return {
        next: () =>
          new Promise((resolve, reject) => {
            if (unsettled !== null) settle(unsettled);
            unsettled = null;
            if (failure !== null) return reject(failure);
            if (mode === 'closed') return resolve({ done: true, value: undefined });
            own.wanted = resolve;
            own.failed = reject;
            flush();
          }),
        async return() {
          if (unsettled !== null) settle(unsettled);
          unsettled = null;
          over();
          return { done: true, value: undefined };
        },
      };
    },
  };

  const feed: Feed = {
    subscription,
    channels,
    get tail() {
      return mode === 'live' ? host.position() : queued;
    },
    joined(more, position) {
      if (mode === 'closed') return;
      failure = null;
      for (const channel of more) missing.delete(channel);
      if (mode !== 'joining' || missing.size > 0) return;
      if (from === 'now') live();
      else behind(from === 'start' ? null : from.id, position);
    },
    take(event) {
      if (mode === 'closed') return;
      follow();
      if (early.size > 0) {
        if (event.id !== null && early.delete(event.id)) return;
        if (event.id !== null && mode === 'live') early.clear();
      }
      if (mode === 'behind' || (mode === 'joining' && from !== 'now')) {
        // What is not stored goes to those who are in step.
        if (event.id === null) return;
        if (dropped === null && later.length < QUEUE_EVENTS_MAX) later.push(event);
        else {
          later = [];
          dropped = event.id;
        }
        return;
      }
      if (queue.length < QUEUE_EVENTS_MAX) {
        push({ event });
        if (event.id !== null) queued = event.id;
      } else if (ownStream) {
        push({ event });
        return new Promise((resolve) => room.push(resolve));
      } else if (event.id !== null) {
        behind(queued, event.id, event.id);
      }
      return;
    },
    reset(reset) {
      const meant = resets(reset);
      if (meant.length === 0 || mode === 'closed') return;
      stopReading();
      push({ resets: meant });
      from = 'now';
      if (missing.size === 0) live();
    },
    ended(gone) {
      for (const channel of gone) if (channels.includes(channel)) finished.add(channel);
      if (finished.size < channels.length) return;
      if (mode === 'live') push('end');
      else if (mode === 'joining') feed.joined(channels, null);
    },
    refused(error) {
      report(error);
      stopReading();
      failure = error;
      const reject = loop?.failed;
      if (loop !== null) loop.wanted = loop.failed = null;
      reject?.(error);
      callEach(report, onRefused, error);
    },
    rejoin() {
      if (mode === 'closed') return;
      const at = feed.tail;
      stopReading();
      mode = 'joining';
      missing = new Set(channels);
      finished.clear();
      if (at !== null) {
        from = { id: at };
        queued = at;
      }
    },
    alone() {
      feed.rejoin();
      const at = from;
      from = 'now';
      ownStream = true;
      return at;
    },
  };

  options.signal?.addEventListener('abort', over);
  if (options.signal?.aborted === true) queueMicrotask(over);
  return feed;
}

function schemaOf(schema: Schemas | undefined, event: string): StandardSchema | undefined {
  if (schema === undefined || '~standard' in schema) return schema as StandardSchema | undefined;
  return schema[event];
}

function name({ event, channel }: Incoming): string {
  return `${event} on ${channel}`;
}
