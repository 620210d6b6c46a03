// What a job's events and its document say.
//
// Owns: which of them is newer, when the document is asked for, and what the job is asked to do. Does not know: who waits for it.
// Flow: a subscription, then the document as it is now, merged by `v`; or the job's own stream, which begins with it.
// It is fetched with the first job; where that fails, each job ends with the code `network`.

import type { Subscription } from './client.js';
import type { TidingsError } from './error.js';
import type { Hub } from './hub.js';
import type { CompletedJob, Job, JobLog, JobOptions, StartedJob, TerminalState } from './job.js';
import type { End, JobWatch, Watched } from './jobs.js';
import { JOB_GRACE_MS } from './limits.js';
import type { Context } from './link.js';
import { pause } from './pause.js';
import { call, send } from './request.js';

type JobEvents = { progress: Job; complete: Job; log: JobLog; output: { chunk: unknown }; error: JobError };
interface JobError {
  state: Exclude<TerminalState, 'completed'>;
  message: string;
  code: string;
  attempt: number;
}

export interface Watcher<R> {
  cancel(reason: string | undefined): Promise<void>;
  retry(): Promise<StartedJob<R>>;
}

export function createWatcher<R>(context: Context, hub: Hub, watched: Watched<R>, watchJob: JobWatch): Watcher<R> {
  const { env, errors } = context;
  const { handle, options, tell, left } = watched;
  const { id } = handle;
  const { path, signal } = options;
  /** It shares the client's one stream; otherwise it has one of its own, which begins with its document. */
  const shared = path === undefined;
  const document = `jobs/${encodeURIComponent(id)}`;
  const over = new AbortController();
  /** The next document counts whatever its `v` is: what is here may be of another server, or of another run of this one. */
  let anew = true;
  let grace: unknown;

  function finish(how: End<R>): void {
    if (over.signal.aborted) return;
    env.clearTimeout(grace);
    over.abort();
    subscription.close();
    watched.finish(how);
  }

  const notFound = (message: string): void => finish({ error: new errors.TidingsError('job_not_found', message) });

  function merge(job: Job): void {
    env.clearTimeout(grace);
    const { current } = handle;
    if (over.signal.aborted || (current !== null && job.v <= current.v && !anew)) return;
    anew = false;
    handle.current = job as Job<R>;
    tell('change', job as Job<R>);
    const { state, error } = job;
    if (state === 'completed') finish({ job: job as CompletedJob<R> });
    else if (state === 'failed' || state === 'cancelled' || state === 'expired') {
      finish({ error: new errors.TidingsError(`job_${state}`, error?.message ?? `the job has ${state}`, { job }) });
    }
  }

  /** The document as it is now; for a job that is not there, once more when it had time to appear. */
  async function ask(again: boolean): Promise<void> {
    for (let attempt = 0; !over.signal.aborted; attempt += 1) {
      try {
        return merge((await call(context, 'GET', document, { signal: over.signal })) as Job);
      } catch (cause) {
        const error = cause as TidingsError;
        if (error.code === 'job_not_found' && again) {
          grace = env.setTimeout(() => void ask(false), JOB_GRACE_MS);
          return;
        }
        if (error.status !== undefined && error.status < 500 && error.status !== 429) return finish({ error });
      }
      await pause(env, attempt, over.signal);
    }
  }

  function failed({ state, message, code, attempt }: JobError): void {
    const { current } = handle;
    if (code === 'job_not_found') notFound(message);
    else if (current !== null) merge({ ...current, state, attempt, error: { message, code }, v: current.v + 1 });
    else if (shared) void ask(false);
    else finish({ error: new errors.TidingsError(`job_${state}`, message) });
  }

  const channel = `job:${id}`;
  const subscription = shared
    ? hub.subscribe(channel, { signal, live: () => void ask(true) })
    : hub.subscribe(channel, { signal }, { path: `${path.replace(/\/$/, '')}/${encodeURIComponent(id)}/events`, channel });
  (subscription as unknown as Subscription<JobEvents>)
    .on('progress', merge)
    .on('complete', merge)
    .on('log', (log) => tell('log', log))
    .on('output', ({ chunk }) => tell('output', chunk))
    .on('error', failed)
    .onReset(() => {
      anew = true;
      if (shared) void ask(false);
    })
    .onRefused((error) => finish({ error }))
    .onEnd(() => {
      if (over.signal.aborted) return;
      if (left.aborted || hub.closed || signal?.aborted) finish({ error: new errors.TidingsError('closed', 'the job is watched no more') });
      else if (shared) void ask(false);
      else notFound('the job is no longer known');
    });
  left.addEventListener('abort', subscription.close);
  // That was before this code was here.
  if (left.aborted) subscription.close();

  return {
    async cancel(reason) {
      await call(context, 'POST', `${document}/cancel`, { body: reason === undefined ? {} : { reason } });
    },
    async retry() {
      return started(context, hub, await call(context, 'POST', `${document}/retry`, { body: {} }), { path }, watchJob);
    },
  };
}

/** Makes a job at a path of the application's own. */
export async function startJob<R>(context: Context, hub: Hub, watchJob: JobWatch, path: string, body: unknown = {}, options: JobOptions = {}): Promise<StartedJob<R>> {
  const answer = await send(context, 'POST', context.api.resolve(path), { body, signal: options.signal });
  return started(context, hub, answer, { ...options, path }, watchJob);
}

function started<R>(context: Context, hub: Hub, answer: unknown, options: JobOptions, watchJob: JobWatch): StartedJob<R> {
  const { jobId } = answer as { jobId: string };
  return { id: jobId, job: watchJob<R>(context, hub, jobId, options) };
}
