// Owns: one run of a leased job, from its lease to its outcome. Does not know: leasing, renewals, other runs.
// Flow: in ← a leased job and its handler; what answers say of its lease · out → complete, fail or release; nothing if the
// lease is lost.

import { attempt, encode, json, segment, type Transport } from '../call.js';
import { TidingsError } from '../error.js';
import { ABANDON_MS, GIVE_BACK_MS, PATIENCE_MS, RELEASE_MS, RENEW_MIN_MS } from '../limits.js';
import type { Cancel, LogLevel, Progress, Reported } from '../jobs/document.js';
import { createReports, type ReportAnswer } from '../jobs/reports.js';
import { upload, type UploadSource } from '../jobs/upload.js';
import { aborted, deadline, sleep } from '../wait.js';
import { failFields, JobEnding } from './fail.js';

/** What a handler has of its job. */
export interface WorkerJob {
  readonly id: string;
  readonly type: string;
  readonly queue: string;
  /** Which run this is; the first is 1. */
  readonly attempt: number;
  readonly maxAttempts: number;
  readonly tags: readonly string[];
  /** When the job's timeout ends this run, Unix milliseconds of the server. */
  readonly deadline: number | null;
  /** Aborted when the handler is to stop. Its `reason` is a `TidingsError` with the code `cancelled` (somebody asked for
   * it), `lease_lost` (the job is no longer this worker's: what the handler still makes is discarded) or
   * `worker_stopping` (the worker ends now, and gives the job back). */
  readonly signal: AbortSignal;
  /** What is known of the wish to call the job off. */
  readonly cancel: Cancel | undefined;
  /** Aborted when the worker begins to stop: a handler that cannot finish within the grace may save its place and
   * `throw release()`. */
  readonly ending: AbortSignal;
  /** How far the job is: a percentage or more. Reports take effect in order, and each once. Those that come faster than
   * they can be sent are put together, so nobody has to await them; who does, awaits their being stored. */
  progress(progress: number | Progress): Promise<Reported>;
  log(message: string, level?: LogLevel): Promise<Reported>;
  /** A piece of what the job produces, for whoever watches: a token of text, a row. */
  output(chunk: unknown): Promise<Reported>;
  /** Stores a file with the job, to be downloaded when it is complete. It is durable when the promise resolves. */
  artifact(name: string, source: UploadSource, options?: { contentType?: string }): Promise<Reported>;
}

export type Handler = (job: WorkerJob, input: never) => unknown;

/** A job as it is leased. */
export interface LeasedJob {
  id: string;
  type: string;
  queue: string;
  input: unknown;
  attempt: number;
  max_attempts: number;
  tags: string[];
  deadline: number | null;
  lease: { token: string; expires_at: number; renew_every_ms: number };
}

export interface RunOptions {
  transport: Transport;
  leased: LeasedJob;
  handler: Handler;
  /** When the request that leased it was sent. */
  askedAt: number;
  onError(error: TidingsError): void;
}

/** A run whose lease is to be kept. */
export interface Run {
  readonly id: string;
  readonly token: string;
  readonly renewEveryMs: number;
  /** When its lease is to be renewed. */
  dueAt(): number;
  isLost(): boolean;
  handleRenewed(askedAt: number, cancel: Cancel | undefined): void;
  handleLost(): void;
  /** The worker begins to stop. */
  handleEnding(): void;
  /** The worker gives back what has not ended. */
  handleGiveBack(): void;
  /** The run is over, and so is what is to be said of it. Never rejects. */
  readonly done: Promise<void>;
}

/** Refusals that say that a run is over. */
const LOST: ReadonlySet<string> = new Set(['lease_lost', 'attempt_stale', 'job_finished', 'job_not_found']);

type Outcome =
  | { kind: 'result'; result: unknown }
  | { kind: 'thrown'; thrown: unknown }
  | { kind: 'givenBack' }
  | { kind: 'lost' };

export function startRun(options: RunOptions): Run {
  const { transport, leased, askedAt, onError } = options;
  const { token } = leased.lease;
  const path = `/v1/jobs/${segment(leased.id)}`;
  const stop = new AbortController();
  const lost = new AbortController();
  const ending = new AbortController();
  const givingBack = new AbortController();
  let renewedAt = askedAt;
  let cancel: Cancel | undefined;
  /** Its end is being reported, so a lease that is lost is what was asked for. */
  let isConcluding = false;

  const reports = createReports({
    transport,
    id: leased.id,
    attempt: leased.attempt,
    lease: token,
    repeats: { forMs: PATIENCE_MS },
    signal: lost.signal,
    onAnswer: (sentAt, answer) => handleRenewed(sentAt, cancelOf(answer)),
    onError: (error) => {
      if (LOST.has(error.code)) handleLost();
      else if (!isConcluding) onError(told(error));
    },
  });

  const job: WorkerJob = {
    id: leased.id,
    type: leased.type,
    queue: leased.queue,
    attempt: leased.attempt,
    maxAttempts: leased.max_attempts,
    tags: leased.tags,
    deadline: leased.deadline,
    signal: stop.signal,
    ending: ending.signal,
    get cancel() {
      return cancel;
    },
    progress: reports.progress,
    log: (message, level = 'info') => reports.log(message, level),
    output: reports.output,
    artifact,
  };

  return {
    id: leased.id,
    token,
    renewEveryMs: Math.max(leased.lease.renew_every_ms, RENEW_MIN_MS),
    dueAt: () => renewedAt + Math.max(leased.lease.renew_every_ms, RENEW_MIN_MS),
    isLost: () => lost.signal.aborted,
    handleRenewed,
    handleLost,
    handleEnding: () => ending.abort(),
    handleGiveBack: () => {
      givingBack.abort();
      if (!isConcluding) stop.abort(new TidingsError('worker_stopping', 'the worker ends, and gives the job back'));
    },
    done: drive(),
  };

  function handleRenewed(sentAt: number, wish: Cancel | undefined): void {
    renewedAt = Math.max(renewedAt, sentAt);
    if (wish === undefined || cancel !== undefined) return;
    cancel = wish;
    const why = wish.reason === null ? '' : `: ${wish.reason}`;
    stop.abort(new TidingsError('cancelled', `the job was called off${why}`));
  }

  function handleLost(): void {
    if (isConcluding || lost.signal.aborted) return;
    const error = new TidingsError('lease_lost', `the job ${leased.id} is no longer this worker's`, { status: 409 });
    lost.abort(error);
    stop.abort(error);
    onError(error);
  }

  async function artifact(name: string, source: UploadSource, more: { contentType?: string } = {}): Promise<Reported> {
    const sentAt = performance.now();
    const request = { path: `${path}/artifacts/${segment(name)}`, source, lease: token, signal: lost.signal, ...more };
    try {
      const answer = json<ReportAnswer>(await upload(transport, request));
      handleRenewed(sentAt, cancelOf(answer));
      return answer;
    } catch (error) {
      if (error instanceof TidingsError && LOST.has(error.code)) handleLost();
      throw error;
    }
  }

  async function drive(): Promise<void> {
    const outcome = await outcomeOf();
    if (lost.signal.aborted) return;
    isConcluding = true;
    if (outcome.kind === 'result') await complete(outcome.result);
    else if (outcome.kind === 'thrown') await failed(outcome.thrown);
    else if (outcome.kind === 'givenBack') await giveBack(undefined);
  }

  async function outcomeOf(): Promise<Outcome> {
    // In a task of its own, so that a handler that throws before it awaits does so there too.
    const ended = Promise.resolve()
      .then(() => options.handler(job, leased.input as never))
      .then(
        (result): Outcome => ({ kind: 'result', result }),
        (thrown: unknown): Outcome => ({ kind: 'thrown', thrown }),
      );
    const abandoned = aborted(lost.signal).then(() => orAfter(ended, ABANDON_MS, { kind: 'lost' }));
    const givenBack = aborted(givingBack.signal).then(() => orAfter(ended, GIVE_BACK_MS, { kind: 'givenBack' }));
    return Promise.race([ended, abandoned, givenBack]);
  }

  async function complete(result: unknown): Promise<void> {
    let refused: TidingsError;
    try {
      encode(result ?? null, 'the result');
      await reports.end('complete', { result: result ?? null });
      return;
    } catch (error) {
      refused = error as TidingsError;
    }
    if (LOST.has(refused.code)) return;
    if (refused.code === 'no_answer') {
      onError(told(refused));
      return;
    }
    // Too large, for example. Without this the job would run again to the same end.
    const message = `the result was refused: ${refused.message}`;
    onError(told(refused));
    await conclude({ error: { message, code: refused.code }, retry: 'never' });
  }

  async function failed(thrown: unknown): Promise<void> {
    const ending = thrown instanceof JobEnding ? thrown.ending : undefined;
    if (ending?.kind === 'release') return giveBack(ending.delayMs);
    // The error is most likely the abort itself, and the job has not failed.
    if (givingBack.signal.aborted && cancel === undefined && ending === undefined) return giveBack(undefined);
    await conclude(failFields(thrown, cancel !== undefined));
  }

  async function conclude(fields: Record<string, unknown>): Promise<void> {
    try {
      await reports.end('fail', fields);
    } catch (error) {
      if (!LOST.has((error as TidingsError).code)) onError(told(error as TidingsError));
    }
  }

  async function giveBack(delayMs: number | undefined): Promise<void> {
    const error = await giveBackLease(transport, leased, delayMs);
    if (error !== undefined) onError(told(error));
  }

  function told(error: TidingsError): TidingsError {
    const { code, status, committed, detail } = error;
    return new TidingsError(code, `job ${leased.id}: ${error.message}`, { status, committed, detail, cause: error });
  }
}

/** Gives a lease back, so that the job runs elsewhere as the same attempt. Why that failed, if it did. */
export async function giveBackLease(
  transport: Transport,
  leased: LeasedJob,
  delayMs?: number,
): Promise<TidingsError | undefined> {
  const limit = deadline(RELEASE_MS);
  const outcome = await attempt(transport, {
    method: 'POST',
    path: `/v1/jobs/${segment(leased.id)}/release`,
    body: encode({ lease: leased.lease.token, delay_ms: delayMs }, 'the release'),
    repeats: { forMs: RELEASE_MS },
    signal: limit.signal,
  });
  limit.clear();
  // A repeat is refused with `lease_lost`, which says that the first one took effect.
  return outcome.ok || LOST.has(outcome.error.code) ? undefined : outcome.error;
}

function cancelOf(answer: ReportAnswer): Cancel | undefined {
  return answer.cancel ?? undefined;
}

async function orAfter<T>(promise: Promise<T>, ms: number, otherwise: T): Promise<T> {
  const timer = new AbortController();
  try {
    return await Promise.race([promise, sleep(ms, timer.signal).then(() => otherwise)]);
  } finally {
    timer.abort();
  }
}

