// What becomes of a stream whose grant ends, where nobody gives the client another token: a cookie, or one fixed token.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

import { SHORT_S } from '../support/tokens.js';

/** How long a stream may stand still when its cookie is to be replaced: a fifth of this. */
const REPLACED_S = 15;

export const CREDENTIALS = {
  ...sessions((kind) => `${kind} ends amid the stream, and there is another one after a log-in`, {
    // A log-in is a reason to ask for all of them again.
    // Of each subscription, and of the channel that is not granted.
    may: ['unauthorized', 'forbidden'],
    run: async (c) => {
      await c.publish(3);
      await c.received();
      const secret = c.side('secret');
      await secret.open({ from: 'start' });
      await secret.until('its refusal', ({ refusals }) => refusals === 1);
      await c.lapseOpen();
      await refused(c);
      await c.server.publishMany('secret', 0, 2);
      await goOn(c);
      await secret.until('its last refusal', ({ refusals }) => refusals === 2);
      // Not of the stream's: nothing was to come anyway.
      secret.refusals.push('forbidden', 'forbidden');
    },
  }),
  ...sessions((kind) => `${kind} has ended when the client comes back, and there is another one after a log-in`, {
    errors: ['unauthorized'],
    run: async (c) => {
      await c.publish(3);
      await c.received();
      await c.lapse();
      await c.proxy.down();
      await sleep((SHORT_S + 1) * 1_000);
      await c.proxy.up();
      await refused(c);
      await goOn(c);
    },
  }),
  'a cookie is replaced by the application in time, on the same stream': {
    session: 'cookie', page: true, native: true,
    run: async (c) => {
      await c.lapseOpen(REPLACED_S);
      await c.logIn();
      const end = performance.now() + (REPLACED_S + 1) * 1_000;
      while (performance.now() < end) {
        await c.publish(1);
        await sleep(200);
      }
      await c.received();
      assert.equal(c.proxy.asked.length, 1);
    },
  },
};

function sessions(title, one) {
  return Object.fromEntries([['cookie', { page: true, native: true }], ['bearer', {}]].map(([kind, more]) => [
    title(kind === 'cookie' ? 'a cookie' : 'a fixed token'), { ...more, ...one, session: kind },
  ]));
}

/** The client says that it was refused, and gets nothing any more. */
async function refused(c) {
  const { status, events } = await c.until('the end', ({ state }) => state === 'closed');
  assert.equal(status.reason.code, 'unauthorized');
  await c.publish(3);
  await sleep(300);
  const seen = await c.seen();
  assert.deepEqual([seen.events.length, seen.status.state], [events.length, 'closed']);
}

/** What README says a page does then. */
async function goOn(c) {
  await c.logIn();
  await c.place.reconnect('it');
  await c.received();
}
