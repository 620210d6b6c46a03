// Waiting beside the stream.
//
// Owns: waits that an abort ends. Does not know: who waits for what.

import type { Env } from './env.js';
import { TIMER_MAX_MS } from './limits.js';

export function sleep(env: Env, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = env.setTimeout(over, Math.min(Math.max(ms, 0), TIMER_MAX_MS));
    function over(): void {
      env.clearTimeout(timer);
      signal.removeEventListener('abort', over);
      resolve();
    }
    signal.addEventListener('abort', over);
  });
}

/** The wait before a request is repeated. */
export function pause(env: Env, attempt: number, signal: AbortSignal): Promise<void> {
  return sleep(env, 500 + env.random() * Math.min(30_000, 500 * 2 ** attempt), signal);
}
