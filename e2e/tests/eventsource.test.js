// What a page with nothing but the browser's own EventSource gets, whatever happens to its connection.

import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { describe, test } from 'node:test';

import { ENGINE_BROWSERS, numbers, openPage, openStream } from '../support/browser.js';
import { startFaults } from '../support/faults.js';
import { eventually, startServer } from '../support/server.js';

for (const name of ENGINE_BROWSERS) {
  describe(`EventSource in ${name}`, { concurrency: 4, timeout: 120_000 }, () => {
    test('gets exact ids over dropped connections', async (t) => {
      const { server, page } = await start(t, name);
      const stream = await openStream(page, '/events?channel=orders');
      const published = [];
      for (const round of [1, 2]) {
        const { connection } = await stream.connected(round);
        published.push(...(await server.publishMany('orders', published.length, 3)));
        await stream.received(published.length);
        await server.cut(connection);
        published.push(...(await server.publishMany('orders', published.length, 3)));
      }
      await stream.connected(3);
      published.push(...(await server.publishMany('orders', published.length, 3)));
      const seen = await stream.received(published.length);
      assert.deepEqual(numbers(seen), published);
      assert.deepEqual(seen.controls, []);
    });

    test('gets what came while it was away, also if it was cut before its first event', async (t) => {
      const { server, page } = await start(t, name);
      await server.publish({ channel: 'orders', data: { n: -1 } });
      const stream = await openStream(page, '/events?channel=orders');
      await server.cut((await stream.connected()).connection);
      const published = await server.publishMany('orders', 0, 3);
      await stream.connected(2);
      assert.deepEqual(numbers(await stream.received(3)), published);
    });

    for (const signal of ['SIGTERM', 'SIGKILL']) {
      test(`goes on after a restart with ${signal}`, async (t) => {
        const { server, page } = await start(t, name);
        const stream = await openStream(page, '/events?channel=orders');
        await stream.connected();
        const published = await server.publishMany('orders', 0, 5);
        await stream.received(5);
        const ended = signal === 'SIGTERM' ? await server.stop() : await server.kill();
        if (signal === 'SIGTERM') assert.deepEqual(ended, { code: 0, signal: null });
        await server.start();
        published.push(...(await server.publishMany('orders', 5, 5)));
        await stream.connected(2);
        published.push(...(await server.publishMany('orders', 10, 5)));
        const seen = await stream.received(15);
        assert.deepEqual(numbers(seen), published);
        assert.deepEqual(seen.controls.map(({ type }) => type), signal === 'SIGTERM' ? ['tidings.drain'] : []);
      });
    }

    test('is stopped for good by the 204 of a finished channel', async (t) => {
      const server = await startServer(t);
      const proxy = await startFaults(t, server, { retryMs: null });
      const page = await openPage(t, name, `${proxy.url}/healthz`);
      const stream = await openStream(page, '/events?channel=export');
      await stream.connected();
      const published = await server.publishMany('export', 0, 2);
      published.push({ n: 2, id: await server.publish({ channel: 'export', data: { n: 2 }, final: true }) });
      const seen = await stream.closed();
      assert.deepEqual(numbers(seen), published);
      assert.deepEqual(proxy.asked.map(({ status }) => status), [200, 204]);
      assert.equal(seen.hellos.length, 1);
    });

    test('gets the final event of a channel that was finished before it came', async (t) => {
      const { server, page } = await start(t, name);
      await server.publishMany('export', 0, 2);
      const id = await server.publish({ channel: 'export', data: { n: 2 }, final: true });
      const stream = await openStream(page, '/events?channel=export');
      assert.deepEqual(numbers(await stream.closed()), [{ n: 2, id }]);
    });

    test('gets several channels as one sequence', async (t) => {
      const { server, page } = await start(t, name);
      const stream = await openStream(page, '/events?channel=a&channel=b');
      const { connection } = await stream.connected();
      const published = [];
      for (let n = 0; n < 12; n += 1) {
        if (n === 6) await server.cut(connection);
        published.push({ n, id: await server.publish({ channel: ['a', 'b', 'foreign'][n % 3], data: { n } }) });
      }
      const both = await server.publish({ channels: ['a', 'b'], data: { n: 12 } });
      const owed = published.filter(({ n }) => n % 3 !== 2);
      owed.push({ n: 12, id: both.a }, { n: 12, id: both.b });
      assert.deepEqual(numbers(await stream.received(owed.length)), owed);
    });

    test('gets everything with one onmessage if it asks for envelopes', async (t) => {
      const { server, page } = await start(t, name);
      const stream = await openStream(page, '/events?channel=chat&envelope=json');
      await stream.connected();
      const id = await server.publish({ channel: 'chat', event: 'said', data: { who: 'Ann' } });
      const text = await server.publish({ channel: 'chat', event: 'note', text: 'two\nlines' });
      const { events } = await stream.received(2);
      const [said, note] = events.map(({ data }) => JSON.parse(data));
      assert.deepEqual(events.map(({ type }) => type), ['message', 'message']);
      assert.deepEqual([said.channel, said.event, said.id, events[0].id, said.data], ['chat', 'said', id, id, { who: 'Ann' }]);
      assert.deepEqual([note.event, note.id, note.data], ['note', text, 'two\nlines']);
      assert.ok(said.time > 1.7e12);
    });

    test('is told when what it missed is no longer kept', async (t) => {
      const { server, page } = await start(t, name, ['--retain-events', '5']);
      const published = await server.publishMany('orders', 0, 40);
      // The newest bounds are applied now and then.
      await eventually('retention', async () => {
        const { json } = await server.request('GET', '/v1/channels?channel=orders');
        return json.first === published[35].id;
      });
      const stream = await openStream(page, `/events?channel=orders&last_event_id=${published[1].id}`);
      const seen = await stream.received(5);
      assert.deepEqual(numbers(seen), published.slice(35));
      const { type, reason, id, first } = seen.controls[0];
      assert.deepEqual([type, reason, id, first], ['tidings.reset', 'expired', published[1].id, published[35].id]);
    });

    test('is told when what it missed was deleted', async (t) => {
      const { server, page } = await start(t, name);
      const stream = await openStream(page, '/events?channel=orders');
      const { connection } = await stream.connected();
      const [first] = await server.publishMany('orders', 0, 1);
      await stream.received(1);
      await server.cut(connection);
      await server.publishMany('orders', 1, 3);
      assert.equal((await server.request('DELETE', '/v1/channels?channel=orders')).status, 204);
      const kept = await server.publishMany('orders', 4, 2);
      await stream.connected(2);
      const seen = await stream.received(3);
      assert.deepEqual(numbers(seen), [first, ...kept]);
      const [reset] = seen.controls;
      assert.deepEqual([reset.type, reset.reason, reset.id, reset.first], ['tidings.reset', 'deleted', first.id, kept[0].id]);
    });

    test('is told when the log is another one, and goes on live', async (t) => {
      const { server, page } = await start(t, name);
      const stream = await openStream(page, '/events?channel=orders');
      await stream.connected();
      await server.publishMany('orders', 0, 3);
      await stream.received(3);
      await server.kill();
      await rm(server.data, { recursive: true });
      await server.start();
      await stream.connected(2);
      const seen = await stream.until('a reset', ({ controls }) => controls.length === 1);
      assert.deepEqual([seen.controls[0].type, seen.controls[0].reason], ['tidings.reset', 'epoch']);
      const published = await server.publishMany('orders', 3, 2);
      assert.deepEqual(numbers(await stream.received(5)).slice(3), published);
    });

    test('works from a page on another port of localhost, with credentials', async (t) => {
      const { server, page } = await start(t, name, [], 'http://localhost');
      const stream = await openStream(page, `${server.url}/events?channel=orders`, { withCredentials: true });
      await server.cut((await stream.connected()).connection);
      // The page itself publishes: this is what makes a browser ask first.
      const id = await page.evaluate(async (url) => {
        const answer = await fetch(`${url}/v1/publish`, {
          method: 'POST',
          credentials: 'include',
          headers: { 'content-type': 'application/json', 'idempotency-key': 'once' },
          body: JSON.stringify({ channel: 'orders', data: { n: 0 } }),
        });
        return (await answer.json()).id;
      }, server.url);
      await stream.connected(2);
      assert.deepEqual(numbers(await stream.received(1)), [{ n: 0, id }]);
    });

    test('is refused from a foreign page', async (t) => {
      const { server, page } = await start(t, name, [], 'http://127.0.0.2');
      const stream = await openStream(page, `${server.url}/events?channel=orders`, { withCredentials: true });
      const seen = await stream.closed();
      assert.deepEqual([seen.opens, seen.breaks], [0, 1]);
      const { origin } = new URL(page.url());
      const refused = await server.request('GET', '/events?channel=orders', undefined, { origin });
      assert.deepEqual([refused.status, refused.json.code], [403, 'origin_not_allowed']);
      const wrote = await page.evaluate(async (url) => {
        const body = JSON.stringify({ channel: 'orders', data: {} });
        const sent = fetch(`${url}/v1/publish`, { method: 'POST', headers: { 'content-type': 'text/plain' }, body });
        return sent.then((answer) => answer.status, (error) => error.name);
      }, server.url);
      assert.equal(wrote, 'TypeError');
      const history = await server.request('GET', '/v1/history?channel=orders');
      assert.deepEqual(history.json.events, []);
    });
  });
}

/** A server, and a page: of the server itself, or of a site of its own at `origin`. */
async function start(t, name, args = [], origin = null) {
  const server = await startServer(t, { args });
  const page = await openPage(t, name, origin === null ? `${server.url}/healthz` : await site(t, origin));
  return { server, page };
}

/** A site that serves an empty page, and its URL. */
async function site(t, origin) {
  const http = createServer((_, answer) => answer.setHeader('content-type', 'text/html').end('<!doctype html>'));
  await new Promise((resolve) => http.listen(0, new URL(origin).hostname, resolve));
  t.after(() => new Promise((resolve) => http.close(resolve).closeAllConnections()));
  return `${origin}:${http.address().port}/`;
}
