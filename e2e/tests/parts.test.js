// Pages whose site was deployed anew after they were loaded: the code that comes later is gone.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ENGINE_BROWSERS } from '../support/browser.js';
import { openEngine } from '../support/engines.js';
import { startFaults } from '../support/faults.js';
import { eventually, startServer } from '../support/server.js';

const QUICK = { base: 10, max: 50 };

for (const engine of ENGINE_BROWSERS) {
  test(`Without the rest, channels and history go on with other streams, and jobs say so, in ${engine}`, { timeout: 120_000 }, async (t) => {
    const { server, proxy, place } = await begin(t, engine, /^\/rest-/);
    await place.start('it', { options: { retry: QUICK, share: false }, channels: 'orders' });
    await eventually('a stream', () => proxy.streams.size === 1);
    const owed = { it: [], past: [], now: [] };
    const channels = { it: 'orders', past: 'past', now: 'now' };
    const publish = async (name, count) => owed[name].push(...(await server.publishMany(channels[name], owed[name].length, count)));
    const received = (name) => place.until(name, `what ${name} is owed`, ({ events }) => events >= owed[name].length);

    await publish('it', 2);
    await publish('past', 3);
    await received('it');
    await place.subscribe('it', 'past', { channels: 'past', subscribe: { from: 'start' } });
    await received('past');
    await place.subscribe('it', 'now', { channels: 'now' });
    await place.until('now', 'the channel', ({ live }) => live);
    for (const name of ['now', 'it', 'past', 'it']) await publish(name, 2);
    await Promise.all(Object.keys(owed).map(received));
    await place.watch('it', 'job', 'import:7', {});
    await place.until('job', 'its end', ({ ends }) => ends > 0);

    for (const name of Object.keys(owed)) {
      const { events, resets } = await place.seen(name);
      assert.deepEqual(events.map(({ id, data }) => ({ n: data.n, id })), owed[name]);
      assert.deepEqual(resets, []);
    }
    const { ends, awaited } = await place.seen('job');
    assert.deepEqual([ends, awaited], [[{ code: 'network', state: null }], [{ code: 'network', state: null }]]);
    const { errors } = await place.seen('it');
    assert.ok(errors.length > 0 && errors.every(({ code }) => code === 'network'), JSON.stringify(errors));
    assert.ok(proxy.beside.every(({ method }) => method === 'GET'), 'nothing was added to a stream');
  });

  test(`Without the code for tabs, or the rest, a tab has a stream of its own, in ${engine}`, { timeout: 120_000 }, async (t) => {
    for (const gone of [/^\/share-/, /^\/rest-/]) {
      const { server, proxy, place } = await begin(t, engine, gone);
      await place.start('it', { options: { retry: QUICK }, channels: 'orders' });
      await eventually('a stream', () => proxy.streams.size === 1);
      const owed = await server.publishMany('orders', 0, 3);
      const { status, errors } = await place.until('it', 'the events', ({ events }) => events >= owed.length);
      assert.deepEqual([status.state, status.via, errors.map(({ code }) => code)], ['open', 'fetch', ['network']]);
    }
  });
}

/** A page that has been loaded, and a site that has no such script any more. */
async function begin(t, engine, gone) {
  const server = await startServer(t);
  const proxy = await startFaults(t, server);
  const place = await openEngine(t, engine, proxy);
  const paths = [...proxy.pages.keys()].filter((path) => gone.test(path));
  assert.equal(paths.length, 1, `${[...proxy.pages.keys()]}`);
  proxy.pages.delete(paths[0]);
  return { server, proxy, place };
}
