// Eight tabs of one browser over HTTP/1.1, where six connections to a server are all that a browser has.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { ENGINE_BROWSERS, browser } from '../support/browser.js';
import { openEngine } from '../support/engines.js';
import { startFaults } from '../support/faults.js';
import { rendererOf } from '../support/renderer.js';
import { eventually, startServer } from '../support/server.js';
import { startGuarded } from '../support/tokens.js';

const TABS = 8;

/** How long the others may be without events when the tab that has the stream is gone. */
const TAKEOVER_MS = 10_000;

/** A frozen tab is not missed before it has been silent for 8 s, and only by a tab that is visible. */
const MISSED_MS = 15_000;

/** A request that is blocked waits for a stream to end, which none does; any other one is answered, if slowly in a busy browser. */
const UNBLOCKED_MS = 30_000;

for (const name of ENGINE_BROWSERS) {
  describe(`Eight tabs in ${name}`, { timeout: 180_000 }, () => {
    test('share one connection, whatever happens to the tab that has it', async (t) => {
      const c = await openTabs(t, name);

      await t.test('there is one connection, and a ninth request is not blocked', async () => {
        await eventually('one connection', async () => (await c.connections()).length === 1);
        await c.publish(3);
        await c.received();
        assert.equal((await c.connections()).length, 1);
        assert.equal(await c.ninth(), 200);
      });

      await t.test('the tab that has it is closed', async () => {
        const leader = await c.leader();
        c.without(leader);
        await leader.page.close();
        await c.goOn(t, 'closed');
      });

      // WebKitWebDriver ends the whole session when a page of it crashes.
      await t.test('the tab that has it crashes', { skip: name === 'webkit' }, async () => {
        const leader = await c.leader();
        const pid = await rendererOf((await browser(name)).process().pid, leader.page);
        c.without(leader);
        process.kill(pid, 'SIGKILL');
        await c.goOn(t, 'crashed');
      });

      await t.test('the tab that has it is frozen, and wakes up when another one has it', async () => {
        const leader = await c.leader();
        const pid = await rendererOf((await browser(name)).process().pid, leader.page);
        c.without(leader);
        process.kill(pid, 'SIGSTOP');
        try {
          await c.goOn(t, 'frozen', MISSED_MS);
        } finally {
          process.kill(pid, 'SIGCONT');
        }
        c.tabs.push(leader);
        await c.publish(1);
        await c.received();
        await eventually('one connection', async () => (await c.connections()).length === 1);
      });

      await c.check();
    });

    test('leave the one connection to a SharedWorker', async (t) => {
      const c = await openTabs(t, name, 'sharedworker');

      await t.test('there is one connection, no tab has it, and a ninth request is not blocked', async () => {
        await c.publish(3);
        await c.received();
        assert.equal((await c.connections()).length, 1);
        const seen = await Promise.all(c.tabs.map((tab) => tab.seen('it')));
        assert.deepEqual(seen.map(({ status }) => status.via), c.tabs.map(() => 'worker'));
        assert.equal(await c.ninth(), 200);
      });

      await t.test('the tab that has started it is closed', async () => {
        const [first] = c.tabs;
        c.without(first);
        await first.page.close();
        await c.goOn(t, 'closed');
        assert.equal((await c.connections()).length, 1);
      });

      // Only Chromium lets a test end a worker.
      await t.test('it is killed, and a tab has the connection', { skip: name !== 'chromium' }, async () => {
        const workers = (await browser(name)).targets().filter((target) => target.type() === 'shared_worker');
        assert.equal(workers.length, 1);
        await (await workers[0].worker()).close();
        await c.goOn(t, 'killed');
        await c.leader();
        await eventually('one connection', async () => (await c.connections()).length === 1);
      });

      await c.check();
    });

    // With a key of one's own for each user; and without, where only the server tells two users apart.
    for (const [keys, share] of [[{ ann: 'ann', ben: 'ben' }, 'locks'], [{}, 'locks'], [{ ann: 'ann', ben: 'ben' }, 'sharedworker']]) {
      test(`show nothing of the user who has logged out, ${keys.ann ? 'with' : 'without'} a shareKey, ${share}`, async (t) => {
        const { server, tokenOf } = await startGuarded(t);
        const proxy = await startFaults(t, server);
        const channels = { ann: ['user:ann', 'orders'], ben: ['user:ben', 'orders'] };
        for (const [user, subscribe] of [['ann', ['orders']], ['ben', []]]) {
          proxy.answer(`/token/${user}`, async () => [200, await tokenOf(user, { expiresIn: '1h', subscribe })]);
        }
        const logIn = (tab, user) => tab.start(user, {
          options: { share, retry: { base: 10, max: 50 }, tokenUrl: `${proxy.url}/token/${user}`, shareKey: keys[user] },
          channels: channels[user][0],
        });
        const tabs = [await openEngine(t, name, proxy), await openEngine(t, name, proxy)];
        for (const tab of tabs) {
          await logIn(tab, 'ann');
          // What both users might ask for, but only one may have.
          await tab.start('orders', {
            options: { share, retry: { base: 10, max: 50 }, tokenUrl: `${proxy.url}/token/ann`, shareKey: keys.ann }, channels: 'orders',
          });
        }
        for (const tab of tabs) await tab.until('ann', 'the start', ({ state }) => state === 'open');
        const first = await server.publish({ channel: 'user:ann', data: 'for ann' });
        for (const tab of tabs) await tab.until('ann', 'her event', ({ events }) => events === 1);

        // In the second tab; the first one still has her stream.
        for (const one of ['ann', 'orders']) await tabs[1].close(one);
        await logIn(tabs[1], 'ben');
        await tabs[1].start('refused', {
          options: { share, retry: { base: 10, max: 50 }, tokenUrl: `${proxy.url}/token/ben`, shareKey: keys.ben }, channels: 'orders',
        });
        const hers = [first];
        let his = null;
        await eventually('an event for ben', async () => {
          hers.push(await server.publish({ channel: 'user:ann', data: 'for ann' }));
          await server.publish({ channel: 'orders', data: 'for ann' });
          his ??= (await tabs[1].count('ben')).state === 'open' ? await server.publish({ channel: 'user:ben', data: 'for ben' }) : null;
          return (await tabs[1].count('ben')).events > 0;
        });
        const [seen, refused] = [await tabs[1].seen('ben'), await tabs[1].seen('refused')];
        assert.deepEqual(seen.events.map(({ id, data }) => [id, data]), [[his, 'for ben']]);
        assert.deepEqual(refused.events, []);
        await tabs[0].until('ann', 'her events', ({ events }) => events === hers.length);
      });
    }
  });
}

async function openTabs(t, engine, share = 'auto') {
  const server = await startServer(t);
  const proxy = await startFaults(t, server);
  const tabs = [];
  const published = [];
  // The last one is visible, as it is in the other browsers without being told.
  for (let n = 0; n < TABS; n += 1) {
    const tab = await openEngine(t, engine, proxy, { kind: n === TABS - 1 ? 'window' : 'tab' });
    await tab.start('it', { options: { share, retry: { base: 10, max: 50 } }, channels: 'orders' });
    tabs.push(tab);
  }
  for (const tab of tabs) await tab.until('it', 'the start', ({ state }) => state === 'open');

  const self = {
    tabs,
    async connections() {
      return (await server.request('GET', '/v1/connections')).json.connections;
    },
    async publish(count) {
      published.push(...(await server.publishMany('orders', published.length, count)));
    },
    async received() {
      for (const tab of tabs) {
        await tab.until('it', `event ${published.length}`, ({ events }) => events >= published.length);
      }
    },
    /** The one tab that has the stream. */
    leader: () => eventually('a leader', async () => {
      const seen = await Promise.all(tabs.map((tab) => tab.seen('it')));
      const found = tabs.filter((_, n) => seen[n].status.state === 'open' && seen[n].status.via !== 'peer-tab');
      return found.length === 1 ? found[0] : null;
    }),
    /** How a request of the last tab is answered. */
    ninth: () => Promise.race([
      tabs.at(-1).page.evaluate(() => fetch('/v1/channels?channel=orders').then((answer) => answer.status)),
      new Promise((resolve) => setTimeout(resolve, UNBLOCKED_MS, 'blocked')),
    ]),
    without: (tab) => tabs.splice(tabs.indexOf(tab), 1),
    /** What is published right away comes to the tabs that are left, in time. */
    async goOn(t, what, limitMs = TAKEOVER_MS) {
      const began = performance.now();
      await self.publish(3);
      await self.received();
      const took = Math.round(performance.now() - began);
      t.diagnostic(`the others had the next events ${took} ms after it was ${what}`);
      assert.ok(took < limitMs, `it took ${took} ms`);
    },
    async check() {
      await self.publish(1);
      await self.received();
      for (const tab of tabs) {
        const { events, resets, errors } = await tab.seen('it');
        assert.deepEqual(events.map(({ id, data }) => ({ n: data.n, id })), published);
        assert.deepEqual([resets, errors], [[], []]);
      }
    },
  };
  return self;
}
