// Owns: how many jobs run, when more are asked for, and the way to the end. Does not know: handlers, reports.
// Flow: in ← leased jobs, ends of runs, the operator's word, `stop()` · out → runs; at the end, none.

import { createBackoff } from '../backoff.js';
import { attempt, encode, json, passes, segment, type Transport } from '../call.js';
import { guarded, invalid, TidingsError } from '../error.js';
import {
  ATTEMPT_MS,
  CONCURRENCY_MAX,
  EARLY_MS,
  EARLY_WAIT_MAX_MS,
  LEASE_JOBS_MAX,
  LEASE_TYPES_MAX,
  LEASED_BYTES_MAX,
  RETRY_FLOOR_MAX_MS,
  STOP_GRACE_MS,
  WAIT_MS,
} from '../limits.js';
import type { JobInput, JobResult, JobType, Schema } from '../schema.js';
import { sleep } from '../wait.js';
import { startRenewals, type Renewals, type WorkerState } from './renew.js';
import { giveBackLease, startRun, type Handler, type LeasedJob, type Run, type WorkerJob } from './run.js';

export interface WorkerOptions {
  /** `default` */
  queue?: string | undefined;
  /** How many jobs run at once, 1–1,000 (1). */
  concurrency?: number | undefined;
  /** The worker's name in `GET /v1/workers`; made up, and best left so. */
  id?: string | undefined;
  /** How long this worker may be silent before its jobs go to others (what each job says). */
  leaseMs?: number | undefined;
  /** Hears of leases that were lost, and of requests that failed and are tried again (the client's `onError`). */
  onError?: ((error: TidingsError) => void) | undefined;
}

export interface StopOptions {
  /** Running jobs may take this long to end (30 s). Those that do not are given back: same attempt, elsewhere. */
  graceMs?: number | undefined;
}

export interface Worker {
  readonly id: string;
  /** How many jobs it runs now. */
  readonly running: number;
  /** Leases no more, waits for running jobs, gives back the others, and resolves when nothing is left to do. A second
   * call may shorten the grace. */
  stop(options?: StopOptions): Promise<void>;
  /** Resolves when the worker has ended: by `stop()`, or because an operator said so. Rejects when the server refuses to
   * lease and would refuse again; in a program that does not handle that, it is an unhandled rejection. */
  readonly done: Promise<void>;
}

export type JobHandler<S extends Schema, T extends JobType<S>> = (
  job: WorkerJob,
  input: JobInput<S, T>,
) => JobResult<S, T> | void | Promise<JobResult<S, T> | void>;

export type JobHandlers<S extends Schema> = { [T in JobType<S>]?: JobHandler<S, T> };

/** Leases jobs of a queue and runs them, until it is stopped. What a handler returns completes its job; what it throws
 * fails it, and it runs again while attempts are left. While the server is away the worker goes on trying. */
export interface StartWorker<S extends Schema> {
  <T extends JobType<S>>(type: T, handler: JobHandler<S, T>, options?: WorkerOptions): Worker;
  (handlers: JobHandlers<S>, options?: WorkerOptions): Worker;
}

type Handlers = ReadonlyMap<string, Handler>;

export function createWorkers<S extends Schema>(
  transport: Transport,
  onError: (error: TidingsError) => void,
): StartWorker<S> {
  const start = (
    first: string | Record<string, Handler>,
    second?: Handler | WorkerOptions,
    third?: WorkerOptions,
  ): Worker => {
    const isOne = typeof first === 'string';
    const handlers = new Map(isOne ? [[first, second as Handler]] : Object.entries(first));
    const options = (isOne ? third : (second as WorkerOptions | undefined)) ?? {};
    return startWorker(transport, handlers, { ...options, onError: options.onError === undefined ? onError : guarded(options.onError) });
  };
  return start as StartWorker<S>;
}

type Settings = Omit<WorkerOptions, 'onError'> & { onError: (error: TidingsError) => void };

interface Leased {
  jobs: LeasedJob[];
  state: WorkerState;
}

function startWorker(transport: Transport, handlers: Handlers, options: Settings): Worker {
  const types = [...handlers.keys()];
  if (types.length === 0 || types.length > LEASE_TYPES_MAX) {
    throw invalid(`a worker has handlers for 1 to ${LEASE_TYPES_MAX} job types, not for ${types.length}`);
  }
  const { queue = 'default', concurrency = 1, leaseMs, onError } = options;
  if (!Number.isInteger(concurrency) || concurrency < 1 || concurrency > CONCURRENCY_MAX) {
    throw invalid(`concurrency is ${concurrency}, not 1 to ${CONCURRENCY_MAX}`);
  }
  const id = options.id ?? `js-${crypto.randomUUID().slice(0, 13)}`;
  const path = `/v1/queues/${segment(queue)}/lease`;
  const runs = new Set<Run>();
  /** No more jobs are asked for. */
  const ending = new AbortController();
  const ended = new AbortController();
  /** A run has ended, so there may be a free slot. */
  let freed = new AbortController();
  let stopped: Promise<void> | undefined;

  const renewals: Renewals = startRenewals({
    transport,
    workerId: id,
    runs,
    signal: ended.signal,
    onState: handleState,
    onError,
  });
  const done = work();
  return {
    id,
    get running() {
      return runs.size;
    },
    stop({ graceMs = STOP_GRACE_MS } = {}) {
      stop(graceMs);
      // What ended the worker before is told by `done`.
      stopped ??= done.catch(() => {});
      return stopped;
    },
    done,
  };

  function stop(graceMs: number): void {
    ending.abort();
    for (const run of runs) run.handleEnding();
    void sleep(graceMs, ended.signal).then(() => {
      for (const run of runs) run.handleGiveBack();
    });
  }

  function handleState(state: WorkerState): void {
    // `stop` has no grace: the operator wants the jobs to run elsewhere.
    if (state === 'stop') stop(0);
  }

  async function work(): Promise<void> {
    try {
      await leaseUntilEnding();
    } finally {
      ending.abort();
      // Refused, or stopped already: then the first grace that is over counts.
      stop(STOP_GRACE_MS);
      await Promise.all([...runs].map((run) => run.done));
      ended.abort();
      renewals.wake();
    }
  }

  async function leaseUntilEnding(): Promise<void> {
    const failures = createBackoff({ floorMaxMs: RETRY_FLOOR_MAX_MS });
    const empties = createBackoff({ maxMs: EARLY_WAIT_MAX_MS, floorMaxMs: 0 });
    while (!ending.signal.aborted) {
      const free = concurrency - runs.size;
      if (free <= 0) {
        freed = new AbortController();
        await sleep(2 ** 31 - 1, linked(freed, ending.signal));
        continue;
      }
      const askedAt = performance.now();
      const outcome = await ask(Math.min(free, LEASE_JOBS_MAX));
      if (outcome instanceof TidingsError) {
        if (ending.signal.aborted) return;
        if (!passes(outcome)) throw outcome;
        onError(outcome);
        await sleep(failures.next(outcome.retryAfterMs), ending.signal);
        continue;
      }
      handleState(outcome.state);
      // They came when the worker began to stop.
      if (ending.signal.aborted) return giveBackAll(outcome.jobs);
      for (const job of outcome.jobs) take(job, askedAt);
      const isEarly = outcome.jobs.length === 0 && performance.now() - askedAt < EARLY_MS;
      if (isEarly) await sleep(empties.next(), ending.signal);
      else {
        failures.reset();
        empties.reset();
      }
    }
  }

  async function giveBackAll(jobs: LeasedJob[]): Promise<void> {
    const errors = await Promise.all(jobs.map((job) => giveBackLease(transport, job)));
    for (const error of errors) if (error !== undefined) onError(error);
  }

  async function ask(max: number): Promise<Leased | TidingsError> {
    const outcome = await attempt(transport, {
      method: 'POST',
      path,
      body: encode({ worker_id: id, types, max, wait_ms: WAIT_MS, lease_ms: leaseMs }, 'the request'),
      repeats: 'never',
      attemptMs: ATTEMPT_MS + WAIT_MS,
      answerBytesMax: LEASED_BYTES_MAX * max,
      // A server that cannot hand over what it leased takes it back.
      signal: ending.signal,
    });
    if (!outcome.ok) return outcome.error;
    if (outcome.answer.status === 204) return { jobs: [], state: 'run' };
    try {
      const leased = json<{ jobs?: LeasedJob[]; worker?: { state?: WorkerState } }>(outcome.answer);
      return { jobs: leased.jobs ?? [], state: leased.worker?.state ?? 'run' };
    } catch (error) {
      // Something in between that answers 200 to everything; it may pass.
      return new TidingsError('no_answer', (error as TidingsError).message, { cause: error });
    }
  }

  function take(leased: LeasedJob, askedAt: number): void {
    const handler = handlers.get(leased.type);
    if (handler === undefined) {
      // Not what was asked for. Its lease expires, and others get it.
      onError(new TidingsError('answer_invalid', `leased job ${leased.id} of type ${leased.type}, which has no handler`));
      return;
    }
    const run = startRun({
      transport,
      leased,
      handler,
      askedAt,
      onError,
    });
    runs.add(run);
    renewals.wake();
    void run.done.then(() => {
      runs.delete(run);
      freed.abort();
      renewals.wake();
    });
  }
}

/** Aborts the first when the second is. Aborting the first lets go of the second. */
function linked(first: AbortController, second: AbortSignal): AbortSignal {
  if (second.aborted) first.abort();
  else second.addEventListener('abort', () => first.abort(), { once: true, signal: first.signal });
  return first.signal;
}
