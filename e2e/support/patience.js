// How often a test looks for what nobody tells it.
//
// Owns: the time between two looks. Does not know: what is looked for.

import { setTimeout as sleep } from 'node:timers/promises';

const LOOK_MIN_MS = 10;
const LOOK_MAX_MS = 250;
/** Of the time that was waited already. */
const SHARE = 1 / 8;

/**
 * Ends a little later: the longer something has been waited for since `begunMs`, the later, as looks take time from what is
 * waited for. In a browser each of them is a message to a page and its answer.
 */
export function aWhile(begunMs) {
  const waited = performance.now() - begunMs;
  return sleep(Math.min(LOOK_MAX_MS, Math.max(LOOK_MIN_MS, waited * SHARE)));
}
