// Owns: what the server says of a job, under the names of spec/wire.md. Does not know: how it is asked for.
// Flow: in ← JSON of an answer or an event · out → types.

export type JobState =
  | 'scheduled'
  | 'queued'
  | 'running'
  | 'retrying'
  | 'completed'
  | 'failed'
  | 'cancelled'
  | 'expired';

const ENDED: ReadonlySet<JobState> = new Set(['completed', 'failed', 'cancelled', 'expired']);

/** Whether a job in this state has ended. It stays in it then. */
export function isEnded(state: JobState): boolean {
  return ENDED.has(state);
}

/** All that the server tells of a job. Times are Unix milliseconds. */
export interface Job<R = unknown> {
  id: string;
  /** The id again, under the name that pages know. */
  jobId: string;
  type: string;
  queue: string;
  mode: 'managed' | 'external';
  state: JobState;
  /** Why it is `retrying`, or waits again: `failed`, `timed_out`, `stalled`, `interrupted`, `released`. */
  reason: string | null;
  priority: number;
  /** 0–100; never falls within a run, unless a report asked for that. */
  progress: number;
  current: number | null;
  total: number | null;
  unit: string | null;
  step: string | null;
  message: string | null;
  eta_ms: number | null;
  /** Anything that its worker adds. */
  data: unknown;
  /** The run that it is at, or waits for; the first is 1. */
  attempt: number;
  max_attempts: number;
  cancel_requested: boolean;
  created_at: number;
  updated_at: number;
  run_at: number | null;
  started_at: number | null;
  finished_at: number | null;
  result: R | null;
  /** Why it ended without a result, or why its last attempt did. */
  error: { message: string; code: string } | null;
  artifacts: JobFile[];
  /** Where to get the first of its files. */
  downloadUrl: string | null;
  tags: string[];
  /** Whose it is. */
  subject: string | null;
  /** The job that it belongs to. */
  parent: string | null;
  /** The job that it repeats. */
  retry_of: string | null;
  /** The schedule that made it. */
  schedule: string | null;
  /** Grows with every change. */
  v: number;
}

/** A file of a job. */
export interface JobFile {
  name: string;
  content_type?: string | null;
  size?: number | null;
  /** Where it is, if not in the server's store. */
  url?: string;
}

/** What became of a report. */
export interface Reported {
  /** It is durable. If not, it is in memory, and the next one may take its place. */
  stored: boolean;
  /** It was stored before: this was a repeat. */
  duplicate?: boolean;
  /** Somebody asked to call the job off. */
  cancel_requested: boolean;
  /** The document's `v`. */
  v: number;
}

/** A wish to call a running job off. */
export interface Cancel {
  reason: string | null;
  /** When the server ends the job itself, Unix milliseconds. */
  deadline: number | null;
}

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

export interface LogLine {
  level: LogLevel;
  message: string;
  /** When it was written, Unix milliseconds. */
  ts: number;
}

/** How far a job is. What is left out keeps its value; `null` clears it. */
export interface Progress {
  /** 0–100; derived from `current` and `total` when it is left out. */
  progress?: number | undefined;
  current?: number | null | undefined;
  total?: number | null | undefined;
  /** What `current` and `total` count. */
  unit?: string | null | undefined;
  step?: string | null | undefined;
  /** For people. */
  message?: string | null | undefined;
  etaMs?: number | null | undefined;
  /** Anything, up to 16 KiB of JSON. */
  data?: unknown;
  /** The progress may fall with this report. */
  reset?: boolean | undefined;
}
