// The client against the real server.

import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createClient, type Client, type ClientOptions, type Job, type TidingsError } from '../src/index.js';
import { eventually, hasServer, startServer, type Server } from './support/server.js';

/** Of the type, which has to have what the server sends. */
const JOB_FIELDS: Record<keyof Job, 0> = {
  id: 0, jobId: 0, type: 0, queue: 0, mode: 0, state: 0, reason: 0, priority: 0, progress: 0, current: 0, total: 0, unit: 0, step: 0, message: 0,
  eta_ms: 0, data: 0, attempt: 0, max_attempts: 0, cancel_requested: 0, created_at: 0, updated_at: 0, run_at: 0, started_at: 0, finished_at: 0,
  result: 0, error: 0, artifacts: 0, downloadUrl: 0, tags: 0, subject: 0, parent: 0, retry_of: 0, schedule: 0, v: 0,
};

describe.skipIf(!hasServer)('the real server', () => {
  let server: Server;
  let clients: Client[];
  let errors: TidingsError[];
  beforeEach(async () => {
    server = await startServer();
    clients = [];
    errors = [];
  });
  afterEach(async () => {
    for (const client of clients) client.close();
    await server.gone();
  });

  function connect(options: ClientOptions = {}): Client {
    const client = createClient({ url: `${server.url}/events`, onError: (error) => errors.push(error), ...options });
    clients.push(client);
    return client;
  }

  /** Publishes numbers, whatever happens to the server meanwhile; resolves to their ids. */
  async function publishAll(channel: string, first: number, count: number): Promise<string[]> {
    const ids: string[] = [];
    for (let n = first; n < first + count; n += 1) {
      for (;;) {
        try {
          ids.push((await (await fetch(`${server.url}/v1/publish`, {
            method: 'POST',
            headers: { 'content-type': 'application/json', 'idempotency-key': `${channel}-${n}` },
            body: JSON.stringify({ channel, data: n }),
          })).json() as { id: string }).id);
          break;
        } catch {
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
      }
    }
    return ids;
  }

  /** The same at once. */
  async function publishBatch(channel: string, first: number, count: number): Promise<string[]> {
    const lines = Array.from({ length: count }, (_, n) => JSON.stringify({ channel, data: first + n }));
    const answer = await fetch(`${server.url}/v1/publish`, {
      method: 'POST', headers: { 'content-type': 'application/x-ndjson' }, body: lines.join('\n'),
    });
    return (await answer.text()).trim().split('\n').map((line) => (JSON.parse(line) as { id: string }).id);
  }

  const opened = (client: Client): Promise<void> => eventually('open', () => client.status.state === 'open');

  test('kill -9 and restart, again and again while events are published: each arrives once, in order', async () => {
    const client = connect({ retry: { base: 50, max: 200 } });
    const got: { n: unknown; id: string | null }[] = [];
    const looped: unknown[] = [];
    const resets: unknown[] = [];
    client.subscribe('a').on('message', (n, { id }) => got.push({ n, id })).onReset((reset) => resets.push(reset));
    void (async () => {
      for await (const { data } of client.subscribe(['a', 'b'])) looped.push(data);
    })();
    await opened(client);
    const published: string[] = [];
    for (let round = 0; round < 3; round += 1) {
      const publishing = publishAll('a', round * 60, 60);
      await new Promise((resolve) => setTimeout(resolve, 40));
      await server.kill();
      await server.start();
      published.push(...(await publishing));
    }
    await eventually('all events', () => got.length >= 180 && looped.length >= 180, 30_000);
    expect(got).toEqual(published.map((id, n) => ({ n, id })));
    expect(looped).toEqual(published.map((_, n) => n));
    expect([resets, errors]).toEqual([[], []]);
  }, 60_000);

  test('a channel is added to the open stream, and its past is read up to where it joined', async () => {
    const client = connect();
    const before = await publishBatch('b', 0, 700);
    const a: unknown[] = [];
    client.subscribe('a').on('message', (n) => a.push(n));
    await opened(client);
    const all: unknown[] = [];
    const some: unknown[] = [];
    const now: unknown[] = [];
    const publishing = publishAll('b', 700, 100);
    client.subscribe('b', { from: 'start' }).on('message', (n) => all.push(n));
    client.subscribe(['a', 'b'], { from: { id: before[649]! } }).on('message', (n) => some.push(n));
    client.subscribe('b').on('message', (n) => now.push(n));
    await publishing;
    await publishAll('a', 1_000, 1);
    await eventually('all events', () => a.length === 1 && all.length >= 800 && some.length >= 151);
    expect(all).toEqual(Array.from({ length: 800 }, (_, n) => n));
    expect(some).toEqual([...Array.from({ length: 150 }, (_, n) => n + 650), 1_000]);
    expect(now, 'from now on, without a hole').toEqual(Array.from({ length: now.length }, (_, n) => 800 - now.length + n));
    const { json } = await server.request('GET', '/v1/connections');
    const { connections } = json as { connections: { channels: string[] }[] };
    expect(connections.length).toBe(1);
    expect(errors).toEqual([]);
  });

  test('a position that is gone is a reset, and what is left follows', async () => {
    const [first] = await publishAll('a', 0, 5);
    await server.request('DELETE', '/v1/channels?channel=a');
    await publishAll('a', 5, 2);
    const got: unknown[] = [];
    connect().subscribe('a', { from: { id: first! } }).onReset(({ reason }) => got.push(reason)).on('message', (n) => got.push(n));
    await eventually('the rest', () => got.length === 3);
    expect(got).toEqual(['deleted', 5, 6]);
  });

  test('a finished channel ends its subscription', async () => {
    const client = connect({ retry: { base: 10 } });
    const got: unknown[] = [];
    const over = (async () => {
      for await (const { data } of client.subscribe('a')) got.push(data);
    })();
    await opened(client);
    await server.publish({ channel: 'a', data: 'last', final: true });
    await over;
    expect([got, client.status]).toMatchObject([['last'], { state: 'closed', reason: { code: 'done' } }]);
    const again: unknown[] = [];
    for await (const { data } of connect().subscribe('a', { from: 'start' })) again.push(data);
    expect(again).toEqual(['last']);
  });

  test('a drain is waited out', async () => {
    const client = connect({ retry: { base: 50 } });
    const got: unknown[] = [];
    client.subscribe('a').on('message', (n) => got.push(n));
    await opened(client);
    await server.stop();
    await server.start();
    const publishing = publishAll('a', 0, 3);
    await eventually('the events', () => got.length === 3);
    await publishing;
    expect(got).toEqual([0, 1, 2]);
  });

  for (const path of [undefined, '/v1/jobs']) {
    test(`a job from making to its end, ${path === undefined ? 'on the shared stream' : 'on its own'}`, async () => {
      const client = connect();
      const { json } = await server.request('POST', '/v1/jobs', { type: 'report', mode: 'external', id: 'j1' });
      expect(json).toMatchObject({ jobId: 'j1' });
      const job = client.job<{ rows: number }>('j1', { path });
      const seen: number[] = [];
      job.onChange(({ progress }) => seen.push(progress));
      await eventually('the document', () => job.current !== null);
      await server.request('POST', '/v1/jobs/j1/progress', 40);
      await eventually('progress', () => seen.includes(40));
      await server.request('POST', '/v1/jobs/j1/complete', { result: { rows: 3 } });
      expect((await job).result.rows).toBe(3);
      expect((await client.job('j1', { path })).state, 'also for who comes late').toBe('completed');
      await expect(client.job('nothing', { path })).rejects.toMatchObject({ code: 'job_not_found' });
      expect(errors.filter(({ status }) => status !== 404)).toEqual([]);
    }, 40_000);
  }

  test('the document of a job has the fields of its type, and no others', async () => {
    const { json } = await server.request('POST', '/v1/jobs', { type: 'report', subject: 'ann' });
    const document = (await server.request('GET', `/v1/jobs/${(json as Job).id}`)).json as Job;
    expect([Object.keys(document).sort(), document.subject]).toEqual([Object.keys(JOB_FIELDS).sort(), 'ann']);
  });
});
