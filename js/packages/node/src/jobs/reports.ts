// Owns: the order of one run's reports, their numbers, and what is put together. Does not know: who runs the job.
// Flow: in ← progress, logs, output, the end · out → one request after the other, each until it is answered.

import { encode, json, segment, send, type Repeats, type Transport } from '../call.js';
import { TidingsError } from '../error.js';
import { ENTRIES_CHARS_MAX, ENTRIES_MAX, PROGRESS_EVERY_MS, REPORTS_WAITING_MAX } from '../limits.js';
import { sleep } from '../wait.js';
import type { LogLevel, Progress, Reported } from './document.js';
import { mergeProgress, progressFields, type ProgressFields } from './progress.js';

/** What an answer says to a worker beside {@link Reported}. */
export interface ReportAnswer extends Reported {
  expires_at?: number;
  cancel?: { reason: string | null; deadline: number | null } | null;
}

export interface ReportsOptions {
  transport: Transport;
  id: string;
  /** `undefined`: whichever attempt the server thinks it is. */
  attempt?: number | undefined;
  lease?: string | undefined;
  repeats: Repeats;
  /** Aborted when nothing that is reported counts any more. */
  signal?: AbortSignal | undefined;
  /** Hears of each answer, with when its request was sent. */
  onAnswer?: ((sentAt: number, answer: ReportAnswer) => void) | undefined;
  onError?: ((error: TidingsError) => void) | undefined;
}

type ReportVerb = 'complete' | 'fail';

export interface Reports {
  attempt: number | undefined;
  progress(progress: number | Progress): Promise<Reported>;
  log(message: string, level: LogLevel): Promise<Reported>;
  output(chunk: unknown): Promise<Reported>;
  /** The last report: it waits for those before it. With `isEnd` it is sent even if the run's signal was aborted. */
  end(verb: ReportVerb, fields: Record<string, unknown>, isEnd?: boolean): Promise<Reported>;
  /** Resolves when nothing waits any more. */
  idle(): Promise<void>;
}

/** One request. What comes while it waits is added to it. */
type Pending = { waiting: Waiter[]; attempt: number | undefined } & (
  | { kind: 'progress'; fields: ProgressFields; promise?: Promise<Reported> }
  | { kind: 'logs'; entries: unknown[]; chars: number }
  | { kind: 'output'; entries: unknown[]; chars: number }
  | { kind: ReportVerb; fields: Record<string, unknown>; isEnd: boolean }
);

interface Waiter {
  resolve(reported: Reported): void;
  reject(error: TidingsError): void;
}

export function createReports(options: ReportsOptions): Reports {
  const { transport, signal } = options;
  const path = `/v1/jobs/${segment(options.id)}`;
  // Numbers go on over a restart of the reporter: no process makes a million reports a second. The server drops a report
  // that a later one overtook, so only one is on its way at a time.
  let n = Date.now() * 1_000;
  const queue: Pending[] = [];
  let count = 0;
  let isCrowded = false;
  let progressAt = -Infinity;
  let sending: Promise<void> | undefined;
  /** Ends the pause between two progress reports: something else waits behind it. */
  let hurry = new AbortController();

  const reports: Reports = {
    attempt: options.attempt,
    progress(progress) {
      const last = open();
      // However often it is called: one report waits, and one promise.
      if (last?.kind === 'progress' && last.promise !== undefined) {
        try {
          last.fields = mergeProgress(last.fields, progressFields(progress));
          return last.promise;
        } catch (error) {
          return refused(asError(error));
        }
      }
      const promise = enter((_, waiter) =>
        push({ kind: 'progress', fields: progressFields(progress), waiting: [waiter], attempt: reports.attempt }),
      );
      const pushed = open();
      if (pushed?.kind === 'progress') pushed.promise = promise;
      return promise;
    },
    log: (message, level) => enterEntry('logs', { message, level, ts: Date.now() }),
    output: (chunk) => enterEntry('output', chunk ?? null),
    end: (verb, fields, isEnd = true) =>
      enter((_, waiter) => push({ kind: verb, fields, isEnd, waiting: [waiter], attempt: reports.attempt }), true),
    idle: async () => {
      while (sending !== undefined) await sending;
    },
  };
  return reports;

  /** A report that nobody awaits may fail without ending the program: `onError` hears of it. */
  function enter(add: (last: Pending | undefined, waiter: Waiter) => void, isEnd = false): Promise<Reported> {
    const promise = new Promise<Reported>((resolve, reject) => {
      if (signal?.aborted && !isEnd) throw signal.reason;
      if (count >= REPORTS_WAITING_MAX && !isEnd) throw tooMany();
      add(open(), { resolve, reject });
      count += 1;
      sending ??= drain().finally(() => (sending = undefined));
    });
    promise.catch(() => {});
    return promise;
  }

  /** The report that what comes now is added to, if it is of the same kind. */
  function open(): Pending | undefined {
    const last = queue.at(-1);
    return last?.attempt === reports.attempt ? last : undefined;
  }

  /** Told once for each time that they pile up, since whoever does not await reports awaits no refusal either. */
  function tooMany(): TidingsError {
    const message = `job ${options.id}: ${count} reports wait to be sent, and more are refused: await them`;
    const error = new TidingsError('reports_too_many', message, { committed: false });
    if (!isCrowded) options.onError?.(error);
    isCrowded = true;
    return error;
  }

  function enterEntry(kind: 'logs' | 'output', entry: unknown): Promise<Reported> {
    return enter((last, waiter) => {
      const chars = encode(entry, kind === 'logs' ? 'the log line' : 'the chunk').length;
      if (
        (last?.kind === 'logs' || last?.kind === 'output') &&
        last.kind === kind &&
        last.entries.length < ENTRIES_MAX &&
        last.chars + chars <= ENTRIES_CHARS_MAX
      ) {
        last.entries.push(entry);
        last.chars += chars;
        last.waiting.push(waiter);
      } else push({ kind, entries: [entry], chars, waiting: [waiter], attempt: reports.attempt });
    });
  }

  function push(pending: Pending): void {
    queue.push(pending);
    if (queue.length > 1) hurry.abort();
  }

  async function drain(): Promise<void> {
    // A task later, so that what a handler reports at once goes out at once.
    await Promise.resolve();
    for (;;) {
      const next = queue[0];
      if (next === undefined) {
        isCrowded = false;
        return;
      }
      if (next.kind === 'progress') await pause();
      queue.shift();
      count -= next.waiting.length;
      await one(next);
    }
  }

  async function pause(): Promise<void> {
    const wait = progressAt + PROGRESS_EVERY_MS - performance.now();
    if (wait <= 0 || queue.length > 1) return;
    hurry = new AbortController();
    await sleep(wait, signal === undefined ? hurry.signal : either(hurry, signal));
    // Lets go of the run's signal.
    hurry.abort();
  }

  async function one(pending: Pending): Promise<void> {
    const isEnd = 'isEnd' in pending && pending.isEnd;
    const sentAt = performance.now();
    try {
      const answer = await send(transport, {
        method: 'POST',
        path: `${path}/${pending.kind}`,
        body: encode({ ...body(pending), ...identity(pending.attempt) }, `the ${pending.kind} report`),
        repeats: options.repeats,
        signal: isEnd ? undefined : signal,
      });
      const reported = json<ReportAnswer>(answer);
      options.onAnswer?.(sentAt, reported);
      for (const waiter of pending.waiting) waiter.resolve(reported);
    } catch (thrown) {
      const error = asError(signal?.aborted && !isEnd ? signal.reason : thrown);
      options.onError?.(error);
      for (const waiter of pending.waiting) waiter.reject(error);
    } finally {
      if (pending.kind === 'progress') progressAt = performance.now();
    }
  }

  function identity(attempt: number | undefined): Record<string, unknown> {
    n += 1;
    return { n, attempt, lease: options.lease };
  }
}

function body(pending: Pending): Record<string, unknown> {
  if (pending.kind === 'logs') return { logs: pending.entries };
  if (pending.kind === 'output') return { chunks: pending.entries };
  return pending.fields;
}

function refused(error: TidingsError): Promise<Reported> {
  const promise = Promise.reject<Reported>(error);
  promise.catch(() => {});
  return promise;
}

function asError(thrown: unknown): TidingsError {
  if (thrown instanceof TidingsError) return thrown;
  return new TidingsError('request_invalid', String(thrown), { cause: thrown });
}

/** Aborts the first when the second is. Aborting the first lets go of the second. */
function either(first: AbortController, second: AbortSignal): AbortSignal {
  if (second.aborted) first.abort();
  else second.addEventListener('abort', () => first.abort(), { once: true, signal: first.signal });
  return first.signal;
}
