// A native EventSource behind nginx from Debian, whose proxy settings are its own.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { BROWSERS, numbers, openPage, openStream } from '../support/browser.js';
import { startNginx } from '../support/nginx.js';
import { eventually, startServer } from '../support/server.js';

const CHANNEL = '/events?channel=orders';

/** A little more than nginx's read timeout. */
const QUIET_MS = 66_000;

// Mostly waiting, so both browsers at once.
describe('Behind nginx', { concurrency: true }, () => {
  for (const name of BROWSERS) {
    describe(`in ${name}`, { concurrency: 8, timeout: 150_000 }, () => {
      test('events arrive one by one and at once', async (t) => {
        const { server, page } = await start(t, name);
        const stream = await openStream(page, CHANNEL);
        await stream.connected();
        const sent = [];
        const published = [];
        for (let n = 0; n < 200; n += 1) {
          sent.push(Date.now());
          published.push(...(await server.publishMany('orders', n, 1)));
          // Not before the last one was seen: an event that waits for the next would hang here.
          if (n % 20 === 0) await stream.received(n + 1);
        }
        const seen = await stream.received(200);
        assert.deepEqual(numbers(seen), published);
        const took = seen.events.map(({ at }, n) => at - sent[n]).sort((a, b) => a - b);
        t.diagnostic(`publish to page through nginx, 200 events: p50 ${took[100]} ms, p99 ${took[197]} ms, max ${took[199]} ms`);
      });

      test('a quiet stream outlives the read timeout', async (t) => {
        const { server, page } = await start(t, name);
        const stream = await openStream(page, CHANNEL);
        await stream.connected();
        await sleep(QUIET_MS);
        const published = await server.publishMany('orders', 0, 1);
        const seen = await stream.received(1);
        assert.deepEqual(numbers(seen), published);
        assert.deepEqual([seen.hellos.length, seen.breaks], [1, 0]);
      });

      test('without comments in time it would not, and resumes', async (t) => {
        const { server, page } = await start(t, name, { args: ['--keepalive-s', '120'] });
        const stream = await openStream(page, CHANNEL);
        await stream.connected();
        await stream.until('the cut by nginx', ({ breaks }) => breaks > 0, 1.5 * QUIET_MS);
        const published = await server.publishMany('orders', 0, 1);
        await stream.connected(2);
        assert.deepEqual(numbers(await stream.received(1)), published);
      });

      for (const way of ['stop', 'kill']) {
        test(`a restart by ${way} on an inherited socket is survived`, async (t) => {
          const { server, page } = await start(t, name, { held: true });
          const stream = await openStream(page, CHANNEL);
          await stream.connected();
          const published = await server.publishMany('orders', 0, 3);
          await stream.received(3);
          const asked = asks(page);
          await server[way]();
          // Down for as long as it takes the browser to come back and wait.
          await eventually('a reconnect', () => asked.length > 0);
          await sleep(500);
          assert.equal((await stream.seen()).readyState, 0);
          await server.start();
          published.push(...(await server.publishMany('orders', 3, 3)));
          const seen = await stream.received(6);
          assert.deepEqual(numbers(seen), published);
          assert.equal(seen.hellos.length, 2);
        });
      }

      test('a restart without one ends the stream for good: nginx answers 502', async (t) => {
        const { server, page } = await start(t, name);
        const stream = await openStream(page, CHANNEL);
        await stream.connected();
        const answers = [];
        // Of the stream alone: the browser's own request for an icon may be answered late.
        page.on('response', (answer) => {
          if (new URL(answer.url()).pathname === '/events') answers.push(answer.status());
        });
        await server.kill();
        await stream.closed();
        assert.deepEqual(answers, [502]);
      });

      test('a restart without one is survived with error_page', async (t) => {
        const { server, page, url } = await start(t, name, { file: 'nginx-error-page.conf' });
        const stream = await openStream(page, CHANNEL);
        await stream.connected();
        const published = await server.publishMany('orders', 0, 3);
        await stream.received(3);
        const { breaks } = await stream.seen();
        await server.kill();
        // Once for the cut, and twice for empty answers.
        await stream.until('empty answers', (seen) => seen.breaks >= breaks + 3);
        const refused = await fetch(`${url}/v1/publish`, { method: 'POST', body: '{}' });
        assert.equal(refused.status, 502, 'a publish is not told 200 while nobody takes it');
        await server.start();
        published.push(...(await server.publishMany('orders', 3, 3)));
        assert.deepEqual(numbers(await stream.received(6)), published);
      });
    });
  }
});

/** A server behind nginx, and a page that came through it. */
async function start(t, name, { file = 'nginx.conf', ...options } = {}) {
  const server = await startServer(t, options);
  const url = await startNginx(t, file, server.url);
  return { server, url, page: await openPage(t, name, `${url}/healthz`) };
}

/** Grows with every request of the page from now on. */
function asks(page) {
  const asked = [];
  page.on('request', (request) => asked.push(request.url()));
  return asked;
}
