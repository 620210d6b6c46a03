// Reading what lies between where a subscription stands and the stream that it has joined.
//
// Owns: the order in which history and what came meanwhile are put together. Does not know: who subscribes, the stream.
// Flow: pages of history → the queue of a feed, until nothing is missing in front of what the stream sends.
// It is fetched when it is needed; where that fails, a feed has a stream of its own instead, as where there is no history.

import type { TidingsError } from './error.js';
import { HISTORY_PAGE_EVENTS } from './limits.js';
import type { Incoming } from './incoming.js';
import type { Context, LinkReset } from './link.js';
import { pause } from './pause.js';
import { call } from './request.js';

/** What came on the stream while its feed was behind. */
export interface Backlog {
  /** Kept, in order. */
  later: Incoming[];
  /** Events up to this one did not fit into `later`. */
  dropped: string | null;
}

/** The feed that is behind. */
export interface Behind {
  readonly channels: readonly string[];
  readonly backlog: Backlog;
  /** Somebody else reads, or nobody. */
  readonly signal: AbortSignal;
  /** Takes an event. */
  event(event: Incoming): void;
  reset(reset: LinkReset): void;
  /** Everything up to here is in its queue. */
  reached(position: string): void;
  /** There is room for more. */
  room(): Promise<void> | void;
  /** Nothing is missing any more in front of what the stream sends. */
  live(): void;
  refused(error: TidingsError): void;
  /** There is no history. */
  dedicate(): void;
}

export interface Stretch {
  /** Behind which event it begins; `undefined` for the oldest that is retained. */
  id?: string | undefined;
  /** Or with so many of the newest events. */
  last?: number | undefined;
  /** Where it ends, because the stream sends what follows. */
  until: string | null;
}

/** An event as history lists it. */
interface Listed {
  event: string;
  channel: string;
  from?: string | null;
  time: number;
  id: string;
  data: unknown;
  /** `data` is what was published as text. */
  is_text?: boolean;
}

interface Page {
  events: Listed[];
  next: string;
  more?: boolean;
  reset?: LinkReset;
}

/** The answers to those who ask where there is no history; 200 is one with a page in place of it. */
const NO_HISTORY = [200, 400, 404, 405, 501];
/** The position is one that the log does not know: what comes on the stream is all that follows. */
const UNKNOWN = ['epoch', 'ahead', 'malformed'];

export async function catchUp(context: Context, feed: Behind, stretch: Stretch): Promise<void> {
  const { signal } = feed;
  let read = false;
  try {
    read = await readAll(context, feed, stretch);
  } catch (cause) {
    if (signal.aborted) return;
    if (cause instanceof context.errors.TidingsError) return feed.refused(cause);
    context.report(new context.errors.TidingsError('network', `no history, so a stream of its own: ${String(cause)}`, { cause }));
  }
  if (!read && !signal.aborted) feed.dedicate();
}

/** Makes the feed live, unless there is no history: then, `false`. */
async function readAll(context: Context, feed: Behind, { id: after, last, until }: Stretch): Promise<boolean> {
  const { backlog, channels, signal } = feed;
  // A finished channel sends its last event to whoever asks, again and again.
  const passed = (id: string | null = null): void => void backlog.later.splice(0, backlog.later.map((event) => event.id).lastIndexOf(id) + 1);
  const begin = after;
  for (;;) {
    await feed.room();
    if (signal.aborted) return true;
    const page = await readPage(context, channels, { after, from: last && `last:${last}`, until }, signal);
    if (page === null) return false;
    if (signal.aborted) return true;
    last = undefined;
    if (page.reset) feed.reset(page.reset);
    const unknown = page.reset !== undefined && UNKNOWN.includes(page.reset.reason);
    for (const event of unknown ? [] : page.events.map(listed)) {
      passed(event.id);
      feed.event(event);
    }
    // Not `until`, which may lie before where this began.
    feed.reached((after = page.next));
    if (page.more && !unknown) continue;
    for (const id of [begin, after]) passed(id);
    if (backlog.dropped === null) {
      // At once: what came between this look and that would find no room either.
      feed.live();
      return true;
    } else [until, backlog.dropped] = [backlog.dropped, null];
  }
}

/** One page; waits and tries again while the network or the server is down. `null` where there is no history. */
async function readPage(
  context: Context, channels: readonly string[], { until, ...begin }: { after?: string | undefined; from?: string | 0 | undefined; until: string | null },
  signal: AbortSignal,
): Promise<Page | null> {
  const query = new URLSearchParams(channels.map((channel) => ['channel', channel]));
  query.set('limit', String(HISTORY_PAGE_EVENTS));
  for (const [name, value] of Object.entries({ ...begin, until })) if (value) query.set(name, value);
  for (let attempt = 0; ; attempt += 1) {
    try {
      const page = (await call(context, 'GET', `history?${query}`, { signal })) as Page | '';
      return page && Array.isArray(page.events) && typeof page.next === 'string' ? page : null;
    } catch (error) {
      const { code, status = 0 } = error as TidingsError;
      if (NO_HISTORY.includes(status)) return null;
      const again = code === 'network' || code === 'token_failed' || context.errors.isPassing(status);
      if (!again || signal.aborted) throw error;
    }
    await pause(context.env, attempt, signal);
  }
}

/** As it would be on a stream, where text may or may not be JSON. */
function listed({ event, channel, from = null, time, id, data, is_text: isText = false }: Listed): Incoming {
  const text = (): string => (isText ? String(data) : JSON.stringify(data));
  return { event, channel, from, time, id, text, json: () => (isText ? (JSON.parse(text()) as unknown) : data) };
}
