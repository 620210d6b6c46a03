import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Subscription, TidingsEvent } from '../src/index.js';
import { QUEUE_EVENTS_MAX } from '../src/limits.js';
import { createWorld, json, problem, settled, type World } from './support/world.js';

let world: World;
beforeEach(() => void (world = createWorld()));
afterEach(() => void vi.useRealTimers());

const collect = (subscription: Subscription): unknown[] => {
  const got: unknown[] = [];
  subscription.onAny(({ data }) => got.push(data));
  return got;
};

/** A server that adds channels, and has a history of numbers: event `n` has the id `e-n` and the data `n`. */
function server(head: { now: number }) {
  const added: unknown[] = [];
  const asked: string[] = [];
  world.answer = ({ method, url, body }) => {
    const [, stream] = /^\/v1\/connections\/c(\d+)\/channels$/.exec(url.pathname) ?? [];
    if (method === 'POST' && stream !== undefined) {
      const { channels } = body as { channels: string[] };
      added.push(channels);
      void world.streams[Number(stream)]!.joined(`e-${head.now}`, channels);
      return json(200, { position: `e-${head.now}`, channels: [] });
    }
    if (url.pathname === '/v1/history') {
      const query = url.searchParams;
      asked.push(`${query.getAll('channel').join('+')} (${query.get('after') ?? ''}, ${query.get('until') ?? ''}]`);
      const number = (name: string, none: number): number => Number(query.get(name)?.slice(2) ?? none);
      const [after, until, limit] = [number('after', 0), number('until', head.now), Number(query.get('limit'))];
      const numbers = [];
      for (let n = after + 1; n <= until && numbers.length < limit; n += 1) numbers.push(n);
      const last = numbers.at(-1) ?? after;
      const events = numbers.map((n) => ({ channel: query.get('channel'), event: 'message', time: 5, id: `e-${n}`, data: n }));
      return json(200, { events, next: `e-${last}`, more: last < until });
    }
    return undefined;
  };
  return { added, asked };
}

describe('one stream', () => {
  test('what is subscribed in one go is one request, and each gets its own', async () => {
    const client = world.client();
    const a = collect(client.subscribe('a'));
    const both = collect(client.subscribe(['a', 'b']));
    const b = collect(client.subscribe('b'));
    await settled();
    expect(world.requests.map(({ url }) => url.search)).toEqual(['?channel=a&channel=b']);
    await world.last().hello('e-1');
    await world.last().event('e-2', 'a', 1);
    await world.last().event('e-3', 'b', 2);
    expect([a, both, b]).toEqual([[1], [1, 2], [2]]);
  });

  test('what `live` throws is reported, and breaks no stream', async () => {
    server({ now: 7 });
    const client = world.client();
    const live = (): void => {
      throw new Error('live');
    };
    const a = collect(client.subscribe('a', { live }));
    await settled();
    await world.last().hello('e-7');
    const b = collect(client.subscribe('b', { live }));
    await settled();
    await world.last().event('e-8', 'a', 8);
    await world.last().event('e-9', 'b', 9);
    expect([a, b, world.streams.length]).toEqual([[8], [9], 1]);
    expect(world.errors.map(({ code }) => code)).toEqual(['handler_failed', 'handler_failed']);
  });

  test('a channel that comes later is added without a reconnect, and its events are delivered from then on', async () => {
    const head = { now: 7 };
    const { added } = server(head);
    const client = world.client();
    const a = collect(client.subscribe('a'));
    await settled();
    await world.last().hello('e-1');
    const b = collect(client.subscribe('b'));
    const c = collect(client.subscribe('c'));
    await settled();
    expect(added).toEqual([['b', 'c']]);
    await world.last().event('e-8', 'b', 8);
    await world.last().event('e-9', 'a', 9);
    expect([a, b, c, world.streams.length]).toEqual([[9], [8], [], 1]);
    await world.last().end();
    await world.pass(2_000);
    expect(world.last().request.url.search).toBe('?channel=a&channel=b&channel=c');
    expect(world.last().request.headers.get('last-event-id')).toBe('e-9');
  });

  test('where channels cannot be added, it reconnects with all of them and its position', async () => {
    world.answer = ({ method }) => (method === 'POST' ? problem(404, 'not_found') : undefined);
    const client = world.client();
    client.subscribe('a');
    await settled();
    await world.last().hello('e-1');
    const b = collect(client.subscribe('b'));
    await settled();
    expect(world.streams.map(({ aborted }) => aborted)).toEqual([true, false]);
    expect(world.last().request.url.search).toBe('?channel=a&channel=b');
    expect(world.last().request.headers.get('last-event-id')).toBe('e-1');
    await world.last().hello('e-1');
    await world.last().event('e-2', 'b', 1);
    expect(b).toEqual([1]);
  });

  test('a connection that is gone is replaced, and the channel is added to the new one', async () => {
    const posts: string[] = [];
    world.answer = ({ method, url }) => {
      if (method !== 'POST') return undefined;
      posts.push(url.pathname);
      return posts.length === 1 ? problem(404, 'connection_not_found') : json(200, { position: 'e-5', channels: ['a', 'b'] });
    };
    const client = world.client();
    client.subscribe('a');
    await settled();
    await world.last().hello('e-1');
    const b = collect(client.subscribe('b'));
    await settled();
    await world.last().hello('e-1');
    await world.last().event('e-6', 'b', 1);
    expect([posts, b]).toEqual([['/v1/connections/c0/channels', '/v1/connections/c1/channels'], [1]]);
  });

  test('a channel that is refused takes no other with it', async () => {
    world.answer = ({ method, url, body }) => {
      if (method === 'POST') {
        const { channels } = body as { channels: string[] };
        return channels.includes('bad') ? problem(403, 'forbidden') : json(200, { position: 'e-1', channels });
      }
      return url.searchParams.getAll('channel').includes('bad') ? problem(403, 'forbidden') : undefined;
    };
    for (const first of ['bad', 'a']) {
      const client = world.client();
      const refused: string[] = [];
      const got = ['a', 'bad', 'b'].sort((x) => (x === first ? -1 : 0)).map((channel) => {
        const subscription = client.subscribe(channel).onRefused(({ code }) => refused.push(`${channel}: ${code}`));
        return collect(subscription);
      });
      await settled();
      await world.last().hello('e-1');
      await settled();
      await world.last().event('e-2', 'a', 'A');
      await world.last().event('e-3', 'b', 'B');
      expect(refused).toEqual(['bad: forbidden']);
      expect(got.flat().sort()).toEqual(['A', 'B']);
      client.close();
    }
  });

  test('a channel that loses its grant in mid-stream is given up, and the others go on where they were', async () => {
    const head = { now: 2 };
    const { added, asked } = server(head);
    const token = vi.fn(async () => 'token');
    const client = world.client({ auth: { token } });
    const refused: string[] = [];
    const refusal = (name: string) => (error: { code: string }) => void refused.push(`${name}: ${error.code}`);
    const [a, bad, both] = [client.subscribe('a'), client.subscribe('bad'), client.subscribe(['a', 'bad'])];
    a.onRefused(refusal('a'));
    bad.onRefused(refusal('bad'));
    both.onRefused(refusal('both'));
    const got = [a, bad, both].map(collect);
    await settled();
    await world.last().hello('e-1');
    await world.last().event('e-2', 'bad', 2);
    void world.last().send('event: tidings.unauthorized\ndata: {"code":"forbidden","channels":["bad"]}\nid: e-2~s\n\n');
    await world.last().end();
    await settled();
    expect(refused).toEqual(['bad: forbidden', 'both: forbidden']);
    expect(world.requests.map(({ url }) => url.search)).toEqual(['?channel=a&channel=bad', '?channel=a']);
    expect(world.last().request.headers.get('last-event-id')).toBe('e-2');
    await world.last().hello('e-2');
    await world.last().event('e-3', 'a', 3);
    expect(got).toEqual([[3], [2], [2]]);
    expect([token.mock.calls.length, world.states]).toEqual([1, ['connecting', 'open', 'connecting', 'open']]);
    await world.last().end();
    await world.pass(60_000);
    expect(world.last().request.url.search, 'it is not asked for again').toBe('?channel=a');

    // It has the right again, and goes on where it was.
    head.now = 4;
    client.reconnect();
    await settled();
    await world.last().hello('e-4');
    await settled();
    expect([added, asked]).toEqual([[['bad']], ['bad (e-2, e-4]', 'a+bad (e-2, e-4]']]);
    expect(got).toEqual([[3], [2, 3, 4], [2, 3, 4]]);
  });

  test('one that has lost it by the time the stream is opened anew takes no other with it either', async () => {
    const client = world.client();
    const refused: string[] = [];
    const names = ['a', 'bad', 'b', 'worse'];
    const got = names.map((name) => collect(client.subscribe(name).onRefused(({ code }) => refused.push(`${name}: ${code}`))));
    await settled();
    await world.last().hello('e-1');
    await world.last().event('e-2', 'a', 1);
    world.answer = ({ url }) => (url.searchParams.getAll('channel').some((name) => ['bad', 'worse'].includes(name)) ? problem(403, 'forbidden') : undefined);
    await world.last().end();
    await world.pass(2_000);
    expect(refused).toEqual(['bad: forbidden', 'worse: forbidden']);
    expect(world.last().request.url.search).toBe('?channel=a&channel=b');
    expect(world.last().request.headers.get('last-event-id')).toBe('e-2');
    await world.last().hello('e-2');
    await world.last().event('e-3', 'b', 2);
    expect(got).toEqual([[1], [], [2], []]);
    expect(world.states.slice(2)).toEqual(['waiting:ended', 'connecting', 'connecting', 'open']);
  });

  test('where nobody can say which of them it is, the stream is refused as a whole', async () => {
    for (const status of [405, 200]) {
      world = createWorld();
      world.answer = ({ method }) => (method === 'HEAD' ? new Response(null, { status }) : problem(403, 'forbidden'));
      const client = world.client();
      const refused = vi.fn();
      for (const name of ['a', 'b', 'c']) client.subscribe(name).onRefused(refused);
      await settled();
      expect([refused.mock.calls.length, world.states.at(-1)]).toEqual([3, 'closed:forbidden']);
    }
    // One that is overloaded says so another time.
    world = createWorld();
    world.answer = ({ method }) => (method === 'HEAD' ? problem(503, 'overloaded') : problem(403, 'forbidden'));
    const refused = vi.fn();
    world.client().subscribe('a').onRefused(refused);
    world.client().subscribe(['a', 'b']).onRefused(refused);
    await settled();
    expect([refused.mock.calls.length, world.states.at(-1)]).toEqual([1, 'waiting:network']);
  });

  test('without credentials, a channel is named in a new stream, and one that is refused there leaves the others as they were', async () => {
    world.answer = ({ method, url }) => (method === 'POST' || url.searchParams.getAll('channel').includes('bad') ? problem(401, 'unauthorized') : undefined);
    const client = world.client();
    const a = collect(client.subscribe('a'));
    await settled();
    await world.last().hello('e-1');
    const b = collect(client.subscribe('b'));
    await settled();
    await world.last().hello('e-1');
    const refused = vi.fn();
    client.subscribe('bad').onRefused(refused);
    await settled();
    expect(refused).toHaveBeenCalledOnce();
    expect(world.last().request.url.search).toBe('?channel=a&channel=b');
    expect(world.last().request.headers.get('last-event-id')).toBe('e-1');
    await world.last().hello('e-1');
    await world.last().event('e-2', 'a', 1);
    await world.last().event('e-3', 'b', 2);
    expect([a, b]).toEqual([[1], [2]]);
    const before = world.requests.length;
    client.subscribe('a').close();
    await settled();
    expect(world.requests, 'it is not asked for again by the way').toHaveLength(before);
    world.answer = ({ method }) => (method === 'POST' ? problem(401, 'unauthorized') : undefined);
    client.reconnect();
    await settled();
    await world.last().hello('e-3');
    await settled();
    expect(world.last().request.url.search, 'but when there may be a reason').toBe('?channel=a&channel=b&channel=bad');
  });

  test('more channels than a stream takes go on a second one', async () => {
    const client = world.client();
    const names = Array.from({ length: 130 }, (_, n) => `c${n}`);
    const got = names.map((name) => collect(client.subscribe(name)));
    await settled();
    expect(world.streams.map(({ request }) => request.url.searchParams.getAll('channel').length)).toEqual([100, 30]);
    await world.streams[0]!.hello('e-1');
    await world.streams[1]!.hello('e-1');
    await world.streams[0]!.event('e-2', 'c99', 1);
    await world.streams[1]!.event('e-3', 'c129', 2);
    expect([got[99], got[129]]).toEqual([[1], [2]]);
    expect(() => client.subscribe(names)).toThrow(RangeError);
  });

  test('it outlives a subscription that comes back within half a second, and ends when nobody wants it', async () => {
    const client = world.client();
    const subscription = client.subscribe('a');
    await settled();
    await world.last().hello('e-1');
    subscription.close();
    await world.pass(400);
    const a = collect(client.subscribe('a'));
    await world.pass(5_000);
    await world.last().event('e-2', 'a', 1);
    expect([a, world.streams.length, world.last().aborted]).toEqual([[1], 1, false]);
    client.close();
    expect(world.last().aborted).toBe(true);
    const other = world.client();
    other.subscribe('a').close();
    await world.pass(1_000);
    expect([other.status.state, world.requests.length]).toEqual(['idle', 1]);
  });
});

describe('where a subscription begins', () => {
  test('from an event: what lies before the stream is read from history, once and in order, also while more comes', async () => {
    const head = { now: 20 };
    const { asked } = server(head);
    const client = world.client();
    const got = collect(client.subscribe('a', { from: { id: 'e-5' } }));
    await settled();
    await world.last().hello('e-20');
    for (let n = 21; n < 30; n += 1) await world.last().event(`e-${n}`, 'a', n);
    await settled();
    expect(asked).toEqual(['a (e-5, e-20]']);
    expect(got).toEqual(Array.from({ length: 24 }, (_, n) => n + 6));
  });

  test('from the start, over several pages', async () => {
    const head = { now: 1_700 };
    const { asked } = server(head);
    const got = collect(world.client().subscribe('a', { from: 'start' }));
    await settled();
    await world.last().hello('e-1700');
    await settled();
    await world.last().event('e-1701', 'a', 1_701);
    expect(asked).toEqual(['a (, e-1700]', 'a (e-500, e-1700]', 'a (e-1000, e-1700]', 'a (e-1500, e-1700]']);
    expect(got).toEqual(Array.from({ length: 1_701 }, (_, n) => n + 1));
  });

  test('several channels are one history, in the log’s order', async () => {
    const head = { now: 9 };
    const { asked, added } = server(head);
    const client = world.client();
    client.subscribe('a');
    await settled();
    await world.last().hello('e-1');
    const subscription = client.subscribe(['a', 'b'], { from: { id: 'e-3' } });
    const got = collect(subscription);
    await world.last().event('e-8', 'a', 8);
    await settled();
    expect([added, asked]).toEqual([[['b']], ['a+b (e-3, e-9]']]);
    expect(got, 'what came on the stream meanwhile is not repeated').toEqual([4, 5, 6, 7, 8, 9]);
    await world.last().event('e-10', 'b', 10);
    expect(got.slice(6)).toEqual([10]);
    expect(subscription.cursor).toBe('e-10');
  });

  test('a quiet stream stands where the last channel was added', async () => {
    const { asked } = server({ now: 9 });
    const client = world.client();
    client.subscribe('a');
    await settled();
    await world.last().hello('e-1');
    const now = collect(client.subscribe('b'));
    await settled();
    const older = collect(client.subscribe('b', { from: { id: 'e-6' } }));
    await settled();
    expect([now, older, asked]).toEqual([[], [7, 8, 9], ['b (e-6, e-9]']]);
    await world.last().end();
    await world.pass(2_000);
    expect(world.last().request.headers.get('last-event-id'), 'what is older than a subscription does not come').toBe('e-9');
  });

  test('a reset of one channel takes nothing of the others that are being read', async () => {
    server({ now: 9 });
    const { answer } = world;
    let release = (): void => {};
    const gate = new Promise<void>((resolve) => (release = resolve));
    world.answer = (request) => (request.url.pathname === '/v1/history' ? gate.then(() => answer(request)!) : answer(request));
    const got: unknown[] = [];
    const subscription = world.client().subscribe(['a', 'b'], { from: { id: 'e-6' } });
    subscription.onAny(({ data }) => got.push(data)).onReset(({ channel }) => got.push(channel));
    await settled();
    await world.last().hello('e-9');
    await world.last().event('e-10', 'a', 10);
    await world.last().send('event: tidings.reset\ndata: {"reason":"deleted","channels":["b"]}\nid: e-10\n\n');
    release();
    await settled();
    await world.last().event('e-11', 'a', 11);
    expect(got).toEqual(['b', 7, 8, 9, 10, 11]);
  });

  test('the last event of a finished channel that the stream sends again is not delivered again', async () => {
    server({ now: 9 });
    const got = collect(world.client().subscribe('a', { from: { id: 'e-9' } }));
    await settled();
    // As it comes, in one piece.
    void world.last().hello(null);
    await world.last().event('e-9', 'a', 9);
    await world.last().end();
    await settled();
    expect(got).toEqual([]);
  });

  test('a finished channel whose past is still being read is not asked for again, until somebody new wants it', async () => {
    const answers: ((response: Response) => void)[] = [];
    world.answer = ({ url, headers }) => {
      if (url.pathname === '/v1/history') return new Promise((resolve) => answers.push(resolve));
      return headers.get('last-event-id') === 'e-9' ? new Response(null, { status: 204 }) : undefined;
    };
    const client = world.client();
    const a = client.subscribe('a', { from: { id: 'e-7' } });
    const got = collect(a);
    const ended = vi.fn();
    a.onEnd(ended);
    await settled();
    await world.last().hello('e-8');
    await world.last().event('e-9', 'a', 9);
    await world.last().end();
    await world.pass(30_000);
    expect(world.requests.map(({ url }) => url.pathname)).toEqual(['/events', '/v1/history', '/events']);
    expect(client.status).toMatchObject({ state: 'closed', reason: { code: 'done' } });

    const late = vi.fn();
    client.subscribe('a').onEnd(late);
    await settled();
    await world.last().hello(null);
    await world.last().event('e-9', 'a', 9);
    await world.last().end();
    await world.pass(30_000);
    expect([late.mock.calls.length, world.streams.length]).toEqual([1, 2]);

    expect([got, ended.mock.calls.length]).toEqual([[], 0]);
    answers.at(-1)!(json(200, { events: [{ channel: 'a', event: 'message', time: 5, id: 'e-8', data: 8 }], next: 'e-8', more: false }));
    await settled();
    expect([got, ended.mock.calls.length]).toEqual([[8, 9], 1]);
  });

  test('a finished channel whose loop is slow is not asked for again', async () => {
    const loop = world.client().subscribe('a')[Symbol.asyncIterator]();
    await settled();
    await world.last().hello('e-1');
    await world.last().event('e-2', 'a', 2);
    let asked = 0;
    world.answer = () => ((asked += 1) < 10 ? new Response(null, { status: 204 }) : undefined);
    await world.last().end();
    await world.pass(60_000);
    expect(asked).toBe(1);
    expect([(await loop.next()).value?.data, (await loop.next()).done]).toEqual([2, true]);
  });

  test('a stream that is refused for a channel that nobody wants any more goes on without it', async () => {
    world.answer = ({ url }) => (url.searchParams.getAll('channel').includes('gone') && world.streams.length > 0 ? problem(403, 'forbidden') : undefined);
    const client = world.client();
    const a = client.subscribe('a');
    const got = collect(a);
    const refused = vi.fn();
    a.onRefused(refused);
    const gone = client.subscribe('gone');
    await settled();
    await world.last().hello('e-1');
    gone.close();
    await settled();
    await world.last().end();
    await world.pass(2_000);
    expect([world.last().request.url.search, world.last().request.headers.get('last-event-id')]).toEqual(['?channel=a', 'e-1']);
    await world.last().hello('e-1');
    await world.last().event('e-2', 'a', 2);
    expect([got, refused.mock.calls.length]).toEqual([[2], 0]);
  });

  test('an older position on a stream that is open disturbs nobody', async () => {
    const head = { now: 10 };
    server(head);
    const client = world.client();
    const now = collect(client.subscribe('a'));
    await settled();
    await world.last().hello('e-8');
    await world.last().event('e-9', 'a', 9);
    await world.last().event('e-10', 'a', 10);
    const old = collect(client.subscribe('a', { from: { id: 'e-2' } }));
    const fresh = collect(client.subscribe('a'));
    await settled();
    await world.last().event('e-11', 'a', 11);
    expect([now, old, fresh]).toEqual([[9, 10, 11], [3, 4, 5, 6, 7, 8, 9, 10, 11], [11]]);
    expect(world.streams).toHaveLength(1);
  });

  test('more than fits while it catches up is read from history too', async () => {
    const head = { now: 10 };
    const { asked } = server(head);
    let release = (): void => {};
    const { answer } = world;
    const gate = new Promise<void>((resolve) => (release = resolve));
    world.answer = (request) => (request.url.pathname === '/v1/history' && asked.length === 0 ? gate.then(() => answer(request)!) : answer(request));
    const got = collect(world.client().subscribe('a', { from: { id: 'e-0' } }));
    await settled();
    await world.last().hello('e-10');
    const count = QUEUE_EVENTS_MAX + 50;
    let text = '';
    for (let n = 11; n <= 10 + count; n += 1) text += `channel: a\ndata: ${n}\nid: e-${n}\n\n`;
    await world.last().send(text);
    head.now = 10 + count;
    release();
    for (let n = 0; n < 5; n += 1) await settled();
    await world.last().event(`e-${head.now + 1}`, 'a', head.now + 1);
    expect(got).toEqual(Array.from({ length: count + 11 }, (_, n) => n + 1));
  });

  test('a reset in history is told, and what is left follows', async () => {
    world.answer = ({ url }) => {
      if (url.pathname !== '/v1/history') return undefined;
      const events = [{ channel: 'a', event: 'message', time: 5, id: 'e-9', data: 9 }];
      return json(200, { events, next: 'e-9', more: false, reset: { reason: 'expired', first: 'e-9' } });
    };
    const subscription = world.client().subscribe('a', { from: { id: 'e-2' } });
    const got: unknown[] = [];
    subscription.onReset(({ reason, first }) => got.push([reason, first])).onAny(({ data }) => got.push(data));
    await settled();
    await world.last().hello('e-9');
    await settled();
    await world.last().event('e-10', 'a', 10);
    expect(got).toEqual([['expired', 'e-9'], 9, 10]);
  });

  test('a position of another server is a reset, and then what comes', async () => {
    world.answer = ({ url }) => (url.pathname === '/v1/history' ? json(200, { events: [], next: 'e-9', more: false, reset: { reason: 'epoch', first: null } }) : undefined);
    const got: unknown[] = [];
    world.client().subscribe('a', { from: { id: 'x-2' } }).onReset(({ reason }) => got.push(reason)).onAny(({ data }) => got.push(data));
    await settled();
    await world.last().hello('e-9');
    await settled();
    await world.last().event('e-10', 'a', 10);
    expect(got).toEqual(['epoch', 10]);
  });

  test('where there is no history, it gets a stream of its own, which begins there', async () => {
    world.answer = ({ url }) => (url.pathname === '/v1/history' ? problem(404, 'not_found') : undefined);
    const client = world.client();
    const a = collect(client.subscribe('a'));
    await settled();
    await world.last().hello('e-9');
    const old = collect(client.subscribe('a', { from: { id: 'e-2' } }));
    await settled();
    expect(world.last().request.headers.get('last-event-id')).toBe('e-2');
    await world.streams[1]!.hello('e-2');
    await world.streams[1]!.event('e-3', 'a', 3);
    await world.streams[0]!.event('e-10', 'a', 10);
    await world.streams[1]!.event('e-10', 'a', 10);
    expect([a, old]).toEqual([[10], [3, 10]]);
    const start = collect(client.subscribe('a', { from: 'start' }));
    await settled();
    expect(world.last().request.url.searchParams.get('from')).toBe('start');
    await world.last().hello(null);
    await world.last().event('e-1', 'a', 1);
    expect(start).toEqual([1]);
  });

  test('with the newest events, of history or of a stream of its own', async () => {
    const asked: URLSearchParams[] = [];
    const listed = (n: number): object => ({ channel: 'a', event: 'message', time: 5, id: `e-${n}`, data: n });
    world.answer = ({ url }) => {
      if (url.pathname !== '/v1/history') return undefined;
      asked.push(url.searchParams);
      return json(200, asked.length === 1 ? { events: [listed(7)], next: 'e-7', more: true } : { events: [listed(8)], next: 'e-8', more: false });
    };
    const got = collect(world.client().subscribe('a', { from: { last: 2 } }));
    await settled();
    await world.last().hello('e-8');
    await settled();
    await world.last().event('e-9', 'a', 9);
    expect(asked.map((query) => [query.get('from'), query.get('after'), query.get('until')])).toEqual([['last:2', null, 'e-8'], [null, 'e-7', 'e-8']]);
    expect(got).toEqual([7, 8, 9]);

    world.answer = ({ url }) => (url.pathname === '/v1/history' ? problem(404, 'not_found') : undefined);
    collect(world.client().subscribe('a', { from: { last: 2 } }));
    await settled();
    await world.last().hello('e-9');
    await settled();
    expect(world.last().request.url.searchParams.get('from')).toBe('last:2');
  });

  test('history that is cut, and history that never comes, is asked for again', async () => {
    server({ now: 3 });
    const good = world.answer;
    const cut = new ReadableStream({
      start(body) {
        body.enqueue(new TextEncoder().encode('{"events":['));
        body.error(new TypeError('terminated'));
      },
    });
    const bad = [Promise.resolve(new Response(cut)), new Promise<Response>(() => {})];
    world.answer = (request) => (request.url.pathname === '/v1/history' ? bad.shift() : undefined) ?? good(request);
    const client = world.client();
    client.subscribe('a');
    await settled();
    await world.last().hello('e-3');
    const b = collect(client.subscribe('b', { from: { id: 'e-1' } }));
    await settled();
    await world.pass(2_000);
    expect([b, bad.length]).toEqual([[], 0]);
    await world.pass(40_000);
    expect([b, world.errors]).toEqual([[2, 3], []]);
  });

  test('a page in place of history is none', async () => {
    server({ now: 3 });
    const good = world.answer;
    const page = (): Response => new Response('<p>Please log in', { headers: { 'content-type': 'text/html' } });
    world.answer = (request) => (request.url.pathname === '/v1/history' ? page() : good(request));
    const client = world.client();
    client.subscribe('a');
    await settled();
    await world.last().hello('e-3');
    client.subscribe('b', { from: { id: 'e-1' } });
    await settled();
    const { url, headers } = world.last().request;
    expect([url.search, headers.get('last-event-id')]).toEqual(['?channel=b', 'e-1']);
  });

  test('history that is refused is read when the client is told to connect again', async () => {
    server({ now: 3 });
    const good = world.answer;
    let denied = true;
    world.answer = (request) => (denied && request.url.pathname === '/v1/history' ? problem(401, 'unauthorized') : good(request));
    const client = world.client();
    client.subscribe('a');
    await settled();
    await world.last().hello('e-3');
    const b = collect(client.subscribe('b', { from: { id: 'e-1' } }));
    await settled();
    expect([b, world.errors.map(({ code }) => code)]).toEqual([[], ['unauthorized']]);
    denied = false;
    client.reconnect();
    await settled();
    await world.last().hello('e-3');
    await world.last().event('e-4', 'b', 4);
    expect(b).toEqual([2, 3, 4]);
  });

  test('history that fails is asked for again', async () => {
    const head = { now: 3 };
    server(head);
    const { answer } = world;
    let failures = 3;
    world.answer = (request) => (request.url.pathname === '/v1/history' && (failures -= 1) >= 0 ? problem(503, 'overloaded') : answer(request));
    const got = collect(world.client().subscribe('a', { from: 'start' }));
    await settled();
    await world.last().hello('e-3');
    await world.pass(10_000);
    expect(got).toEqual([1, 2, 3]);
  });
});

describe('the loop', () => {
  test('an event counts as delivered when the next one is asked for', async () => {
    const subscription = world.client().subscribe('a');
    const loop = subscription[Symbol.asyncIterator]();
    await settled();
    await world.last().hello('e-1');
    const first = loop.next();
    await world.last().event('e-2', 'a', 1);
    await world.last().event('e-3', 'a', 2);
    expect((await first).value).toMatchObject({ data: 1, id: 'e-2' });
    expect(subscription.cursor).toBe('e-1');
    expect((await loop.next()).value).toMatchObject({ data: 2 });
    expect(subscription.cursor).toBe('e-2');
    void loop.next();
    expect(subscription.cursor).toBe('e-3');
  });

  test('one that is slow holds nobody up, keeps a bounded queue, and gets everything', async () => {
    const head = { now: 0 };
    server(head);
    const client = world.client();
    const slow = client.subscribe('a');
    const loop = slow[Symbol.asyncIterator]();
    const fast = collect(client.subscribe('a'));
    await settled();
    await world.last().hello('e-0');
    const count = 3 * QUEUE_EVENTS_MAX;
    for (let n = 1; n <= count; n += 500) {
      let text = '';
      for (let k = n; k < n + 500; k += 1) text += `channel: a\ndata: ${k}\nid: e-${k}\n\n`;
      head.now = n + 499;
      await world.last().send(text);
    }
    expect(fast).toHaveLength(count);
    const got: unknown[] = [];
    for (let n = 0; n < count; n += 1) got.push(((await loop.next()).value as TidingsEvent).data);
    expect(got).toEqual(fast);
    await world.last().event(`e-${count + 1}`, 'a', 'live');
    expect(((await loop.next()).value as TidingsEvent).data).toBe('live');
  });

  test('one that is slow on a stream of its own holds that back, which is no stall, and gets everything', async () => {
    world.answer = ({ url }) => (url.pathname === '/v1/history' ? problem(404, 'not_found') : undefined);
    const client = world.client();
    client.subscribe('a');
    await settled();
    await world.last().hello('e-0');
    const loop = client.subscribe('a', { from: 'start' })[Symbol.asyncIterator]();
    await settled();
    const own = world.last();
    await own.hello(null);
    const count = QUEUE_EVENTS_MAX + 500;
    for (let n = 1; n <= count; n += 1) void own.event(`e-${n}`, 'a', n);
    await settled();
    await world.streams[0]!.send(':\n\n');
    for (let n = 0; n < 6; n += 1) {
      await world.pass(30_000);
      await world.streams[0]!.send(':\n\n');
    }
    expect(world.streams).toHaveLength(2);
    const got: unknown[] = [];
    for (let n = 0; n < count; n += 1) got.push(((await loop.next()).value as TidingsEvent).data);
    expect(got).toEqual(Array.from({ length: count }, (_, n) => n + 1));
  });

  test('events wait for whoever comes late to their own subscription', async () => {
    const subscription = world.client().subscribe('a');
    await settled();
    await world.last().hello('e-1');
    await world.last().event('e-2', 'a', 1);
    const got = collect(subscription);
    await settled();
    expect(got).toEqual([1]);
  });

  test('it ends with the channel, throws when it is refused, and leaving it closes the subscription', async () => {
    const client = world.client();
    const iterate = async (): Promise<unknown[]> => {
      const got: unknown[] = [];
      for await (const { data } of client.subscribe('a')) got.push(data);
      return got;
    };
    const all = iterate();
    await settled();
    await world.last().hello(null);
    await world.last().event('e-2', 'a', 'last');
    world.answer = () => new Response(null, { status: 204 });
    await world.last().end();
    await world.pass(2_000);
    expect(await all).toEqual(['last']);

    world.answer = () => problem(403, 'forbidden');
    await expect(iterate()).rejects.toMatchObject({ code: 'forbidden' });

    world.answer = () => undefined;
    const broken = (async () => {
      for await (const event of world.client().subscribe('a')) return event.data;
      return null;
    })();
    await settled();
    await world.last().hello('e-1');
    await world.last().event('e-2', 'a', 1);
    expect(await broken).toBe(1);
    await world.pass(500);
    expect(world.last().aborted).toBe(true);
  });

  test('one that begins after the refusal throws, also when other channels have joined since', async () => {
    world.answer = ({ method }) => (method === 'POST' ? json(200, { position: 'e-1' }) : undefined);
    const client = world.client();
    client.subscribe('a');
    await settled();
    await world.last().hello('e-1');
    world.answer = ({ method }) => (method === 'POST' ? problem(403, 'forbidden') : undefined);
    const bad = client.subscribe('bad');
    await settled();
    world.answer = ({ method }) => (method === 'POST' ? json(200, { position: 'e-1' }) : undefined);
    client.subscribe('b');
    await settled();
    const loop = bad[Symbol.asyncIterator]();
    await expect(Promise.race([loop.next(), settled()])).rejects.toMatchObject({ code: 'forbidden' });

    client.reconnect();
    await settled();
    await world.last().hello('e-1');
    await settled();
    const next = loop.next();
    await world.last().event('e-2', 'bad', 1);
    expect(await next, 'until it is had after all').toMatchObject({ value: { data: 1 } });
  });

  test('one that was live when its stream was refused has what comes behind that', async () => {
    const client = world.client();
    const subscription = client.subscribe('a');
    await settled();
    await world.last().hello('e-1');
    world.answer = () => problem(401, 'unauthorized');
    await world.last().end();
    await world.pass(2_000);
    expect(client.status.state).toBe('closed');
    world.answer = () => undefined;
    client.reconnect();
    await settled();
    await world.last().hello('e-1');
    const next = subscription[Symbol.asyncIterator]().next();
    await world.last().event('e-2', 'a', 1);
    expect(await next).toMatchObject({ value: { data: 1 } });
  });

  test('a signal closes it', async () => {
    const abort = new AbortController();
    const client = world.client();
    const ended = vi.fn();
    const got = collect(client.subscribe('a', { signal: abort.signal }).onEnd(ended));
    await settled();
    await world.last().hello('e-1');
    abort.abort();
    await world.last().event('e-2', 'a', 1);
    expect([got, ended.mock.calls.length]).toEqual([[], 1]);
    client.subscribe('b', { signal: AbortSignal.abort() });
    await settled();
    expect(world.requests).toHaveLength(1);
  });
});

describe('data', () => {
  const positive = {
    '~standard': {
      version: 1 as const,
      vendor: 'test',
      validate: (value: unknown) => (typeof value === 'number' && value > 0 ? { value: value * 10 } : { issues: [{ message: 'not positive' }] }),
    },
  };

  test('is checked and made by a schema, at once or later', async () => {
    const later = { '~standard': { ...positive['~standard'], validate: async (value: unknown) => positive['~standard'].validate(value) } };
    for (const schema of [positive, later, { message: positive }]) {
      const client = world.client();
      const got: unknown[] = [];
      const subscription = client.subscribe('a', { schema });
      subscription.onAny(({ data }) => got.push(data));
      await settled();
      await world.last().hello('e-1');
      for (const [n, data] of [1, -1, 2].entries()) await world.last().event(`e-${n + 2}`, 'a', data);
      expect(got).toEqual([10, 20]);
      expect(world.errors.splice(0)).toMatchObject([{ code: 'schema_invalid', raw: '-1' }]);
      expect(subscription.cursor).toBe('e-4');
      client.close();
    }
  });

  test('that is text stays as it is where that is asked for', async () => {
    const got = collect(world.client().subscribe('a', { format: 'text' }));
    await settled();
    await world.last().hello('e-1');
    await world.last().send('channel: a\ndata: two\ndata: lines\nid: e-2\n\n');
    expect(got).toEqual(['two\nlines']);
  });

  test('is the same from history as from a stream, also where it was published as text', async () => {
    // Text that is JSON, text that is not, and a string.
    const said = [{ data: '{"x":1}', is_text: true }, { data: 'plain', is_text: true }, { data: '7' }];
    const events = said.map((one, n) => ({ channel: 'a', event: 'message', time: 5, id: `e-${n + 1}`, ...one }));
    world.answer = ({ url }) => (url.pathname === '/v1/history' ? json(200, { events, next: 'e-3', more: false }) : undefined);
    const streamed = ['{"x":1}', 'plain', '"7"'];
    for (const [format, got] of [['json', [{ x: 1 }, '7']], ['text', streamed]] as const) {
      const client = world.client();
      const both = collect(client.subscribe('a', { from: 'start', format }));
      await settled();
      await world.last().hello('e-3');
      await settled();
      for (const [n, data] of streamed.entries()) await world.last().send(`channel: a\ndata: ${data}\nid: e-${n + 4}\n\n`);
      expect(both).toEqual([...got, ...got]);
      client.close();
    }
    expect(world.errors.splice(0).map(({ code, raw }) => [code, raw])).toEqual(Array(2).fill(['data_invalid', 'plain']));
  });
});

test('without a page, a relative URL is refused only when something is subscribed', () => {
  vi.useRealTimers();
  world = createWorld(null);
  const client = world.client();
  expect(client.status).toEqual({ state: 'idle' });
  expect(() => client.subscribe('a')).toThrow(TypeError);
});
