// A client whose token ends while its stream is open: with a new one in time, too late, and not at all.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { ENGINES, openEngine } from '../support/engines.js';
import { startFaults } from '../support/faults.js';
import { eventually } from '../support/server.js';
import { startGuarded } from '../support/tokens.js';

/** A token's life: short enough to end in a test, and long enough for a busy machine: who has to be in time has a fifth of it. */
const LIFE_S = 15;
const LONGER_S = 25;

// All at once: they do little but wait.
describe('A token that ends', { concurrency: ENGINES.length }, () => {
  for (const engine of ENGINES) {
    describe(`in ${engine}`, { concurrency: 5, timeout: 600_000 }, () => {
      test('is replaced in time, on the same stream', async (t) => {
        const c = await begin(t, engine, LONGER_S);
        await c.publishFor(2 * LONGER_S * 1_000);
        await c.received();
        const { tokens } = await c.check();
        assert.equal(tokens[0], 'first');
        assert.ok(tokens.length >= 3, `it asked for tokens ${tokens}`);
        assert.ok(tokens.slice(1).every((why) => why === 'expiring'), `it asked for tokens ${tokens}`);
        assert.equal(c.proxy.asked.length, 1);
      });

      test('is replaced by a reconnect where the stream cannot be told', async (t) => {
        const c = await begin(t, engine);
        c.proxy.refused = (method, path) => method === 'POST' && path.endsWith('/auth');
        await c.publishFor(2 * LIFE_S * 1_000);
        await c.received();
        await c.check();
        assert.ok(c.proxy.asked.length > 1);
      });

      test('is refused when the client comes back, and replaced then', async (t) => {
        const c = await begin(t, engine);
        await c.publish(3);
        await c.received();
        await c.proxy.down();
        await sleep((LIFE_S + 1) * 1_000);
        await c.publish(3);
        await c.proxy.up();
        await c.received();
        const { tokens } = await c.check();
        assert.ok(tokens.slice(1).every((why) => why === 'expiring' || why === 'rejected'), `it asked for tokens ${tokens}`);
      });

      test('is not replaced, because the same one comes again: the stream ends, and goes on from there with a new one', async (t) => {
        const c = await begin(t, engine);
        await c.publish(3);
        await c.received();
        c.give('the same');
        const seen = await c.closed();
        assert.equal(seen.status.reason.code, 'unauthorized');
        await c.publish(3);
        c.give('a new one');
        await c.place.reconnect('it');
        await c.received();
        await c.check({ errors: ['unauthorized'] });
      });

      test('is replaced as soon as there are tokens again', async (t) => {
        const c = await begin(t, engine);
        await c.publish(3);
        await c.received();
        c.give('none');
        await c.place.until('it', 'the end of the stream', ({ state }) => state === 'waiting');
        await c.publish(3);
        await sleep(1_000);
        assert.notEqual((await c.place.seen('it')).status.state, 'closed');
        c.give('a new one');
        await c.received();
        await c.check({ errors: ['token_failed'] });
      });
    });
  }
});

async function begin(t, engine, lifeS = LIFE_S) {
  const { server, tokenOf } = await startGuarded(t);
  const proxy = await startFaults(t, server);
  let what = 'a new one';
  let last;
  proxy.answer('/token', async () => {
    if (what === 'none') return [500, 'no'];
    if (what === 'a new one') last = await tokenOf('ann', { expiresIn: lifeS, subscribe: ['orders'] });
    return [200, last];
  });
  const place = await openEngine(t, engine, proxy);
  const options = { retry: { base: 10, max: 50 }, share: false, tokenUrl: `${proxy.url}/token` };
  await place.start('it', { options, channels: 'orders' });
  await eventually('a stream', () => proxy.streams.size === 1);

  const published = [];
  const self = {
    proxy, place,
    /** What is answered to who asks for a token from now on. */
    give: (answer) => (what = answer),
    async publish(count) {
      published.push(...(await server.publishMany('orders', published.length, count)));
    },
    /** Some events each second. */
    async publishFor(ms) {
      const end = performance.now() + ms;
      while (performance.now() < end) {
        await self.publish(1);
        await sleep(200);
      }
    },
    received: () => place.until('it', `event ${published.length}`, ({ events }) => events >= published.length),
    closed: () => place.until('it', 'the end', ({ state }) => state === 'closed'),
    async check({ errors = [] } = {}) {
      await self.publish(1);
      await self.received();
      const seen = await place.seen('it');
      assert.deepEqual(seen.events.map(({ id, data }) => ({ n: data.n, id })), published);
      assert.deepEqual(seen.resets, []);
      assert.deepEqual([...new Set(seen.errors.map(({ code }) => code))], errors);
      return seen;
    },
  };
  return self;
}
