// What components see of a job.
//
// Owns: the two shapes, and how they come from what is known. Does not know: React, or how it is known.

import type { Job, JobState, TidingsError } from '@tidings/client';

import type { JobView } from './job-source.js';

export interface JobProgress {
  status: 'idle' | 'running' | 'complete' | 'error';
  /** 0–100. */
  progress: number;
  downloadUrl?: string;
  error?: string;
}

/** `idle` until something is known of the job, then `running` until it ends. */
export function progressOf({ job, error, ended }: JobView): JobProgress {
  const progress = job?.progress ?? 0;
  if (error !== null) return { status: 'error', progress, error: error.message };
  if (job === null) return { status: 'idle', progress };
  if (!ended) return { status: 'running', progress };
  return { status: 'complete', progress: 100, ...(job.downloadUrl === null ? {} : { downloadUrl: job.downloadUrl }) };
}

export interface JobFields<R = unknown> {
  /** `idle` without an id, `loading` until the first document, `unavailable` if it cannot be watched: `error` says why. */
  readonly state: 'idle' | 'loading' | 'unavailable' | JobState;
  readonly id: string | null;
  /** 0–100. */
  readonly progress: number;
  readonly message: string | null;
  readonly result: R | null;
  readonly downloadUrl: string | null;
  /** Why it did not complete, or cannot be watched. */
  readonly error: TidingsError | null;
  /** The whole document. */
  readonly job: Job<R> | null;
}

export function fieldsOf<R>(id: string | null, { job, error }: JobView): JobFields<R> {
  const lost = error !== null && error.job === undefined;
  return {
    state: id === null ? 'idle' : lost ? 'unavailable' : (job?.state ?? 'loading'),
    id,
    progress: job?.progress ?? 0,
    message: job?.message ?? null,
    result: (job?.result ?? null) as R | null,
    downloadUrl: job?.downloadUrl ?? null,
    error,
    job: job as Job<R> | null,
  };
}
