// @vitest-environment happy-dom

import { TidingsError } from '@tidings/client';
import { describe, expect, test, vi } from 'vitest';

import { useJob, useJobProgress, useStartJob, type JobProgress, type UseJob, type UseStartJob } from '../src/index.js';
import { LINGER_MS } from '../src/limits.js';
import { documentOf, fakeClient } from './support/fake-client.js';
import { frame, openPage, pass, stopTime, UNUSED_MS } from './support/page.js';

stopTime();

describe('useJobProgress', () => {
  test('has exactly the shape that the article shows, from idle to complete', async () => {
    const client = fakeClient();
    const seen: JobProgress[] = [];
    function Component({ id }: { id: string | null }) {
      seen.push(useJobProgress(id, { path: '/api/exports' }));
      return null;
    }
    const page = await openPage(client, <Component id={null} />);
    expect(client.jobs).toEqual([]);
    await page.show(<Component id="7" />);
    expect(seen.at(-1)).toStrictEqual({ status: 'idle', progress: 0 });
    expect(client.jobs.map(({ id, options }) => [id, options.path])).toEqual([['7', '/api/exports']]);
    const [job] = client.jobs;
    await frame(() => job!.say({ state: 'queued' }));
    expect(seen.at(-1)).toStrictEqual({ status: 'running', progress: 0 });
    await frame(() => job!.say({ state: 'running', progress: 40 }));
    expect(seen.at(-1)).toStrictEqual({ status: 'running', progress: 40 });
    await frame(() => job!.end({ state: 'completed', downloadUrl: '/api/exports/7/download' }));
    expect(seen.at(-1)).toStrictEqual({ status: 'complete', progress: 100, downloadUrl: '/api/exports/7/download' });
  });

  test('says why it failed, or that there is no such job', async () => {
    const client = fakeClient();
    const seen: JobProgress[] = [];
    function Component({ id }: { id: string }) {
      seen.push(useJobProgress(id));
      return null;
    }
    const page = await openPage(client, <Component id="7" />);
    await frame(() => client.jobs[0]!.say({ progress: 40 }));
    await frame(() => client.jobs[0]!.end({ state: 'failed', error: { message: 'disk full', code: 'disk' } }));
    expect(seen.at(-1)).toStrictEqual({ status: 'error', progress: 40, error: 'disk full' });
    await page.show(<Component id="8" />);
    expect(seen.at(-1)).toStrictEqual({ status: 'idle', progress: 0 });
    await frame(() => client.jobs.at(-1)!.lose(new TidingsError('job_not_found', 'there is no such job')));
    expect(seen.at(-1)).toStrictEqual({ status: 'error', progress: 0, error: 'there is no such job' });
  });

  test('/v1/jobs is the client’s own stream', async () => {
    const client = fakeClient();
    function Component() {
      useJobProgress('7', { path: '/v1/jobs' });
      return null;
    }
    await openPage(client, <Component />);
    expect(client.jobs[0]!.options.path).toBeUndefined();
  });
});

describe('useJob', () => {
  test('is watched once under StrictMode, by several components and over a change of route', async () => {
    const client = fakeClient();
    function Bar() {
      return <b>{useJobProgress('7', { path: '/api/exports' }).progress} </b>;
    }
    function Details() {
      return <i>{useJob('7', { path: '/api/exports' }).state} </i>;
    }
    const page = await openPage(client, <><Bar /><Details /></>);
    await frame(() => client.jobs[0]!.say({ progress: 10 }));
    expect(page.text).toBe('10 running ');
    await page.show(<Details key="elsewhere" />);
    await pass(LINGER_MS);
    expect(client.jobs).toHaveLength(1);
    expect(client.jobs[0]!.closed).toBe(false);
    await page.show(null);
    await pass(UNUSED_MS);
    expect(client.jobs[0]!.closed).toBe(true);
    // Afterwards, it is watched anew.
    await page.show(<Bar />);
    expect(client.jobs).toHaveLength(2);
  });

  test('calls back once, with what is newest, also if the end comes before the mount', async () => {
    const client = fakeClient();
    const calls: string[] = [];
    let ended = false;
    function Component() {
      useJob('7', {
        onComplete: ({ result }) => calls.push(`complete ${result}`),
        onError: ({ code }) => calls.push(code),
        onLog: ({ message }) => calls.push(`log ${message}`),
        onOutput: (chunk) => calls.push(`output ${chunk}`),
      });
      return <Ends />;
    }
    function Ends() {
      if (!ended) {
        client.jobs[0]!.log('one');
        client.jobs[0]!.output('two');
        client.jobs[0]!.end({ state: 'completed', result: 3 });
      }
      ended = true;
      return null;
    }
    const page = await openPage(client, <Component />);
    await page.show(<Component />);
    await pass(1_000);
    expect(calls).toEqual(['log one', 'output two', 'complete 3']);
  });

  test('shows the end at once, whatever its throttle', async () => {
    const client = fakeClient();
    function Component() {
      const { state, progress } = useJob('7', { throttleMs: 60_000 });
      return `${state} ${progress}`;
    }
    const page = await openPage(client, <Component />);
    expect(page.text).toBe('loading 0');
    await frame(() => client.jobs[0]!.say({ progress: 1 }));
    await frame(() => client.jobs[0]!.say({ progress: 2 }));
    expect(page.text).toBe('running 1');
    await frame(() => client.jobs[0]!.end({ state: 'completed', progress: 100 }));
    expect(page.text).toBe('completed 100');
  });

  test('opens nothing for a job that has ended already', async () => {
    const client = fakeClient();
    const onComplete = vi.fn();
    const done = { ...documentOf('7'), state: 'completed' as const, result: 'all of it', progress: 100 };
    function Component() {
      const { state, result } = useJob<string>('7', { initialJob: done as never, onComplete });
      return `${state} ${result}`;
    }
    const page = await openPage(client, <Component />);
    await frame();
    expect(page.text).toBe('completed all of it');
    expect(client.jobs).toEqual([]);
    expect(onComplete).not.toHaveBeenCalled();
  });

  test('goes on from the document that a server rendered', async () => {
    const client = fakeClient();
    const half = { ...documentOf('7'), progress: 50 };
    function Component() {
      return String(useJob('7', { initialJob: half }).progress);
    }
    const page = await openPage(client, <Component />);
    expect(page.text).toBe('50');
    expect(client.jobs[0]!.options.initial).toBe(half);
    await frame(() => client.jobs[0]!.say({ progress: 60 }));
    expect(page.text).toBe('60');
  });

  test('is cancelled, and made again as a job that is then shown', async () => {
    const client = fakeClient();
    const onError = vi.fn();
    let job: UseJob | null = null;
    function Component() {
      job = useJob('7', { onError });
      return `${job.id} ${job.state}`;
    }
    const page = await openPage(client, <Component />);
    await frame(() => client.jobs[0]!.say({}));
    await frame(() => void job!.cancel('enough'));
    await frame();
    expect(page.text).toBe('7 cancelled');
    expect(onError.mock.calls.map(([error]) => [error.code, error.message])).toEqual([['job_cancelled', 'enough']]);
    await frame(() => void job!.retry());
    await frame();
    expect(page.text).toBe('7-again loading');
    // It is the handle that the retry gave, and no second one.
    expect(client.jobs).toHaveLength(1);
  });

  test('says that it cannot be watched', async () => {
    const client = fakeClient();
    function Component() {
      const { state, error } = useJob('7');
      return `${state} ${error?.code}`;
    }
    const page = await openPage(client, <Component />);
    await frame(() => client.jobs[0]!.lose(new TidingsError('forbidden', 'the grant does not cover this')));
    expect(page.text).toBe('unavailable forbidden');
  });
});

describe('useStartJob', () => {
  test('makes a job and shows it, watched once', async () => {
    const client = fakeClient();
    let exports: UseStartJob<{ rows: number }, number> | null = null;
    function Component() {
      exports = useStartJob<{ rows: number }, number>('/api/exports');
      return `${exports.starting} ${exports.job.id} ${exports.job.state}`;
    }
    const page = await openPage(client, <Component />);
    expect(page.text).toBe('false null idle');
    let id: string | null = null;
    await frame(() => void exports!.start({ rows: 3 }).then((made) => { id = made; }));
    expect(client.started).toEqual([{ path: '/api/exports', input: { rows: 3 } }]);
    await frame(() => client.jobs[0]!.say({ state: 'queued' }));
    expect(page.text).toBe('false job-1 queued');
    expect(id).toBe('job-1');
    expect(client.jobs).toHaveLength(1);
  });

  test('shows a job that is known already until it makes one', async () => {
    const client = fakeClient();
    let exports: UseStartJob | null = null;
    function Component() {
      exports = useStartJob('/api/exports', { initialId: '7' });
      return String(exports.job.id);
    }
    const page = await openPage(client, <Component />);
    expect([page.text, client.jobs[0]!.options.path]).toEqual(['7', '/api/exports']);
    client.refuseStart = new TidingsError('network', 'no answer');
    await frame(() => void exports!.start());
    expect(page.text).toBe('7');
    client.refuseStart = null;
    await frame(() => void exports!.start());
    await frame();
    expect(page.text).toBe('job-2');
  });

  test('says why there is none', async () => {
    const client = fakeClient();
    client.refuseStart = new TidingsError('jobs_too_many', 'too many jobs have not ended', { status: 503 });
    let exports: UseStartJob | null = null;
    function Component() {
      exports = useStartJob('/api/exports');
      return `${exports.error?.code} ${exports.job.state}`;
    }
    const page = await openPage(client, <Component />);
    let id: string | null = 'none yet';
    await frame(() => void exports!.start().then((made) => { id = made; }));
    expect(page.text).toBe('jobs_too_many idle');
    expect(id).toBeNull();
  });

  test('shows the one that was started last', async () => {
    const client = fakeClient();
    let exports: UseStartJob | null = null;
    function Component() {
      exports = useStartJob('/api/exports');
      return String(exports.job.id);
    }
    const page = await openPage(client, <Component />);
    await frame(() => {
      void exports!.start(1);
      void exports!.start(2);
    });
    await frame();
    expect(page.text).toBe('job-2');
    // Nobody looks at the other one, so it is not watched for long.
    await pass(10_000);
    expect(client.jobs.map(({ closed }) => closed)).toEqual([true, false]);
  });
});
