// Eight tabs of one browser over HTTP/1.1, where six connections to a server are all that a browser has.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { ENGINE_BROWSERS, browser } from '../support/browser.js';
import { openEngine } from '../support/engines.js';
import { startFaults } from '../support/faults.js';
import { rendererOf } from '../support/renderer.js';
import { eventually, startServer } from '../support/server.js';

const TABS = 8;

/** How long the others may be without events when the tab that has the stream is gone. */
const TAKEOVER_MS = 10_000;

/** A frozen tab is not missed before it has been silent for 8 s, and only by a tab that is visible. */
const MISSED_MS = 15_000;

/** A request that is blocked waits for a stream to end. */
const UNBLOCKED_MS = 3_000;

for (const name of ENGINE_BROWSERS) {
  describe(`Eight tabs in ${name}`, { timeout: 180_000 }, () => {
    test('share one connection, whatever happens to the tab that has it', async (t) => {
      const c = await openTabs(t, name);

      await t.test('there is one connection, and a ninth request is not blocked', async () => {
        await eventually('one connection', async () => (await c.connections()).length === 1);
        await c.publish(3);
        await c.received();
        assert.equal((await c.connections()).length, 1);
        const status = await Promise.race([
          c.tabs.at(-1).page.evaluate(() => fetch('/v1/channels?channel=orders').then((answer) => answer.status)),
          new Promise((resolve) => setTimeout(resolve, UNBLOCKED_MS, 'blocked')),
        ]);
        assert.equal(status, 200);
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
  });
}

async function openTabs(t, engine) {
  const server = await startServer(t);
  const proxy = await startFaults(t, server);
  const tabs = [];
  const published = [];
  // The last one is visible, as it is in the other browsers without being told.
  for (let n = 0; n < TABS; n += 1) {
    const tab = await openEngine(t, engine, proxy, { kind: n === TABS - 1 ? 'window' : 'tab' });
    await tab.start('it', { options: { retry: { base: 10, max: 50 } }, channels: 'orders' });
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
