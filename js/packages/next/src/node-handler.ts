// Owns: a web-standard handler as one of Node's own servers, Express and Connect. Does not know: what it answers.
// Flow: in ← `IncomingMessage` · out → `ServerResponse`, as fast as the client reads.

import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Handler } from './proxy.js';

/** What Express and the like add. */
type Incoming = IncomingMessage & { originalUrl?: string; protocol?: string; body?: unknown };

export type NodeHandler = (request: Incoming, response: ServerResponse, next?: (error?: unknown) => void) => void;

/** `app.use('/rt', toNodeHandler(tidingsProxy({ … })))`. Before body parsers, or behind one that reads JSON. */
export function toNodeHandler(proxy: { handler: Handler } | Handler): NodeHandler {
  const handler = typeof proxy === 'function' ? proxy : proxy.handler;
  return (incoming, outgoing, next) => {
    respond(handler, incoming, outgoing).catch((error: unknown) => {
      if (next !== undefined && !outgoing.headersSent) next(error);
      else outgoing.destroy(error instanceof Error ? error : new Error(String(error)));
    });
  };
}

async function respond(handler: Handler, incoming: Incoming, outgoing: ServerResponse): Promise<void> {
  const gone = new AbortController();
  // On the response: a request "closes" as soon as it was read.
  outgoing.on('close', () => gone.abort());
  const response = await handler(toRequest(incoming, gone.signal));
  if (outgoing.destroyed) {
    await response.body?.cancel();
    return;
  }
  outgoing.statusCode = response.status;
  response.headers.forEach((value, name) => {
    if (name !== 'set-cookie') outgoing.setHeader(name, value);
  });
  const cookies = response.headers.getSetCookie();
  if (cookies.length > 0) outgoing.setHeader('set-cookie', cookies);
  // Otherwise Node says `keep-alive`, which proxies pass on to where it is forbidden.
  outgoing.removeHeader('connection');
  outgoing.flushHeaders();
  if (response.body !== null) await pour(response.body, outgoing, gone.signal);
  outgoing.end();
}

async function pour(body: ReadableStream<Uint8Array>, outgoing: ServerResponse, gone: AbortSignal): Promise<void> {
  const reader = body.getReader();
  const cancel = () => void reader.cancel().catch(() => {});
  gone.addEventListener('abort', cancel);
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done || gone.aborted) return;
      if (!outgoing.write(value)) await drained(outgoing);
    }
  } finally {
    gone.removeEventListener('abort', cancel);
  }
}

function drained(outgoing: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      outgoing.off('drain', end);
      outgoing.off('close', end);
      resolve();
    };
    outgoing.on('drain', end);
    outgoing.on('close', end);
  });
}

function toRequest(incoming: Incoming, signal: AbortSignal): Request {
  const method = incoming.method ?? 'GET';
  const headers = new Headers();
  for (const [name, value] of Object.entries(incoming.headers)) {
    // `:authority` and the like of HTTP/2 are no headers.
    if (value === undefined || name.startsWith(':')) continue;
    for (const one of Array.isArray(value) ? value : [value]) headers.append(name, one);
  }
  // The server counts streams by the address that its nearest proxy names last, and that is this.
  const { remoteAddress } = incoming.socket;
  if (remoteAddress !== undefined) headers.append('x-forwarded-for', remoteAddress);
  const isSecure = 'encrypted' in incoming.socket && incoming.socket.encrypted === true;
  const protocol = incoming.protocol ?? (isSecure ? 'https' : 'http');
  const host = headers.get('host') ?? String(incoming.headers[':authority'] ?? 'localhost');
  const url = new URL(incoming.originalUrl ?? incoming.url ?? '/', `${protocol}://${host}`);
  const body = method === 'GET' || method === 'HEAD' ? null : bodyOf(incoming);
  const init: RequestInit & { duplex: 'half' } = { method, headers, body, signal, duplex: 'half' };
  return new Request(url, init);
}

/** What is still to be read, or what a body parser made of it. */
function bodyOf(incoming: Incoming): BodyInit | null {
  const { body } = incoming;
  if (!incoming.readableEnded) return pieces(incoming);
  if (body === undefined) return null;
  return typeof body === 'string' || body instanceof Uint8Array ? (body as BodyInit) : JSON.stringify(body);
}

function pieces(incoming: AsyncIterable<Uint8Array>): ReadableStream<Uint8Array> {
  const iterator = incoming[Symbol.asyncIterator]();
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { done, value } = await iterator.next();
      if (done) controller.close();
      else controller.enqueue(new Uint8Array(value));
    },
    async cancel() {
      await iterator.return?.();
    },
  });
}
