import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { ClientOptions } from '../src/index.js';
import { WORKER_TOKEN_MS } from '../src/limits.js';
import { createLog, type FakeLog } from './support/log.js';
import { createBrowser, type Browser, type Tab } from './support/tabs.js';
import { createWorld, problem, settled, type World } from './support/world.js';

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
  for (const worker of browser.workers.values()) await worker.kill();
  await settled();
  vi.useRealTimers();
});

interface Opened {
  tab: Tab;
  got: unknown[];
}

async function opened(options: ClientOptions = {}): Promise<Opened> {
  const tab = browser.open({ share: 'sharedworker', ...options });
  const got: unknown[] = [];
  tab.client.subscribe('a').onAny(({ data }) => got.push(data));
  await calm();
  return { tab, got };
}

async function calm(): Promise<void> {
  for (let n = 0; n < 8; n += 1) await settled();
}

async function publish(from: number, to: number): Promise<void> {
  for (let n = from; n <= to; n += 1) await log.publish('a', n);
  await calm();
}

const numbers = (to: number): number[] => Array.from({ length: to }, (_, n) => n + 1);
const via = ({ tab: { client } }: Opened): string => (client.status.state === 'open' ? client.status.via : client.status.state);

test('the worker has the one stream of all tabs, and none of them leads', async () => {
  const all = [await opened(), await opened(), await opened()];
  await publish(1, 3);
  expect(all.map(({ got }) => got)).toEqual([numbers(3), numbers(3), numbers(3)]);
  expect([log.open().length, world.streams.length, browser.workers.size]).toEqual([1, 1, 1]);
  expect(all.map(via)).toEqual(['worker', 'worker', 'worker']);
  expect(browser.tabs.map(({ leads }) => leads)).toEqual([false, false, false]);
});

test('a tab that is killed changes nothing for the others', async () => {
  const [first, second] = [await opened(), await opened()];
  await publish(1, 2);
  await first.tab.kill();
  await publish(3, 4);
  expect([second.got, world.streams.length]).toEqual([numbers(4), 1]);
});

test('a worker that is killed is replaced by a tab, and by another worker when there is a new tab', async () => {
  const first = await opened();
  await publish(1, 2);
  for (const worker of browser.workers.values()) await worker.kill();
  await publish(3, 3);
  await world.pass(1_000);
  await calm();
  await publish(4, 4);
  expect([first.got, via(first)]).toEqual([numbers(4), 'fetch']);
  const second = await opened();
  await publish(5, 6);
  expect([first.got, second.got]).toEqual([numbers(6), [5, 6]]);
  expect([via(first), via(second), log.open().length]).toEqual(['worker', 'worker', 1]);
});

test('without SharedWorker, without its script, or with tokens that are nobody’s, a tab has the stream', async () => {
  const cases: [string, (tab: Opened) => void, ClientOptions][] = [['none', () => {}, { auth: { token: () => 't' } }]];
  for (const [, check, options] of cases) check(await opened(options));
  await publish(1, 2);
  expect([via({ tab: browser.tabs[0]!, got: [] }), browser.workers.size]).toEqual(['fetch', 0]);
  browser.script = false;
  const missing = await opened({ shareKey: 'other' });
  await publish(3, 3);
  expect([via(missing), missing.got, world.errors.map(({ code }) => code)]).toEqual(['fetch', [3], ['network']]);
});

test('tokens are asked for of a tab, and another key has another worker', async () => {
  const bearers: (string | null)[] = [];
  const answer = world.answer;
  world.answer = (request) => {
    if (request.url.pathname === '/events') bearers.push(request.headers.get('authorization'));
    return answer(request);
  };
  log.subject = ({ headers }) => headers.get('authorization') ?? '';
  const ann = await opened({ shareKey: 'ann', auth: { token: (why) => `ann-${why}` } });
  const ben = await opened({ shareKey: 'ben', auth: { token: () => 'ben' } });
  await publish(1, 2);
  expect(bearers).toEqual(['Bearer ann-first', 'Bearer ben']);
  expect([ann.got, ben.got, via(ann), via(ben)]).toEqual([numbers(2), numbers(2), 'worker', 'worker']);
  expect([...browser.workers.keys()]).toEqual(['tidings:ann', 'tidings:ben']);
});

describe('a token that is refused', () => {
  /** Tabs that are open, and a worker whose token is refused: it asks them for another. */
  async function refused(...answers: (() => string | Promise<string>)[]): Promise<{ tabs: Opened[]; asked: string[]; bearers: (string | null)[] }> {
    const [asked, bearers]: [string[], (string | null)[]] = [[], []];
    let over = false;
    const tabs: Opened[] = [];
    for (const [n, answer] of answers.entries()) {
      const token = (why: string): string | Promise<string> => {
        if (!over) return 'old';
        asked.push(`${n} ${why}`);
        return answer();
      };
      tabs.push(await opened({ shareKey: 'ann', auth: { token } }));
    }
    over = true;
    const { answer } = world;
    world.answer = (request) => {
      if (request.url.pathname !== '/events') return answer(request);
      bearers.push(request.headers.get('authorization'));
      return bearers.at(-1) === 'Bearer old' ? problem(401, 'token_revoked') : answer(request);
    };
    await log.open()[0]!.end();
    await world.pass(4_000);
    await calm();
    return { tabs, asked, bearers };
  }
  const silent = (): Promise<string> => new Promise(() => {});
  const none = (): string => {
    throw new Error('nobody is logged in');
  };

  test('is asked for of one tab at a time, the newest first, until one has one', async () => {
    const { tabs, asked, bearers } = await refused(() => 'not asked', () => 'new', none, silent);
    expect(asked).toEqual(['3 rejected']);
    await world.pass(WORKER_TOKEN_MS);
    await calm();
    expect(asked).toEqual(['3 rejected', '2 rejected', '1 rejected']);
    expect(bearers).toEqual(['Bearer old', 'Bearer new']);
    await publish(1, 2);
    for (const { got } of tabs) expect(got).toEqual([1, 2]);
  });

  test('is asked for of the next tab at once when one goes away', async () => {
    const { tabs, asked, bearers } = await refused(() => 'new', silent);
    expect(asked).toEqual(['1 rejected']);
    tabs[1]!.tab.client.close();
    await calm();
    expect([asked, bearers]).toEqual([['1 rejected', '0 rejected'], ['Bearer old', 'Bearer new']]);
  });
});
