// Owns: what can be asked for about jobs. Does not know: who runs them.
// Flow: in ← a type and its input, an id, filters · out → documents.

import { createBackoff } from '../backoff.js';
import { attempt, encode, json, query, retryAfterMs, readWhole, segment, send, sendOnce, type Transport } from '../call.js';
import { answerInvalid, invalid, problem, TidingsError } from '../error.js';
import { ANSWER_BYTES_MAX, ATTEMPT_MS, EARLY_MS, PAGE_BYTES_MAX, RETRY_FLOOR_MAX_MS, WAIT_MS } from '../limits.js';
import type { JobInput, JobResult, JobType, Schema } from '../schema.js';
import type { CallOptions } from '../publish.js';
import { sleep } from '../wait.js';
import { isEnded, type Job, type JobState, type LogLine } from './document.js';
import { createReport, putExternal, type ExternalJob, type Report } from './external.js';
import { watch, type JobItem, type WatchOptions } from './watch.js';

/** How a job is tried again after a failure. */
export interface RetryPolicy {
  /** 1–100 (3). */
  maxAttempts?: number | undefined;
  backoff?:
    | {
        kind?: 'exponential' | 'fixed' | undefined;
        baseMs?: number | undefined;
        maxMs?: number | undefined;
        /** The share of the wait that is random, 0–1 (0.5). */
        jitter?: number | undefined;
      }
    | undefined;
}

export interface CreateOptions extends CallOptions {
  /** An id of one's own; `job_exists` if it was used. */
  id?: string | undefined;
  queue?: string | undefined;
  /** −100 to 100; higher ones are leased first (0). */
  priority?: number | undefined;
  tags?: readonly string[] | undefined;
  /** Run it this much later … */
  delayMs?: number | undefined;
  /** … or then. */
  runAt?: number | Date | undefined;
  /** How long a run may take. */
  timeoutMs?: number | undefined;
  /** How long its worker may be silent (30 s). */
  leaseMs?: number | undefined;
  retry?: RetryPolicy | undefined;
  /** How many lost leases it survives (2). */
  maxStalls?: number | undefined;
  /** At most one job with this key that has not ended. */
  unique?: { key: string; ttlMs?: number | undefined; onConflict?: 'return' | 'reject' | 'replace' | undefined } | undefined;
  /** It has expired if it did not begin to run within `queuedMs`; once it has ended it is kept for `resultMs` (24 h). */
  ttl?: { queuedMs?: number | undefined; resultMs?: number | undefined } | undefined;
  /** The job that it belongs to. */
  parent?: string | undefined;
  /** Whose job it is: this subject may watch it. For keys and tokens that may `manage` its type. */
  subject?: string | undefined;
  /** Up to 8 channels that get its events. */
  publishTo?: readonly string[] | undefined;
  /** Makes every repeat of this request make one job, also one by another process (24 h). Without it, each call gets a key
   * of its own, for its own repeats. */
  idempotencyKey?: string | undefined;
}

export interface CreatedJob {
  id: string;
  jobId: string;
  state: JobState;
  /** It was made before. */
  duplicate: boolean;
  urls: { self: string; events: string; cancel: string; download: string };
}

export interface ListFilter extends CallOptions {
  queue?: string | undefined;
  state?: JobState | undefined;
  type?: string | undefined;
  tag?: string | undefined;
  parent?: string | undefined;
  /** Documents per request, 1–1,000 (100). */
  pageSize?: number | undefined;
}

export interface Jobs<S extends Schema> {
  /** Makes a job; when the promise resolves, it survives a crash. */
  create<T extends JobType<S>>(type: T, input?: JobInput<S, T>, options?: CreateOptions): Promise<CreatedJob>;
  get<R = unknown>(id: string, options?: CallOptions): Promise<Job<R>>;
  /** Waits until the job has ended, however long that takes. */
  wait<R = unknown>(id: string, options?: CallOptions): Promise<Job<R>>;
  /** All jobs that match: those that have not ended, then those that have, newest first. Pages are fetched as needed. */
  list(filter?: ListFilter): AsyncIterable<Job>;
  /** A job that waits is cancelled at once; one that runs is asked to stop, and cancelled after `graceMs` (30 s). */
  cancel(id: string, options?: CallOptions & { reason?: string; graceMs?: number }): Promise<{ state: JobState }>;
  /** Makes a new job like a finished one. It is not repeated by itself, since each one makes a job. */
  retry(id: string, options?: CallOptions): Promise<CreatedJob>;
  /** Deletes a finished job: its events and files are gone. */
  delete(id: string, options?: CallOptions): Promise<void>;
  /** The lines of its log, oldest first. */
  logs(id: string, options?: CallOptions): AsyncIterable<LogLine & { id: string }>;
  /** Follows a job to its end, over any number of connections. */
  watch<R = unknown>(id: string, options?: WatchOptions): AsyncIterable<JobItem<R>>;
  /** A file of it: the first one, or the one of that name. */
  download(id: string, name?: string, options?: CallOptions & { headers?: Record<string, string> }): Promise<Response>;
  /** Makes the job of another queue known, or changes what is known of it, and gives what reports on it. */
  external(id: string, job: ExternalJob): Promise<Report>;
  /** Reports on the job of another queue that is known already. */
  report(id: string): Report;
}

/** What a typed job's document holds when it is complete. */
export type Completed<S extends Schema, T extends JobType<S>> = Job<JobResult<S, T>>;

export function createJobs<S extends Schema>(transport: Transport, onError?: (error: TidingsError) => void): Jobs<S> {
  const get = async <R>(id: string, { signal }: CallOptions = {}): Promise<Job<R>> =>
    json(await send(transport, { method: 'GET', path: `/v1/jobs/${segment(id)}`, repeats: 'few', signal }));
  return {
    create: (type, input, options = {}) => create(transport, type, input, options),
    get,
    wait: (id, options) => wait(transport, id, options),
    list: (filter = {}) => list(transport, filter),
    cancel: (id, options) => cancel(transport, id, options),
    retry: async (id, { signal } = {}) =>
      created(
        await send(transport, {
          method: 'POST',
          path: `/v1/jobs/${segment(id)}/retry`,
          body: '{}',
          repeats: 'uncommitted',
          signal,
        }),
      ),
    delete: (id, options) => remove(transport, id, options),
    logs: (id, options = {}) => logs(transport, id, options),
    watch: (id, options) => watch(transport, id, options),
    download: (id, name, options) => download(transport, id, name, options),
    external: async (id, job) => {
      await putExternal(transport, id, job);
      return createReport(transport, id, onError);
    },
    report: (id) => createReport(transport, id, onError),
  };
}

async function create(transport: Transport, type: string, input: unknown, options: CreateOptions): Promise<CreatedJob> {
  const body = encode(jobFields(type, input, options), 'the job');
  const answer = await sendOnce(transport, options.idempotencyKey, (key) => ({
    method: 'POST',
    path: '/v1/jobs',
    body,
    headers: key === undefined ? {} : { 'idempotency-key': headerKey(key) },
    repeats: key === undefined ? 'uncommitted' : 'few',
    signal: options.signal,
  }));
  return created(answer);
}

function created(answer: { status: number; body: string }): CreatedJob {
  const job = json<CreatedJob>(answer);
  if (typeof job?.id !== 'string') throw answerInvalid(answer.status, answer.body);
  return { ...job, duplicate: (job.duplicate as boolean | undefined) ?? false };
}

/** In a header it would be refused by `fetch`, in words that say nothing of keys. */
function headerKey(key: string): string {
  if (!/^[\x20-\x7e]{1,255}$/.test(key)) throw invalid('an idempotency key is 1 to 255 characters of printable ASCII');
  return key;
}

function jobFields(type: string, input: unknown, options: CreateOptions): Record<string, unknown> {
  const { id, queue, priority, tags, delayMs, runAt, timeoutMs, leaseMs, retry, maxStalls, unique, ttl, parent, subject, publishTo } =
    options;
  const backoff = retry?.backoff;
  return {
    type,
    input,
    id,
    queue,
    priority,
    tags,
    delay_ms: delayMs,
    run_at: runAt instanceof Date ? runAt.getTime() : runAt,
    timeout_ms: timeoutMs,
    lease_ms: leaseMs,
    retry: retry && {
      max_attempts: retry.maxAttempts,
      backoff: backoff && { kind: backoff.kind, base_ms: backoff.baseMs, max_ms: backoff.maxMs, jitter: backoff.jitter },
    },
    max_stalls: maxStalls,
    unique: unique && { key: unique.key, ttl_ms: unique.ttlMs, on_conflict: unique.onConflict },
    ttl: ttl && { queued_ms: ttl.queuedMs, result_ms: ttl.resultMs },
    parent,
    subject,
    publish_to: publishTo,
  };
}

async function wait<R>(transport: Transport, id: string, { signal }: CallOptions = {}): Promise<Job<R>> {
  const path = `/v1/jobs/${segment(id)}?wait=${WAIT_MS}ms&until=terminal`;
  const backoff = createBackoff({ floorMaxMs: RETRY_FLOOR_MAX_MS });
  for (;;) {
    const begun = performance.now();
    const call = { method: 'GET' as const, path, attemptMs: ATTEMPT_MS + WAIT_MS, repeats: 'few' as const, signal };
    const job = json<Job<R>>(await send(transport, call));
    if (isEnded(job.state)) return job;
    if (performance.now() - begun < EARLY_MS) await sleep(backoff.next(), signal);
  }
}

async function* list(transport: Transport, filter: ListFilter): AsyncGenerator<Job, void, undefined> {
  const { signal, pageSize, queue, state, type, tag, parent } = filter;
  let cursor: string | undefined;
  do {
    const path = `/v1/jobs${query({ queue, state, type, tag, parent, limit: pageSize, cursor })}`;
    const answer = await send(transport, { method: 'GET', path, repeats: 'few', answerBytesMax: PAGE_BYTES_MAX, signal });
    const page = json<{ jobs: Job[]; next: string | null }>(answer);
    yield* page.jobs;
    cursor = page.next ?? undefined;
  } while (cursor !== undefined);
}

async function* logs(
  transport: Transport,
  id: string,
  { signal }: CallOptions,
): AsyncGenerator<LogLine & { id: string }, void, undefined> {
  let after: string | undefined;
  for (;;) {
    const path = `/v1/jobs/${segment(id)}/logs${query({ after, limit: 100 })}`;
    const answer = await send(transport, { method: 'GET', path, repeats: 'few', answerBytesMax: PAGE_BYTES_MAX, signal });
    const page = json<{ logs: (LogLine & { id: string })[]; next: string | null; more: boolean }>(answer);
    yield* page.logs;
    if (!page.more || page.next === null) return;
    after = page.next;
  }
}

async function cancel(
  transport: Transport,
  id: string,
  options: CallOptions & { reason?: string; graceMs?: number } = {},
): Promise<{ state: JobState }> {
  const { reason, graceMs, signal } = options;
  const path = `/v1/jobs/${segment(id)}`;
  const body = encode({ reason, grace_ms: graceMs }, 'the reason');
  const outcome = await attempt(transport, { method: 'POST', path: `${path}/cancel`, body, repeats: 'few', signal });
  if (outcome.ok) return { state: json<{ state: JobState }>(outcome.answer).state };
  // An earlier attempt may be what cancelled it.
  if (outcome.isRepeat && outcome.error.code === 'job_finished') {
    const { state } = json<Job>(await send(transport, { method: 'GET', path, repeats: 'few', signal }));
    if (state === 'cancelled') return { state };
  }
  throw outcome.error;
}

async function remove(transport: Transport, id: string, { signal }: CallOptions = {}): Promise<void> {
  const outcome = await attempt(transport, {
    method: 'DELETE',
    path: `/v1/jobs/${segment(id)}`,
    repeats: 'few',
    signal,
  });
  // An earlier attempt deleted it.
  const isGone = !outcome.ok && outcome.isRepeat && outcome.error.code === 'job_not_found';
  if (!outcome.ok && !isGone) throw outcome.error;
}

async function download(
  transport: Transport,
  id: string,
  name: string | undefined,
  options: CallOptions & { headers?: Record<string, string> } = {},
): Promise<Response> {
  const path = `/v1/jobs/${segment(id)}/download${name === undefined ? '' : `/${segment(name)}`}`;
  const response = await transport.fetch(transport.url + path, {
    headers: { ...(await transport.authorization()), ...options.headers },
    // One that is elsewhere is fetched by whoever may: the key of this server is not for that one.
    redirect: 'manual',
    signal: options.signal ?? null,
  });
  if (response.status < 400) return response;
  throw problem(response.status, await readWhole(response, ANSWER_BYTES_MAX), retryAfterMs(response.headers));
}
