// One attempt at a stream, over `fetch`.
//
// Owns: the request, the table of statuses, bytes to blocks. Does not know: what is tried next.
// Flow: a URL → `Sink` as it goes → how it ended.

import { problem } from './api.js';
import { retryAfterMs } from './backoff.js';
import { createParser, type Block } from './parse.js';
import type { CloseReason } from './status.js';

export interface Attempt {
  url: URL;
  /** The position, where a header may have it. */
  lastEventId: string | null;
  token: string | null;
  credentials: RequestCredentials;
  signal: AbortSignal;
}

/** Where an attempt's stream goes. */
export interface Sink {
  open(response: Response | null): void;
  /** A sign of life. */
  alive(): void;
  retry(ms: number): void;
  /** A promise holds the stream back. */
  block(block: Block): void | Promise<void>;
}

/** How an attempt ended. */
export type Outcome =
  /** In good order, or by a broken connection. */
  | { kind: 'over'; clean: boolean; reason: CloseReason }
  | { kind: 'done' }
  /** Worth another try. */
  | { kind: 'failed'; reason: CloseReason; retryAfterMs?: number | undefined; report?: boolean }
  /** Credentials were refused. */
  | { kind: 'rejected'; reason: CloseReason }
  | { kind: 'final'; reason: CloseReason; code: string }
  | { kind: 'aborted' };

export type Transport = (attempt: Attempt, sink: Sink) => Promise<Outcome>;

const FINAL: Record<number, CloseReason['code']> = { 403: 'forbidden', 404: 'not_found', 410: 'not_found' };
const WORTH_ANOTHER_TRY = [408, 425, 429];

export function fetchTransport(send: typeof fetch, now: () => number): Transport {
  return async ({ url, lastEventId, token, credentials, signal }, sink) => {
    const headers: Record<string, string> = { accept: 'text/event-stream, application/problem+json' };
    if (lastEventId !== null) headers['last-event-id'] = lastEventId;
    if (token !== null) headers['authorization'] = `Bearer ${token}`;
    let response: Response;
    try {
      response = await send(url, { headers, credentials, cache: 'no-store', signal });
    } catch (cause) {
      if (signal.aborted) return { kind: 'aborted' };
      return { kind: 'failed', reason: { code: 'network', message: String(cause) } };
    }
    const type = response.headers.get('content-type') ?? '';
    if (response.status !== 200 || response.body === null || !/^text\/event-stream\s*(;|$)/i.test(type)) {
      return refusal(response, type, now());
    }
    sink.open(response);
    const reader = response.body.getReader();
    const parser = createParser(sink.retry);
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (signal.aborted) return { kind: 'aborted' };
        if (done) return { kind: 'over', clean: true, reason: { code: 'ended', message: 'the stream ended' } };
        sink.alive();
        for (const block of parser.push(value)) {
          const held = sink.block(block);
          if (held !== undefined) await held;
          if (signal.aborted) return { kind: 'aborted' };
        }
      }
    } catch (cause) {
      if (signal.aborted) return { kind: 'aborted' };
      return { kind: 'over', clean: false, reason: { code: 'network', message: String(cause) } };
    } finally {
      // A stream that is left may not go on in the background.
      reader.cancel().catch(() => {});
    }
  };
}

async function refusal(response: Response, type: string, now: number): Promise<Outcome> {
  const { status } = response;
  if (status === 204) return { kind: 'done' };
  if (status === 200) {
    await response.body?.cancel();
    const message = `${type === '' ? 'an answer without a type' : type} is not a stream; a log-in page or a proxy?`;
    return { kind: 'failed', reason: { code: 'content_type', status, message }, report: true };
  }
  const retryAfter = retryAfterMs(response.headers.get('retry-after'), now);
  const { code, message } = await problem(response);
  if (status === 401) return { kind: 'rejected', reason: { code: 'unauthorized', status, message } };
  if (status >= 400 && status < 500 && !WORTH_ANOTHER_TRY.includes(status)) {
    return { kind: 'final', code, reason: { code: FINAL[status] ?? 'bad_request', status, message } };
  }
  const reason: CloseReason = { code: code === 'draining' ? 'server_drain' : 'http', status, message };
  return { kind: 'failed', reason, retryAfterMs: retryAfter };
}
