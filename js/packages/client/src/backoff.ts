// How long to wait before the next try.
//
// Owns: full jitter and floors. Does not know: why a try failed, who waits, when the counting begins anew.

import { RETRY_AFTER_MAX_MS, RETRY_DEFAULT_MS, RETRY_MAX_MS, RETRY_MIN_MS } from './limits.js';
import type { RetryOptions } from './options.js';

/** Within what is sensible to be told by a server. */
export const retryMs = (ms: number): number => Math.min(Math.max(ms, RETRY_MIN_MS), RETRY_MAX_MS);

/** After so many tries that have failed in a row; the floor is the server's `retry`, and `retryAfterMs` the answer's. */
export function backoffMs(random: () => number, { base = 500, max = 30_000 }: RetryOptions, attempt: number, floorMs: number | undefined = RETRY_DEFAULT_MS, retryAfterMs?: number): number {
  const jitter = random() * Math.min(max, base * 2 ** attempt);
  // All that were told the same time would come back in the same moment without the jitter.
  return !retryAfterMs ? Math.max(jitter, floorMs) : Math.max(Math.min(retryAfterMs, RETRY_AFTER_MAX_MS), floorMs) + jitter;
}

/** `Retry-After` as ms: seconds, or a date. */
export function retryAfterMs(header: string | null | undefined, now: number): number {
  const ms = Number(header) * 1_000 || Date.parse(header ?? '') - now;
  return ms > 0 ? ms : 0;
}
