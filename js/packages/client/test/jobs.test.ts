import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Job } from '../src/index.js';
import { createWorld, json, problem, settled, type World } from './support/world.js';

let world: World;
beforeEach(() => void (world = createWorld()));
afterEach(() => void vi.useRealTimers());

function job(v: number, more: Partial<Job> = {}): Job {
  return {
    id: '7', jobId: '7', type: 'report', queue: 'default', mode: 'managed', state: 'running', reason: null, priority: 0, progress: v * 10,
    current: null, total: null, unit: null, step: null, message: null, eta_ms: null, data: null, attempt: 1, max_attempts: 3,
    cancel_requested: false, created_at: 1, updated_at: 1, run_at: null, started_at: 1, finished_at: null, result: null, error: null,
    artifacts: [], downloadUrl: null, tags: [], parent: null, retry_of: null, schedule: null, subject: null, v, ...more,
  };
}
const completed = (v: number): Job => job(v, { state: 'completed', progress: 100, result: { rows: 3 }, downloadUrl: '/v1/jobs/7/download' });

describe('on the shared stream', () => {
  test('it is subscribed first and asked for then, and the newer document counts', async () => {
    world.answer = ({ url }) => (url.pathname === '/v1/jobs/7' ? json(200, job(3)) : undefined);
    const client = world.client();
    const handle = client.job('7');
    const seen: number[] = [];
    handle.onChange(({ progress }) => seen.push(progress));
    await settled();
    expect(world.requests.map(({ url }) => url.pathname + url.search)).toEqual(['/events?channel=job%3A7']);
    await world.last().hello('e-1');
    expect(world.requests[1]?.url.pathname).toBe('/v1/jobs/7');
    await world.last().event('e-2', 'job:7', job(2), 'progress');
    await world.last().event('e-3', 'job:7', job(4), 'progress');
    expect(seen).toEqual([30, 40]);
    expect(handle.current?.v).toBe(4);
  });

  test('it ends once, and await gives the document', async () => {
    world.answer = ({ url }) => (url.pathname === '/v1/jobs/7' ? json(200, job(1)) : undefined);
    const client = world.client();
    const handle = client.job<{ rows: number }>('7');
    const ends: unknown[] = [];
    handle.onEnd((end) => ends.push(end));
    await settled();
    await world.last().hello('e-1');
    await world.last().event('e-2', 'job:7', completed(2), 'complete');
    await world.last().event('e-3', 'job:7', completed(3), 'complete');
    const { result, downloadUrl } = await handle;
    expect([result.rows, downloadUrl, ends.length, handle.error]).toEqual([3, '/v1/jobs/7/download', 1, null]);
    handle.onEnd((end) => ends.push(end));
    await settled();
    expect(ends, 'whoever asks late is told too').toHaveLength(2);
    await world.pass(1_000);
    expect(world.last().aborted, 'nobody needs the stream any more').toBe(true);
  });

  test('one that has ended already needs no event', async () => {
    world.answer = ({ url }) => (url.pathname === '/v1/jobs/7' ? json(200, completed(5)) : undefined);
    const handle = world.client().job('7');
    await settled();
    await world.last().hello('e-1');
    expect((await handle).v).toBe(5);
  });

  test('what fails, throws with its code and document', async () => {
    world.answer = ({ url }) => (url.pathname === '/v1/jobs/7' ? json(200, job(1)) : undefined);
    const handle = world.client().job('7');
    await settled();
    await world.last().hello('e-1');
    await world.last().event('e-2', 'job:7', { jobId: '7', state: 'failed', message: 'no disk', code: 'boom', attempt: 3 }, 'error');
    await expect(handle).rejects.toMatchObject({ code: 'job_failed', message: 'no disk', job: { state: 'failed', error: { code: 'boom' }, attempt: 3 } });
    expect(handle.error?.code).toBe('job_failed');
  });

  test('one that nobody knows has time to appear', async () => {
    world.answer = ({ url }) => (url.pathname === '/v1/jobs/7' ? problem(404, 'job_not_found') : undefined);
    const appears = world.client().job('7');
    await settled();
    await world.last().hello('e-1');
    await world.pass(5_000);
    await world.last().event('e-2', 'job:7', completed(1), 'complete');
    expect((await appears).v).toBe(1);
    const never = world.client().job('7');
    await settled();
    await world.last().hello('e-1');
    await world.pass(10_000);
    await expect(never).rejects.toMatchObject({ code: 'job_not_found' });
  });

  test('after a reset it is asked for anew, and an older document counts', async () => {
    const answers = [job(9), job(2)];
    world.answer = ({ url }) => (url.pathname === '/v1/jobs/7' ? json(200, answers.shift()) : undefined);
    const handle = world.client().job('7');
    await settled();
    await world.last().hello('e-9');
    expect(handle.current?.v).toBe(9);
    await world.last().send('event: tidings.reset\ndata: {"reason":"epoch"}\nid: f-1\n\n');
    expect(handle.current?.v).toBe(2);
  });

  test('log, output, cancelling and repeating', async () => {
    const posts: unknown[] = [];
    world.answer = ({ method, url, body }) => {
      if (method === 'POST') posts.push([url.pathname, body]);
      if (url.pathname.endsWith('/retry')) return json(201, { id: '8', jobId: '8' });
      if (url.pathname.endsWith('/cancel')) return json(202, { state: 'running', cancel_requested: true });
      return url.pathname.startsWith('/v1/jobs/') ? json(200, job(1)) : undefined;
    };
    const handle = world.client().job('7');
    const got: unknown[] = [];
    handle.onLog(({ message }) => got.push(message));
    handle.onOutput((chunk) => got.push(chunk));
    await settled();
    await world.last().hello('e-1');
    await world.last().event('e-2', 'job:7', { jobId: '7', level: 'info', message: 'hi', ts: 1 }, 'log');
    await world.last().event('e-3', 'job:7', { jobId: '7', chunk: ['a'] }, 'output');
    await handle.cancel('enough');
    const again = await handle.retry();
    expect(got).toEqual(['hi', ['a']]);
    expect(posts.slice(0, 2)).toEqual([['/v1/jobs/7/cancel', { reason: 'enough' }], ['/v1/jobs/7/retry', {}]]);
    expect([again.id, again.job.id]).toEqual(['8', '8']);
  });

  test('a client that is closed ends its jobs, and asks for nothing more', async () => {
    const client = world.client();
    const codes: string[] = [];
    client.job('7').onEnd((end) => codes.push('error' in end ? end.error.code : ''));
    await settled();
    const before = world.requests.length;
    client.close();
    await world.pass(60_000);
    expect([codes, world.requests.length]).toEqual([['closed'], before]);
  });

  test('close stops watching and says so, once', async () => {
    const handle = world.client().job('7');
    handle.close();
    handle.close();
    await expect(handle).rejects.toMatchObject({ code: 'closed' });
    await settled();
    expect(world.requests).toEqual([]);
  });
});

describe('on a stream of its own', () => {
  test('a path of the application’s own: made, watched, ended', async () => {
    world.answer = ({ method, url }) => (method === 'POST' && url.pathname === '/api/exports' ? json(201, { jobId: 'x y' }) : undefined);
    const client = world.client();
    const { id, job: handle } = await client.startJob('/api/exports', { kind: 'pdf' });
    await settled();
    expect(world.requests[0]?.body).toEqual({ kind: 'pdf' });
    expect([id, world.last().request.url.href]).toEqual(['x y', 'https://app.example/api/exports/x%20y/events']);
    await world.last().hello(null);
    await world.last().event('e-2', 'job:x y', job(1), 'progress');
    expect(handle.current?.progress).toBe(10);
    await world.last().end();
    await world.pass(2_000);
    expect(world.last().request.headers.get('last-event-id')).toBe('e-2');
    await world.last().hello('e-2');
    await world.last().event('e-3', 'job:x y', completed(2), 'complete');
    expect((await handle).state).toBe('completed');
    expect(world.last().aborted).toBe(true);
    await world.pass(60_000);
    expect(world.streams).toHaveLength(2);
    expect(client.status.state).toBe('idle');
  });

  test('a job that is not there', async () => {
    world.answer = () => problem(404, 'job_not_found');
    await expect(world.client().job('7', { path: '/api/exports' })).rejects.toMatchObject({ code: 'job_not_found', status: 404 });
  });
});
