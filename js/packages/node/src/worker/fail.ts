// Owns: how a handler says that it has no result, and what to do about it. Does not know: attempts, the server's backoff.
// Flow: in ← what a handler threw · out → the fields of a report.

import { reasonOf } from '../error.js';

export interface FailOptions {
  /** For programs (`failed`). */
  code?: string | undefined;
  /** `auto`: again with the job's backoff, while attempts are left; `never`: another run would not help. */
  retry?: 'auto' | 'never' | { readonly afterMs: number } | undefined;
  cause?: unknown;
}

export type Ending =
  | { readonly kind: 'fail'; readonly code: string | undefined; readonly retry: FailOptions['retry'] }
  | { readonly kind: 'cancelled' }
  | { readonly kind: 'release'; readonly delayMs: number | undefined };

/** What {@link fail}, {@link cancelled} and {@link release} give to be thrown. */
export class JobEnding extends Error {
  override readonly name = 'JobEnding';
  readonly ending: Ending;

  constructor(message: string, ending: Ending, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.ending = ending;
  }
}

/** A failure with a code, and with a say in whether the job is tried again: `throw fail('no such customer', { retry: 'never' })`.
 * Every other error that a handler throws is tried again while attempts are left. */
export function fail(message: string, options: FailOptions = {}): JobEnding {
  const { code, retry, cause } = options;
  return new JobEnding(message, { kind: 'fail', code, retry }, cause);
}

/** The job was called off, and the handler has stopped for that. */
export function cancelled(message = 'cancelled'): JobEnding {
  return new JobEnding(message, { kind: 'cancelled' });
}

/** The handler gives the job back: it runs again, as the same attempt. */
export function release(options: { delayMs?: number } = {}): JobEnding {
  return new JobEnding('released', { kind: 'release', delayMs: options.delayMs });
}

/** The fields of a report on what was thrown. */
export function failFields(thrown: unknown, isCancelled: boolean): Record<string, unknown> {
  const ending = thrown instanceof JobEnding ? thrown.ending : undefined;
  const message = reasonOf(thrown);
  if (ending?.kind === 'cancelled' || (isCancelled && ending === undefined)) {
    return { error: { message: ending === undefined ? 'cancelled' : message, code: 'cancelled' }, state: 'cancelled' };
  }
  const stack = thrown instanceof Error ? thrown.stack : undefined;
  const retry = ending?.kind === 'fail' ? ending.retry : undefined;
  return {
    error: { message, code: (ending?.kind === 'fail' ? ending.code : undefined) ?? codeOf(thrown), stack },
    retry: typeof retry === 'object' ? { after_ms: retry.afterMs } : retry === 'auto' ? undefined : retry,
  };
}

/** The code that errors of Node and of many libraries have: `ENOENT`, `ERR_INVALID_URL`, `23505`. */
function codeOf(thrown: unknown): string {
  const code = thrown instanceof Error && 'code' in thrown ? thrown.code : undefined;
  return typeof code === 'string' && /^[\w.:-]{1,64}$/.test(code) ? code : 'failed';
}
