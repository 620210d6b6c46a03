import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { createWorld, json, problem, settled, type World } from './support/world.js';

let world: World;
beforeEach(() => void (world = createWorld()));
afterEach(() => void vi.useRealTimers());

/** A client with one subscription, and what it got. */
function subscribed(options = {}) {
  const client = world.client(options);
  const got: unknown[] = [];
  const subscription = client.subscribe('a').on('message', (data) => got.push(data));
  return { client, subscription, got };
}

describe('the request', () => {
  test('says what it reads, and asks for the channels', async () => {
    subscribed();
    await settled();
    const [request] = world.requests;
    expect(request?.url.href).toBe('https://app.example/events?channel=a');
    expect(request?.headers.get('accept')).toBe('text/event-stream, application/problem+json');
    expect(request?.headers.has('last-event-id')).toBe(false);
    expect(request?.credentials).toBe('include');
  });

  test('has the position in a header on the page’s origin, and in the query elsewhere, where a header costs a preflight', async () => {
    for (const url of ['/events', 'https://other.example/rt/events?as=eva']) {
      subscribed({ url });
      await settled();
      await world.last().hello('e-1');
      await world.last().event('e-2', 'a', 1);
      await world.last().end();
      await world.pass(2_000);
      const { headers, url: target } = world.last().request;
      const own = url === '/events';
      expect([headers.get('last-event-id'), target.searchParams.get('last_event_id')]).toEqual(own ? ['e-2', null] : [null, 'e-2']);
      if (!own) expect([...headers.keys()], 'nothing that a preflight would ask about').toEqual(['accept']);
    }
  });
});

describe('the table of statuses', () => {
  test('204 is done', async () => {
    world.answer = () => new Response(null, { status: 204 });
    const { client, subscription } = subscribed();
    const ended = vi.fn();
    subscription.onEnd(ended);
    await world.pass(60_000);
    expect([client.status.state, world.requests.length, ended.mock.calls.length]).toEqual(['closed', 1, 1]);
    expect(world.states.at(-1)).toBe('closed:done');
  });

  for (const [status, code] of [[400, 'bad_request'], [403, 'forbidden'], [404, 'not_found'], [405, 'bad_request'], [410, 'not_found'], [422, 'bad_request']] as const) {
    test(`${status} is final`, async () => {
      world.answer = () => problem(status, 'some_code');
      const { subscription } = subscribed();
      const refused = vi.fn();
      subscription.onRefused(refused);
      // Before time passes: who asks for which channels it is that are refused is fetched.
      await settled();
      await world.pass(600_000);
      expect(world.requests).toHaveLength(1);
      expect(world.states.at(-1)).toBe(`closed:${code}`);
      expect(refused.mock.calls[0]?.[0]).toMatchObject({ code: 'some_code', status });
    });
  }

  for (const status of [300, 304, 408, 425, 429, 500, 502, 503, 504]) {
    test(`${status} is tried again`, async () => {
      world.answer = () => new Response(status === 304 ? null : '<html>', { status });
      subscribed();
      await world.pass(30_000);
      expect(world.requests.length).toBeGreaterThan(3);
      expect(world.states.at(-1)).toBe('waiting:http');
      world.answer = () => undefined;
      await world.pass(60_000);
      expect(world.states.at(-1)).toBe('open');
    });
  }

  test('a network that is down, and a log-in page in place of the stream, are tried again', async () => {
    const answers = [() => Promise.reject(new TypeError('failed')), () => new Response('<html>', { headers: { 'content-type': 'text/html' } })];
    for (const [answer, state] of [[answers[0], 'waiting:network'], [answers[1], 'waiting:content_type']] as const) {
      world.answer = answer as never;
      const { client } = subscribed();
      await settled();
      expect(world.states.at(-1)).toBe(state);
      client.close();
    }
    expect(world.errors.map(({ code }) => code)).toEqual(['http']);
  });

  test('a content type that only begins like that of a stream is none', async () => {
    world.answer = () => new Response('', { headers: { 'content-type': 'text/event-stream-of-its-own' } });
    subscribed();
    await settled();
    expect(world.states.at(-1)).toBe('waiting:content_type');
  });

  test('Retry-After is a floor, with jitter on top', async () => {
    world.answer = () => problem(503, 'overloaded', { 'retry-after': '7' });
    subscribed();
    await world.pass(7_249);
    expect(world.requests).toHaveLength(1);
    await world.pass(2);
    expect(world.requests).toHaveLength(2);
  });
});

describe('waiting', () => {
  test('grows with full jitter, has the server’s retry as its floor, and begins anew after 10 s of open', async () => {
    const { client } = subscribed();
    await settled();
    world.answer = () => Promise.reject(new TypeError('down'));
    await world.last().send('retry: 700\n\n');
    await world.last().fail();
    const waits = [];
    for (let n = 0; n < 9; n += 1) {
      const { status } = client;
      if (status.state !== 'waiting') throw new Error(status.state);
      waits.push(status.retryAt - Date.now());
      await world.pass(status.retryAt - Date.now());
    }
    expect(waits).toEqual([700, 700, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000]);
    world.answer = () => undefined;
    await world.pass(15_000);
    await world.last().hello('e-1');
    await world.pass(9_000);
    await world.last().end();
    expect(client.status).toMatchObject({ state: 'waiting', attempt: 11 });
    await world.pass(15_000);
    await world.last().hello('e-1');
    await world.pass(10_000);
    await world.last().end();
    expect(client.status).toMatchObject({ state: 'waiting', attempt: 1 });
  });

  test('a server that stops spreads its clients over the time that it says', async () => {
    const { client } = subscribed();
    await settled();
    await world.last().hello('e-1');
    await world.last().send('event: tidings.drain\ndata: {"spread_ms":800}\nretry: 3000\n\n');
    await world.last().end();
    expect(client.status).toMatchObject({ state: 'waiting', retryAt: Date.now() + 400, reason: { code: 'server_drain' } });
  });

  test('a limit ends it', async () => {
    world.answer = () => Promise.reject(new TypeError('down'));
    subscribed({ retry: { limit: 3 } });
    await world.pass(600_000);
    expect([world.requests.length, world.states.at(-1)]).toEqual([3, 'closed:network']);
  });
});

describe('silence', () => {
  test('2.5 times the announced keep-alive ends the attempt, and nothing is lost', async () => {
    subscribed();
    await settled();
    await world.last().hello('e-1', { keepalive_ms: 4_000 });
    await world.pass(9_000);
    await world.last().send(':\n\n');
    await world.pass(9_900);
    expect(world.states.at(-1)).toBe('open');
    await world.pass(200);
    expect(world.states.at(-1)).toBe('waiting:stalled');
    expect(world.last().aborted).toBe(true);
    await world.pass(2_000);
    expect(world.last().request.headers.get('last-event-id')).toBe('e-1');
  });

  test('a stream that has begun but is held back is reported, once', async () => {
    subscribed();
    await world.pass(4_900);
    expect(world.errors).toEqual([]);
    await world.pass(200);
    expect(world.errors).toMatchObject([{ code: 'stalled', message: expect.stringContaining('proxy') as string }]);
    await world.pass(60_000);
    expect(world.errors).toHaveLength(1);
  });

  test('a head that does not come ends it too', async () => {
    world.answer = () => new Promise(() => {});
    subscribed();
    await world.pass(37_600);
    expect(world.states.at(-1)).toBe('waiting:stalled');
  });
});

describe('the page', () => {
  test('hidden for 5 minutes, it closes the stream, and resumes when it is visible', async () => {
    const { got } = subscribed();
    await settled();
    await world.last().hello('e-1', { keepalive_ms: 300_000 });
    world.signal('hidden');
    await world.pass(299_000);
    expect(world.last().aborted).toBe(false);
    await world.pass(2_000);
    expect([world.last().aborted, world.states.at(-1)]).toEqual([true, 'paused:hidden']);
    await world.pass(3_600_000);
    expect(world.requests).toHaveLength(1);
    world.signal('visible');
    await world.pass(250);
    expect(world.last().request.headers.get('last-event-id')).toBe('e-1');
    await world.last().hello('e-1');
    await world.last().event('e-2', 'a', 'missed');
    expect(got).toEqual(['missed']);
  });

  test('visible again, it looks at a stream that was silent for longer than a keep-alive', async () => {
    subscribed({ stallTimeout: 600_000 });
    await settled();
    await world.last().hello('e-1');
    await world.pass(14_000);
    world.signal('visible');
    await world.pass(600);
    expect(world.requests).toHaveLength(1);
    await world.pass(2_000);
    world.signal('visible');
    await world.pass(251);
    expect(world.requests).toHaveLength(2);
  });

  test('offline, it waits for the network, and does not trust the browser for ever', async () => {
    subscribed();
    await settled();
    await world.last().hello('e-1');
    world.answer = () => Promise.reject(new TypeError('down'));
    world.offline = true;
    await world.last().fail();
    expect(world.states.at(-1)).toBe('paused:offline');
    await world.pass(29_000);
    expect(world.requests).toHaveLength(1);
    world.answer = () => undefined;
    world.signal('online');
    await world.pass(251);
    expect([world.requests.length, world.states.at(-1)]).toEqual([2, 'open']);
    // A browser that is offline by its own word while streams are open.
    world.offline = true;
    await world.last().send(':\n\n');
    await world.last().end();
    await world.pass(3_000);
    expect(world.states.at(-1)).toBe('open');
  });

  test('online cuts a wait short, but never what the server asked for', async () => {
    world.answer = () => problem(429, 'streams_too_many', { 'retry-after': '20' });
    subscribed();
    await settled();
    world.signal('online');
    await world.pass(19_900);
    expect(world.requests).toHaveLength(1);
    await world.pass(200);
    expect(world.requests).toHaveLength(2);
  });
});

describe('tokens', () => {
  test('401 asks for another token once, then it is over', async () => {
    const token = vi.fn(async (why: string) => `token-${why}`);
    world.answer = () => problem(401, 'token_invalid');
    const { client } = subscribed({ auth: { token } });
    await world.pass(600_000);
    expect(token.mock.calls).toEqual([['first'], ['rejected']]);
    expect(world.requests.map(({ headers }) => headers.get('authorization'))).toEqual(['Bearer token-first', 'Bearer token-rejected']);
    expect(world.states.at(-1)).toBe('closed:unauthorized');
    // A log-in later: `reconnect` tries again.
    world.answer = () => undefined;
    client.reconnect();
    await settled();
    expect(world.states.at(-1)).toBe('open');
  });

  test('with cookies, 401 is over at once', async () => {
    world.answer = () => problem(401, 'unauthorized');
    subscribed();
    await world.pass(600_000);
    expect([world.requests.length, world.states.at(-1)]).toEqual([1, 'closed:unauthorized']);
  });

  test('at 80 % of its life a token is renewed on the open stream', async () => {
    const token = vi.fn(async (why: string) => `token-${why}`);
    world.answer = ({ url }) => (url.pathname === '/v1/connections/c0/auth' ? json(200, { expires_at: Date.now() + 1_000_000 }) : undefined);
    subscribed({ auth: { token } });
    await settled();
    await world.last().hello('e-1', { expires_at: Date.now() + 10_000, keepalive_ms: 300_000 });
    await world.pass(7_900);
    expect(token).toHaveBeenCalledTimes(1);
    await world.pass(200);
    expect(token.mock.calls).toEqual([['first'], ['expiring']]);
    expect(world.requests[1]).toMatchObject({ method: 'POST' });
    expect(world.requests[1]?.headers.get('authorization')).toBe('Bearer token-expiring');
    await world.pass(700_000);
    expect(world.requests).toHaveLength(2);
    expect(world.last().aborted).toBe(false);
  });

  test('where that is not possible, it reconnects with the new token and its position', async () => {
    world.answer = ({ url }) => (url.pathname.startsWith('/v1/') ? problem(404, 'connection_not_found') : undefined);
    subscribed({ auth: { token: async (why: string) => `token-${why}` } });
    await settled();
    await world.last().hello('e-1', { expires_at: Date.now() + 10_000 });
    await world.pass(8_100);
    expect(world.streams).toHaveLength(2);
    expect(world.last().request.headers.get('authorization')).toBe('Bearer token-expiring');
    expect(world.last().request.headers.get('last-event-id')).toBe('e-1');
  });

  test('nothing is renewed of a stream that has ended', async () => {
    const token = vi.fn(async (why: string) => `token-${why}`);
    subscribed({ auth: { token } });
    await settled();
    await world.last().hello('e-1', { expires_at: Date.now() + 10_000, keepalive_ms: 300_000 });
    await world.last().end();
    await world.pass(2_000);
    await world.last().hello('e-1', { keepalive_ms: 300_000 });
    await world.pass(20_000);
    expect(token.mock.calls).toEqual([['first']]);
    expect(world.requests.map(({ method }) => method)).toEqual(['GET', 'GET']);
    expect(world.last().aborted).toBe(false);
  });

  test('with cookies, the server says when it is time', async () => {
    world.answer = ({ method }) => (method === 'POST' ? json(200, { expires_at: Date.now() + 10_000 }) : undefined);
    subscribed();
    await settled();
    await world.last().hello('e-1', { expires_at: Date.now() + 10_000, keepalive_ms: 300_000 });
    await world.pass(9_000);
    expect(world.requests).toHaveLength(1);
    await world.last().send(`event: tidings.auth_expiring\ndata: {"expires_at":${Date.now() + 1_000}}\n\n`);
    expect(world.requests[1]).toMatchObject({ method: 'POST', credentials: 'include' });
    await world.pass(20_000);
    expect(world.requests).toHaveLength(2);
  });

  test('`tidings.auth_expiring` renews too, and `tidings.unauthorized` asks for another token', async () => {
    const token = vi.fn(async (why: string) => `token-${why}`);
    world.answer = ({ url }) => (url.pathname.startsWith('/v1/') ? json(200, { expires_at: null }) : undefined);
    subscribed({ auth: { token } });
    await settled();
    await world.last().hello('e-1');
    await world.last().send('event: tidings.auth_expiring\ndata: {"expires_at":1}\n\n');
    expect(token.mock.calls).toEqual([['first'], ['expiring']]);
    await world.last().send('event: tidings.unauthorized\ndata: {"code":"token_revoked"}\nid: e-1~s\n\n');
    expect(token.mock.calls).toEqual([['first'], ['expiring'], ['rejected']]);
    expect(world.last().request.headers.get('authorization')).toBe('Bearer token-rejected');
    expect(world.last().request.headers.get('last-event-id'), 'without the mark').toBe('e-1');
    await world.last().send('event: tidings.unauthorized\ndata: {"code":"token_revoked"}\nid: e-1~s\n\n');
    expect(world.states.at(-1)).toBe('closed:unauthorized');
  });

  test('a stream that lasted may be refused as often as there is another token', async () => {
    let tokens = 0;
    const token = vi.fn(async () => `token-${(tokens += 1)}`);
    subscribed({ auth: { token } });
    await settled();
    const refusedAfter = async (ms: number) => {
      await world.last().hello('e-1', { keepalive_ms: 300_000 });
      await world.pass(ms);
      await world.last().send('event: tidings.unauthorized\ndata: {"code":"token_expired"}\nid: e-1~s\n\n');
    };
    for (const [at, ms] of [0, 60_000, 60_000].entries()) {
      await refusedAfter(ms);
      expect([token.mock.calls.length, world.states.at(-1)]).toEqual([at + 2, 'open']);
    }
    await refusedAfter(0);
    expect(world.states.at(-1), 'twice at once').toBe('closed:unauthorized');
  });

  test('a ticket stands in the URL in place of a token', async () => {
    let tickets = 0;
    world.answer = ({ url }) => (url.pathname === '/v1/tickets' ? json(201, { ticket: `t${(tickets += 1)}`, expires_at: 1 }) : undefined);
    subscribed({ auth: { token: () => 'secret', send: 'query' } });
    await settled();
    expect(world.requests[0]?.headers.get('authorization')).toBe('Bearer secret');
    expect(world.last().request.url.searchParams.get('ticket')).toBe('t1');
    expect(world.last().request.headers.has('authorization')).toBe(false);
    await world.last().end();
    await world.pass(2_000);
    expect(world.last().request.url.searchParams.get('ticket'), 'each works once').toBe('t2');
  });
});

describe('what arrives', () => {
  test('the position is that of the last event whose handler has returned', async () => {
    const client = world.client();
    const seen: (string | null)[] = [];
    const subscription = client.subscribe('a');
    subscription.on('message', () => seen.push(subscription.cursor));
    await settled();
    await world.last().hello('e-1');
    expect(subscription.cursor).toBe('e-1');
    await world.last().event('e-2', 'a', 1);
    await world.last().event('e-3', 'a', 2);
    expect([seen, subscription.cursor]).toEqual([['e-1', 'e-2'], 'e-3']);
    await world.last().send('event: tidings.cursor\ndata: {}\nid: e-9\n\n');
    expect(subscription.cursor).toBe('e-9');
  });

  test('a handler that throws, and data that is not JSON, are reported and break nothing', async () => {
    const client = world.client();
    const got: unknown[] = [];
    client.subscribe('a').on('message', (data) => {
      got.push(data);
      if (data === 1) throw new Error('mine');
    });
    await settled();
    await world.last().hello('e-1');
    await world.last().event('e-2', 'a', 1);
    await world.last().send('channel: a\ndata: {broken\nid: e-3\n\n');
    await world.last().event('e-4', 'a', 2);
    expect(got).toEqual([1, 2]);
    expect(world.errors).toMatchObject([{ code: 'handler_failed', cause: { message: 'mine' } }, { code: 'data_invalid', raw: '{broken' }]);
    await world.last().end();
    await world.pass(2_000);
    expect(world.last().request.headers.get('last-event-id')).toBe('e-4');
  });

  test('an ephemeral event moves nothing', async () => {
    const { got, subscription } = subscribed();
    await settled();
    await world.last().hello('e-1');
    await world.last().event(null, 'a', 'typing');
    expect([got, subscription.cursor]).toEqual([['typing'], 'e-1']);
  });

  test('a reset goes to the channels that it names', async () => {
    const client = world.client();
    const resets: unknown[] = [];
    client.subscribe(['a', 'b']).onReset((reset) => resets.push(reset));
    await settled();
    await world.last().hello('e-1');
    await world.last().send('event: tidings.reset\ndata: {"reason":"deleted","channels":["b"],"first":"e-5"}\nid: e-6\n\n');
    await world.last().send('event: tidings.reset\ndata: {"reason":"epoch"}\nid: f-1\n\n');
    expect(resets).toEqual([
      { reason: 'deleted', channel: 'b', first: 'e-5' },
      { reason: 'epoch', channel: 'a', first: null },
      { reason: 'epoch', channel: 'b', first: null },
    ]);
    await world.last().end();
    await world.pass(2_000);
    expect(world.last().request.headers.get('last-event-id')).toBe('f-1');
  });

  test('nothing is delivered after close, not even what was read with the event before', async () => {
    const client = world.client();
    const got: unknown[] = [];
    client.subscribe('a').on('message', (data) => {
      got.push(data);
      client.close();
    });
    await settled();
    await world.last().hello('e-1');
    await world.last().send('channel: a\ndata: 1\nid: e-2\n\nchannel: a\ndata: 2\nid: e-3\n\n');
    expect([got, world.last().aborted, world.states.at(-1)]).toEqual([[1], true, 'closed:aborted']);
  });
});
