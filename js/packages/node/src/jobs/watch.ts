// Owns: following a job to its end over any number of connections. Does not know: how its events are shown.
// Flow: in ← the job's stream · out → typed items, the last of which ends it.

import { createBackoff } from '../backoff.js';
import { noAnswer, passes, readWhole, retryAfterMs, segment, type Transport } from '../call.js';
import { parsed, problem, record, TidingsError } from '../error.js';
import { ANSWER_BYTES_MAX, KEEPALIVE_MS, RETRY_FLOOR_MAX_MS, RETRY_RESET_MS, STALL_PERIODS } from '../limits.js';
import { deadline, sleep } from '../wait.js';
import type { Job, LogLine } from './document.js';
import { createStreamParser, type StreamEvent } from './stream.js';

/** What happens to a job. */
export type JobItem<R = unknown> = { readonly id: string } & (
  | { readonly type: 'progress'; readonly job: Job<R> }
  | { readonly type: 'log'; readonly log: LogLine }
  | { readonly type: 'output'; readonly chunk: unknown }
  | { readonly type: 'complete'; readonly job: Job<R> }
  | { readonly type: 'error'; readonly error: JobEnded }
  /** Events are gone that were not seen; the state that follows is right again. */
  | { readonly type: 'reset'; readonly reason: string }
);

/** Why a job ended without a result. */
export interface JobEnded {
  state: 'failed' | 'cancelled' | 'expired';
  message: string;
  code: string;
  attempt: number;
}

export interface WatchOptions {
  /** `start`: with the first event that is retained, instead of the state now; or behind an id that was seen earlier. */
  from?: 'start' | { readonly id: string } | undefined;
  signal?: AbortSignal | undefined;
}

/** The events of a job. It reconnects by itself, and ends behind `complete` or `error`. */
export async function* watch<R>(
  transport: Transport,
  id: string,
  options: WatchOptions = {},
): AsyncGenerator<JobItem<R>, void, undefined> {
  const { from, signal } = options;
  const path = `/v1/jobs/${segment(id)}/events`;
  let position = typeof from === 'object' ? from.id : '';
  const backoff = createBackoff({ floorMaxMs: RETRY_FLOOR_MAX_MS });
  let floorMs = 0;
  let spreadMs: number | undefined;
  for (;;) {
    const limit = deadline(KEEPALIVE_MS * STALL_PERIODS, signal);
    const begun = performance.now();
    try {
      const response = await open(transport, path + (from === 'start' && position === '' ? '?from=start' : ''), position, limit.signal);
      if (response === null) return;
      let keepaliveMs = KEEPALIVE_MS;
      const parser = createStreamParser(position);
      for await (const chunk of chunks(response, limit.signal)) {
        const events = parser.push(chunk);
        floorMs = parser.retryMs ?? floorMs;
        for (const event of events) {
          if (event.event === 'tidings.hello') keepaliveMs = number(event, 'keepalive_ms') ?? keepaliveMs;
          if (event.event === 'tidings.drain') spreadMs = number(event, 'spread_ms');
          if (event.event === 'tidings.unauthorized') throw new TidingsError('unauthorized', 'the stream was refused', { status: 200 });
          const item = itemOf<R>(event);
          if (item !== undefined) {
            // Who handles the item may take its time: meanwhile nothing is read, and that is no silence of the server.
            limit.restart(2 ** 31 - 1);
            yield item;
          }
          // Behind the item: what was not dealt with comes again.
          position = event.lastEventId;
          if (item?.type === 'complete' || item?.type === 'error') return;
        }
        limit.restart(keepaliveMs * STALL_PERIODS);
      }
    } catch (thrown) {
      if (signal?.aborted) throw new TidingsError('aborted', 'the watch was aborted', { cause: signal.reason });
      const error = thrown instanceof TidingsError ? thrown : noAnswer(thrown);
      if (!passes(error)) throw error;
      floorMs = Math.max(floorMs, error.retryAfterMs ?? 0);
    } finally {
      limit.clear();
    }
    if (performance.now() - begun >= RETRY_RESET_MS) backoff.reset();
    await sleep(spreadMs === undefined ? backoff.next(floorMs) : spreadMs * Math.random(), signal);
    spreadMs = undefined;
    if (signal?.aborted) throw new TidingsError('aborted', 'the watch was aborted', { cause: signal.reason });
  }
}

/** The stream; `null` if everything was delivered before. */
async function open(
  transport: Transport,
  path: string,
  position: string,
  signal: AbortSignal,
): Promise<ReadableStream<Uint8Array> | null> {
  const response = await transport.fetch(transport.url + path, {
    headers: {
      accept: 'text/event-stream, application/problem+json',
      ...(position === '' ? {} : { 'last-event-id': position }),
      ...(await transport.authorization()),
    },
    redirect: 'manual',
    signal,
  });
  if (response.status === 204) return null;
  const essence = response.headers.get('content-type')?.split(';')[0]?.trim().toLowerCase();
  if (response.status === 200 && essence === 'text/event-stream' && response.body !== null) return response.body;
  const body = await readWhole(response, ANSWER_BYTES_MAX);
  // A 200 of another type is a login page or the like in between, and those pass.
  throw response.status === 200
    ? noAnswer(new Error(`an answer of type ${essence ?? 'unknown'}`))
    : problem(response.status, body, retryAfterMs(response.headers));
}

async function* chunks(body: ReadableStream<Uint8Array>, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const reader = body.getReader();
  // Not every fetch ends a body that is being read when its signal is aborted.
  const cancel = () => void reader.cancel(signal.reason).catch(() => {});
  signal.addEventListener('abort', cancel, { once: true });
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (signal.aborted) throw signal.reason;
      if (done) return;
      yield value;
    }
  } finally {
    signal.removeEventListener('abort', cancel);
    cancel();
  }
}

function itemOf<R>({ event, data, lastEventId: id }: StreamEvent): JobItem<R> | undefined {
  const value = parsed(data);
  switch (event) {
    case 'progress':
      return { id, type: 'progress', job: value as Job<R> };
    case 'log':
      return { id, type: 'log', log: value as LogLine };
    case 'output':
      return { id, type: 'output', chunk: record(value)?.['chunk'] };
    case 'complete':
      return { id, type: 'complete', job: value as Job<R> };
    case 'error':
      return { id, type: 'error', error: value as JobEnded };
    case 'tidings.reset':
      return { id, type: 'reset', reason: String(record(value)?.['reason']) };
    // Control events, and those of a newer server.
    default:
      return undefined;
  }
}

function number(event: StreamEvent, name: string): number | undefined {
  const value = record(parsed(event.data))?.[name];
  return typeof value === 'number' && value > 0 ? value : undefined;
}
