import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { cancelled, createTidings, fail, release, type Schema, type TidingsError, type WorkerJob, type WorkerOptions } from '@tidings/node';
import { ok, problem, scripted, stored, type Asked, type Reply } from './support/scripted.js';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const leased = (id: string, input: unknown = null, more: object = {}) => ({
  id, type: 'work', queue: 'default', input, attempt: 2, max_attempts: 3, tags: ['a'], deadline: null,
  lease: { token: `2.${id}`, expires_at: 1, renew_every_ms: 10_000 }, ...more,
});

interface Script {
  /** Answers to requests for jobs, behind the first; then none comes. */
  leases?: Reply[];
  reports?: (Reply | ((asked: Asked) => Reply | Promise<Reply>))[];
  renewal?: (asked: Asked) => Reply;
}

type Handler = (job: WorkerJob, input: any) => unknown;

/** A worker of a server that leases `jobs` once and then follows `script`. */
function working(jobs: object[], handler: Handler, script: Script = {}, options: WorkerOptions = {}) {
  const errors: TidingsError[] = [];
  const leases = [ok({ jobs, worker: { state: 'run' } }), ...(script.leases ?? [])];
  const server = scripted((asked) => {
    if (asked.path.endsWith('/lease')) return leases.shift() ?? 'hold';
    if (asked.path === '/v1/leases:renew') return script.renewal?.(asked) ?? ok({ leases: [], worker: { state: 'run' } });
    const reply = script.reports?.shift();
    return (typeof reply === 'function' ? reply(asked) : reply) ?? stored();
  });
  const tidings = createTidings<Schema>({ url: 'http://t', fetch: server.fetch, onError: (error) => errors.push(error) });
  const worker = tidings.worker('work', handler, { id: 'w1', ...options });
  return {
    worker,
    errors,
    ...server,
    /** The reports: the verb and the body. */
    reports: () => server.asked.filter(({ path }) => path.startsWith('/v1/jobs/')).map(({ path, json, body }) => [path.slice(9), json ?? body] as const),
    leasesAsked: () => server.asked.filter(({ path }) => path.endsWith('/lease')),
  };
}

/** Runs timers until it is so. */
async function until(isIt: () => boolean, limitMs = 3_600_000): Promise<void> {
  for (let ms = 0; !isIt(); ms += 50) {
    if (ms > limitMs) throw new Error('it did not come about');
    await vi.advanceTimersByTimeAsync(50);
  }
}

async function stopped(worker: { stop(options?: { graceMs?: number }): Promise<void> }, graceMs?: number): Promise<void> {
  let isDone = false;
  const done = worker.stop(graceMs === undefined ? {} : { graceMs }).then(() => (isDone = true));
  await until(() => isDone);
  await done;
}

/** How one run of a job with this handler was reported. */
async function reported(handler: Handler, script: Script = {}) {
  const run = working([leased('j1')], handler, script);
  await until(() => run.worker.running === 0 && run.leasesAsked().length > 1);
  await stopped(run.worker);
  return { ...run, last: run.reports().at(-1) };
}

test('a run reports in order with its lease, and ends with its result', async () => {
  const run = working([leased('j1', 21)], async (job, input: number) => {
    expect(job).toMatchObject({ id: 'j1', type: 'work', queue: 'default', attempt: 2, maxAttempts: 3, tags: ['a'], deadline: null });
    await job.progress(50);
    await job.progress({ current: 3, total: 4, message: 'm' });
    await job.log('careful', 'warn');
    await job.output('tok');
    await job.artifact('a b.csv', 'x,y\n', { contentType: 'text/csv' });
    return input * 2;
  });
  await until(() => run.reports().some(([verb]) => verb === 'j1/complete'));
  await stopped(run.worker);
  const reports = run.reports();
  expect(reports.map(([verb]) => verb)).toEqual(['j1/progress', 'j1/progress', 'j1/logs', 'j1/output', 'j1/artifacts/a%20b.csv', 'j1/complete']);
  const bodies = reports.filter(([verb]) => !verb.includes('artifacts')).map(([, body]) => body);
  for (const body of bodies) expect(body).toMatchObject({ attempt: 2, lease: '2.j1' });
  const numbers = bodies.map(({ n }) => n as number);
  expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
  expect(new Set(numbers).size).toBe(5);
  expect(bodies.at(-1)).toMatchObject({ result: 42 });
  expect(run.asked.find(({ method }) => method === 'PUT')?.headers.get('tidings-lease')).toBe('2.j1');
  expect(run.asked[0]?.json).toEqual({ worker_id: 'w1', types: ['work'], max: 1, wait_ms: 25_000 });
  expect(run.errors).toEqual([]);
});

test('what a handler throws fails its run, as it should be tried again', async () => {
  const failed = async (thrown: unknown) => {
    const { last } = await reported(() => {
      throw thrown;
    });
    const [verb, { error, retry, state }] = last ?? ['', {}];
    return [verb, error?.code, error?.message, retry ?? state];
  };
  const cause = new Error('outer', { cause: new Error('inner') });
  expect(await failed(cause)).toEqual(['j1/fail', 'failed', 'outer: inner', undefined]);
  expect(await failed(Object.assign(new Error('no file'), { code: 'ENOENT' }))).toEqual(['j1/fail', 'ENOENT', 'no file', undefined]);
  expect(await failed('a text')).toEqual(['j1/fail', 'failed', 'a text', undefined]);
  expect(await failed(undefined)).toEqual(['j1/fail', 'failed', 'undefined', undefined]);
  expect(await failed(fail('gone', { code: 'customer_gone', retry: 'never' }))).toEqual(['j1/fail', 'customer_gone', 'gone', 'never']);
  expect(await failed(fail('busy', { retry: { afterMs: 3_000 } }))).toEqual(['j1/fail', 'failed', 'busy', { after_ms: 3_000 }]);
  expect(await failed(cancelled())).toEqual(['j1/fail', 'cancelled', 'cancelled', 'cancelled']);
  const back = await reported(() => {
    throw release({ delayMs: 5 });
  });
  expect(back.last).toEqual(['j1/release', { lease: '2.j1', delay_ms: 5 }]);
});

test('a stack goes along for the server\'s log', async () => {
  const { last } = await reported(async () => {
    throw new Error('x');
  });
  expect(last?.[1].error.stack).toContain('worker.test.ts');
});

test('a report that was not answered is repeated with the same number, over a restart of the server', async () => {
  const away = Array.from({ length: 8 }, () => 'drop' as const);
  const run = await reported(async (job) => void (await job.progress(10)), {
    reports: [...away, problem(503, 'draining'), stored(), 'drop', stored()],
  });
  const reports = run.reports();
  expect(new Set(reports.slice(0, 10).map(([, body]) => JSON.stringify(body))).size).toBe(1);
  expect(reports.slice(10).map(([verb, { n }]) => [verb, n])).toEqual(Array(2).fill(['j1/complete', reports[11]?.[1].n]));
  expect(run.errors).toEqual([]);
});

test('reports that nobody awaits are sent before the result', async () => {
  const { reports } = await reported((job) => {
    job.progress(1);
    job.progress(2);
    job.log('a');
    job.log('b');
    job.output(1);
    return 'done';
  });
  const said = reports().map(([verb, { progress, logs, chunks, result }]) => [verb, progress ?? logs?.length ?? chunks ?? result]);
  expect(said).toEqual([['j1/progress', 2], ['j1/logs', 2], ['j1/output', [1]], ['j1/complete', 'done']]);
});

test('a result that is refused or is no JSON fails the run for good', async () => {
  const refused = await reported(() => 'x'.repeat(70_000), { reports: [problem(413, 'data_too_large')] });
  expect(refused.last).toMatchObject(['j1/fail', { error: { code: 'data_too_large' }, retry: 'never' }]);
  const strange = await reported(() => 1n);
  expect(strange.reports()).toMatchObject([['j1/fail', { error: { code: 'request_invalid' }, retry: 'never' }]]);
});

test('a lost lease aborts the handler, and nothing more is said', async () => {
  let heard: unknown;
  const run = await reported(
    async (job) => {
      await job.progress(10).catch(() => {});
      heard = job.signal.reason;
      job.log('nobody hears this');
      return 'nor this';
    },
    { reports: [problem(409, 'lease_lost')] },
  );
  expect(heard).toMatchObject({ code: 'lease_lost' });
  expect(run.reports()).toHaveLength(1);
  expect(run.errors.map(({ code }) => code)).toEqual(['lease_lost']);
});

test('a lease that was lost while a report is repeated ends the repeats', async () => {
  const run = await reported(async (job) => void (await job.progress(10)), {
    reports: Array.from({ length: 500 }, () => 'drop' as const),
    renewal: () => ok({ leases: [{ id: 'j1', status: 'lost' }], worker: { state: 'run' } }),
  });
  expect(run.reports().length).toBeLessThan(20);
  expect(new Set(run.reports().map(([verb]) => verb))).toEqual(new Set(['j1/progress']));
});

test('a lease that ends with the very report of the end is no lost lease', async () => {
  const later = () => new Promise<Reply>((resolve) => setTimeout(() => resolve(stored()), 25_000));
  const run = await reported(() => 'done', {
    reports: ['drop', later],
    renewal: () => ok({ leases: [{ id: 'j1', status: 'lost' }], worker: { state: 'run' } }),
  });
  expect(run.reports().map(([verb, { result }]) => [verb, result])).toEqual(Array(2).fill(['j1/complete', 'done']));
  expect(run.errors).toEqual([]);
});

test('a renewal or an answer tells of the wish to cancel, and what then is thrown is that', async () => {
  const cancel = { reason: 'changed my mind', deadline: 5 };
  const scripts: Script[] = [
    { renewal: () => ok({ leases: [{ id: 'j1', status: 'cancel', cancel }], worker: { state: 'run' } }) },
    { reports: [ok({ stored: true, cancel_requested: true, v: 2, cancel })] },
  ];
  for (const script of scripts) {
    const { last } = await reported(async (job) => {
      void job.progress(1);
      await new Promise((_, reject) => job.signal.addEventListener('abort', () => reject(job.signal.reason as Error)));
    }, script);
    expect(last).toMatchObject(['j1/fail', { state: 'cancelled', error: { code: 'cancelled' } }]);
  }
  const done = await reported(async (job) => {
    await new Promise((resolve) => job.signal.addEventListener('abort', resolve));
    expect(job.signal.reason).toMatchObject({ code: 'cancelled', message: expect.stringContaining('changed my mind') });
    expect(job.cancel).toEqual(cancel);
    await job.log('cleaned up');
    return 'finished all the same';
  }, scripts[0]);
  expect(done.reports().map(([verb]) => verb)).toEqual(['j1/logs', 'j1/complete']);
});

test('leases are renewed together, each in time, and not after their runs', async () => {
  const jobs = [leased('a', 60_000), leased('b', 25_000, { lease: { token: 't', expires_at: 1, renew_every_ms: 5_000 } })];
  const run = working(jobs, (_, ms: number) => new Promise((resolve) => setTimeout(resolve, ms)), {}, { concurrency: 2 });
  await until(() => run.reports().length === 2);
  const renewals = run.asked.filter(({ path }) => path === '/v1/leases:renew').map(({ json }) => json);
  expect(renewals[0]).toEqual({ worker_id: 'w1', leases: [{ id: 'a', token: '2.a' }, { id: 'b', token: 't' }] });
  const both = renewals.filter(({ leases }) => leases.length === 2).length;
  expect(both).toBe(4);
  expect(renewals.length).toBeGreaterThanOrEqual(7);
  const count = renewals.length;
  await vi.advanceTimersByTimeAsync(60_000);
  expect(run.asked.filter(({ path }) => path === '/v1/leases:renew')).toHaveLength(count);
  await stopped(run.worker);
});

test('a renewal that failed is tried again well before the lease ends', async () => {
  let renewals = 0;
  const run = working([leased('a', 30_000)], (_, ms: number) => new Promise((resolve) => setTimeout(resolve, ms)), {
    renewal: () => ((renewals += 1) <= 2 ? 'hold' : ok({ leases: [{ id: 'a', status: 'ok' }], worker: { state: 'run' } })),
  });
  await vi.advanceTimersByTimeAsync(25_000);
  expect(renewals).toBeGreaterThanOrEqual(3);
  await until(() => run.reports().length === 1);
  expect(run.errors.map(({ code }) => code)).toEqual(['no_answer', 'no_answer']);
  await stopped(run.worker);
});

test('stopping waits for runs that end, gives the others back, and says so to them', async () => {
  const ending: string[] = [];
  const run = working([leased('ends', true), leased('stays', false), leased('minds', null)], async (job, input) => {
    job.ending.addEventListener('abort', () => ending.push(job.id));
    if (input === true) return new Promise((resolve) => job.ending.addEventListener('abort', () => resolve('saved')));
    if (input === false) return new Promise(() => {});
    return new Promise((_, reject) => job.signal.addEventListener('abort', () => reject(job.signal.reason as Error)));
  }, {}, { concurrency: 3 });
  await until(() => run.worker.running === 3);
  await stopped(run.worker, 2_000);
  expect(ending).toEqual(['ends', 'stays', 'minds']);
  expect(run.reports().map(([verb]) => verb)).toEqual(['ends/complete', 'minds/release', 'stays/release']);
  expect(run.leasesAsked()).toHaveLength(1);
  await run.worker.done;
  expect(vi.getTimerCount()).toBe(0);
});

test('stopping ends the request that waits for jobs', async () => {
  const run = working([], () => {});
  await until(() => run.leasesAsked().length > 1);
  await run.worker.stop();
  expect(vi.getTimerCount()).toBe(0);
});

test('jobs that come with the word to stop go back, and do not run', async () => {
  let ran = 0;
  const run = working([], () => void (ran += 1), {
    leases: [ok({ jobs: [leased('a'), leased('b')], worker: { state: 'stop' } })],
  });
  let isDone = false;
  void run.worker.done.then(() => (isDone = true));
  await until(() => isDone, 30_000);
  expect(run.reports().map(([verb]) => verb)).toEqual(['a/release', 'b/release']);
  expect(ran).toBe(0);
});

test('a worker that an operator stops gives back what it has at once, and ends', async () => {
  const run = working([leased('j1')], () => new Promise(() => {}), {
    renewal: () => ok({ leases: [{ id: 'j1', status: 'ok' }], worker: { state: 'stop' } }),
  });
  let isDone = false;
  void run.worker.done.then(() => (isDone = true));
  await until(() => isDone, 30_000);
  expect(run.reports().map(([verb]) => verb)).toEqual(['j1/release']);
});

test('a failed request for jobs is made again, an early empty one later, and a refused one ends the worker', async () => {
  const run = working([], () => {}, {
    leases: [
      'drop',
      problem(503, 'overloaded', {}, { 'retry-after': '2' }),
      new Response(null, { status: 204 }),
      ok({ jobs: [], worker: { state: 'quiet' } }),
      problem(400, 'queue_invalid'),
    ],
  });
  let ended: unknown;
  run.worker.done.catch((error: unknown) => (ended = error));
  await until(() => ended !== undefined);
  expect(ended).toMatchObject({ code: 'queue_invalid' });
  expect(run.leasesAsked()).toHaveLength(6);
  expect(run.errors.map(({ code }) => code)).toEqual(['no_answer', 'overloaded']);
  await run.worker.stop();
});

test('a server that answers at once that there is nothing is not asked without end', async () => {
  const run = working([], () => {}, { leases: Array.from({ length: 1_000 }, () => new Response(null, { status: 204 })) });
  await vi.advanceTimersByTimeAsync(60_000);
  expect(run.leasesAsked().length).toBeLessThan(60);
  expect(run.leasesAsked().length).toBeGreaterThan(10);
  await stopped(run.worker);
});

test('never more than the concurrency runs, and each request asks for what is free', async () => {
  let running = 0;
  let most = 0;
  const jobs = ['a', 'b', 'c'].map((id) => leased(id));
  const run = working(jobs, async () => {
    most = Math.max(most, (running += 1));
    await new Promise((resolve) => setTimeout(resolve, 100));
    running -= 1;
  }, { leases: [ok({ jobs: [leased('d')], worker: { state: 'run' } })] }, { concurrency: 3 });
  await until(() => run.reports().length === 4);
  await stopped(run.worker);
  expect(most).toBe(3);
  expect(run.leasesAsked().map(({ json }) => json.max)[0]).toBe(3);
  expect(run.leasesAsked().every(({ json }) => json.max >= 1 && json.max <= 3)).toBe(true);
});

test('a handler that does not mind its lost lease loses its slot', async () => {
  const run = working([leased('a')], () => new Promise(() => {}), {
    renewal: () => ok({ leases: [{ id: 'a', status: 'lost' }], worker: { state: 'run' } }),
  });
  await until(() => run.worker.running === 1);
  await until(() => run.leasesAsked().length === 2, 20_000);
  expect(run.reports()).toEqual([]);
  await stopped(run.worker);
});

test('an onError that throws ends no run', async () => {
  const loud = vi.spyOn(console, 'error').mockReturnValue();
  const run = working([leased('j1')], async (job) => {
    await job.log('x').catch(() => {});
    return 'done';
  }, { reports: [problem(400, 'field_invalid')] }, {
    onError: () => {
      throw new Error('mine');
    },
  });
  await until(() => run.reports().some(([verb]) => verb === 'j1/complete'));
  await stopped(run.worker);
  expect(loud).toHaveBeenCalledWith('tidings: onError threw', expect.objectContaining({ message: 'mine' }));
  loud.mockRestore();
});

test('settings that cannot be are refused', () => {
  const tidings = createTidings({ url: 'http://t', fetch: scripted(() => 'hold').fetch });
  expect(() => tidings.worker({})).toThrow('1 to 100 job types');
  expect(() => tidings.worker('t', () => {}, { concurrency: 0 })).toThrow('concurrency is 0');
  expect(() => tidings.worker('t', () => {}, { queue: '..' })).toThrow('path');
});

test('a release that was answered the second time only is no error', async () => {
  const run = await reported(() => {
    throw release();
  }, { reports: ['drop', problem(409, 'lease_lost')] });
  expect(run.errors).toEqual([]);
});
