// A tab of WebKitGTK that crashes while the others share its stream.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { placeIn, servePage } from '../support/engines.js';
import { startFaults } from '../support/faults.js';
import { REMOTE, openTabs } from '../support/minibrowser.js';
import { rendererOf } from '../support/renderer.js';
import { eventually, startServer } from '../support/server.js';

const TABS = 4;

/** How long the others may be without events. */
const TAKEOVER_MS = 10_000;

describe('Tabs in webkit', { timeout: 120_000 }, () => {
  test('go on when the one that has the stream crashes, and when its successor does', async (t) => {
    const server = await startServer(t);
    const proxy = await startFaults(t, server);
    await servePage(proxy);
    proxy.serve('/remote', 'text/html', `<!doctype html><title>tab</title><script type="module">import '/suite.js';${REMOTE}</script>`);
    const { browser, tabs: pages } = await openTabs(t, TABS, `${proxy.url}/remote`);
    const tabs = pages.map((page) => placeIn(page, proxy.url));
    for (const tab of tabs) await tab.start('it', { options: { retry: { base: 10, max: 50 } }, channels: 'orders' });
    for (const tab of tabs) await tab.until('it', 'the start', ({ state }) => state === 'open');

    const published = [];
    const publish = async (count) => published.push(...(await server.publishMany('orders', published.length, count)));
    const received = async () => {
      for (const tab of tabs) await tab.until('it', `event ${published.length}`, ({ events }) => events >= published.length);
    };
    const connections = async () => (await server.request('GET', '/v1/connections')).json.connections.length;
    const leader = () => eventually('a leader', async () => {
      const seen = await Promise.all(tabs.map((tab) => tab.seen('it')));
      const found = tabs.filter((_, n) => seen[n].status.state === 'open' && seen[n].status.via !== 'peer-tab');
      return found.length === 1 ? found[0] : null;
    });

    await eventually('one connection', async () => (await connections()) === 1);
    await publish(3);
    await received();
    for (const which of ['the first', 'its successor']) {
      const crashed = await leader();
      const pid = await rendererOf(browser.pid, crashed.page);
      tabs.splice(tabs.indexOf(crashed), 1);
      process.kill(pid, 'SIGKILL');
      const began = performance.now();
      await publish(3);
      await received();
      const took = Math.round(performance.now() - began);
      t.diagnostic(`the others had the next events ${took} ms after ${which} crashed`);
      assert.ok(took < TAKEOVER_MS, `it took ${took} ms`);
    }
    await publish(1);
    await received();
    assert.equal(await connections(), 1);
    for (const tab of tabs) {
      const { events, resets, errors } = await tab.seen('it');
      assert.deepEqual(events.map(({ id, data }) => ({ n: data.n, id })), published);
      assert.deepEqual([resets, errors], [[], []]);
    }
  });
});
