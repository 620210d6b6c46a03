import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Client, ClientOptions } from '../src/index.js';
import { createWorld, json, settled, type World } from './support/world.js';

/** A browser's EventSource, as far as a page sees it. */
class FakeSource extends EventTarget {
  static all: FakeSource[] = [];
  onopen: (() => void) | null = null;
  closed = false;
  readonly url: URL;
  readonly credentials: boolean;

  constructor(url: string, init: EventSourceInit) {
    super();
    this.url = new URL(url);
    this.credentials = init.withCredentials === true;
    FakeSource.all.push(this);
  }

  close(): void {
    this.closed = true;
  }

  async open(): Promise<void> {
    this.onopen?.();
    await settled();
  }

  async say(type: string, data: unknown, lastEventId = ''): Promise<void> {
    this.dispatchEvent(new MessageEvent(type, { data: typeof data === 'string' ? data : JSON.stringify(data), lastEventId }));
    await settled();
  }

  async break(): Promise<void> {
    this.dispatchEvent(new Event('error'));
    await settled();
  }
}

let world: World;
beforeEach(() => {
  world = createWorld();
  FakeSource.all = [];
  Object.assign(world.env, { EventSource: FakeSource });
});
afterEach(() => void vi.useRealTimers());

async function connect(options: ClientOptions = {}): Promise<{ client: Client; source: () => FakeSource; got: unknown[] }> {
  const client = world.client({ transport: 'eventsource', ...options });
  const got: unknown[] = [];
  client.subscribe(['a', 'job:7']).onAny(({ event, channel, data, id }) => got.push([event, channel, data, id]));
  await vi.dynamicImportSettled();
  await settled();
  return { client, source: () => FakeSource.all.at(-1)!, got };
}

const wrapped = (id: string | null, data: unknown, event = 'message') => ({ channel: 'a', event, time: 5, id, data });

test('it asks for envelopes, and takes them apart', async () => {
  const { client, source, got } = await connect();
  expect(source().url.href).toBe('https://app.example/events?channel=a&channel=job%3A7&envelope=json');
  expect(source().credentials).toBe(true);
  await source().open();
  await source().say('tidings.hello', { connection: 'c', keepalive_ms: 15_000 }, 'e-1');
  expect(client.status).toMatchObject({ state: 'open', via: 'eventsource' });
  await source().say('message', wrapped('e-2', { x: 1 }, 'status-update'), 'e-2');
  await source().say('message', wrapped(null, 'typing'), 'e-2');
  await source().say('message', { ...wrapped('e-3', '{"y":2}'), is_text: true }, 'e-3');
  await source().say('progress', { jobId: '7', progress: 40 }, 'e-4');
  await source().say('error', { jobId: '7', state: 'failed', message: 'no', code: 'x', attempt: 1 }, 'e-5');
  expect(got).toEqual([
    ['status-update', 'a', { x: 1 }, 'e-2'],
    ['message', 'a', 'typing', null],
    ['message', 'a', { y: 2 }, 'e-3'],
    ['progress', 'job:7', { jobId: '7', progress: 40 }, 'e-4'],
    ['error', 'job:7', { jobId: '7', state: 'failed', message: 'no', code: 'x', attempt: 1 }, 'e-5'],
  ]);
  expect(source().closed, 'an event named error is not the end').toBe(false);
});

test('an event of a job that is not on the stream is there for the first channel that is no job’s, and its failure always is', async () => {
  const { source, got } = await connect();
  await source().open();
  await source().say('tidings.hello', { connection: 'c' }, 'e-1');
  await source().say('progress', { jobId: '8', progress: 10 }, 'e-2');
  await source().say('failed', { jobId: '7' }, 'e-3');
  await source().say('tidings.cursor', { joined: ['job:8'] }, 'e-4');
  await source().say('progress', { jobId: '8', progress: 20 }, 'e-5');
  await source().say('message', wrapped('e-6', 'mine'), 'e-6');
  expect(got).toEqual([
    ['progress', 'a', { jobId: '8', progress: 10 }, 'e-2'],
    ['failed', 'a', { jobId: '7' }, 'e-3'],
    ['message', 'a', 'mine', 'e-6'],
  ]);
});

test('one that broke, or was closed by a status that nobody can see, is made anew with its position', async () => {
  const { source, got } = await connect();
  await source().open();
  await source().say('tidings.hello', { connection: 'c', keepalive_ms: 15_000 }, 'e-1');
  await source().say('message', wrapped('e-2', 1), 'e-2');
  await source().break();
  expect(source().closed).toBe(true);
  await world.pass(2_000);
  expect(FakeSource.all).toHaveLength(2);
  expect(source().url.searchParams.get('last_event_id')).toBe('e-2');
  await source().break();
  await world.pass(2_000);
  expect(FakeSource.all).toHaveLength(3);
  await source().open();
  await source().say('tidings.hello', { connection: 'd', keepalive_ms: 15_000 }, 'e-2');
  await source().say('message', wrapped('e-3', 2), 'e-3');
  expect(got.map((event) => (event as unknown[])[2])).toEqual([1, 2]);
});

test('what came before it broke counts first: it may say why', async () => {
  const { client, source } = await connect();
  await source().open();
  await source().say('tidings.hello', { connection: 'c', keepalive_ms: 15_000 }, 'e-1');
  void source().say('tidings.unauthorized', { code: 'token_expired' }, 'e-1~s');
  await source().break();
  expect(client.status).toMatchObject({ state: 'closed', reason: { code: 'unauthorized' } });
  await world.pass(10_000);
  expect([FakeSource.all.length, source().closed]).toEqual([1, true]);
});

test('silence says nothing, because comments cannot be seen', async () => {
  const { client, source } = await connect();
  await source().open();
  await source().say('tidings.hello', { connection: 'c', keepalive_ms: 1_000 }, 'e-1');
  await world.pass(600_000);
  expect([client.status.state, FakeSource.all.length]).toEqual(['open', 1]);
});

test('a token is exchanged for a ticket, and closing closes it', async () => {
  world.answer = () => json(201, { ticket: 't1', expires_at: 1 });
  const { client, source } = await connect({ auth: { token: () => 'secret' } });
  expect(source().url.searchParams.get('ticket')).toBe('t1');
  expect(source().credentials).toBe(false);
  await source().open();
  client.close();
  expect(source().closed).toBe(true);
});

test('where bodies cannot be read as they come, it is chosen by itself', async () => {
  const before = globalThis.ReadableStream;
  // @ts-expect-error a browser of before 2017
  globalThis.ReadableStream = undefined;
  try {
    const { source } = await connect({ transport: 'auto' });
    expect(source()).toBeDefined();
  } finally {
    globalThis.ReadableStream = before;
  }
});
