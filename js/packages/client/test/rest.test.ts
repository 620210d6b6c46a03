// Where code that comes later cannot be had, as after a deployment that took it away.

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Subscription } from '../src/index.js';
import { createLog } from './support/log.js';
import { createBrowser } from './support/tabs.js';
import { createWorld, json, problem, settled, type World } from './support/world.js';

let world: World;
beforeEach(() => void (world = createWorld()));
afterEach(() => {
  vi.doUnmock('../src/rest.js');
  vi.doUnmock('../src/share.js');
  vi.useRealTimers();
});

function gone(): never {
  throw new Error('deployed anew');
}

function collect(subscription: Subscription): unknown[] {
  const got: unknown[] = [];
  subscription.on('message', (data) => got.push(data));
  return got;
}

const codes = (): string[] => world.errors.map(({ code }) => code);

describe('without the rest', () => {
  beforeEach(() => void vi.doMock('../src/rest.js', gone));

  test('a channel that comes later is on a new stream, which goes on at the position', async () => {
    const client = world.client();
    const a = collect(client.subscribe('a'));
    await settled();
    await world.last().hello('e-1');
    await world.last().event('e-2', 'a', 2);
    for (const channel of ['b', 'c']) {
      const got = collect(client.subscribe(channel));
      await settled();
      expect(world.streams.filter(({ aborted }) => !aborted), 'one stream').toHaveLength(1);
      expect(world.last().request.url.searchParams.getAll('channel').at(-1)).toBe(channel);
      expect(world.last().request.headers.get('last-event-id')).toBe('e-2');
      await world.last().hello('e-2');
      expect(world.requests.every(({ method }) => method === 'GET')).toBe(true);
      await world.last().event(null, channel, channel);
      expect(got).toEqual([channel]);
    }
    await world.last().event('e-3', 'a', 3);
    expect(a).toEqual([2, 3]);
    expect(world.streams).toHaveLength(3);
    expect(codes(), 'said once').toEqual(['network']);
  });

  test('a subscription that begins in the past has a stream of its own', async () => {
    const got = collect(world.client().subscribe('a', { from: { id: 'e-2' } }));
    await settled();
    await world.last().hello('e-9');
    await settled();
    expect(world.last().request.headers.get('last-event-id')).toBe('e-2');
    await world.last().hello('e-2');
    await world.last().event('e-3', 'a', 3);
    expect(got).toEqual([3]);
    expect(codes()).toEqual(['network']);
  });

  test('a job ends with the code `network`, once, whoever asks; where it can be had again, another handle is watched', async () => {
    world.answer = ({ url }) => (url.pathname === '/v1/jobs/7' ? json(200, { id: '7', jobId: '7', state: 'completed', v: 1 }) : undefined);
    const client = world.client();
    const handle = client.job('7');
    const ends: string[] = [];
    handle.onEnd((end) => ends.push('error' in end ? end.error.code : ''));
    await expect(handle).rejects.toMatchObject({ name: 'TidingsError', code: 'network', cause: expect.anything() as unknown });
    expect(handle.error?.code).toBe('network');
    handle.onEnd((end) => ends.push('error' in end ? end.error.code : ''));
    await expect(handle).rejects.toMatchObject({ code: 'network' });
    await expect(handle.cancel()).rejects.toMatchObject({ code: 'network' });
    await expect(handle.retry()).rejects.toMatchObject({ code: 'network' });
    handle.close();
    await settled();
    expect(ends).toEqual(['network', 'network']);
    expect([world.requests.length, client.status.state]).toEqual([0, 'idle']);

    vi.doUnmock('../src/rest.js');
    const again = client.job('7');
    await settled();
    await world.last().hello('e-1');
    expect((await again).state).toBe('completed');
  });

  test('a job is not made, and who wanted it may try again', async () => {
    await expect(world.client().startJob('/api/exports', {})).rejects.toMatchObject({ code: 'network' });
    expect(world.requests).toEqual([]);
  });

  test('a grant ends with its stream, and the next one has another token and the position', async () => {
    const token = vi.fn(async (why: string) => `token-${why}`);
    world.answer = ({ headers }) => (headers.get('authorization') === 'Bearer token-first' && world.streams.length > 0 ? problem(401, 'unauthorized') : undefined);
    const client = world.client({ auth: { token } });
    const got = collect(client.subscribe('a'));
    await settled();
    await world.last().hello('e-1', { expires_at: Date.now() + 10_000 });
    expect(codes(), 'before it matters').toEqual(['network']);
    await world.last().event('e-2', 'a', 2);
    await world.pass(9_000);
    expect(token.mock.calls).toEqual([['first']]);
    await world.last().send('event: tidings.unauthorized\ndata: {"code":"token_expired"}\nid: e-2~s\n\n');
    await world.last().end();
    await world.pass(2_000);
    expect(token.mock.calls).toEqual([['first'], ['rejected']]);
    expect(world.last().request.headers.get('authorization')).toBe('Bearer token-rejected');
    expect(world.last().request.headers.get('last-event-id')).toBe('e-2');
    await world.last().hello('e-2');
    await world.last().event('e-3', 'a', 3);
    expect(got).toEqual([2, 3]);
  });

  test('there is no ticket, so it waits and tries again, and sends no token in place of one', async () => {
    world.answer = ({ url }) => (url.pathname === '/v1/tickets' ? json(201, { ticket: 't1' }) : undefined);
    const client = world.client({ auth: { token: () => 'secret', send: 'query' } });
    client.subscribe('a');
    await settled();
    expect([client.status, codes()]).toMatchObject([{ state: 'waiting', reason: { code: 'network' } }, ['network']]);
    expect(world.requests).toEqual([]);
    vi.doUnmock('../src/rest.js');
    await world.pass(2_000);
    expect(world.last().request.url.searchParams.get('ticket')).toBe('t1');
  });
});

describe('while the rest is on its way', () => {
  let arrive: () => void;
  let fail: (cause: Error) => void;
  beforeEach(async () => {
    const arrived = new Promise<void>((resolve, reject) => ([arrive, fail] = [resolve, reject]));
    // It may fail before it is asked for.
    arrived.catch(() => {});
    const actual = await vi.importActual('../src/rest.js');
    vi.doMock('../src/rest.js', async () => {
      await arrived;
      return actual;
    });
  });
  async function arrival(): Promise<void> {
    arrive();
    await settled();
    await settled();
  }
  /** Everything but that. */
  async function meanwhile(): Promise<void> {
    for (let n = 0; n < 5; n += 1) await new Promise((resolve) => setImmediate(resolve));
  }

  test('the stream ends to which a channel was to be added: it is added to the next one', async () => {
    const posts: string[] = [];
    world.answer = ({ method, url }) => (method === 'POST' ? (posts.push(url.pathname), json(200, { position: 'e-2' })) : undefined);
    const client = world.client();
    client.subscribe('a');
    await settled();
    await world.last().hello('e-1');
    const b = collect(client.subscribe('b'));
    await meanwhile();
    void world.last().end();
    await meanwhile();
    await arrival();
    expect(posts).toEqual([]);
    await world.pass(2_000);
    await world.last().hello('e-1');
    expect(posts).toEqual(['/v1/connections/c1/channels']);
    await world.last().event('e-3', 'b', 3);
    expect([b, codes()]).toEqual([[3], []]);
  });

  test('a stream is held whose grant has ended, though the server ends it: another token opens the next one at once', async () => {
    const token = vi.fn(async (why: string) => `token-${why}`);
    const client = world.client({ auth: { token } });
    client.subscribe('a');
    await settled();
    await world.last().hello('e-1');
    void world.last().send('event: tidings.unauthorized\ndata: {"code":"token_revoked"}\nid: e-1~s\n\n');
    void world.last().end();
    await meanwhile();
    await arrival();
    expect(token.mock.calls).toEqual([['first'], ['rejected']]);
    expect(world.last().request.headers.get('authorization')).toBe('Bearer token-rejected');
    expect(world.states).not.toContain('waiting:ended');
  });

  test('a job is closed, and is not watched', async () => {
    const handle = world.client().job('7');
    handle.close();
    arrive();
    await expect(handle).rejects.toMatchObject({ code: 'closed' });
    expect(world.requests).toEqual([]);
  });

  test('the client is closed, and so are its jobs', async () => {
    const client = world.client();
    const handle = client.job('7');
    client.close();
    arrive();
    await expect(handle).rejects.toMatchObject({ code: 'closed' });
    expect(() => client.subscribe('a')).toThrow('closed');
  });

  test('a subscription that begins in the past is closed, and nothing is read', async () => {
    const subscription = world.client().subscribe('a', { from: 'start' });
    await meanwhile();
    void world.last().hello('e-9');
    await meanwhile();
    subscription.close();
    await arrival();
    expect(world.requests.map(({ url }) => url.pathname)).toEqual(['/events']);
  });

  test('a subscription that begins in the past is closed, and opens no stream when it turns out that there is no such code', async () => {
    const subscription = world.client().subscribe('a', { from: 'start' });
    await meanwhile();
    void world.last().hello('e-9');
    await meanwhile();
    subscription.close();
    fail(new Error('deployed anew'));
    await settled();
    await settled();
    expect([world.streams.length, codes()]).toEqual([1, ['network']]);
  });
});

test('without the code for tabs, each has a stream of its own', async () => {
  vi.doMock('../src/share.js', gone);
  const log = createLog(world);
  const browser = createBrowser(world);
  const got = [1, 2].map(() => collect(browser.open().client.subscribe('a')));
  await settled();
  expect(log.open()).toHaveLength(2);
  await log.publish('a', 1);
  expect(got).toEqual([[1], [1]]);
  expect(browser.tabs.map(({ client }) => client.status)).toMatchObject([{ via: 'fetch' }, { via: 'fetch' }]);
  // A module that could not be mocked is so only once.
  expect(codes()).toContain('network');
});
