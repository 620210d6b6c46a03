// One attempt at a stream, over `fetch`.
//
// Owns: the request, the table of statuses, bytes to blocks. Does not know: what is tried next.
// Flow: a URL → `Sink` as it goes → how it ended.

import type { Api } from './api.js';
import { isPassing, problem, TidingsError } from './error.js';
import { createParser, type Block } from './parse.js';
import type { CloseReason } from './status.js';

export interface Attempt {
  url: URL;
  /** Of its own: the position, where a header may have it. */
  headers: Record<string, string>;
  /** The URL has a ticket, so no token is sent. */
  ticket: boolean;
  signal: AbortSignal;
}

/** Where an attempt's stream goes. */
export interface Sink {
  open(): void;
  /** A sign of life. */
  alive(): void;
  retry(ms: number): void;
  /** A promise holds the stream back. */
  block(block: Block): void | Promise<void>;
}

/** How an attempt ended, if it did not throw; it is of no interest after an abort. */
export interface Outcome {
  reason: CloseReason;
  /** What another try does not change: the code of the refusal, or `done`. */
  final?: string | undefined;
  /** Of a refusal: what it is about, if not the whole stream. */
  channels?: readonly string[] | void;
  /** The header. */
  retryAfter?: string | null | undefined;
  /** Worth another try at once. */
  now?: boolean;
  /** There was no attempt, because of this. */
  error?: TidingsError | undefined;
}

export type Transport = (attempt: Attempt, sink: Sink) => Promise<Outcome>;

const REASONS: Record<number, CloseReason['code']> = { 401: 'unauthorized', 403: 'forbidden', 404: 'not_found', 410: 'not_found' };

export function fetchTransport(api: Api): Transport {
  return async ({ url, headers, ticket, signal }, sink) => {
    const accept = 'text/event-stream, application/problem+json';
    const answer = await api.fetch(url, { headers: { accept, ...headers }, cache: 'no-store', signal }, ticket ? null : undefined);
    const type = answer.headers.get('content-type') ?? '';
    if (answer.status !== 200 || !answer.body || !/^text\/event-stream\s*(;|$)/i.test(type)) return refusal(answer, type);
    sink.open();
    const reader = answer.body.getReader();
    const parser = createParser(sink.retry);
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return { reason: { code: 'ended', message: 'the stream ended' } };
        sink.alive();
        for (const block of parser.push(value)) {
          const held = sink.block(block);
          if (held) await held;
        }
      }
    } finally {
      // A stream that is left may not go on in the background.
      reader.cancel().catch(() => {});
    }
  };
}

async function refusal(answer: Response, type: string): Promise<Outcome> {
  const { status } = answer;
  if (status === 204) return { reason: { code: 'done', message: 'the channels are finished' }, final: 'done' };
  const { code, message } = await problem(answer);
  if (status === 200) {
    const message = `${type || 'an answer'} is not a stream; a log-in page or a proxy?`;
    return { reason: { code: 'content_type', status, message }, error: new TidingsError('http', message, { status }) };
  }
  const final = status >= 400 && !isPassing(status);
  return {
    reason: { code: REASONS[status] ?? (final ? 'bad_request' : code === 'draining' ? 'server_drain' : 'http'), status, message },
    final: status === 401 ? 'unauthorized' : final ? code : undefined,
    retryAfter: answer.headers.get('retry-after'),
  };
}
