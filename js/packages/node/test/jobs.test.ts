import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createTidings, type TidingsError } from '@tidings/node';
import { ok, problem, scripted, stored, type Asked, type Reply } from './support/scripted.js';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function client(reply: (asked: Asked, count: number) => Reply) {
  const server = scripted(reply);
  const errors: TidingsError[] = [];
  return { ...server, errors, tidings: createTidings({ url: 'http://t', fetch: server.fetch, onError: (e) => errors.push(e) }) };
}

/** Lets every timer run until the promise is done. */
async function settled<T>(promise: Promise<T>): Promise<T> {
  let isDone = false;
  promise.catch(() => {}).finally(() => (isDone = true));
  while (!isDone) await vi.advanceTimersByTimeAsync(1_000);
  return promise;
}

const made = { id: 'j1', jobId: 'j1', state: 'queued', urls: {} };
const document = (state: string) => ({ id: 'j1', state, progress: 0 });

test('a job is made with what was said, under one idempotency key', async () => {
  const replies: Reply[] = ['drop', ok({ ...made, duplicate: true })];
  const { tidings, asked } = client(() => replies.shift() ?? 'drop');
  const job = await settled(
    tidings.jobs.create('generate-report', { rows: 3 }, {
      queue: 'exports',
      runAt: new Date(1_000),
      retry: { maxAttempts: 5, backoff: { kind: 'fixed', baseMs: 100 } },
      unique: { key: 'u', onConflict: 'reject' },
      ttl: { resultMs: 60_000 },
      publishTo: ['user:42'],
      subject: '42',
    }),
  );
  expect(job).toEqual({ ...made, duplicate: true });
  expect(asked[1]?.json).toEqual({
    type: 'generate-report',
    input: { rows: 3 },
    queue: 'exports',
    run_at: 1_000,
    retry: { max_attempts: 5, backoff: { kind: 'fixed', base_ms: 100 } },
    unique: { key: 'u', on_conflict: 'reject' },
    ttl: { result_ms: 60_000 },
    publish_to: ['user:42'],
    subject: '42',
  });
  const keys = asked.map(({ headers }) => headers.get('idempotency-key'));
  expect(keys[0]).toMatch(/^[0-9a-f-]{36}$/);
  expect(keys[1]).toBe(keys[0]);
  await expect(tidings.jobs.create('t', 1, { idempotencyKey: 'ü' })).rejects.toMatchObject({ code: 'request_invalid' });
});

test('waiting for the end asks again as long as there is none', async () => {
  const states = ['queued', 'running', 'completed'];
  const { tidings, asked } = client(() => ok(document(states.shift() ?? '')));
  expect(await settled(tidings.jobs.wait('j1'))).toMatchObject({ state: 'completed' });
  expect(asked.map(({ path }) => path)).toEqual(Array(3).fill('/v1/jobs/j1?wait=25000ms&until=terminal'));
});

test('a list goes over its pages, empty ones too, and only as far as it is read', async () => {
  const pages: Record<string, object> = {
    '/v1/jobs?state=failed&tag=a+b&limit=2': { jobs: [{ id: 'a' }, { id: 'b' }], next: 'c1' },
    '/v1/jobs?state=failed&tag=a+b&limit=2&cursor=c1': { jobs: [], next: 'c2' },
    '/v1/jobs?state=failed&tag=a+b&limit=2&cursor=c2': { jobs: [{ id: 'c' }], next: null },
  };
  const { tidings, asked } = client(({ path }) => ok(pages[path]));
  const filter = { state: 'failed', tag: 'a b', pageSize: 2 } as const;
  const ids: string[] = [];
  for await (const job of tidings.jobs.list(filter)) ids.push(job.id);
  expect(ids).toEqual(['a', 'b', 'c']);
  for await (const job of tidings.jobs.list(filter)) if (job.id === 'a') break;
  expect(asked).toHaveLength(4);
});

test('a cancellation or deletion whose answer got lost is told as done', async () => {
  let replies: Reply[] = ['drop', problem(409, 'job_finished'), ok(document('cancelled'))];
  const { tidings } = client(() => replies.shift() ?? 'drop');
  expect(await settled(tidings.jobs.cancel('j1', { reason: 'why', graceMs: 5 }))).toEqual({ state: 'cancelled' });
  replies = ['drop', problem(404, 'job_not_found')];
  await settled(tidings.jobs.delete('j1'));
  replies = [problem(409, 'job_finished')];
  await expect(tidings.jobs.cancel('j1')).rejects.toMatchObject({ code: 'job_finished' });
  replies = ['drop', problem(409, 'job_finished'), ok(document('completed'))];
  await expect(settled(tidings.jobs.cancel('j1'))).rejects.toMatchObject({ code: 'job_finished' });
  replies = [problem(404, 'job_not_found')];
  await expect(tidings.jobs.delete('j1')).rejects.toMatchObject({ code: 'job_not_found' });
});

test('a retry makes a job each time, so it is sent once', async () => {
  const { tidings, asked } = client(() => 'drop');
  await expect(tidings.jobs.retry('j1')).rejects.toMatchObject({ code: 'no_answer' });
  expect(asked).toHaveLength(1);
});

test('an id that is no segment of a path is not sent', async () => {
  const { tidings, asked } = client(() => ok(document('queued')));
  for (const id of ['', '.', '..', '\ud800']) {
    await expect(tidings.jobs.get(id)).rejects.toMatchObject({ code: 'request_invalid' });
  }
  await tidings.jobs.get('bull:exports:1/../?');
  expect(asked.map(({ path }) => path)).toEqual(['/v1/jobs/bull%3Aexports%3A1%2F..%2F%3F']);
});

test('reports of another queue come in order, numbered, of the attempt they were made in', async () => {
  const { tidings, asked } = client(({ path }) => (path === '/v1/jobs/b1' ? ok(document('queued')) : stored()));
  const job = { type: 'export', queue: 'q', staleAfterMs: 5_000, publishTo: ['user:1'] };
  const report = await tidings.jobs.external('b1', job);
  expect(asked[0]).toMatchObject({ method: 'PUT', json: { type: 'export', queue: 'q', stale_after_ms: 5_000, publish_to: ['user:1'] } });
  void report.attempt(1).progress({ current: 1, total: 4, etaMs: 9 });
  void report.log('first');
  void report.log('second', 'warn');
  void report.retrying({ message: 'busy', nextAttemptAt: 7 });
  void report.attempt(2).progress(50);
  void report.output('tok');
  void report.attempt(3).output('next');
  await settled(report.complete({ rows: 4 }, [{ name: 'x.csv', url: 'https://x/x.csv' }]));
  const said = asked.slice(1).map(({ path, json: { n, ...rest } }) => [path.replace('/v1/jobs/b1/', ''), rest]);
  expect(said).toEqual([
    ['progress', { current: 1, total: 4, eta_ms: 9, attempt: 1 }],
    ['logs', { logs: [expect.objectContaining({ level: 'info', message: 'first' }), expect.objectContaining({ level: 'warn' })], attempt: 1 }],
    ['fail', { message: 'busy', retrying: true, next_attempt_at: 7, attempt: 1 }],
    ['progress', { progress: 50, attempt: 2 }],
    ['output', { chunks: ['tok'], attempt: 2 }],
    ['output', { chunks: ['next'], attempt: 3 }],
    ['complete', { result: { rows: 4 }, artifacts: [{ name: 'x.csv', url: 'https://x/x.csv' }], attempt: 3 }],
  ]);
  const numbers = asked.slice(1).map(({ json }) => json.n as number);
  expect(numbers.every((n, index) => Number.isSafeInteger(n) && (index === 0 || n > (numbers[index - 1] ?? 0)))).toBe(true);
});

test('progress that comes faster than it is sent is put together, and the last one wins', async () => {
  const { tidings, asked } = client(() => stored());
  const report = tidings.jobs.report('b1');
  for (let n = 1; n <= 1_000; n += 1) {
    void report.progress({ current: n, total: 1_000, message: n === 500 ? 'half' : undefined });
    await vi.advanceTimersByTimeAsync(1);
  }
  await settled(report.complete());
  const progress = asked.filter(({ path }) => path.endsWith('/progress'));
  expect(progress.length).toBeGreaterThan(8);
  expect(progress.length).toBeLessThan(13);
  expect(progress.at(-1)?.json).toMatchObject({ current: 1_000, total: 1_000 });
  expect(progress.filter(({ json }) => json.message === 'half')).toHaveLength(1);
});

test('a count is not overruled by an older percentage that waits with it', async () => {
  const { tidings, asked } = client(() => stored());
  const report = tidings.jobs.report('b1');
  void report.progress(1);
  await vi.advanceTimersByTimeAsync(10);
  void report.progress(90);
  await settled(report.progress({ current: 1, total: 4 }));
  expect(asked[1]?.json).not.toHaveProperty('progress');
});

test('log lines are put together, a hundred to a report', async () => {
  const { tidings, asked } = client(() => stored());
  const report = tidings.jobs.report('b1');
  for (let n = 0; n < 250; n += 1) void report.log(`line ${n}`);
  await settled(report.log('last'));
  expect(asked.map(({ json }) => json.logs.length)).toEqual([100, 100, 51]);
});

test('a report that failed is told to who awaits it, and to onError where nobody does', async () => {
  const { tidings, errors } = client(() => problem(409, 'job_finished'));
  const report = tidings.jobs.report('b1');
  await expect(report.progress(5)).rejects.toMatchObject({ code: 'job_finished' });
  void report.log('x');
  await vi.advanceTimersByTimeAsync(1_000);
  expect(errors.map(({ code }) => code)).toEqual(['job_finished', 'job_finished']);
  expect(() => report.progress(Number.NaN)).not.toThrow();
  await expect(report.progress(Number.NaN)).rejects.toMatchObject({ code: 'request_invalid' });
});

test('progress in a loop that never waits is one report, with the last of it', async () => {
  const { tidings, asked, errors } = client(() => stored());
  const report = tidings.jobs.report('b1');
  for (let n = 1; n <= 50_000; n += 1) void report.progress({ current: n, total: 50_000 });
  expect(() => report.progress(Number.NaN)).not.toThrow();
  await settled(report.complete());
  expect(asked.map(({ json }) => json.current)).toEqual([50_000, undefined]);
  expect(errors).toEqual([]);
});

test('reports that wait are bounded, and that is told once', async () => {
  const { tidings, errors } = client(() => 'hold');
  const report = tidings.jobs.report('b1');
  const waiting = Array.from({ length: 10_010 }, (_, n) => report.output(n));
  await vi.advanceTimersByTimeAsync(0);
  await expect(waiting.at(-1)).rejects.toMatchObject({ code: 'reports_too_many', committed: false });
  expect(errors.map(({ code }) => code)).toEqual(['reports_too_many']);
});

test('a file comes from text, bytes, a blob, a path or a stream, and only a stream is sent once', async () => {
  const bodies: string[] = [];
  const replies: Reply[] = [];
  const { tidings, asked } = client(({ body }) => {
    bodies.push(body);
    return replies.shift() ?? stored();
  });
  const report = tidings.jobs.report('b1');
  const web = new Blob(['web']).stream();
  async function* pieces() {
    yield 'no';
    yield new TextEncoder().encode('de');
  }
  for (const source of ['text', Buffer.from('bytes'), new Blob(['blob']), web, pieces(), new Uint8Array([97]).buffer]) {
    await report.artifact('a b.csv', source, { contentType: 'text/csv' });
  }
  expect(bodies).toEqual(['text', 'bytes', 'blob', 'web', 'node', 'a']);
  expect(asked[0]).toMatchObject({ method: 'PUT', path: '/v1/jobs/b1/artifacts/a%20b.csv' });
  expect(asked[0]?.headers.get('content-type')).toBe('text/csv');
  replies.push('drop');
  await settled(report.artifact('x', 'again'));
  replies.push('drop');
  await expect(report.artifact('x', pieces())).rejects.toMatchObject({ code: 'no_answer' });
  replies.push(problem(413, 'body_too_large', { committed: false }));
  await expect(report.artifact('x', 'large')).rejects.toMatchObject({ code: 'body_too_large' });
  async function* faulty() {
    yield 'x';
    throw new Error('disk gone');
  }
  await expect(report.artifact('x', faulty())).rejects.toMatchObject({ message: /disk gone/ });
  const path = new URL('./support/scripted.ts', import.meta.url);
  vi.useRealTimers();
  await report.artifact('x', { file: path });
  expect(bodies.at(-1)).toContain('A `fetch` that a test answers');
  await expect(report.artifact('x', { file: '/no/such/file' })).rejects.toMatchObject({ message: /ENOENT/ });
});

test('the admin verbs ask for what the contract says', async () => {
  const { tidings, asked } = client(({ method, path }) =>
    method === 'DELETE' && path.endsWith('/c1') ? new Response(null, { status: 204 }) : ok({ closed: 2, connections: [] }),
  );
  await tidings.revoke({ subject: '42', until: new Date(5) });
  await tidings.revoke({ session: 's1' });
  await tidings.connections.close({ subject: 'a&b' });
  expect(await tidings.connections.close({ id: 'c1' })).toEqual({ closed: 1 });
  await tidings.connections.list({ subject: '42' });
  await tidings.tickets.create({ channels: ['orders'] });
  expect(asked.map(({ method, path, json }) => [method, path, json])).toEqual([
    ['POST', '/v1/revocations', { subject: '42', until: 5 }],
    ['POST', '/v1/revocations', { session: 's1' }],
    ['DELETE', '/v1/connections?subject=a%26b', undefined],
    ['DELETE', '/v1/connections/c1', undefined],
    ['GET', '/v1/connections?subject=42', undefined],
    ['POST', '/v1/tickets', { channels: ['orders'] }],
  ]);
});
