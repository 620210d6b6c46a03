// Jobs as a page sees them.
//
// Owns: the document of a job and the handle on it. Does not know: how its events arrive.

import type { TidingsError } from './error.js';

export type JobState = 'scheduled' | 'queued' | 'running' | 'retrying' | TerminalState;
export type TerminalState = 'completed' | 'failed' | 'cancelled' | 'expired';

export interface Artifact {
  readonly name: string;
  readonly content_type: string;
  readonly size: number;
  /** Where it is, if elsewhere. */
  readonly url?: string | undefined;
}

/** The document of a job, as the server sends it. */
export interface Job<R = unknown> {
  readonly id: string;
  readonly jobId: string;
  readonly type: string;
  readonly queue: string;
  readonly mode: 'managed' | 'external';
  readonly state: JobState;
  readonly reason: string | null;
  readonly priority: number;
  /** 0–100. */
  readonly progress: number;
  readonly current: number | null;
  readonly total: number | null;
  readonly unit: string | null;
  readonly step: string | null;
  readonly message: string | null;
  readonly eta_ms: number | null;
  readonly data: unknown;
  readonly attempt: number;
  readonly max_attempts: number;
  readonly cancel_requested: boolean;
  readonly created_at: number;
  readonly updated_at: number;
  readonly run_at: number | null;
  readonly started_at: number | null;
  readonly finished_at: number | null;
  readonly result: R | null;
  readonly error: { readonly message: string; readonly code: string } | null;
  readonly artifacts: readonly Artifact[];
  readonly downloadUrl: string | null;
  readonly tags: readonly string[];
  /** Whose it is. */
  readonly subject: string | null;
  readonly parent: string | null;
  readonly retry_of: string | null;
  readonly schedule: string | null;
  /** Grows with every change. */
  readonly v: number;
}

/** A job that has completed. */
export type CompletedJob<R = unknown> = Job<R> & { readonly state: 'completed'; readonly result: R };

export interface JobLog {
  readonly jobId: string;
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly message: string;
  readonly ts: number;
}

export interface JobOptions {
  /**
   * An alias of the jobs, such as `/api/exports`: the job's own stream is then `{path}/{id}/events`.
   * Without it, the job shares the client's one stream.
   */
  path?: string | undefined;
  /** Stops watching; the job itself goes on. */
  signal?: AbortSignal | undefined;
  /** A document that is at hand, such as one rendered by the server. */
  initial?: Job | undefined;
}

/**
 * A job that is watched. `await` gives its document once it has completed, and throws a `TidingsError` with the code
 * `job_failed`, `job_cancelled`, `job_expired` or `job_not_found`, and with the document as `job`, if it does not; with `network`
 * where the code that watches jobs could not be fetched.
 * It is watched from when the handle is made until it ends or the handle is closed.
 */
export interface JobHandle<R = unknown> extends PromiseLike<CompletedJob<R>> {
  readonly id: string;
  /** The newest document; `null` until the first one is here. */
  readonly current: Job<R> | null;
  /** Why it cannot be watched any more, or did not complete. */
  readonly error: TidingsError | null;
  /** Called with every new document, the last one included; not for what is there already. */
  onChange(callback: (job: Job<R>) => void): () => void;
  /** Called exactly once, also if the end was before the call: with the document, or with why there is none. */
  onEnd(callback: (end: { readonly job: CompletedJob<R> } | { readonly error: TidingsError }) => void): () => void;
  onLog(callback: (log: JobLog) => void): () => void;
  onOutput(callback: (chunk: unknown) => void): () => void;
  /** Asks the job to stop. */
  cancel(reason?: string): Promise<void>;
  /** Makes a new job like this one, which has ended. */
  retry(): Promise<StartedJob<R>>;
  /** Stops watching; the job itself goes on. */
  close(): void;
}

/** A job that was made. The handle is a member, because a promise that gave a handle would wait for the job's end. */
export interface StartedJob<R = unknown> {
  readonly id: string;
  readonly job: JobHandle<R>;
}
