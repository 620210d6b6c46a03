// Owns: one request with a whole answer, and when it is sent again. Does not know: what is asked for.
// Flow: in ← a `Call` · out → a successful answer, or a `TidingsError`.

import { createBackoff } from './backoff.js';
import { answerInvalid, invalid, parsed, problem, reasonOf, TidingsError } from './error.js';
import { ANSWER_BYTES_MAX, ATTEMPT_MS, ATTEMPTS_MAX, RETRY_AFTER_MAX_MS } from './limits.js';
import { deadline, sleep } from './wait.js';

/** When a request that failed is sent again. */
export type Repeats =
  /** Only if the answer said that nothing of it was stored: a second one could take effect twice. */
  | 'uncommitted'
  /** A few times: a repeat takes effect once. */
  | 'few'
  /** Until this much time has passed. */
  | { readonly forMs: number }
  /** Never; when to ask again is the caller's to say. */
  | 'never';

export interface Call {
  method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** With its query; everything in it is escaped. */
  path: string;
  /** JSON, unless `contentType` says otherwise. */
  body?: string | undefined;
  contentType?: string | undefined;
  headers?: Record<string, string> | undefined;
  repeats: Repeats;
  attemptMs?: number | undefined;
  answerBytesMax?: number | undefined;
  signal?: AbortSignal | undefined;
}

export interface Answer {
  status: number;
  body: string;
  /** An earlier attempt may have taken effect. */
  isRepeat: boolean;
}

/** A failed call: its error, and whether an earlier attempt may have taken effect. */
interface Failure {
  error: TidingsError;
  isRepeat: boolean;
}

export type Outcome = { ok: true; answer: Answer } | ({ ok: false } & Failure);

export interface RetrySettings {
  attempts?: number | undefined;
  baseMs?: number | undefined;
  maxMs?: number | undefined;
}

export interface Transport {
  readonly url: string;
  readonly fetch: typeof fetch;
  readonly retry: RetrySettings;
  /** Requests that could take effect twice get an idempotency key of their own. */
  readonly isIdempotent: boolean;
  /** The header of every request: the key may be one that changes. */
  authorization(): Promise<Record<string, string>>;
}

/** Sends the request until the server has taken or refused it, or it is not to be repeated. */
export async function attempt(transport: Transport, call: Call): Promise<Outcome> {
  const { attempts = ATTEMPTS_MAX, baseMs, maxMs } = transport.retry;
  const backoff = createBackoff({ baseMs, maxMs, floorMaxMs: RETRY_AFTER_MAX_MS });
  const begun = performance.now();
  // An attempt whose outcome is unknown makes what a later refusal says of itself less than the whole truth.
  let isKnown = true;
  if (call.signal?.aborted) return { ok: false, error: aborted(call.signal, false), isRepeat: false };
  for (;;) {
    const isRepeat = backoff.attempts > 0;
    let error: TidingsError;
    try {
      const answer = await exchange(transport, call);
      if (answer.status >= 200 && answer.status < 300) return { ok: true, answer: { ...answer, isRepeat } };
      error = problem(answer.status, answer.body, answer.retryAfterMs);
    } catch (thrown) {
      error = thrown instanceof TidingsError ? thrown : noAnswer(thrown);
    }
    const isUncommitted = error.committed === false;
    isKnown &&= isUncommitted || !passes(error);
    if (!isKnown && isUncommitted) error = unknown(error);
    if (call.signal?.aborted) return { ok: false, error: aborted(call.signal, error.committed), isRepeat };
    const isOver =
      call.repeats === 'never' ||
      (call.repeats === 'uncommitted' && !(isUncommitted && isKnown)) ||
      (typeof call.repeats === 'object'
        ? performance.now() - begun >= call.repeats.forMs
        : backoff.attempts + 1 >= attempts);
    if (isOver || !passes(error)) return { ok: false, error, isRepeat };
    await sleep(backoff.next(error.retryAfterMs), call.signal);
    if (call.signal?.aborted) return { ok: false, error: aborted(call.signal, error.committed), isRepeat };
  }
}

/** The answer, or its error thrown. */
export async function send(transport: Transport, call: Call): Promise<Answer> {
  const outcome = await attempt(transport, call);
  if (!outcome.ok) throw outcome.error;
  return outcome.answer;
}

/** Sends a request whose repeats take effect once because of its idempotency key. When the server can remember no more
 * keys, one that nobody asked for is left out, and with it the repeats that it made safe. */
export async function sendOnce(
  transport: Transport,
  given: string | false | undefined,
  call: (key: string | undefined) => Call,
): Promise<Answer> {
  const key = given === false ? undefined : (given ?? (transport.isIdempotent ? crypto.randomUUID() : undefined));
  const outcome = await attempt(transport, call(key));
  if (outcome.ok) return outcome.answer;
  const { error } = outcome;
  const isFull = error.code === 'idempotency_keys_full' && error.committed === false;
  if (!isFull || key === undefined || key === given) throw error;
  return send(transport, call(undefined));
}

/** The JSON of an answer; what is in it is the contract's to say. */
export function json<T>(answer: { status: number; body: string }): T {
  const value = parsed(answer.body);
  if (value === undefined) throw answerInvalid(answer.status, answer.body);
  return value as T;
}

/** Whether a failure may pass by itself. */
export function passes(error: TidingsError): boolean {
  const { status, code } = error;
  if (status === 0) return code === 'no_answer';
  return status >= 500 || status === 408 || status === 425 || status === 429;
}

/** `Retry-After` in seconds. A date is not read: it would need a clock that agrees with the server's. */
export function retryAfterMs(headers: Headers): number | undefined {
  const after = headers.get('retry-after')?.trim() ?? '';
  return /^\d{1,9}$/.test(after) ? Number(after) * 1_000 : undefined;
}

export function noAnswer(thrown: unknown): TidingsError {
  const message = `no answer, so the outcome is unknown: ${reasonOf(thrown)}`;
  return new TidingsError('no_answer', message, { cause: thrown });
}

/** A name as one segment of a path. */
export function segment(name: string): string {
  // Every way to write these is resolved away before a request is sent, and then asks for something else.
  if (name === '' || name === '.' || name === '..') throw invalid(`${JSON.stringify(name)} cannot stand in a path`);
  try {
    return encodeURIComponent(name);
  } catch (error) {
    throw invalid(`${JSON.stringify(name)} is not a text`, error);
  }
}

/** JSON of what a caller gave. */
export function encode(value: unknown, what: string): string {
  try {
    const text = JSON.stringify(value) as string | undefined;
    if (text !== undefined) return text;
  } catch (error) {
    throw invalid(`${what} is not JSON: ${reasonOf(error)}`, error);
  }
  throw invalid(`${what} is not JSON`);
}

/** A query with what is set. */
export function query(fields: Record<string, string | number | undefined>): string {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(fields)) {
    if (value !== undefined) params.append(name, String(value));
  }
  const text = params.toString();
  return text === '' ? '' : `?${text}`;
}

interface Exchanged {
  status: number;
  body: string;
  retryAfterMs: number | undefined;
}

/** One attempt, its answer read whole. */
async function exchange(transport: Transport, call: Call): Promise<Exchanged> {
  const limit = deadline(call.attemptMs ?? ATTEMPT_MS, call.signal);
  try {
    const response = await transport.fetch(transport.url + call.path, {
      method: call.method,
      headers: {
        accept: 'application/json, application/x-ndjson, application/problem+json',
        ...(call.body === undefined ? {} : { 'content-type': call.contentType ?? 'application/json' }),
        ...(await transport.authorization()),
        ...call.headers,
      },
      body: call.body ?? null,
      redirect: 'manual',
      signal: limit.signal,
    });
    const body = await readWhole(response, call.answerBytesMax ?? ANSWER_BYTES_MAX);
    return { status: response.status, body, retryAfterMs: retryAfterMs(response.headers) };
  } finally {
    limit.clear();
  }
}

/** The text of a body that is not larger than it may be. */
export async function readWhole(response: Response, bytesMax: number): Promise<string> {
  if (response.body === null) return '';
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let text = '';
  let bytes = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    bytes += value.byteLength;
    if (bytes > bytesMax) {
      reader.cancel().catch(() => {});
      throw new TidingsError('answer_invalid', `an answer of more than ${bytesMax} bytes`, { status: response.status });
    }
    text += decoder.decode(value, { stream: true });
  }
}

function aborted(signal: AbortSignal, committed: boolean | undefined): TidingsError {
  const message = `the request was aborted: ${reasonOf(signal.reason)}`;
  return new TidingsError('aborted', message, { committed, cause: signal.reason });
}

function unknown(error: TidingsError): TidingsError {
  const { status, detail, retryAfterMs } = error;
  return new TidingsError(error.code, error.message, { status, detail, retryAfterMs });
}
