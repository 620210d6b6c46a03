import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { tidingsProxy, type Grant, type ProxyOptions } from '@tidings/next';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const SECRET = 'a secret that is thirty-two bytes long, and more';
const grant: Grant = { sub: '42', subscribe: ['orders'], publish: ['chat:7'], jobs: ['create:export'], session: 's1' };
const BROWSER = { accept: 'text/event-stream' };

interface Sent {
  url: URL;
  method: string;
  headers: Headers;
  body: string;
  signal: AbortSignal;
  token: any;
}

/** A proxy before a server that a test answers. */
function proxied(reply: (sent: Sent) => Response | Promise<Response>, options: Partial<ProxyOptions> = {}) {
  const sent: Sent[] = [];
  const errors: unknown[] = [];
  const fetchIt: typeof fetch = async (input, init = {}) => {
    const headers = new Headers(init.headers);
    const [, payload = ''] = headers.get('authorization')?.split('.') ?? [];
    const one: Sent = {
      url: new URL(input as string),
      method: init.method ?? 'GET',
      headers,
      body: init.body ? await new Response(init.body).text() : '',
      signal: init.signal as AbortSignal,
      token: JSON.parse(Buffer.from(payload, 'base64url').toString()),
    };
    sent.push(one);
    one.signal.throwIfAborted();
    return reply(one);
  };
  const { handler } = tidingsProxy({
    url: 'http://upstream:4080/',
    key: SECRET,
    authorize: () => grant,
    fetch: fetchIt,
    onError: (error) => errors.push(error),
    ...options,
  });
  const ask = (path: string, init: RequestInit = {}) => handler(new Request(`https://app.example${path}`, init));
  return { ask, sent, errors };
}

const json = (body: unknown, status = 200) => new Response(JSON.stringify(body), { status, headers: { 'content-type': 'application/json' } });

/** A stream that a test writes to. */
function streaming() {
  let controller!: ReadableStreamDefaultController<Uint8Array>;
  let isCancelled = false;
  const body = new ReadableStream<Uint8Array>({
    start: (given) => void (controller = given),
    cancel: () => void (isCancelled = true),
  });
  const write = (text: string) => controller.enqueue(new TextEncoder().encode(text));
  return {
    response: new Response(body, { headers: { 'content-type': 'text/event-stream; charset=utf-8', connection: 'close' } }),
    write,
    close: () => controller.close(),
    break: () => controller.error(new Error('reset by peer')),
    isCancelled: () => isCancelled,
  };
}

/** Reads a response as it comes. */
function reading(response: Response) {
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  const read = { text: '', isDone: false, isCut: false, cancel: () => reader.cancel() };
  void (async () => {
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        read.text += new TextDecoder().decode(value);
      }
    } catch {
      read.isCut = true;
    }
    read.isDone = true;
  })();
  return read;
}

test('a request goes on in the name of who is logged in, with nothing of the application\'s own', async () => {
  const { ask, sent } = proxied(() => json({ events: [] }));
  const headers = { cookie: 'session=1', authorization: 'Bearer of-the-app', 'x-forwarded-for': '192.0.2.1', 'last-event-id': 'e-5', 'tidings-lease': 'x' };
  const response = await ask('/rt/v1/history?channel=orders&as=admin&ticket=t&limit=5', { headers });
  expect(response.status).toBe(200);
  expect(sent[0]?.url.href).toBe('http://upstream:4080/v1/history?channel=orders&as=42&limit=5');
  expect([...(sent[0]?.headers.keys() ?? [])]).toEqual(['accept-encoding', 'authorization', 'last-event-id', 'x-forwarded-for']);
  const now = Math.floor(Date.now() / 1_000);
  expect(sent[0]?.token).toMatchObject({ sub: '42', iat: now, exp: now + 960, sid: 's1', tidings: { subscribe: ['orders'], publish: ['chat:7'], jobs: ['create:export'] } });
  expect(JSON.stringify([...response.headers])).not.toContain('Bearer');
});

test('a grant that ends soon makes a token that ends then', async () => {
  const now = Math.floor(Date.now() / 1_000);
  const { ask, sent } = proxied(() => json({}), { authorize: () => ({ ...grant, exp: now + 30 }) });
  await ask('/v1/history?channel=orders');
  expect(sent[0]?.token.exp).toBe(now + 30);
  const over = proxied(() => json({}), { authorize: () => ({ ...grant, exp: now - 1 }) });
  expect((await over.ask('/v1/history?channel=orders')).status).toBe(401);
  expect(over.sent).toEqual([]);
});

test('what pages need passes, and what workers and operators need does not', async () => {
  const { ask } = proxied(() => json({}));
  const status = async (method: string, path: string) => (await ask(path, { method })).status;
  for (const [method, path] of [
    ['GET', '/rt/events'], ['GET', '/rt/v1/events/'], ['HEAD', '/events'], ['GET', '/v1/history'], ['GET', '/a/b/v1/channels'],
    ['POST', '/v1/publish'], ['POST', '/v1/jobs'], ['GET', '/v1/jobs'], ['GET', '/v1/jobs/j1'], ['GET', '/v1/jobs/j1/events'],
    ['GET', '/v1/jobs/j1/logs'], ['GET', '/v1/jobs/j1/download'], ['GET', '/v1/jobs/j1/download/a%20b.csv'], ['POST', '/v1/jobs/j1/cancel'],
    ['POST', '/v1/jobs/j1/retry'], ['DELETE', '/v1/jobs/j1'], ['POST', '/v1/tickets'], ['POST', '/v1/connections/c1/channels'],
    ['POST', '/v1/connections/c1/auth'],
  ] as const) expect([method, path, await status(method, path)]).toEqual([method, path, 200]);
  for (const [method, path] of [
    ['GET', '/metrics'], ['POST', '/events'], ['DELETE', '/v1/channels'], ['GET', '/v1/connections'], ['DELETE', '/v1/connections/c1'],
    ['POST', '/v1/revocations'], ['POST', '/v1/queues/q/lease'], ['POST', '/v1/leases:renew'], ['PUT', '/v1/jobs/j1'], ['POST', '/v1/jobs/j1/progress'],
    ['POST', '/v1/jobs:report'], ['GET', '/v1/jobs/j1/download/a/b'], ['GET', '/v1/../metrics'], ['GET', '/v1/jobs/%2e%2e/%2e%2e/metrics'], ['GET', '/'],
  ] as const) expect([method, path, await status(method, path)]).toEqual([method, path, 404]);
});

test('the mount and the aliases of jobs are where they are said to be', async () => {
  const { ask, sent } = proxied(() => json({}), { basePath: '/api/v1/rt', jobRoutes: ['/api/exports'] });
  const to = async (method: string, path: string) => {
    const { status } = await ask(path, { method });
    return status === 200 ? sent.at(-1)?.url.pathname : status;
  };
  expect(await to('GET', '/api/v1/rt/events')).toBe('/events');
  expect(await to('GET', '/other/events')).toBe(404);
  expect(await to('POST', '/api/exports')).toBe('/api/exports');
  expect(await to('GET', '/api/exports/j1/events')).toBe('/api/exports/j1/events');
  expect(await to('GET', '/api/exports/j1/download')).toBe('/api/exports/j1/download');
  expect(await to('GET', '/api/exports')).toBe(404);
  expect(await to('GET', '/api/exportsx/j1/events')).toBe(404);
});

test('a write from another site is refused before anybody is asked', async () => {
  const { ask, sent } = proxied(() => json({}), { origins: ['https://admin.example'] });
  const write = async (headers: Record<string, string>) => (await ask('/v1/publish', { method: 'POST', headers, body: '{}' })).status;
  expect(await write({ 'sec-fetch-site': 'cross-site', origin: 'https://evil.example' })).toBe(403);
  expect(await write({ 'sec-fetch-site': 'same-site', origin: 'https://evil.app.example' })).toBe(403);
  expect(await write({ origin: 'https://evil.example' })).toBe(403);
  expect(await write({ origin: 'null' })).toBe(403);
  expect(await write({ 'sec-fetch-site': 'cross-site' })).toBe(403);
  expect(sent).toEqual([]);
  expect(await write({ 'sec-fetch-site': 'same-origin', origin: 'https://app.example' })).toBe(200);
  expect(await write({ origin: 'https://app.example' })).toBe(200);
  expect(await write({ 'sec-fetch-site': 'same-origin', origin: 'https://public.example' })).toBe(200);
  expect(await write({ 'sec-fetch-site': 'cross-site', origin: 'https://admin.example' })).toBe(200);
  expect(await write({ origin: 'https://public.example', 'x-forwarded-host': 'public.example' })).toBe(200);
  expect(await write({})).toBe(200);
});

test('a body goes on as it is, up to a bound', async () => {
  const { ask, sent } = proxied(() => json({ id: 'e-1' }, 201));
  const headers = { 'content-type': 'application/json', 'idempotency-key': 'k' };
  const response = await ask('/v1/publish', { method: 'POST', headers, body: '{"channel":"chat:7","data":"ü"}' });
  expect([response.status, await response.json()]).toEqual([201, { id: 'e-1' }]);
  expect(sent[0]?.body).toBe('{"channel":"chat:7","data":"ü"}');
  expect(sent[0]?.headers.get('idempotency-key')).toBe('k');
  const large = await ask('/v1/publish', { method: 'POST', body: 'x'.repeat(8 * 1024 * 1024 + 1) });
  expect([large.status, await large.json()]).toMatchObject([413, { code: 'body_too_large', committed: false }]);
});

test('a stream comes as it is, with the headers that keep it from being held back', async () => {
  const upstream = streaming();
  const { ask } = proxied(() => upstream.response);
  const response = await ask('/events?channel=orders', { headers: BROWSER });
  expect(Object.fromEntries(response.headers)).toEqual({
    'cache-control': 'no-store, no-transform',
    'content-type': 'text/event-stream; charset=utf-8',
    'x-accel-buffering': 'no',
    'x-content-type-options': 'nosniff',
  });
  const read = reading(response);
  upstream.write('data: 1\n');
  upstream.write('\ndata: 2\n\n');
  await vi.advanceTimersByTimeAsync(0);
  expect(read.text).toBe('data: 1\n\ndata: 2\n\n');
  upstream.close();
  await vi.advanceTimersByTimeAsync(0);
  expect(read).toMatchObject({ text: 'data: 1\n\ndata: 2\n\n', isDone: true, isCut: false });
  expect(vi.getTimerCount()).toBe(0);
});

test('a client that is gone lets go of the server, whichever way the platform tells it', async () => {
  for (const how of ['signal', 'cancel'] as const) {
    const upstream = streaming();
    const { ask, sent } = proxied(() => upstream.response);
    const client = new AbortController();
    const read = reading(await ask('/events', { headers: BROWSER, signal: client.signal }));
    upstream.write('data: 1\n\n');
    await vi.advanceTimersByTimeAsync(0);
    expect(sent[0]?.signal.aborted).toBe(false);
    if (how === 'signal') client.abort();
    else await read.cancel();
    await vi.advanceTimersByTimeAsync(0);
    expect(sent[0]?.signal.aborted, how).toBe(true);
    expect([upstream.isCancelled(), vi.getTimerCount()], how).toEqual([true, 0]);
  }
});

test('a client that is gone before the server answers does not leave a request behind', async () => {
  const client = new AbortController();
  const { ask, sent, errors } = proxied(({ signal }) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error))));
  const promise = ask('/events', { headers: BROWSER, signal: client.signal });
  await vi.advanceTimersByTimeAsync(10);
  client.abort();
  await promise;
  expect(sent[0]?.signal.aborted).toBe(true);
  expect([errors, vi.getTimerCount()]).toEqual([[], 0]);
});

test('in the server\'s silence a comment goes out, but never into the middle of an event', async () => {
  const upstream = streaming();
  const { ask } = proxied(() => upstream.response);
  const read = reading(await ask('/events', { headers: BROWSER }));
  upstream.write('event: tidings.hello\ndata: {"connection":"c","keepalive_ms":60000}\n\n');
  await vi.advanceTimersByTimeAsync(15_001);
  expect(read.text.endsWith('}\n\n:\n\n')).toBe(true);
  upstream.write('data: ha');
  await vi.advanceTimersByTimeAsync(40_000);
  expect(read.text.endsWith('\n\n:\n\ndata: ha')).toBe(true);
  upstream.write('lf\n');
  upstream.write('\n');
  await vi.advanceTimersByTimeAsync(15_001);
  expect(read.text.endsWith('data: half\n\n:\n\n')).toBe(true);
});

test('a client that does not read is not written to without end', async () => {
  const upstream = streaming();
  const { ask } = proxied(() => upstream.response);
  const response = await ask('/events', { headers: BROWSER });
  upstream.write('event: tidings.hello\ndata: {"keepalive_ms":9000000}\n\n');
  await vi.advanceTimersByTimeAsync(800_000);
  const read = reading(response);
  await vi.advanceTimersByTimeAsync(0);
  expect(read.text).toBe('event: tidings.hello\ndata: {"keepalive_ms":9000000}\n\n');
});

test('a server that went silent is let go, and the client comes back', async () => {
  const upstream = streaming();
  const { ask, sent } = proxied(() => upstream.response);
  const read = reading(await ask('/events', { headers: BROWSER }));
  upstream.write('event: tidings.hello\ndata: {"keepalive_ms":20000}\n\n');
  await vi.advanceTimersByTimeAsync(49_000);
  expect(read.isDone).toBe(false);
  await vi.advanceTimersByTimeAsync(2_000);
  expect(read.isDone).toBe(true);
  expect(read.text).toMatch(/\n\nretry: \d+\n\n$/);
  expect(sent[0]?.signal.aborted).toBe(true);
});

test('a stream ends before the platform would cut it, and says when to come back', async () => {
  const upstream = streaming();
  const { ask, sent } = proxied(() => upstream.response, { maxDuration: 60 });
  const read = reading(await ask('/events', { headers: BROWSER }));
  for (let second = 0; second < 57; second += 1) {
    upstream.write(`data: ${second}\n\n`);
    expect(read.isDone).toBe(false);
    await vi.advanceTimersByTimeAsync(1_000);
  }
  expect(read.isDone).toBe(true);
  const retry = Number(/retry: (\d+)\n\n$/.exec(read.text)?.[1]);
  expect(retry).toBeGreaterThanOrEqual(500);
  expect(retry).toBeLessThan(2_000);
  expect(sent[0]?.signal.aborted).toBe(true);
  const short = streaming();
  const soon = proxied(() => short.response, { authorize: () => ({ ...grant, exp: Math.floor(Date.now() / 1_000) + 20 }) });
  const early = reading(await soon.ask('/events', { headers: BROWSER }));
  await vi.advanceTimersByTimeAsync(18_000);
  expect(early.isDone).toBe(true);
});

test('a stream that breaks ends cleanly, so that the browser resumes', async () => {
  const upstream = streaming();
  const { ask } = proxied(() => upstream.response);
  const read = reading(await ask('/events', { headers: BROWSER }));
  upstream.write('data: 1\n\ndata: ha');
  await vi.advanceTimersByTimeAsync(0);
  upstream.break();
  await vi.advanceTimersByTimeAsync(0);
  expect(read).toEqual(expect.objectContaining({ text: 'data: 1\n\ndata: ha', isDone: true, isCut: false }));
});

test('a server that is away ends no EventSource for good, and tells everybody else', async () => {
  const { ask, errors } = proxied(() => Promise.reject(new TypeError('fetch failed')));
  const browser = await ask('/events', { headers: BROWSER });
  expect([browser.status, browser.headers.get('content-type')]).toEqual([200, 'text/event-stream; charset=utf-8']);
  const retry = Number(/^retry: (\d+)\n\n$/.exec(await browser.text())?.[1]);
  expect(retry).toBeGreaterThanOrEqual(5_000);
  const client = await ask('/events', { headers: { accept: 'text/event-stream, application/problem+json' } });
  expect([client.status, client.headers.get('retry-after'), (await client.json()).code]).toEqual([502, '2', 'upstream_unreachable']);
  expect(errors).toHaveLength(2);
});

test('502, 503, 504 and 429 of whatever is in between are no end for an EventSource, and 404 is', async () => {
  for (const status of [408, 425, 429, 500, 502, 503, 504]) {
    const { ask } = proxied(() => new Response('<html>', { status }));
    const browser = await ask('/events', { headers: BROWSER });
    expect([status, browser.status, (await browser.text()).slice(0, 7)]).toEqual([status, 200, 'retry: ']);
    expect((await ask('/events')).status).toBe(status);
  }
  const { ask } = proxied(() => new Response('{}', { status: 404 }));
  expect((await ask('/events', { headers: BROWSER })).status).toBe(404);
  const done = proxied(() => new Response(null, { status: 204 }));
  expect((await done.ask('/events', { headers: BROWSER })).status).toBe(204);
});

test('who is not logged in is told so once, and then to stop; logged in again, the stream goes on', async () => {
  let isIn = false;
  const { ask, sent } = proxied(() => json({}), { authorize: () => (isIn ? grant : null) });
  const told = await ask('/events', { headers: { ...BROWSER, 'last-event-id': 'e-5' } });
  expect(told.status).toBe(200);
  expect(await told.text()).toBe('event: tidings.unauthorized\ndata: {"code":"unauthorized"}\nid: e-5~s\n\n');
  expect((await ask('/events', { headers: { ...BROWSER, 'last-event-id': 'e-5~s' } })).status).toBe(204);
  const fresh = await ask('/events', { headers: BROWSER });
  expect(await fresh.text()).toContain('\nid: ~s\n\n');
  expect((await ask('/events?last_event_id=~s', { headers: BROWSER })).status).toBe(204);
  const client = await ask('/v1/jobs/j1');
  expect([client.status, await client.json()]).toMatchObject([401, { code: 'unauthorized', committed: false }]);
  expect(sent).toEqual([]);
  isIn = true;
  await ask('/events?last_event_id=e-4', { headers: { ...BROWSER, 'last-event-id': 'e-5~s' } });
  await ask('/events?last_event_id=~s');
  expect(sent.map(({ headers, url }) => [headers.get('last-event-id'), url.search])).toEqual([['e-5~s', '?as=42'], [null, '?as=42']]);
});

test('an authorize that throws is no log-out', async () => {
  const { ask, errors } = proxied(() => json({}), { authorize: () => Promise.reject(new Error('session store away')) });
  const browser = await ask('/events', { headers: BROWSER });
  expect([browser.status, await browser.text()]).toEqual([200, expect.stringMatching(/^retry: /)]);
  const client = await ask('/v1/jobs/j1');
  expect([client.status, await client.json()]).toMatchObject([503, { code: 'auth_unavailable' }]);
  expect(errors).toHaveLength(2);
});

test('a file keeps what it needs to go on where it was cut, and one that is cut does not look whole', async () => {
  const headers = { 'content-type': 'text/csv', etag: '"1"', 'content-length': '3', 'content-disposition': 'attachment; filename="x.csv"', 'accept-ranges': 'bytes', 'cache-control': 'private, no-cache' };
  const { ask, sent } = proxied(() => new Response('a,b', { status: 206, headers: { ...headers, 'content-range': 'bytes 0-2/9' } }));
  const part = await ask('/v1/jobs/j1/download', { headers: { range: 'bytes=0-2', 'if-range': '"1"' } });
  expect([part.status, await part.text()]).toEqual([206, 'a,b']);
  expect(Object.fromEntries(part.headers)).toMatchObject({
    ...headers,
    'content-range': 'bytes 0-2/9',
    'cache-control': 'private, no-cache, no-transform',
  });
  expect([sent[0]?.headers.get('range'), sent[0]?.headers.get('if-range'), sent[0]?.headers.get('accept-encoding')]).toEqual(['bytes=0-2', '"1"', 'identity']);
  const upstream = streaming();
  const cut = proxied(() => new Response(upstream.response.body, { headers }));
  const read = reading(await cut.ask('/v1/jobs/j1/download'));
  upstream.write('a');
  await vi.advanceTimersByTimeAsync(0);
  upstream.break();
  await vi.advanceTimersByTimeAsync(0);
  expect(read).toMatchObject({ text: 'a', isCut: true });
});

test('settings that cannot be are refused, those of a build not before the first request', async () => {
  const { handler } = tidingsProxy({ url: undefined, key: undefined, authorize: () => grant });
  await expect(handler(new Request('https://app.example/events'))).rejects.toThrow('needs `url` and `key`');
  const wrong = tidingsProxy({ url: 'http://t', key: 'tk_abc', authorize: () => grant });
  await expect(wrong.handler(new Request('https://app.example/events'))).rejects.toThrow('API key');
  expect(() => tidingsProxy({ url: 'http://t', key: SECRET, authorize: () => grant, maxDuration: 0 })).toThrow('maxDuration');
  const { ask, errors } = proxied(() => json({}), { key: 'short' });
  expect((await ask('/v1/jobs/j1')).status).toBe(503);
  expect(errors).toMatchObject([{ code: 'token_unsigned' }]);
});
