// What goes wrong while channels are added to a stream that is open.

import { eventually } from '../support/server.js';

const JOIN = /^POST \/v1\/connections\/[^/]+\/channels$/;

const NOT_FOUND = {
  status: 404, headers: { 'content-type': 'application/problem+json' }, body: '{"code":"connection_not_found"}',
};
const FORBIDDEN = { status: 403, headers: { 'content-type': 'application/problem+json' }, body: '{"code":"forbidden"}' };

export const CHANNELS = {
  ...faults({
    'is answered 500': [{ status: 500 }],
    'is answered 502 and 503': [{ status: 502 }, { status: 503 }],
    'is answered 429': [{ status: 429 }],
    'is reset before the server has it': [{ refuse: true }],
    'is done, but its answer is lost': [{ cutHead: 0, how: 'rst' }],
    'is done, but its answer is reset in the head': [{ cutHead: 30, how: 'rst' }],
    'is answered 404, as by a proxy that has no such path': [{ status: 404 }],
    'is answered that the stream is gone, twice': [NOT_FOUND, NOT_FOUND],
  }),
  ...faults({
    'is never answered': [{ silent: true }],
    'is done, but its answer stops': [{ stall: 10 }],
  }, { options: { stallTimeout: 2_000 }, args: ['--keepalive-s', '1'] }),
  'adding a channel is done, but its answer is closed in the middle': {
    // To WebKit, such an answer is whole.
    may: ['http'],
    run: async (c) => added(c, [{ cut: 10, how: 'fin' }]),
  },
  'adding a channel is answered with a page': {
    run: async (c) => added(c, [{ status: 200, headers: { 'content-type': 'text/html' }, body: '<p>Please log in' }]),
  },
  'a channel is added to a stream that the server has just closed': {
    native: true,
    run: async (c) => added(c, [{ before: () => c.closeStreams() }]),
  },
  'a channel is added to a stream that is gone, which its client cannot see': {
    native: true,
    run: async (c) => added(c, [{
      before: async () => {
        c.proxy.stall();
        await c.closeStreams();
      },
    }]),
  },
  'a channel is added, and the stream ends before the answer is there': {
    run: async (c) => added(c, [{ after: () => c.proxy.cut('rst') }]),
  },
  'the server is killed before it adds a channel': {
    run: async (c) => added(c, [{ before: () => c.again() }]),
  },
  'the server is killed when it has added a channel, and its answer is lost': {
    native: true,
    run: async (c) => added(c, [{ after: () => c.again(), cutHead: 0, how: 'rst' }]),
  },
  'the server is killed when it has added a channel, and its answer comes all the same': {
    run: async (c) => added(c, [{ after: () => c.again() }]),
  },
  'the log is replaced while a channel is added': {
    resets: [{ reason: 'epoch', behind: 3 }],
    run: async (c) => {
      await c.publish(3);
      await c.received();
      c.proxy.nextTo(JOIN, { after: () => c.again({ empty: true }), cutHead: 0, how: 'rst' });
      const late = c.side('late');
      await late.open({ from: 'now' });
      await c.reset();
      await late.live();
      // Who comes when the log has been replaced may be told, and has lost nothing.
      late.mayBeReset = true;
      for (const one of [c, late]) await one.publish(3);
      await late.received();
    },
  },
  'a channel is refused, and takes no other with it': {
    native: true,
    errors: ['forbidden'],
    run: async (c) => {
      c.proxy.nextTo(JOIN, FORBIDDEN);
      const secret = c.side('secret');
      await secret.open({ from: 'start' });
      await secret.until('its refusal', ({ refusals }) => refusals === 1);
      secret.refusals.push('forbidden');
      await c.server.publishMany('secret', 0, 2);
      await c.publish(2);
      await added(c, []);
    },
  },
};

function faults(all, more) {
  return Object.fromEntries(Object.entries(all).map(([what, fates]) => [
    `adding a channel ${what}`, { ...more, run: async (c) => added(c, fates) },
  ]));
}

/** Two channels join an open stream, of which one begins with what it holds, and the requests for it have their fates, in turn. */
async function added(c, fates) {
  const [late, fresh] = [c.side('late'), c.side('fresh')];
  await c.publish(2);
  await c.received();
  await late.publish(3);
  c.proxy.nextTo(JOIN, ...fates);
  await late.open({ from: 'start' });
  await fresh.open({ from: 'now' });
  if (fates.length > 0) await eventually('the first fault', () => c.proxy.beside.some(({ met }) => met));
  await c.publish(2);
  await late.publish(2);
  await fresh.live();
  for (const one of [fresh, c, late]) await one.publish(2);
  for (const one of [fresh, c, late]) await one.received();
}
