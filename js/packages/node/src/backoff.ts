// Owns: the wait before each attempt. Does not know: why the last one failed, the clock.
// Flow: in ← attempts so far, what the server asked for, a random number · out → milliseconds.

import { RETRY_BASE_MS, RETRY_MAX_MS } from './limits.js';

export interface Backoff {
  /** Attempts that failed since the last reset. */
  readonly attempts: number;
  /** The wait before the next attempt. What the server asked for is a floor and the jitter comes on top: a floor that
   * all clients share would bring them back together. */
  next(floorMs?: number): number;
  reset(): void;
}

export interface BackoffOptions {
  baseMs?: number | undefined;
  maxMs?: number | undefined;
  floorMaxMs: number;
  random?: (() => number) | undefined;
}

/** Full jitter over a window that doubles. */
export function createBackoff(options: BackoffOptions): Backoff {
  const { baseMs = RETRY_BASE_MS, maxMs = RETRY_MAX_MS, floorMaxMs, random = Math.random } = options;
  let attempts = 0;
  return {
    get attempts() {
      return attempts;
    },
    next(floorMs = 0) {
      const window = Math.min(baseMs * 2 ** attempts, maxMs);
      attempts += 1;
      return Math.min(floorMs, floorMaxMs) + window * random();
    },
    reset() {
      attempts = 0;
    },
  };
}
