// Who may hear what, for a page that has nothing but a cookie that its scripts cannot see.

import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import { credentials, freePort, startApplication, tidings } from '../support/auth.js';
import { BROWSERS, openPage, openStream } from '../support/browser.js';
import { binary, end, eventually, lineMatching, spawnLogged, startServer } from '../support/server.js';

const KINDS = ['a JWT cookie', 'forward-auth'];
const PLACES = ['same-origin', 'cross-origin'];

/** A server, the application beside it, and a page of somebody who has logged in. */
async function loggedIn(t, name, { kind, place, user = 'alice' }) {
  const made = await credentials(t);
  const port = await freePort();
  const appUrl = `http://127.0.0.1:${port}`;
  const args = ['--api-key-file', made.keyFile, '--allow-origin', appUrl];
  if (kind === 'forward-auth') args.push('--forward-auth', `${appUrl}/tidings-auth`);
  else args.push('--jwt-key', `HS256=${made.secretFile}`);
  const server = await startServer(t, { args, dev: false, key: made.key });
  await startApplication(t, { ...made, secret: kind === 'forward-auth' ? null : made.secret, tidingsUrl: server.url, port });
  const page = await openPage(t, name, `${appUrl}/`);
  await page.evaluate(async (user) => fetch('/login', { method: 'POST', body: JSON.stringify({ user }) }), user);
  assert.equal(await page.evaluate(() => document.cookie), '', 'scripts see no cookie');
  if (place === 'same-origin') await page.goto(`${server.url}/healthz`);
  const events = place === 'same-origin' ? '/events' : `${server.url}/events`;
  return { server, page, events };
}

for (const name of BROWSERS) {
  // One after the other: a browser has one jar of cookies for 127.0.0.1.
  describe(`EventSource with a cookie in ${name}`, { timeout: 600_000 }, () => {
    for (const kind of KINDS) {
      for (const place of PLACES) {
        test(`hears its own user's channel and nobody else's, with ${kind}, ${place}`, async (t) => {
          const { server, page, events } = await loggedIn(t, name, { kind, place });
          const own = await openStream(page, events, { withCredentials: true });
          const foreign = await openStream(page, `${events}?channel=user:bob`, { withCredentials: true });
          const both = await openStream(page, `${events}?channel=news:1&channel=user:bob`, { withCredentials: true });
          await own.connected();
          for (const user of ['bob', 'alice', 'bob', 'alice']) await server.publish({ channel: `user:${user}`, data: { user } });
          const seen = await own.received(2);
          assert.deepEqual(seen.events.map(({ data }) => JSON.parse(data).user), ['alice', 'alice']);
          for (const stream of [foreign, both]) {
            const { controls, events, hellos } = await stream.closed();
            assert.deepEqual(controls.map(({ type, code }) => [type, code]), [['tidings.unauthorized', 'forbidden']]);
            assert.deepEqual([events, hellos], [[], []]);
          }
        });
      }

      test(`is ended by logging out, with ${kind}`, async (t) => {
        const { server, page, events } = await loggedIn(t, name, { kind, place: 'cross-origin' });
        const stream = await openStream(page, events, { withCredentials: true });
        await stream.connected();
        const begun = performance.now();
        const out = await page.evaluate(async () => (await fetch('/logout', { method: 'POST' })).status);
        assert.equal(out, 200);
        const seen = await stream.until('the end', ({ controls }) => controls.length > 0);
        const took = performance.now() - begun;
        assert.deepEqual(seen.controls.map(({ type, code }) => [type, code]), [['tidings.unauthorized', 'token_revoked']]);
        t.diagnostic(`the stream's end was seen ${took.toFixed(0)} ms after the page began to log out`);
        await server.publish({ channel: 'user:alice', data: {} });
        const { events: heard } = await stream.closed();
        assert.deepEqual(heard, []);
        // Somebody else logs in, in the same page.
        await page.evaluate(async () => fetch('/login', { method: 'POST', body: '{"user":"bob"}' }));
        const next = await openStream(page, `${server.url}/events`, { withCredentials: true });
        await next.connected();
        await server.publish({ channel: 'user:bob', data: {} });
        await next.received(1);
      });
    }

    test('hears nothing without a cookie, and nothing on a page of an origin that is not listed', async (t) => {
      const { server, page } = await loggedIn(t, name, { kind: 'a JWT cookie', place: 'same-origin' });
      const other = await openPage(t, name, `http://localhost:${await strangersPort(t)}/`);
      const foreign = await openStream(other, `${server.url}/events`, { withCredentials: true });
      await foreign.closed();
      assert.deepEqual((await foreign.seen()).hellos, []);
      await page.evaluate(async () => {
        // The cookie is for 127.0.0.1: by this name there is none.
        location.href = location.href.replace('127.0.0.1', 'localhost');
      });
      await eventually('the page by another name', async () => page.url().includes('localhost'));
      const without = await openStream(page, '/events?channel=user:alice', { withCredentials: true });
      const { controls } = await without.closed();
      assert.deepEqual(controls.map(({ type, code }) => [type, code]), [['tidings.unauthorized', 'unauthorized']]);
    });
  });
}

/** A page of somebody else. */
async function strangersPort(t) {
  const { createServer } = await import('node:http');
  const server = createServer((_, response) => response.setHeader('content-type', 'text/html').end('<!doctype html>'));
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  return server.address().port;
}

describe('From a terminal', { concurrency: true, timeout: 60_000 }, () => {
  test('a key publishes, a token follows, and a key that is taken out counts no longer after SIGHUP', async (t) => {
    const made = await credentials(t);
    const args = ['--api-key-file', made.keyFile, '--jwt-key', `HS256=${made.secretFile}`, '--anonymous', 'demo:*'];
    const server = await startServer(t, { args, dev: false, key: made.key });
    const publish = (key) =>
      tidings(t, ['publish', 'orders', '1', '--url', server.url], { env: key ? { TIDINGS_TOKEN: key } : {} });
    assert.equal((await publish(made.key)).code, 0);
    const refused = await publish(null);
    assert.match(refused.text, /unauthorized/);
    assert.equal(refused.code, 1);
    const file = join(made.folder, 'token');
    const mint = ['token', 'mint', '--key', `HS256=${made.secretFile}`, '--sub', '42', '--subscribe', 'orders'];
    await writeFile(file, (await tidings(t, mint)).text, { mode: 0o600 });
    const withToken = ['--url', server.url, '--token-file', file];
    assert.match((await tidings(t, ['publish', 'orders', '2', ...withToken])).text, /forbidden/);
    const tail = await spawnLogged(`tail ${t.name}`, binary, ['tail', 'orders', '--from', 'start', ...withToken]);
    t.after(() => end(tail, 'SIGKILL'));
    await lineMatching(tail, /orders  message  1$/m, 20_000);
    const id = made.key.split('_')[1];
    assert.equal((await tidings(t, ['key', 'revoke', id, '--file', made.keyFile])).code, 0);
    assert.equal((await publish(made.key)).code, 0, 'until SIGHUP');
    server.process.kill('SIGHUP');
    await eventually('the key to be unknown', async () => /key_unknown/.test((await publish(made.key)).text));
  });

  test('tidings health says whether a server is ready', async (t) => {
    const made = await credentials(t);
    const server = await startServer(t, { args: ['--api-key-file', made.keyFile], dev: false });
    const host = new URL(server.url).host;
    const ready = await tidings(t, ['health', '--listen', host]);
    assert.deepEqual([ready.code, ready.text], [0, '{"ready":true}\n']);
    await server.kill();
    assert.equal((await tidings(t, ['health', '--listen', host])).code, 1);
  });

  test('a key and channels for everybody are enough to listen on all addresses', async (t) => {
    const made = await credentials(t);
    const server = await startServer(t, { args: ['--api-key-file', made.keyFile, '--anonymous', 'demo:*'], dev: false, key: made.key });
    await server.stop();
    server.listen = `0.0.0.0:${await freePort()}`;
    await server.start();
    const url = server.url.replace('0.0.0.0', '127.0.0.1');
    const status = async (path, init) => (await fetch(url + path, init)).status;
    assert.equal(await status('/healthz'), 200);
    assert.equal(await status('/v1/history?channel=demo:1'), 200);
    assert.equal(await status('/v1/history?channel=orders'), 401);
    assert.equal(await status('/metrics'), 401);
    const publish = (headers) => status('/v1/publish', {
      method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: '{"channel":"demo:1","data":1}',
    });
    assert.equal(await publish({}), 401);
    assert.equal(await publish({ authorization: `Bearer ${made.key}` }), 201);
  });
});
