// How long to wait before the next try.
//
// Owns: full jitter, floors, when the counting begins anew. Does not know: why a try failed, who waits.

import type { Env } from './env.js';
import { RETRY_AFTER_MAX_MS, RETRY_DEFAULT_MS, RETRY_MAX_MS, RETRY_MIN_MS } from './limits.js';
import type { RetryOptions } from './options.js';

export interface Backoff {
  /** Tries that failed in a row. */
  readonly attempt: number;
  /** The server's `retry`, in ms. */
  floor(ms: number): void;
  /** One more try has failed; how long to wait. */
  next(retryAfterMs?: number | undefined): number;
  /** The server stops, and its streams come back within `ms`. */
  spread(ms: number): number;
  /** A stream has been open so long; whether that is long enough to begin anew. */
  opened(ms: number): boolean;
  /** `reconnect()`: the next try is the first one. */
  reset(): void;
  readonly exhausted: boolean;
}

export function createBackoff(options: RetryOptions | undefined, random: () => number): Backoff {
  const { base = 500, max = 30_000, resetAfter = 10_000, limit = Infinity } = options ?? {};
  let attempt = 0;
  let floorMs = RETRY_DEFAULT_MS;
  return {
    get attempt() {
      return attempt;
    },
    get exhausted() {
      return attempt >= limit;
    },
    floor(ms) {
      floorMs = Math.min(Math.max(ms, RETRY_MIN_MS), RETRY_MAX_MS);
    },
    next(retryAfterMs) {
      const jitter = random() * Math.min(max, base * 2 ** Math.min(attempt, 30));
      attempt += 1;
      // All that were told the same time would come back in the same moment without the jitter.
      if (retryAfterMs !== undefined) return Math.max(Math.min(retryAfterMs, RETRY_AFTER_MAX_MS), floorMs) + jitter;
      return Math.max(jitter, floorMs);
    },
    spread(ms) {
      attempt += 1;
      return random() * Math.min(ms, RETRY_MAX_MS);
    },
    opened(ms) {
      if (ms < resetAfter) return false;
      attempt = 0;
      return true;
    },
    reset() {
      attempt = 0;
    },
  };
}

/** `Retry-After` as ms: seconds, or a date. */
export function retryAfterMs(header: string | null, now: number): number | undefined {
  if (header === null || header === '') return undefined;
  const ms = /^\d+$/.test(header) ? Number(header) * 1_000 : Date.parse(header) - now;
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined;
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
