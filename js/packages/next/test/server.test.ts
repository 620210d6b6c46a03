// The proxy between real sockets: one of Node's servers before it, the real `tidings` behind it.

import { createServer, request as ask, type IncomingMessage, type Server as HttpServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { tidingsProxy, toNodeHandler, type Grant, type NodeHandler, type ProxyOptions } from '@tidings/next';
import { createTidings } from '@tidings/node';
import { eventually, startGuarded, startServer } from '../../node/test/support/server.js';

const key = 'a secret that is thirty-two bytes long, and more';
const grant: Grant = { sub: '42', subscribe: ['orders'], publish: ['*'] };

async function listening(handler: NodeHandler): Promise<{ url: string; server: HttpServer }> {
  const server = createServer((incoming, outgoing) => handler(incoming, outgoing));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server };
}

async function proxied(options: Partial<ProxyOptions> = {}) {
  const tidings = await startServer();
  const proxy = tidingsProxy({ url: tidings.url, key, authorize: () => grant, onError: () => {}, ...options });
  return { tidings, ...(await listening(toNodeHandler(proxy))), api: createTidings({ url: tidings.url, onError: () => {} }) };
}

/** A browser's stream: what came, and how to be gone. */
function streaming(url: string, position = '') {
  const stream = { text: '', isDone: false, answer: undefined as IncomingMessage | undefined, gone: () => {} };
  const headers = { accept: 'text/event-stream', ...(position === '' ? {} : { 'last-event-id': position }) };
  const asked = ask(url, { headers }, (answer) => {
    stream.answer = answer;
    answer.on('data', (piece: Buffer) => (stream.text += piece.toString()));
    answer.on('error', () => {});
    answer.on('close', () => (stream.isDone = true));
  });
  asked.on('error', () => (stream.isDone = true));
  stream.gone = () => asked.destroy();
  asked.end();
  return stream;
}

test('a browser that is gone leaves no stream behind on the server', async () => {
  const { url, api } = await proxied();
  const streams = Array.from({ length: 5 }, () => streaming(`${url}/rt/events?channel=orders`));
  await eventually(async () => (await api.connections.list({ subject: '42' })).length === 5);
  for (const stream of streams) stream.gone();
  await eventually(async () => (await api.connections.list({ subject: '42' })).length === 0, 3_000);
});

test('a stream comes through at once, and nothing is said of the connection', async () => {
  const { url, api } = await proxied();
  const stream = streaming(`${url}/rt/events?channel=orders`);
  await eventually(() => stream.text.includes('tidings.hello'));
  const begun = performance.now();
  const { id } = await api.publish({ channel: 'orders', data: { n: 1 } });
  await eventually(() => stream.text.includes(`id: ${id}\n`));
  expect(performance.now() - begun).toBeLessThan(1_000);
  const names = stream.answer?.rawHeaders.filter((_, at) => at % 2 === 0).map((name) => name.toLowerCase());
  expect(names).not.toContain('connection');
  expect(stream.answer?.headers).toMatchObject({ 'cache-control': 'no-store, no-transform', 'x-accel-buffering': 'no' });
});

test('over kill -9 of the server a browser gets every event once, in order, through the proxy', async () => {
  const { url, tidings, api } = await proxied();
  const published: string[] = [];
  const got: string[] = [];
  let position = '';
  let isOver = false;
  const retries: string[] = [];
  const browsing = (async () => {
    while (!isOver) {
      const stream = streaming(`${url}/events?channel=orders`, position);
      await eventually(() => isOver || stream.isDone, 30_000);
      stream.gone();
      if (stream.answer?.statusCode !== 200) throw new Error(`an EventSource would be dead: ${stream.answer?.statusCode}`);
      for (const event of stream.text.split('\n\n').slice(0, -1)) {
        const id = /^id: (.*)$/m.exec(event)?.[1];
        if (/^data: \{"n"/m.test(event)) got.push(id ?? '');
        if (event.includes('tidings.reset')) throw new Error(event);
        if (/^retry: /.test(event) && !event.includes('connected')) retries.push(event);
        if (id !== undefined) position = id;
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  })();
  const open = async () => eventually(async () => (await api.connections.list({ subject: '42' })).length > 0);
  await open();
  for (let round = 0; round < 3; round += 1) {
    for (let n = 0; n < 20; n += 1) published.push((await api.publish({ channel: 'orders', data: { n } })).id);
    await tidings.kill();
    await new Promise((resolve) => setTimeout(resolve, 250));
    await tidings.start();
    await open();
  }
  published.push((await api.publish({ channel: 'orders', data: { n: -1 } })).id);
  await tidings.stop();
  await eventually(() => got.length >= published.length, 20_000).catch(() => {});
  isOver = true;
  await browsing;
  expect(got).toEqual(published);
  expect(retries.length).toBeGreaterThan(0);
}, 60_000);

test('the server enforces what authorize granted, on open streams too', async () => {
  const tidings = await startGuarded();
  const granted: { now: Grant | null } = { now: { ...grant, publish: ['chat:7'], jobs: ['create:report'], session: 's1' } };
  const proxy = tidingsProxy({ url: tidings.url, key: tidings.secret, authorize: () => granted.now });
  const { url } = await listening(toNodeHandler(proxy));
  const api = createTidings({ url: tidings.url, key: tidings.key });
  const post = async (path: string, body: object) => {
    const headers = { 'content-type': 'application/json' };
    const answer = await fetch(`${url}/rt${path}`, { method: 'POST', headers, body: JSON.stringify(body) });
    return { status: answer.status, ...((await answer.json()) as { code?: string; id?: string }) };
  };
  expect(await post('/v1/publish', { channel: 'chat:7', data: 1 })).toMatchObject({ status: 201 });
  expect(await post('/v1/publish', { channel: 'chat:8', data: 1 })).toMatchObject({ status: 403, code: 'forbidden' });
  expect(await post('/v1/jobs', { type: 'other' })).toMatchObject({ status: 403 });
  const { id = '' } = await post('/v1/jobs', { type: 'report' });
  expect(await fetch(`${url}/rt/v1/jobs/${id}`).then((answer) => answer.status)).toBe(200);

  const own = streaming(`${url}/rt/events`);
  const other = streaming(`${url}/rt/events?channel=secrets`);
  await eventually(() => own.text.includes('tidings.hello') && other.isDone);
  expect([other.answer?.statusCode, other.text.includes('event: tidings.unauthorized')]).toEqual([200, true]);
  await api.publish({ channel: 'user:42', data: { n: 1 } });
  await eventually(() => own.text.includes('{"n":1}'));
  // Channels are added to the stream that is open.
  const connection = /"connection":"(\w+)"/.exec(own.text)?.[1];
  expect(await post(`/v1/connections/${connection}/channels`, { channels: ['orders'] })).toMatchObject({ status: 200 });
  await api.publish({ channel: 'orders', data: { n: 2 } });
  await eventually(() => own.text.includes('{"n":2}'));
  // A log-out: the stream ends at once, and says why.
  granted.now = null;
  await api.revoke({ session: 's1' });
  await eventually(() => own.isDone, 3_000);
  expect(own.text).toContain('event: tidings.unauthorized');
  const position = /id: (\S+~s)\n\n$/.exec(own.text)?.[1] ?? '';
  const again = streaming(`${url}/rt/events`, position);
  await eventually(() => again.isDone);
  expect(again.answer?.statusCode).toBe(204);
  // Another log-in goes on from there.
  granted.now = { ...grant, session: 's2' };
  await api.publish({ channel: 'user:42', data: { n: 3 } });
  const back = streaming(`${url}/rt/events`, position);
  await eventually(() => back.text.includes('{"n":3}'));
});

test('a grant that ends is granted anew with the reconnect, and nothing is lost between', async () => {
  const tidings = await startGuarded();
  const api = createTidings({ url: tidings.url, key: tidings.key });
  const authorize = () => ({ ...grant, exp: Math.floor(Date.now() / 1_000) + 3 });
  const { url } = await listening(toNodeHandler(tidingsProxy({ url: tidings.url, key: tidings.secret, authorize })));
  const first = streaming(`${url}/events?channel=orders`);
  await eventually(() => first.text.includes('tidings.hello'));
  await api.publish({ channel: 'orders', data: { n: 1 } });
  await eventually(() => first.isDone, 5_000);
  expect(first.text).toContain('{"n":1}');
  expect(first.text).toMatch(/\nretry: \d+\n\n$/);
  expect(first.text).not.toContain('unauthorized');
  await api.publish({ channel: 'orders', data: { n: 2 } });
  const second = streaming(`${url}/events?channel=orders`, [...first.text.matchAll(/^id: (.*)$/gm)].at(-1)?.[1]);
  await eventually(() => second.text.includes('{"n":2}'));
  expect(second.text).not.toContain('{"n":1}');
});

test('a page writes through it, also behind a parser of bodies', async () => {
  const { url, tidings } = await proxied();
  const parsing = await listening((incoming, outgoing) => {
    const pieces: Buffer[] = [];
    incoming.on('data', (piece: Buffer) => pieces.push(piece));
    incoming.on('end', () => {
      const parsed = Object.assign(incoming, { body: JSON.parse(Buffer.concat(pieces).toString()), originalUrl: `/app${incoming.url}` });
      toNodeHandler(tidingsProxy({ url: tidings.url, key, authorize: () => grant }))(parsed, outgoing);
    });
  });
  for (const origin of [url, parsing.url]) {
    const init = { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ channel: 'chat:7', data: 'hi' }) };
    const answer = await fetch(`${origin}/rt/v1/publish`, init);
    expect([answer.status, Object.keys(await answer.json())]).toEqual([201, ['id']]);
  }
  const history = await (await fetch(`${url}/rt/v1/history?channel=chat:7`)).json();
  expect(history.events.map(({ data }: { data: unknown }) => data)).toEqual(['hi', 'hi']);
});

test('a handler that throws goes to the framework, or ends the request', async () => {
  const handler = toNodeHandler(() => Promise.reject(new Error('boom')));
  const told: unknown[] = [];
  const express = await listening((incoming, outgoing) =>
    handler(incoming, outgoing, (error) => {
      told.push(error);
      outgoing.statusCode = 500;
      outgoing.end();
    }),
  );
  expect((await fetch(express.url)).status).toBe(500);
  expect(told).toMatchObject([{ message: 'boom' }]);
  const plain = await listening(handler);
  await expect(fetch(plain.url)).rejects.toThrow();
});
