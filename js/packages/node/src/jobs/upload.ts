// Owns: a file on its way to the server, and noticing that nothing moves. Does not know: jobs, leases.
// Flow: in ← bytes, a path, a stream · out → a request body that is never in memory as a whole, and the answer.

import { createBackoff } from '../backoff.js';
import { noAnswer, passes, readWhole, retryAfterMs, type Answer, type Transport } from '../call.js';
import { invalid, problem, reasonOf, TidingsError } from '../error.js';
import { ANSWER_BYTES_MAX, RETRY_AFTER_MAX_MS, UPLOAD_STALL_MS, UPLOADS_MAX } from '../limits.js';
import { deadline, sleep } from '../wait.js';

/** What to store as a file of a job. A stream is sent once, since it can be read once; the others are sent again after a
 * failure that may pass. */
export type UploadSource =
  | string
  | Uint8Array
  | ArrayBuffer
  | Blob
  /** A file of this machine, read while it is sent. */
  | { readonly file: string | URL }
  /** A web stream, or a stream of Node. */
  | ReadableStream<Uint8Array>
  | AsyncIterable<Uint8Array | string>;

export interface Upload {
  path: string;
  source: UploadSource;
  contentType?: string | undefined;
  lease?: string | undefined;
  signal?: AbortSignal | undefined;
}

/** Stores a file. One of the same name is replaced, so a repeat does no harm. */
export async function upload(transport: Transport, request: Upload): Promise<Answer> {
  const backoff = createBackoff({ floorMaxMs: RETRY_AFTER_MAX_MS });
  const isRepeatable = !isStream(request.source);
  for (;;) {
    const isRepeat = backoff.attempts > 0;
    let error: TidingsError;
    try {
      const answer = await put(transport, request);
      if (answer.status < 300) return { ...answer, isRepeat };
      error = problem(answer.status, answer.body, answer.retryAfterMs);
    } catch (thrown) {
      if (request.signal?.aborted) throw abortedUpload(request.signal);
      error = thrown instanceof TidingsError ? thrown : noAnswer(thrown);
    }
    if (!isRepeatable || !passes(error) || backoff.attempts + 1 >= UPLOADS_MAX) throw error;
    await sleep(backoff.next(error.retryAfterMs), request.signal);
    if (request.signal?.aborted) throw abortedUpload(request.signal);
  }
}

interface Put {
  status: number;
  body: string;
  retryAfterMs: number | undefined;
}

async function put(transport: Transport, request: Upload): Promise<Put> {
  const stall = deadline(UPLOAD_STALL_MS, request.signal);
  let faulty: TidingsError | undefined;
  try {
    const source = await opened(request.source);
    const isWhole = typeof source === 'string' || source instanceof Uint8Array || source instanceof Blob;
    const body = isWhole
      ? source
      : counted(source, () => stall.restart(UPLOAD_STALL_MS), (thrown) => {
          faulty = invalid(`the file cannot be read: ${reasonOf(thrown)}`, thrown);
        });
    const init: RequestInit & { duplex?: 'half' } = {
      method: 'PUT',
      headers: {
        accept: 'application/json, application/problem+json',
        ...(request.contentType === undefined ? {} : { 'content-type': request.contentType }),
        ...(request.lease === undefined ? {} : { 'tidings-lease': request.lease }),
        ...(await transport.authorization()),
      },
      body: body as BodyInit,
      // What a stream needs, and nothing else minds.
      duplex: 'half',
      redirect: 'manual',
      signal: stall.signal,
    };
    const response = await transport.fetch(transport.url + request.path, init);
    const text = await readWhole(response, ANSWER_BYTES_MAX);
    return { status: response.status, body: text, retryAfterMs: retryAfterMs(response.headers) };
  } catch (thrown) {
    throw faulty ?? thrown;
  } finally {
    stall.clear();
  }
}

/** What can be sent now: a file is opened anew for each attempt. */
async function opened(
  source: UploadSource,
): Promise<string | Uint8Array | Blob | ReadableStream<Uint8Array> | AsyncIterable<Uint8Array | string>> {
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  if (typeof source === 'object' && 'file' in source) {
    const { createReadStream } = await import('node:fs');
    return createReadStream(source.file);
  }
  return source;
}

function isStream(source: UploadSource): boolean {
  return typeof source === 'object' && (source instanceof ReadableStream || Symbol.asyncIterator in source);
}

/** The stream, telling of each piece that is taken and of its own failure. */
function counted(
  source: ReadableStream<Uint8Array> | AsyncIterable<Uint8Array | string>,
  onPiece: () => void,
  onFault: (thrown: unknown) => void,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  const pieces = iterate(source);
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const { done, value } = await pieces.next();
          onPiece();
          if (done) controller.close();
          else controller.enqueue(typeof value === 'string' ? encoder.encode(value) : value);
        } catch (thrown) {
          onFault(thrown);
          controller.error(thrown);
        }
      },
      async cancel(reason) {
        await pieces.return?.(reason);
      },
    },
    { highWaterMark: 0 },
  );
}

function iterate(
  source: ReadableStream<Uint8Array> | AsyncIterable<Uint8Array | string>,
): AsyncIterator<Uint8Array | string> {
  if (!(source instanceof ReadableStream)) return source[Symbol.asyncIterator]();
  const reader = source.getReader();
  return {
    next: () => reader.read() as Promise<IteratorResult<Uint8Array>>,
    return: async (reason?: unknown) => {
      await reader.cancel(reason);
      return { done: true, value: undefined };
    },
  };
}

function abortedUpload(signal: AbortSignal): TidingsError {
  const { reason } = signal as { reason: unknown };
  if (reason instanceof TidingsError) return reason;
  return new TidingsError('aborted', `the upload was aborted: ${reasonOf(reason)}`, { cause: reason });
}
