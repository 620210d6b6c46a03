// Owns: the one error of this package, and how an answer becomes one. Does not know: what was asked for.
// Flow: in ← a status and a body, or nothing at all · out → a `TidingsError` with a stable code.

import { SHOWN_CHARS_MAX } from './limits.js';
import type { WireCode } from './wire-codes.js';

/** Codes that this package makes up itself. */
export type LocalCode =
  /** No answer came: whether the request took effect is unknown. */
  | 'no_answer'
  /** An answer came that is none of tidings. */
  | 'answer_invalid'
  /** The request cannot be sent; nothing was. */
  | 'request_invalid'
  /** The caller's signal was aborted. */
  | 'aborted'
  /** A job was asked to stop. */
  | 'cancelled'
  /** The worker ends, and the job goes back. */
  | 'worker_stopping'
  /** More reports wait than may. */
  | 'reports_too_many'
  /** A token cannot be made of these claims, or with this key. */
  | 'token_unsigned';

/** A stable code. `http_502` and the like: something else than tidings answered. */
export type ErrorCode = WireCode | LocalCode | `http_${number}` | (string & {});

export interface ErrorFields {
  status?: number | undefined;
  committed?: boolean | undefined;
  detail?: string | undefined;
  retryAfterMs?: number | undefined;
  cause?: unknown;
}

/** Everything that can go wrong with a request to the server. Branch on `code`. */
export class TidingsError extends Error {
  override readonly name = 'TidingsError';
  /** The stable code: the server's own, or one of {@link LocalCode}. */
  readonly code: ErrorCode;
  /** The HTTP status; 0 where no answer came. */
  readonly status: number;
  /** `false`: nothing of it was stored. `undefined`: nobody knows, or it does not apply. */
  readonly committed: boolean | undefined;
  /** What was wrong this time, in the server's words. */
  readonly detail: string | undefined;
  /** The server asked to wait this long. */
  readonly retryAfterMs: number | undefined;

  constructor(code: ErrorCode, message: string, fields: ErrorFields = {}) {
    super(message, fields.cause === undefined ? undefined : { cause: fields.cause });
    this.code = code;
    this.status = fields.status ?? 0;
    this.committed = fields.committed;
    this.detail = fields.detail;
    this.retryAfterMs = fields.retryAfterMs;
  }
}

/** Whether something is a {@link TidingsError}, also one of another copy of this package. */
export function isTidingsError(error: unknown): error is TidingsError {
  return error instanceof Error && error.name === 'TidingsError' && 'code' in error;
}

/** A request that cannot be sent. */
export function invalid(message: string, cause?: unknown): TidingsError {
  return new TidingsError('request_invalid', message, { committed: false, cause });
}

/** The problem document in a body; anything else becomes one too. */
export function problem(status: number, body: string, retryAfterMs?: number): TidingsError {
  const read = record(parsed(body));
  const code = typeof read?.['code'] === 'string' && read['code'] !== '' ? read['code'] : `http_${status}`;
  const detail = text(read?.['detail']);
  const title = text(read?.['title']) ?? (read === undefined ? shown(body) : '');
  const said = detail ?? title;
  const message = `${code}${status === 0 ? '' : ` (${status})`}${said === '' ? '' : `: ${said}`}`;
  const committed = read?.['committed'] === false ? false : undefined;
  return new TidingsError(code, message, { status, committed, detail, retryAfterMs });
}

/** An answer that is none of tidings. */
export function answerInvalid(status: number, body: string): TidingsError {
  return new TidingsError('answer_invalid', `answer not understood: ${status} ${shown(body)}`, { status });
}

function shown(body: string): string {
  return body.slice(0, SHOWN_CHARS_MAX);
}

/** Why something was thrown, with the causes that its own message leaves out. */
export function reasonOf(error: unknown): string {
  let message = error instanceof Error ? error.message || error.name : String(error);
  let cause = error instanceof Error ? error.cause : undefined;
  // A chain that leads back to itself ends here too.
  for (let depth = 0; depth < 5 && cause instanceof Error; depth += 1) {
    if (cause.message !== '' && !message.includes(cause.message)) message += `: ${cause.message}`;
    cause = cause.cause;
  }
  return message;
}

/** What it throws is not allowed to end what it was told of. */
export function guarded(onError: (error: TidingsError) => void): (error: TidingsError) => void {
  return (error) => {
    try {
      onError(error);
    } catch (thrown) {
      console.error('tidings: onError threw', thrown);
    }
  };
}

export function parsed(body: string): unknown {
  try {
    return JSON.parse(body) as unknown;
  } catch {
    return undefined;
  }
}

export function record(value: unknown): Record<string, unknown> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : undefined;
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}
