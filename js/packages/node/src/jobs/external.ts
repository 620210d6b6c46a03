// Owns: what may be reported of a job that another queue runs. Does not know: leases.
// Flow: in ← the job as its queue knows it, then reports · out → requests that may be repeated.

import { encode, json, segment, send, type Transport } from '../call.js';
import type { TidingsError } from '../error.js';
import type { JobFile, JobState, LogLevel, Progress, Reported } from './document.js';
import { createReports } from './reports.js';
import { upload, type UploadSource } from './upload.js';

/** The job of another queue. */
export interface ExternalJob {
  type: string;
  queue?: string | undefined;
  tags?: readonly string[] | undefined;
  /** Where it stands. One that has ended is reported by `complete` or `fail`. */
  state?: Extract<JobState, 'scheduled' | 'queued' | 'running' | 'retrying'> | undefined;
  /** It has failed with the code `lost` when nothing was reported for this long. */
  staleAfterMs?: number | undefined;
  /** The job that it belongs to. */
  parent?: string | undefined;
  /** Whose job it is: this subject may watch it. */
  subject?: string | undefined;
  /** Up to 8 channels that get its events. */
  publishTo?: readonly string[] | undefined;
}

export interface Failed {
  message: string;
  code?: string | undefined;
}

/** Reports on a job that another queue runs. They take effect in order, and each once, however often it had to be sent.
 * Progress that comes faster than it can be sent is put together, and so are log lines and output.
 *
 * Every answer says whether somebody asked to call the job off: that is how a cancellation reaches its queue. */
export interface Report {
  readonly id: string;
  /** The reports from here on are of this attempt; the first is 1. A newer one starts at 0 %. */
  attempt(attempt: number): this;
  /** How far the job is: a percentage or a {@link Progress}. */
  progress(progress: number | Progress): Promise<Reported>;
  log(message: string, level?: LogLevel): Promise<Reported>;
  /** A piece of what it produces, for whoever watches. */
  output(chunk: unknown): Promise<Reported>;
  /** Stores a file with the job, to be downloaded when it is complete. */
  artifact(name: string, source: UploadSource, options?: { contentType?: string; signal?: AbortSignal }): Promise<Reported>;
  /** It has ended with a result; `artifacts` names files that are elsewhere. */
  complete(result?: unknown, artifacts?: readonly JobFile[]): Promise<Reported>;
  /** It has ended without a result. */
  fail(failed: Failed & { state?: 'failed' | 'cancelled' | 'expired' | undefined }): Promise<Reported>;
  /** An attempt has failed, and its queue tries again, at `nextAttemptAt` (Unix milliseconds) if that is known. */
  retrying(failed: Failed & { nextAttemptAt?: number | undefined }): Promise<Reported>;
}

/** Makes the job of another queue known, or changes what is known of it. */
export async function putExternal(transport: Transport, id: string, job: ExternalJob): Promise<void> {
  const { type, queue, tags, state, staleAfterMs, parent, subject, publishTo } = job;
  const fields = { type, queue, tags, state, stale_after_ms: staleAfterMs, parent, subject, publish_to: publishTo };
  await send(transport, {
    method: 'PUT',
    path: `/v1/jobs/${segment(id)}`,
    body: encode(fields, 'the job'),
    repeats: 'few',
  });
}

export function createReport(transport: Transport, id: string, onError?: (error: TidingsError) => void): Report {
  const reports = createReports({ transport, id, repeats: 'few', onError });
  const report: Report = {
    id,
    attempt(attempt) {
      reports.attempt = attempt;
      return report;
    },
    progress: reports.progress,
    log: (message, level = 'info') => reports.log(message, level),
    output: reports.output,
    artifact: async (name, source, options = {}) =>
      json<Reported>(
        await upload(transport, { path: `/v1/jobs/${segment(id)}/artifacts/${segment(name)}`, source, ...options }),
      ),
    complete: (result, artifacts) => reports.end('complete', { result: result ?? null, artifacts }),
    fail: ({ message, code, state }) => reports.end('fail', { message, code, state }),
    retrying: ({ message, code, nextAttemptAt }) =>
      reports.end('fail', { message, code, retrying: true, next_attempt_at: nextAttemptAt }),
  };
  return report;
}
