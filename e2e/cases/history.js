// What goes wrong while a subscription reads what lies before the stream that it joined.

import assert from 'node:assert/strict';

import { eventually } from '../support/server.js';

const PAGE = /^GET \/v1\/history$/;

/** Of one answer: somewhere amid its events. */
const AMID = 120;

const LOGIN = { status: 200, headers: { 'content-type': 'text/html' }, body: '<p>Please log in' };

export const HISTORY = {
  ...faults({
    'is closed in the middle': { cut: AMID, how: 'fin' },
    'is reset in the middle': { cut: AMID, how: 'rst' },
    'is reset in its head': { cutHead: 20, how: 'rst' },
    'is answered 500': { status: 500 },
    'is answered 502': { status: 502 },
    'is answered 503, with Retry-After': { status: 503, headers: { 'retry-after': 1 } },
    'is answered 429': { status: 429 },
    'is refused': { refuse: true },
  }),
  ...faults({
    'stops in the middle': { stall: AMID },
    'is never answered': { silent: true },
  }, { options: { stallTimeout: 2_000 }, args: ['--keepalive-s', '1'] }),
  'history fails three times in a row, each time in another way': {
    native: true,
    run: async (c) => filled(c, [{ cut: AMID, how: 'rst' }, { status: 502 }, { refuse: true }]),
  },
  'history is answered with a page, where a proxy has none of it': {
    run: async (c) => filled(c, [LOGIN]),
  },
  'history is answered 404, where a proxy passes on the stream alone': {
    run: async (c) => filled(c, [{ status: 404 }]),
  },
  'history is answered 401, and there again after a new log-in': {
    errors: ['unauthorized'],
    run: async (c) => {
      const late = await filled(c, [{ status: 401 }], { received: false });
      await late.until('its refusal', ({ refusals }) => refusals === 1);
      late.refusals.push('unauthorized');
      await late.publish(2);
      await c.place.reconnect('it');
      await late.received();
    },
  },
  'the second page of history is cut': {
    run: async (c) => {
      const late = c.side('late');
      await late.publishBatch(700);
      await behindThem(c);
      c.proxy.nextTo(PAGE, {}, { cut: 5_000, how: 'rst' });
      await late.open({ from: 'start' });
      await late.publish(2);
      await late.received();
    },
  },
  'a loop that is slow reads on in history, which is cut': {
    run: async (c) => {
      const slow = c.side('late');
      await slow.open({ from: 'now', slow: true });
      await slow.live();
      c.proxy.nextTo(PAGE, { cut: AMID, how: 'rst' }, { status: 503 });
      // More than one subscription holds.
      await slow.publishBatch(999);
      await slow.publishBatch(999);
      // It comes behind them, on the same stream.
      await c.publish(1);
      await c.received();
      await slow.go();
      await slow.received();
      await slow.publish(2);
      await slow.received();
    },
  },
  'the server is killed while history is read, and started again': {
    run: async (c) => filled(c, [{
      cut: AMID, how: 'rst', after: async () => {
        await c.server.kill();
        await c.server.start();
      },
    }]),
  },
  'history is trimmed before it is read': {
    args: ['--retain-events', '5'],
    run: async (c) => {
      const late = c.side('late');
      await late.publish(3);
      const [{ id }] = late.published;
      const all = await c.server.publishMany('late', 3, 40);
      await c.firstOf('late', all.at(-5).id);
      // Everything but what its cursor saw and what is kept.
      late.published.splice(0, Infinity, ...all.slice(-5));
      late.resets.push({ reason: 'expired', behind: 0 });
      await behindThem(c);
      c.proxy.nextTo(PAGE, { cut: AMID, how: 'rst' });
      await late.open({ from: { id } });
      await late.received();
    },
  },
};

function faults(all, more) {
  return Object.fromEntries(Object.entries(all).map(([what, fate]) => [`history ${what}`, { ...more, run: async (c) => filled(c, [fate]) }]));
}

/** The stream has moved past what is there, so that the first page has all of it. */
async function behindThem(c) {
  await c.publish(1);
  await c.received();
}

/** A channel that has events joins an open stream, and the reads of what was there have their fates, in turn. */
async function filled(c, fates, { received = true } = {}) {
  const late = c.side('late');
  await late.publish(5);
  await behindThem(c);
  c.proxy.nextTo(PAGE, ...fates);
  await late.open({ from: 'start' });
  await eventually('the first fault', () => c.proxy.beside.some(({ met }) => met));
  await late.publish(3);
  await c.publish(1);
  if (received) await late.received();
  assert.equal((await c.seen()).resets.length, 0);
  return late;
}
