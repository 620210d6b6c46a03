// A job as one component looks at it.
//
// Owns: its pace, and callbacks that come once. Does not know: React, or who else looks at the job.
// Flow: source → `select` → a snapshot per frame; the end, logs and output → inbox → callbacks.

import type { Client, CompletedJob, Job, JobLog } from '@tidings/client';
import { TidingsError } from '@tidings/client';

import { createInbox } from './inbox.js';
import { jobSource, type JobKey, type JobSource, type JobView } from './job-source.js';
import { createStore, type Store } from './store.js';

export interface JobCallbacks<R = unknown> {
  /** Once, when it has completed; not for a job that `initialJob` says has. */
  onComplete?: ((job: CompletedJob<R>) => void) | undefined;
  /** Once, when it will not complete, or cannot be watched. */
  onError?: ((error: TidingsError) => void) | undefined;
  onLog?: ((log: JobLog) => void) | undefined;
  onOutput?: ((chunk: unknown) => void) | undefined;
}

export interface JobParts<S> {
  readonly client: () => Client;
  /** None: nothing is watched. */
  readonly key: JobKey | null;
  readonly initialJob: Job | null;
  readonly throttleMs?: number | undefined;
  callbacks(): JobCallbacks;
  select(view: JobView): S;
}

export interface JobStore<S> extends Store<S> {
  cancel(reason?: string): Promise<void>;
  /** The id of the new job. */
  retry(): Promise<string>;
}

const FINAL: readonly string[] = ['completed', 'failed', 'cancelled', 'expired'];

export function createJobStore<S>({ client, key, initialJob, throttleMs, callbacks, select }: JobParts<S>): JobStore<S> {
  const known = finished(initialJob);
  let view: JobView = known ?? { job: initialJob, error: null, ended: false };
  const inbox = createInbox<(to: JobCallbacks) => void>((call) => call(callbacks()));
  const source = (): JobSource => {
    if (key === null) throw new TidingsError('closed', 'there is no job');
    return jobSource(client(), key, initialJob);
  };
  let selected: { readonly view: JobView; readonly snapshot: S } | null = null;

  const store = createStore<S>({
    throttleMs,
    watched: inbox.open,
    read() {
      if (selected?.view !== view) selected = { view, snapshot: select(view) };
      return selected.snapshot;
    },
    open(changed) {
      if (key === null || view.ended) return () => {};
      const watched = source();
      const look = () => {
        const { ended } = view;
        view = watched.view();
        changed(view.ended);
        if (view.ended && !ended) inbox.put(endOf(view));
      };
      const close = watched.listen({
        changed: look,
        log: (log) => void inbox.put((to) => to.onLog?.(log)),
        output: (chunk) => void inbox.put((to) => to.onOutput?.(chunk)),
      });
      if (watched.view().job !== null || watched.view().ended) look();
      return close;
    },
  });
  return { ...store, cancel: async (reason) => source().cancel(reason), retry: async () => source().retry() };
}

/** What is known of a job that has ended before it was looked at. */
function finished(job: Job | null): JobView | null {
  if (job === null || !FINAL.includes(job.state)) return null;
  if (job.state === 'completed') return { job, error: null, ended: true };
  return { job, error: new TidingsError(`job_${job.state}`, job.error?.message ?? `the job is ${job.state}`, { job }), ended: true };
}

function endOf({ job, error }: JobView): (to: JobCallbacks) => void {
  return error === null ? (to) => to.onComplete?.(job as CompletedJob) : (to) => to.onError?.(error);
}
