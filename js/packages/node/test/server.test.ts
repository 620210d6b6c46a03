// The package against the real server.

import { createHash } from 'node:crypto';
import { onTestFinished, expect, test } from 'vitest';
import { createTidings, fail, type Job, type JobItem, type TidingsError, type TidingsOptions, type Worker, type WorkerJob } from '@tidings/node';
import { eventually, losing, startServer, type Server } from './support/server.js';

type App = { jobs: { work: { input: any; result: any } } };

function client(server: Server, options: Partial<TidingsOptions> = {}) {
  return createTidings<App>({ url: server.url, onError: () => {}, ...options });
}

/** The worker is gone when the test ends. */
function gone(worker: Worker): Worker {
  onTestFinished(() => worker.stop({ graceMs: 0 }));
  return worker;
}

async function history(server: Server, channel: string): Promise<any[]> {
  const answer = await fetch(`${server.url}/v1/history?channel=${channel}&limit=1000`);
  return ((await answer.json()) as { events: any[] }).events;
}

test('an event is stored once, however often its answers get lost', async () => {
  const server = await startServer();
  const tidings = client(server, { fetch: losing((_, __, count) => count <= 2), retry: { baseMs: 10 } });
  const published = await tidings.publish({ channel: 'orders', event: 'status', data: { n: 1 } });
  expect(published.duplicate).toBe(true);
  const lost = client(server, { fetch: losing((_, __, count) => count === 1), retry: { baseMs: 10 } });
  const events = Array.from({ length: 1_000 }, (_, n) => ({ channel: 'orders', data: { n: n + 2 } }));
  const results = await lost.publish([...events.slice(0, 998), { channel: 'job:no', data: 1 }, { channel: 'x', text: 'a\nb' }]);
  const ids = (await history(server, 'orders')).map(({ id }) => id as string);
  expect(ids).toEqual([published.id, ...results.slice(0, 998).map(({ id }) => id)]);
  expect(results[998]?.error).toMatchObject({ code: 'channel_reserved' });
  expect((await history(server, 'x')).map(({ data }) => data)).toEqual(['a\nb']);
});

test('several channels, ephemeral, keys of one\'s own, and a final event do what they say', async () => {
  const server = await startServer();
  const { publish } = client(server);
  const { ids } = await publish({ channels: ['a', 'b'], data: 1 });
  expect(Object.keys(ids)).toEqual(['a', 'b']);
  expect(await publish({ channel: 'a', data: 2, ephemeral: true })).toEqual({ id: null });
  const first = await publish({ channel: 'a', data: 3, idempotencyKey: 'mine', ttlMs: 60_000 });
  expect(await publish({ channel: 'a', data: 3, idempotencyKey: 'mine', ttlMs: 60_000 })).toEqual({ ...first, duplicate: true });
  await expect(publish({ channel: 'a', data: 4, idempotencyKey: 'mine' })).rejects.toMatchObject({ code: 'idempotency_key_reused', status: 422 });
  await publish({ channel: 'a', data: 5, final: true });
  const refused = await publish({ channel: 'a', data: 6 }).catch((error: TidingsError) => error);
  expect(refused).toMatchObject({ code: 'channel_finished', status: 409, committed: false });
});

test('a job is made, worked on, watched, and its file is the one that was stored', async () => {
  const server = await startServer();
  const tidings = client(server);
  const piece = Buffer.alloc(1_000_000, 'tidings ');
  gone(
    tidings.worker('work', async (job, input) => {
      await job.progress({ current: 1, total: 2, step: 'writing', etaMs: 10 });
      await job.log('half way', 'warn');
      await job.output({ token: 'hel' });
      async function* pieces() {
        for (let n = 0; n < input.pieces; n += 1) yield piece;
      }
      await job.artifact('report.bin', pieces());
      await job.artifact('notes.txt', 'ok');
      return { pieces: input.pieces };
    }),
  );
  const { id } = await tidings.jobs.create('work', { pieces: 20 }, { tags: ['t'] });
  const items: JobItem[] = [];
  for await (const item of tidings.jobs.watch(id, { from: 'start' })) items.push(item);
  expect(items.map(({ type }) => type).filter((type, at, all) => type !== all[at - 1])).toEqual(['progress', 'log', 'output', 'progress', 'complete']);
  expect(items.find(({ type }) => type === 'output')).toMatchObject({ chunk: { token: 'hel' } });
  const job = await tidings.jobs.wait(id);
  expect(job).toMatchObject({ state: 'completed', progress: 100, result: { pieces: 20 }, attempt: 1 });
  const file = Buffer.from(await (await tidings.jobs.download(id)).arrayBuffer());
  const expected = createHash('sha256');
  for (let n = 0; n < 20; n += 1) expected.update(piece);
  expect(createHash('sha256').update(file).digest('hex')).toBe(expected.digest('hex'));
  expect(await (await tidings.jobs.download(id, 'notes.txt')).text()).toBe('ok');
  const logs = [];
  for await (const line of tidings.jobs.logs(id)) logs.push(line.message);
  expect(logs).toEqual(['half way']);
  const again = [];
  for await (const item of tidings.jobs.watch(id, { from: { id: items.at(-1)?.id ?? '' } })) again.push(item);
  expect(again).toEqual([]);
});

test('reports whose answers get lost take effect once, and in order', async () => {
  const server = await startServer();
  const tidings = client(server, { fetch: losing((method, path, count) => path.startsWith('/v1/jobs/') && method === 'POST' && count % 2 === 0), retry: { baseMs: 5 } });
  gone(
    tidings.worker('work', async (job) => {
      for (let n = 1; n <= 20; n += 1) {
        await job.log(`line ${n}`);
        await job.output(n);
      }
      return 'done';
    }),
  );
  const plain = client(server);
  const { id } = await plain.jobs.create('work');
  expect(await plain.jobs.wait(id)).toMatchObject({ state: 'completed', attempt: 1, result: 'done' });
  const seen: unknown[] = [];
  for await (const item of plain.jobs.watch(id, { from: 'start' })) {
    if (item.type === 'log') seen.push(item.log.message);
    if (item.type === 'output') seen.push(item.chunk);
  }
  expect(seen).toEqual(Array.from({ length: 20 }, (_, n) => [`line ${n + 1}`, n + 1]).flat());
});

test('a run and a watch outlive kill -9 of the server', async () => {
  const server = await startServer();
  const tidings = client(server, { retry: { baseMs: 20, maxMs: 200 } });
  let go = () => {};
  const killed = new Promise<void>((resolve) => (go = resolve));
  gone(
    tidings.worker('work', async (job) => {
      await job.progress(10);
      await killed;
      // The server is away when this is sent.
      await job.progress(60);
      await job.log('after the restart');
      return job.attempt;
    }),
  );
  const { id } = await tidings.jobs.create('work');
  const items: JobItem[] = [];
  const watched = (async () => {
    for await (const item of tidings.jobs.watch(id)) items.push(item);
  })();
  await eventually(() => items.some((item) => item.type === 'progress' && item.job.progress === 10));
  await server.kill();
  go();
  await new Promise((resolve) => setTimeout(resolve, 300));
  await server.start();
  await watched;
  expect(items.at(-1)).toMatchObject({ type: 'complete', job: { result: 1, attempt: 1 } });
  expect(items.filter(({ type }) => type === 'log')).toHaveLength(1);
  expect(items.filter(({ type }) => type === 'reset')).toEqual([]);
  const ids = items.map((item) => item.id);
  expect(new Set(ids).size).toBe(ids.length);
});

test('a job that is cancelled aborts its handler, and its watch ends so', async () => {
  const server = await startServer();
  const tidings = client(server);
  const reasons: unknown[] = [];
  gone(
    tidings.worker(
      'work',
      (job) =>
        new Promise((_, reject) =>
          job.signal.addEventListener('abort', () => {
            reasons.push(job.signal.reason, job.cancel?.reason);
            reject(job.signal.reason as Error);
          }),
        ),
      { leaseMs: 1_000 },
    ),
  );
  const { id } = await tidings.jobs.create('work');
  await eventually(async () => (await tidings.jobs.get(id)).state === 'running');
  await tidings.jobs.cancel(id, { reason: 'changed my mind' });
  expect(await tidings.jobs.wait(id)).toMatchObject({ state: 'cancelled', error: { code: 'cancelled' } });
  expect(reasons).toMatchObject([{ code: 'cancelled' }, 'changed my mind']);
  const items = [];
  for await (const item of tidings.jobs.watch(id)) items.push(item);
  expect(items.at(-1)).toMatchObject({ type: 'error', error: { state: 'cancelled', code: 'cancelled' } });
});

test('a job that fails is tried again, unless its handler knows better', async () => {
  const server = await startServer();
  const tidings = client(server);
  gone(
    tidings.worker('work', (job, input) => {
      if (input === 'never') throw fail('no such customer', { code: 'customer_gone', retry: 'never' });
      if (job.attempt < 3) throw new Error(`attempt ${job.attempt}`);
      return job.attempt;
    }, { concurrency: 2 }),
  );
  const retry = { maxAttempts: 3, backoff: { baseMs: 10, jitter: 0 } };
  const jobs = await Promise.all(['again', 'never'].map((input) => tidings.jobs.create('work', input, { retry })));
  const [again, never] = await Promise.all(jobs.map(({ id }) => tidings.jobs.wait(id)));
  expect(again).toMatchObject({ state: 'completed', attempt: 3, result: 3 });
  expect(never).toMatchObject({ state: 'failed', attempt: 1, error: { code: 'customer_gone', message: 'no such customer' } });
});

test('a job that a stopping worker gives back runs elsewhere, as the same attempt', async () => {
  const server = await startServer();
  const tidings = client(server);
  const attempts: number[] = [];
  const run = async (job: WorkerJob) => {
    attempts.push(job.attempt);
    if (attempts.length === 1) await new Promise(() => {});
    return 'elsewhere';
  };
  const first = gone(tidings.worker('work', run));
  const { id } = await tidings.jobs.create('work');
  await eventually(() => attempts.length === 1);
  const began = performance.now();
  await first.stop({ graceMs: 100 });
  expect(performance.now() - began).toBeLessThan(4_000);
  gone(tidings.worker('work', run));
  expect(await tidings.jobs.wait(id)).toMatchObject({ state: 'completed', result: 'elsewhere', attempt: 1 });
  expect(attempts).toEqual([1, 1]);
});

test('a worker that went silent loses its job, and what it made is discarded', async () => {
  const server = await startServer();
  let isSilent = false;
  const deaf: typeof fetch = (input, init) => (isSilent ? Promise.reject(new TypeError('fetch failed')) : fetch(input, init));
  const first = client(server, { fetch: deaf, retry: { baseMs: 20 } });
  const reasons: unknown[] = [];
  gone(
    first.worker('work', async (job) => {
      isSilent = true;
      await new Promise((resolve) => job.signal.addEventListener('abort', resolve));
      reasons.push(job.signal.reason);
      return 'first';
    }, { leaseMs: 1_000 }),
  );
  const second = client(server);
  const { id } = await second.jobs.create('work');
  await eventually(() => isSilent);
  gone(second.worker('work', async () => {
    isSilent = false;
    await eventually(() => reasons.length > 0);
    return 'second';
  }));
  expect(await second.jobs.wait(id)).toMatchObject({ state: 'completed', result: 'second', attempt: 2 });
  expect(reasons).toMatchObject([{ code: 'lease_lost' }]);
});

test('twenty workers run three hundred jobs, each once', async () => {
  // A signal that outlives a run must not keep what the run hung on it.
  const warnings: Error[] = [];
  const warned = (warning: Error) => void warnings.push(warning);
  process.on('warning', warned);
  onTestFinished(() => void process.off('warning', warned));
  const server = await startServer();
  const tidings = client(server);
  const ran: number[] = [];
  for (let n = 0; n < 4; n += 1) gone(tidings.worker('work', (_, input) => void ran.push(input as number), { concurrency: 5 }));
  const numbers = Array.from({ length: 300 }, (_, n) => n);
  const jobs = await Promise.all(numbers.map((n) => tidings.jobs.create('work', n)));
  await Promise.all(jobs.map(({ id }) => tidings.jobs.wait(id)));
  expect(ran.sort((a, b) => a - b)).toEqual(numbers);
  expect(warnings).toEqual([]);
});

test('the job of another queue is known, reported, listed, retried not, and deleted', async () => {
  const server = await startServer();
  const { jobs } = client(server);
  const report = await jobs.external('bull:exports:1', { type: 'export', queue: 'exports', tags: ['user:42'], state: 'running' });
  for (let n = 1; n <= 500; n += 1) void report.progress({ current: n, total: 1_000 });
  await report.log('half');
  await jobs.cancel('bull:exports:1', { reason: 'why' });
  expect(await report.progress(60)).toMatchObject({ cancel_requested: true });
  await report.artifact('x.csv', Buffer.from('a,b'));
  await report.complete({ rows: 2 });
  expect(await jobs.get('bull:exports:1')).toMatchObject({ mode: 'external', state: 'completed', current: 500, result: { rows: 2 } });
  await report.attempt(1).complete({ rows: 2 }).catch(() => {});
  await jobs.external('bull:exports:2', { type: 'export', queue: 'exports', tags: ['user:43'] });
  const ids = async (filter: object) => {
    const found = [];
    for await (const job of jobs.list(filter)) found.push(job.id);
    return found;
  };
  expect(await ids({ queue: 'exports', pageSize: 1 })).toEqual(['bull:exports:2', 'bull:exports:1']);
  expect(await ids({ tag: 'user:42' })).toEqual(['bull:exports:1']);
  await expect(jobs.retry('bull:exports:1')).rejects.toMatchObject({ code: 'job_not_managed' });
  await jobs.delete('bull:exports:1');
  await expect(jobs.get('bull:exports:1')).rejects.toMatchObject({ code: 'job_not_found', status: 404 });
  await expect(async () => {
    for await (const _ of jobs.watch('bull:exports:1')) throw new Error('nothing comes');
  }).rejects.toMatchObject({ code: 'job_not_found' });
});

test('streams of a subject are listed and closed', async () => {
  const server = await startServer();
  const { connections } = client(server);
  const stream = await fetch(`${server.url}/events?channel=a&as=ann`);
  const open = await eventually(async () => (await connections.list({ subject: 'ann' }))[0]);
  expect(open).toMatchObject({ subject: 'ann', channels: ['a'] });
  expect(await connections.close({ subject: 'ann' })).toEqual({ closed: 1 });
  await stream.text();
  await eventually(async () => (await connections.list({ subject: 'ann' })).length === 0);
  await expect(connections.close({ id: open.id })).rejects.toMatchObject({ code: 'connection_not_found' });
});

test('the document of a job has the fields of its type, and no others', async () => {
  const fields: Record<keyof Job, 0> = {
    id: 0, jobId: 0, type: 0, queue: 0, mode: 0, state: 0, reason: 0, priority: 0, progress: 0, current: 0, total: 0, unit: 0, step: 0, message: 0,
    eta_ms: 0, data: 0, attempt: 0, max_attempts: 0, cancel_requested: 0, created_at: 0, updated_at: 0, run_at: 0, started_at: 0, finished_at: 0,
    result: 0, error: 0, artifacts: 0, downloadUrl: 0, tags: 0, subject: 0, parent: 0, retry_of: 0, schedule: 0, v: 0,
  };
  const { jobs } = client(await startServer());
  const { id } = await jobs.create('work', {}, { subject: 'ann' });
  const document = await jobs.get(id);
  expect([Object.keys(document!).sort(), document?.subject]).toEqual([Object.keys(fields).sort(), 'ann']);
});
