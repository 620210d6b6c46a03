// How long to wait before the next try.
//
// Owns: full jitter and floors. Does not know: why a try failed, who waits, when the counting begins anew.

import type { Env } from './env.js';
import { RETRY_AFTER_MAX_MS, RETRY_DEFAULT_MS, RETRY_MAX_MS, RETRY_MIN_MS } from './limits.js';
import type { RetryOptions } from './options.js';

export interface Wait {
  /** Tries that have failed in a row. */
  attempt: number;
  /** The server's `retry`, in ms. */
  floorMs?: number | undefined;
  /** The answer's `Retry-After`. */
  retryAfterMs?: number | undefined;
}

/** Within what is sensible to be told by a server. */
export const retryMs = (ms: number): number => Math.min(Math.max(ms, RETRY_MIN_MS), RETRY_MAX_MS);

export function backoffMs(random: () => number, { base = 500, max = 30_000 }: RetryOptions, { attempt, floorMs = RETRY_DEFAULT_MS, retryAfterMs }: Wait): number {
  const jitter = random() * Math.min(max, base * 2 ** attempt);
  // All that were told the same time would come back in the same moment without the jitter.
  return retryAfterMs === undefined ? Math.max(jitter, floorMs) : Math.max(Math.min(retryAfterMs, RETRY_AFTER_MAX_MS), floorMs) + jitter;
}

/** `Retry-After` as ms: seconds, or a date. */
export function retryAfterMs(header: string | null, now: number): number | undefined {
  const ms = Number(header) * 1_000 || Date.parse(header ?? '') - now;
  return ms > 0 ? ms : undefined;
}

/** The wait before a request beside the stream is repeated; an abort ends it. */
export function pause(env: Env, attempt: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = env.setTimeout(resolve, 500 + env.random() * Math.min(30_000, 500 * 2 ** attempt));
    signal.addEventListener('abort', () => {
      env.clearTimeout(timer);
      resolve();
    }, { once: true });
  });
}
