// A timer that is set anew again and again.
//
// Owns: that at most one of its calls is pending. Does not know: what it is for.

import type { Env } from './env.js';
import { TIMER_MAX_MS } from './limits.js';

/** Sets it anew, or, without a callback, stops it. */
export type Timer = (callback?: () => void, ms?: number) => void;

export function createTimer(env: Env): Timer {
  let pending: unknown;
  return (callback, ms = 0) => {
    env.clearTimeout(pending);
    if (callback) pending = env.setTimeout(callback, Math.min(Math.max(ms, 0), TIMER_MAX_MS));
  };
}
