// Looking for what nobody tells a test.
//
// Owns: how often it looks, and when it gives up. Does not know: what is looked for.
// Flow: a check → looks, less often the longer it takes → what the check returned, or nothing.

import { setTimeout as sleep } from 'node:timers/promises';

const LOOK_MIN_MS = 10;
const LOOK_MAX_MS = 250;
/** The next look comes after this part of the time that was waited already: looks take time from what is waited for. */
const SHARE = 1 / 8;

/** What `check` returned, once that is something; `null` if it did not come to that in time. */
export async function waitFor(check, limitMs) {
  const begun = performance.now();
  for (;;) {
    const result = await check();
    if (result) return result;
    const waited = performance.now() - begun;
    if (waited > limitMs) return null;
    await sleep(Math.min(LOOK_MAX_MS, Math.max(LOOK_MIN_MS, waited * SHARE)));
  }
}
