import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { createLog, type FakeLog } from './support/log.js';
import { createBrowser, type Browser, type Tab } from './support/tabs.js';
import { createWorld, json, problem, settled, type World } from './support/world.js';

let world: World;
let log: FakeLog;
let browser: Browser;
beforeEach(() => {
  world = createWorld();
  log = createLog(world);
  browser = createBrowser(world);
});
afterEach(async () => {
  for (const { client } of browser.tabs) client.close();
  await settled();
  vi.useRealTimers();
});

/** Tabs with one subscription each, and what they got. */
async function tabs(count: number, channels: (n: number) => string | string[] = () => 'a', options = {}): Promise<{ tab: Tab; got: unknown[]; resets: unknown[] }[]> {
  const all = [];
  for (let n = 0; n < count; n += 1) {
    const tab = browser.open(options);
    const got: unknown[] = [];
    const resets: unknown[] = [];
    tab.client.subscribe(channels(n)).onAny(({ data }) => got.push(data)).onReset((reset) => resets.push(reset));
    all.push({ tab, got, resets });
    await calm();
  }
  return all;
}

/** The code of sharing is fetched, and everybody has said what there is to say. */
async function calm(): Promise<void> {
  await vi.dynamicImportSettled();
  for (let n = 0; n < 6; n += 1) await settled();
}

async function publish(from: number, to: number, channel = 'a'): Promise<void> {
  for (let n = from; n <= to; n += 1) await log.publish(channel, n);
  await calm();
}

const numbers = (to: number): number[] => Array.from({ length: to }, (_, n) => n + 1);
const leader = (all: { tab: Tab }[]): number => all.findIndex(({ tab }) => tab.leads);

describe('eight tabs', () => {
  test('have one stream, and each gets everything', async () => {
    const all = await tabs(8);
    await publish(1, 5);
    expect(log.open()).toHaveLength(1);
    for (const { got } of all) expect(got).toEqual(numbers(5));
    expect(all.map(({ tab }) => (tab.client.status.state === 'open' ? tab.client.status.via : tab.client.status.state))).toEqual([
      'fetch', ...Array.from({ length: 7 }, () => 'peer-tab'),
    ]);
  });

  test('channels of their own come to the same stream without a reconnect, each to those who want them', async () => {
    const all = await tabs(8, (n) => ['a', `own${n}`]);
    await publish(1, 2);
    await log.publish('own3', 'three');
    await log.publish('own0', 'zero');
    await calm();
    expect(world.streams).toHaveLength(1);
    expect(all.map(({ got }) => got.slice(2))).toEqual([['zero'], [], [], ['three'], [], [], [], []]);
    await log.open()[0]!.end();
    await world.pass(4_000);
    await log.publish('own3', 'again');
    await calm();
    expect(all[3]?.got.at(-1), 'also after the stream was cut').toBe('again');
    expect(log.open()).toHaveLength(1);
  });
});

describe('the tab that leads', () => {
  test('is killed: the others go on, nothing is lost or repeated', async () => {
    const all = await tabs(4, (n) => (n % 2 === 0 ? 'a' : ['a', 'b']));
    await publish(1, 5);
    await all[0]!.tab.kill();
    await publish(6, 8);
    await world.pass(1_000);
    await calm();
    await publish(9, 10);
    expect(log.open()).toHaveLength(1);
    for (const { got, resets } of all.slice(1)) expect([got, resets]).toEqual([numbers(10), []]);
  });

  test('one after the other, while events are published', async () => {
    const all = await tabs(6);
    let n = 0;
    for (let round = 0; round < 5; round += 1) {
      const publishing = publish(n + 1, n + 10);
      n += 10;
      await settled();
      const [first] = all.splice(leader(all), 1);
      await first!.tab.kill();
      await publishing;
      await world.pass(400);
      await calm();
    }
    await world.pass(5_000);
    await calm();
    await publish(n + 1, n + 1);
    expect(all).toHaveLength(1);
    expect(all[0]?.got).toEqual(numbers(n + 1));
  });

  test('is closed in good order', async () => {
    const all = await tabs(3);
    await publish(1, 2);
    all[0]!.tab.client.close();
    await calm();
    await publish(3, 4);
    for (const { got } of all.slice(1)) expect(got).toEqual(numbers(4));
    expect(log.open()).toHaveLength(1);
  });

  test('is frozen: a tab that is looked at takes over within 10 s, and the old one follows when it wakes', async () => {
    const all = await tabs(3);
    all[2]!.tab.show(true);
    await publish(1, 3);
    all[0]!.tab.freeze();
    await world.pass(10_000);
    await calm();
    expect([all[1]!.tab.leads, all[2]!.tab.leads]).toEqual([true, false]);
    await publish(4, 6);
    expect([all[1]!.got, all[2]!.got]).toEqual([numbers(6), numbers(6)]);
    await all[0]!.tab.thaw();
    await calm();
    await publish(7, 8);
    await world.pass(5_000);
    await calm();
    for (const { got } of all) expect(got).toEqual(numbers(8));
    expect(log.open()).toHaveLength(1);
    expect(leader(all)).toBe(1);
  });

  test('was hidden for so long that its stream is closed: one that is looked at takes over at once', async () => {
    const all = await tabs(2);
    all[0]!.tab.show(true);
    await world.pass(301_000);
    await calm();
    expect(all[1]!.tab.leads).toBe(true);
    await publish(1, 2);
    for (const { got } of all) expect(got).toEqual(numbers(2));
  });

  test('loses its stream: all are told, and go on', async () => {
    const all = await tabs(3);
    await publish(1, 2);
    await log.open()[0]!.fail();
    await calm();
    expect(all.map(({ tab }) => tab.client.status.state)).toEqual(['waiting', 'waiting', 'waiting']);
    await publish(3, 4);
    await world.pass(4_000);
    await calm();
    for (const { got } of all) expect(got).toEqual(numbers(4));
  });
});

test('a leader that is refused makes room for a tab whose credentials are good, and follows when it has better ones', async () => {
  const old = await tabs(1, () => 'a', { auth: { token: () => 'old' } });
  const fresh = await tabs(2, () => 'a', { auth: { token: () => 'fresh' } });
  await publish(1, 2);
  const { answer } = world;
  world.answer = (request) => (request.headers.get('authorization') === 'Bearer old' ? problem(401, 'token_revoked') : answer(request));
  await log.open()[0]!.end();
  await world.pass(4_000);
  await calm();
  expect(old[0]!.tab.client.status).toMatchObject({ state: 'closed', reason: { code: 'unauthorized' } });
  await publish(3, 4);
  expect(fresh.map(({ got, tab }) => [got, tab.client.status.state])).toEqual([[numbers(4), 'open'], [numbers(4), 'open']]);
  expect(old[0]!.got).toEqual([1, 2]);
  world.answer = answer;
  old[0]!.tab.client.reconnect();
  await calm();
  await publish(5, 5);
  for (const { got } of [...old, ...fresh]) expect(got).toEqual(numbers(5));
  expect(log.open()).toHaveLength(1);
});

test('a channel that the stream has lost is given up in every tab, and all others go on', async () => {
  const all = await tabs(3, (n) => ['a', 'bad', 'b'][n]!);
  const [leading] = log.open();
  const more: unknown[] = [];
  all[1]!.tab.client.subscribe('a').onAny(({ data }) => more.push(data));
  await calm();
  await publish(1, 2);
  // What it was refused for it would be told again.
  const { answer } = world;
  const asked: unknown[] = [];
  world.answer = (request) => {
    const { channels = request.url.searchParams.getAll('channel') } = (request.body ?? {}) as { channels?: string[] };
    if (!channels.includes('bad')) return answer(request);
    asked.push(request.method);
    return problem(403, 'forbidden');
  };
  void leading!.send('event: tidings.unauthorized\ndata: {"code":"forbidden","channels":["bad"]}\nid: e-2~s\n\n');
  await leading!.end();
  await calm();
  await publish(3, 4);
  await publish(5, 5, 'b');
  await publish(6, 6, 'bad');
  expect(all.map(({ got }) => got)).toEqual([[1, 2, 3, 4], [], [5]]);
  expect(more).toEqual([1, 2, 3, 4]);
  await world.pass(200_000);
  await calm();
  expect([asked, world.errors.map(({ code }) => code), log.open().length]).toEqual([[], ['forbidden'], 1]);
});

test('a channel that is refused is not asked for again by the tab that leads', async () => {
  const [first] = await tabs(1);
  const { answer } = world;
  let asked = 0;
  world.answer = (request) => {
    if (!(request.body as { channels?: string[] } | undefined)?.channels?.includes('bad')) return answer(request);
    asked += 1;
    return problem(403, 'forbidden');
  };
  first!.tab.client.subscribe('bad');
  await calm();
  await world.pass(60_000);
  await calm();
  expect([asked, world.errors.map(({ code }) => code)]).toEqual([1, ['forbidden']]);
});

test('what a tab added to a stream that is gone by the time the leader hears of it is added to the next one', async () => {
  const [first] = await tabs(1);
  const { answer } = world;
  // The leader's stream ends, and the next one is open, between the server's answer and the tab's word of it.
  world.answer = async (request) => {
    const response = await answer(request)!;
    if (request.method === 'POST' && request.url.pathname.includes('/c0/')) first!.tab.client.reconnect();
    return response;
  };
  const [second] = await tabs(1, () => 'b');
  await world.pass(4_000);
  await calm();
  await publish(1, 3, 'b');
  expect(second!.got).toEqual([1, 2, 3]);
  expect(log.open()).toHaveLength(1);
});

test('a tab is open once its channels are part of the stream, not when that of its leader is', async () => {
  const { answer } = world;
  world.answer = (request) => (request.url.pathname === '/events' ? world.stream(request) : answer(request));
  const all = await tabs(2, (n) => ['a', 'b'][n]!);
  expect(all.map(({ tab }) => tab.client.status.state)).toEqual(['open', 'connecting']);
  world.answer = (request) => (request.method === 'POST' ? json(200, { position: 'e-1' }) : answer(request));
  await world.last().hello('e-1');
  await calm();
  expect(all.map(({ tab }) => tab.client.status.state)).toEqual(['open', 'connecting']);
  await world.last().joined('e-1', ['b']);
  await calm();
  expect(all.map(({ tab }) => tab.client.status.state)).toEqual(['open', 'open']);
});

test('what a tab has read of a channel that was added for it is not repeated by the next leader', async () => {
  await tabs(1);
  await publish(1, 3, 'b');
  const second = browser.open({});
  const got: unknown[] = [];
  const subscription = second.client.subscribe('b', { from: { id: 'e-0' } }).onAny(({ data }) => got.push(data));
  await calm();
  expect([got, subscription.cursor]).toEqual([[1, 2, 3], 'e-3']);
  await browser.tabs[0]!.kill();
  await publish(4, 4, 'b');
  await world.pass(1_000);
  await calm();
  expect([got, second.leads]).toEqual([[1, 2, 3, 4], true]);
});

test('in a tab that follows, too, an event counts when its handler has returned', async () => {
  const [, second] = await tabs(2);
  const seen: unknown[] = [];
  const subscription = second!.tab.client.subscribe('a');
  subscription.onAny(({ id }) => seen.push([id, subscription.cursor]));
  await calm();
  await publish(1, 2);
  expect([seen, subscription.cursor]).toEqual([[['e-1', 'e-0'], ['e-2', 'e-1']], 'e-2']);
});

test('where a proxy answers in place of the server that channels were added, a tab has a stream of its own', async () => {
  await tabs(1);
  const { answer } = world;
  world.answer = (request) => (request.method === 'POST' ? json(200, {}) : answer(request));
  const [second] = await tabs(1, () => 'b');
  await publish(1, 3, 'b');
  expect(second!.got).toEqual([1, 2, 3]);
  expect(log.open()).toHaveLength(2);
});

test('a leader that was frozen and speaks once more confuses nobody', async () => {
  const all = await tabs(3);
  await publish(1, 2);
  all[0]!.tab.freeze();
  await world.pass(10_000);
  await calm();
  // Its timer, and with it its word, comes before it learns that its lock was taken.
  await all[0]!.tab.thaw();
  await publish(3, 4);
  await calm();
  for (const { got } of all) expect(got).toEqual(numbers(4));
  expect(log.open()).toHaveLength(1);
});

describe('tabs of different users', () => {
  test('do not share a stream, and those of the same user do', async () => {
    log.subject = ({ headers }) => headers.get('authorization') ?? '';
    const user = (name: string) => ({ auth: { token: () => name } });
    const anna = await tabs(2, () => 'a', user('anna'));
    const bert = await tabs(3, () => 'a', user('bert'));
    await world.pass(5_000);
    await calm();
    expect(log.open().map(({ request }) => request.headers.get('authorization'))).toEqual(['Bearer anna', 'Bearer bert']);
    await publish(1, 3);
    for (const { got } of [...anna, ...bert]) expect(got).toEqual(numbers(3));
    await bert[0]!.tab.kill();
    await world.pass(1_000);
    await publish(4, 4);
    for (const { got } of [...anna, ...bert.slice(1)]) expect(got).toEqual(numbers(4));
  });

  test('without any credentials share a stream of what anybody gets, apart from those who have some', async () => {
    log.subject = ({ headers }) => headers.get('authorization') ?? '';
    const known = await tabs(1, () => 'a', { auth: { token: () => 'anna' } });
    const open = await tabs(3, (n) => (n === 2 ? ['a', 'b'] : 'a'));
    await world.pass(8_000);
    await calm();
    expect(log.open().map(({ request }) => request.headers.get('authorization'))).toEqual(['Bearer anna', null]);
    await publish(1, 3);
    await log.publish('b', 'b');
    await calm();
    expect(known[0]!.got).toEqual([1, 2, 3]);
    expect(open.map(({ got }) => got)).toEqual([[1, 2, 3], [1, 2, 3], [1, 2, 3, 'b']]);
    expect(world.errors).toEqual([]);
    await open[0]!.tab.kill();
    await publish(4, 5);
    await world.pass(8_000);
    await calm();
    for (const { got } of open.slice(1)) expect(got.filter((n) => n !== 'b')).toEqual(numbers(5));
    expect(log.open()).toHaveLength(2);
  });

  test('with a key of their own never hear of each other', async () => {
    const first = await tabs(1, () => 'a', { shareKey: 'anna' });
    const second = await tabs(1, () => 'a', { shareKey: 'bert' });
    expect(log.open()).toHaveLength(2);
    await publish(1, 1);
    expect([first[0]!.got, second[0]!.got]).toEqual([[1], [1]]);
  });
});

test('an older position in a tab that follows is read up to where it joined', async () => {
  await publish(1, 20);
  const [first] = await tabs(1);
  const late = browser.open();
  const got: unknown[] = [];
  const all: unknown[] = [];
  late.client.subscribe('a', { from: { id: 'e-5' } }).onAny(({ data }) => got.push(data));
  await calm();
  await publish(21, 22);
  late.client.subscribe('a', { from: 'start' }).onAny(({ data }) => all.push(data));
  await calm();
  await publish(23, 23);
  expect(first!.got).toEqual([21, 22, 23]);
  expect(got).toEqual(numbers(23).slice(5));
  expect(all).toEqual(numbers(23));
  expect(log.open()).toHaveLength(1);
});

test('where the browser forbids locks or channels, a tab has a stream of its own', async () => {
  const forbidden = new DOMException('not here', 'SecurityError');
  for (const less of [
    { locks: { request: async () => Promise.reject(forbidden) } },
    { BroadcastChannel: class { constructor() { throw forbidden; } } },
  ]) {
    const tab = browser.open();
    Object.assign(tab.env, less);
    const got: unknown[] = [];
    tab.client.subscribe('a').onAny(({ data }) => got.push(data));
    await calm();
    await publish(1, 1);
    expect([got, tab.client.status.state]).toEqual([[1], 'open']);
  }
});

test('without locks or channels, or told so, each tab has a stream of its own', async () => {
  const all = await tabs(2, () => 'a', { share: false });
  await publish(1, 1);
  expect(log.open()).toHaveLength(2);
  for (const { got } of all) expect(got).toEqual([1]);
});

test('a tab that has not joined the stream of another one is told nothing of what is missing there', async () => {
  const answer = world.answer;
  const [first] = await tabs(1);
  world.answer = (request) => (request.url.pathname.endsWith('/channels') ? new Promise<Response>(() => {}) : answer(request));
  const [second] = await tabs(1, () => 'b');
  await log.open()[0]!.send('event: tidings.reset\ndata: {"reason":"epoch","first":null}\nid: e-0\n\n');
  await calm();
  expect([first!.resets, second!.resets]).toEqual([[{ reason: 'epoch', channel: 'a', first: null }], []]);
});
