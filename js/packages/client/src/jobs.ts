// A job that is watched.
//
// Owns: its document, and that it ends exactly once. Does not know: how its events travel.
// Flow: a subscription, then the document as it is now, merged by `v`; or the job's own stream, which begins with it.

import { pause } from './backoff.js';
import { callEach, listen } from './callbacks.js';
import type { Subscription } from './client.js';
import { TidingsError } from './error.js';
import type { CompletedJob, Job, JobHandle, JobLog, JobOptions, StartedJob, TerminalState } from './job.js';
import { JOB_GRACE_MS } from './limits.js';
import type { Context } from './link.js';

type JobEvents = { progress: Job; complete: Job; log: JobLog; output: { chunk: unknown }; error: JobError };
interface JobError {
  state: Exclude<TerminalState, 'completed'>;
  message: string;
  code: string;
  attempt: number;
}

type End<R> = { readonly job: CompletedJob<R> } | { readonly error: TidingsError };

export interface Jobs {
  /** A subscription to a channel of the shared stream; `live` is called when nothing that comes can be missed. */
  channel(name: string, live: () => void): Subscription;
  /** The only channel of a stream of its own, at `path`. */
  stream(path: string, channel: string): Subscription;
  /** The client was closed. */
  closed(): boolean;
}

export function watchJob<R>(context: Context, jobs: Jobs, id: string, options: JobOptions = {}): JobHandle<R> {
  const { api, env, report } = context;
  const { path, signal } = options;
  const changes = new Set<(job: Job<R>) => void>();
  const logs = new Set<(log: JobLog) => void>();
  const outputs = new Set<(chunk: unknown) => void>();
  const ends = new Set<(end: End<R>) => void>();
  let current = (options.initial ?? null) as Job<R> | null;
  let end: End<R> | null = null;
  let grace: unknown;
  /** The next document counts whatever its `v` is: what is here may be of another server, or of another run of this one. */
  let anew = true;
  const abort = new AbortController();

  const channel = `job:${id}`;
  const subscription = (
    path === undefined ? jobs.channel(channel, () => void ask(true)) : jobs.stream(`${path.replace(/\/$/, '')}/${encodeURIComponent(id)}/events`, channel)
  ) as unknown as Subscription<JobEvents>;

  const tell = <T>(callbacks: Iterable<(value: T) => void>, value: T): void => callEach(report, callbacks, value);

  function merge(job: Job): void {
    env.clearTimeout(grace);
    if (end !== null || (current !== null && job.v <= current.v && !anew)) return;
    anew = false;
    current = job as Job<R>;
    tell(changes, current);
    const { state, error } = job;
    if (state === 'completed') finish({ job: current as CompletedJob<R> });
    else if (state === 'failed' || state === 'cancelled' || state === 'expired') {
      finish({ error: new TidingsError(`job_${state}`, error?.message ?? `the job has ${state}`, { job }) });
    }
  }

  function finish(how: End<R>): void {
    if (end !== null) return;
    end = how;
    release();
    tell(ends, how);
    ends.clear();
  }

  function release(): void {
    env.clearTimeout(grace);
    abort.abort();
    signal?.removeEventListener('abort', closed);
    subscription.close();
  }

  function closed(): void {
    finish({ error: new TidingsError('closed', 'the job is watched no more') });
  }

  /** The document as it is now; for a job that is not there, once more when it had time to appear. */
  async function ask(again: boolean): Promise<void> {
    for (let attempt = 0; end === null; attempt += 1) {
      try {
        return merge((await api.call('GET', `jobs/${encodeURIComponent(id)}`, { signal: abort.signal })) as Job);
      } catch (cause) {
        const error = cause as TidingsError;
        if (error.code === 'job_not_found' && again) {
          grace = env.setTimeout(() => void ask(false), JOB_GRACE_MS);
          return;
        }
        if (error.status !== undefined && error.status < 500 && error.status !== 429) return finish({ error });
      }
      await pause(env, attempt, abort.signal);
    }
  }

  subscription
    .on('progress', merge)
    .on('complete', merge)
    .on('log', (log) => tell(logs, log))
    .on('output', ({ chunk }) => tell(outputs, chunk))
    .on('error', ({ state, message, code, attempt }) => {
      if ((code as string) === 'job_not_found') return finish({ error: new TidingsError(code, message) });
      if (current !== null) merge({ ...current, state, attempt, error: { message, code }, v: current.v + 1 });
      else if (path === undefined) void ask(false);
      else finish({ error: new TidingsError(`job_${state}`, message) });
    })
    .onReset(() => {
      anew = true;
      if (path === undefined) void ask(false);
    })
    .onEnd(() => {
      if (end !== null) return;
      if (jobs.closed()) closed();
      else if (path === undefined) void ask(false);
      else finish({ error: new TidingsError('job_not_found', 'the job is no longer known') });
    });
  subscription.onRefused((error) => finish({ error }));
  signal?.addEventListener('abort', closed);
  if (signal?.aborted === true) queueMicrotask(closed);

  const handle: JobHandle<R> = {
    id,
    get current() {
      return current;
    },
    get error() {
      return end !== null && 'error' in end ? end.error : null;
    },
    onChange: (callback) => listen(changes, callback),
    onEnd(callback) {
      if (end === null) return listen(ends, callback);
      const over = end;
      queueMicrotask(() => tell([callback], over));
      return () => {};
    },
    onLog: (callback) => listen(logs, callback),
    onOutput: (callback) => listen(outputs, callback),
    async cancel(reason) {
      await api.call('POST', `jobs/${encodeURIComponent(id)}/cancel`, { body: reason === undefined ? {} : { reason } });
    },
    async retry() {
      const made = (await api.call('POST', `jobs/${encodeURIComponent(id)}/retry`, { body: {} })) as { jobId: string };
      return startedJob(context, jobs, made.jobId, { path });
    },
    close: closed,
    then(fulfilled, rejected) {
      const done = new Promise<CompletedJob<R>>((resolve, reject) => {
        handle.onEnd((how) => ('error' in how ? reject(how.error) : resolve(how.job)));
      });
      return done.then(fulfilled, rejected);
    },
  };
  return handle;
}

export function startedJob<R>(context: Context, jobs: Jobs, id: string, options: JobOptions): StartedJob<R> {
  return { id, job: watchJob<R>(context, jobs, id, options) };
}
