// The one error of this package.
//
// Owns: its codes, and what an answer of the server says. Does not know: where it is thrown.

import type { Job } from './job.js';
import type { WireCode } from './wire-codes.js';

/** What only a client can find out. */
export type ClientCode =
  /** No answer, or the connection broke. */
  | 'network'
  /** An answer that is not the server's: another status or another content type. */
  | 'http'
  /** The request was refused for want of credentials. */
  | 'unauthorized'
  | 'forbidden'
  | 'token_failed'
  /** Data that is not JSON; `raw` has it. */
  | 'data_invalid'
  /** Data that does not fit the schema. */
  | 'schema_invalid'
  /** An event that is larger than a client takes. */
  | 'event_too_large'
  /** A handler threw; `cause` is what. */
  | 'handler_failed'
  | 'stalled'
  | 'closed'
  | 'job_failed'
  | 'job_cancelled'
  | 'job_expired';

/** A code of the server (`WireCode`) or of the client; a newer server may have codes that are not listed. */
export type TidingsErrorCode = WireCode | ClientCode | (string & {});

export interface TidingsErrorDetails {
  cause?: unknown;
  status?: number | undefined;
  raw?: string | undefined;
  job?: Job | undefined;
}

export class TidingsError extends Error {
  override readonly name = 'TidingsError';
  declare readonly code: TidingsErrorCode;
  /** The HTTP status, if there was an answer. */
  declare readonly status: number | undefined;
  /** The text that could not be used. */
  declare readonly raw: string | undefined;
  /** The job that did not complete. */
  declare readonly job: Job | undefined;

  constructor(code: TidingsErrorCode, message: string, details: TidingsErrorDetails = {}) {
    super(message, details);
    Object.assign(this, details, { code });
  }
}

/** Whether another answer may come soon: to overload, to a server that stops or starts, and to what was too slow or too much. */
export function isPassing(status: number): boolean {
  return status >= 500 || [408, 425, 429].includes(status);
}

/** An answer that is not what was asked for, as an error with its code. */
export async function problem(answer: Response): Promise<TidingsError> {
  const { status, headers } = answer;
  let said: { code?: string; detail?: string; title?: string } | null | undefined;
  // Others answer too: proxies, log-in pages.
  if (headers.get('content-type')?.startsWith('application/problem+json')) said = (await answer.json().catch(() => null)) as { code?: string } | null;
  else await answer.body?.cancel();
  const code = said?.code ?? (status === 401 ? 'unauthorized' : status === 403 ? 'forbidden' : 'http');
  return new TidingsError(code, said?.detail ?? said?.title ?? `status ${status}`, { status });
}

/**
 * For code that is fetched later, which therefore imports nothing of the entry: bundlers would make a file of its own of what
 * both need, and every page would fetch that, too.
 */
export const errors: Errors = { TidingsError, problem, isPassing };

export interface Errors {
  readonly TidingsError: typeof TidingsError;
  readonly problem: typeof problem;
  readonly isPassing: typeof isPassing;
}
