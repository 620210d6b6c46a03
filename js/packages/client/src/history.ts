// What lies between two positions.
//
// Owns: one page of it, and trying again. Does not know: who reads it.

import { pause } from './backoff.js';
import { TidingsError } from './error.js';
import { HISTORY_PAGE_EVENTS } from './limits.js';
import { listed, type Incoming, type Listed } from './incoming.js';
import type { Context, LinkReset } from './link.js';

export interface HistoryPage {
  events: Incoming[];
  next: string;
  more: boolean;
  reset: LinkReset | null;
}

/** The answer to those who ask where there is no history. */
export const NO_HISTORY: readonly number[] = [400, 404, 405, 501];

/** One page; waits and tries again while the network or the server is down. */
export async function readHistory(
  { api, env }: Context, channels: readonly string[], after: string | null, until: string | null, signal: AbortSignal,
): Promise<HistoryPage> {
  const query: [string, string][] = channels.map((channel) => ['channel', channel]);
  query.push(['limit', String(HISTORY_PAGE_EVENTS)]);
  if (after !== null) query.push(['after', after]);
  if (until !== null) query.push(['until', until]);
  for (let attempt = 0; ; attempt += 1) {
    try {
      return page(await api.call('GET', 'history', { query, signal }));
    } catch (error) {
      const { code, status = 0 } = error as TidingsError;
      const again = code === 'network' || code === 'token_failed' || status === 429 || status === 408 || (status >= 500 && status !== 501);
      if (!again || signal.aborted) throw error;
    }
    await pause(env, attempt, signal);
  }
}

function page(answer: unknown): HistoryPage {
  const { events, next, more, reset } = answer as {
    events?: Listed[]; next?: string; more?: boolean;
    reset?: { reason: string; first?: string | null; channels?: string[] };
  };
  if (!Array.isArray(events) || typeof next !== 'string') throw new TidingsError('http', 'the answer is no history', { status: 501 });
  return {
    events: events.map(listed),
    next,
    more: more === true,
    reset: reset === undefined ? null : { reason: reset.reason, first: reset.first ?? null, channels: reset.channels ?? null },
  };
}
