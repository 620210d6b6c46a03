// useJob and useJobProgress: a job as a component shows it.
//
// Owns: the hooks. Does not know: how a job is watched.

import { useCallback, useMemo, useState, useSyncExternalStore } from 'react';
import type { Client, Job } from '@tidings/client';

import { useClient } from './client-context.js';
import { aliasOf, type JobKey, type JobView } from './job-source.js';
import { fieldsOf, progressOf, type JobFields, type JobProgress } from './job-state.js';
import { createJobStore, type JobCallbacks, type JobStore } from './job-store.js';
import { useNewest, useStored } from './use-stored.js';

export interface UseJobProgressOptions {
  /** Where jobs are: an alias such as `/api/exports`; default `/v1/jobs`, on the client's one stream. */
  path?: string | undefined;
  /** At most one render in this time; default: one per frame. The end is shown at once. */
  throttleMs?: number | undefined;
}

export interface UseJobOptions<R = unknown> extends UseJobProgressOptions, JobCallbacks<R> {
  /** A document that is at hand, such as one from a server component; read once. If it has ended, nothing is opened. */
  initialJob?: Job<R> | null | undefined;
}

export interface UseJob<R = unknown> extends JobFields<R> {
  /** Asks the job to stop. */
  cancel(reason?: string): Promise<void>;
  /** Makes a new job like this one, which has ended, shows that one from now on, and gives its id. */
  retry(): Promise<string>;
}

/** What there is to show of a job: its state, progress, result. Without an id nothing is watched. */
export function useJob<R = unknown>(id: string | null | undefined, options: UseJobOptions<R> = {}): UseJob<R> {
  const [retried, follow] = useState<{ readonly of: string; readonly id: string } | null>(null);
  const shown = retried !== null && retried.of === id ? retried.id : (id ?? null);
  const initialJob = shown === id ? options.initialJob : null;
  const [state, store] = useWatched<JobFields<R>>(shown, { ...options, initialJob }, (view) => fieldsOf<R>(shown, view));
  const retry = useCallback(async () => {
    const again = await store.retry();
    if (id !== null && id !== undefined) follow({ of: id, id: again });
    return again;
  }, [store, id]);
  return useMemo(() => ({ ...state, cancel: store.cancel, retry }), [state, store, retry]);
}

/** A job as `{status, progress, downloadUrl?, error?}`. Without an id it is `idle`. */
export function useJobProgress(id: string | null | undefined, options: UseJobProgressOptions = {}): JobProgress {
  return useWatched(id ?? null, options, progressOf)[0];
}

interface WatchOptions extends UseJobProgressOptions, JobCallbacks<never> {
  initialJob?: Job | null | undefined;
}

function useWatched<S>(id: string | null, options: WatchOptions, select: (view: JobView) => S): [S, JobStore<S>] {
  const client: () => Client = useClient();
  const path = aliasOf(options.path);
  const key: JobKey | null = id === null ? null : { id, path };
  const newest = useNewest<JobCallbacks<never>>(options);
  const store = useStored(`${path ?? ''} ${id ?? ''}`, client, () => createJobStore({
    client, key, select,
    initialJob: options.initialJob ?? null,
    throttleMs: options.throttleMs,
    callbacks: () => newest.current as JobCallbacks,
  }));
  return [useSyncExternalStore(store.subscribe, store.snapshot, store.initial), store];
}
