// Owns: a request of a page on its way to the server, and back. Does not know: what the grant allows; the server does.
// Flow: in ← a `Request`, who made it · out → the server's `Response`, or one that says why not.

import type { Grant } from '@tidings/node/token';
import { keyOf, sign, type Key, type Signed } from './grant.js';
import { ANSWER_MS, BODY_BYTES_MAX, END_EARLY_MS, MAX_DURATION_S, TOKEN_MARGIN_S } from './limits.js';
import { isCrossSite } from './origin.js';
import { comeBack, HEADERS, isEventSource, refuse } from './refusal.js';
import { relay } from './relay.js';
import { queryOf, routeOf, type RouteOptions } from './routes.js';

export interface ProxyOptions extends RouteOptions {
  /** Where the server is, for this process: `http://127.0.0.1:4080`. */
  url: string | URL | undefined;
  /** What the server checks tokens with: a secret of at least 32 bytes, or a private key. It never leaves this process. */
  key: Key | undefined;
  /** What whoever made this request may do; `null` for nothing. It is asked for every request, and every reconnect. */
  authorize(request: Request): Grant | null | Promise<Grant | null>;
  /** How long a response may last, in seconds, as the platform has it (900). Streams end three seconds before. */
  maxDuration?: number | undefined;
  /** Origins beside the application's own whose pages may write: `https://admin.example`. */
  origins?: readonly string[] | undefined;
  /** Hears of what `authorize` threw, and of a server that cannot be reached (`console.error`). */
  onError?: ((error: unknown) => void) | undefined;
  fetch?: typeof fetch | undefined;
}

/** A web-standard handler. */
export type Handler = (request: Request) => Promise<Response>;

/** The handlers of a route file: `export const { GET, HEAD, POST, DELETE } = tidingsProxy({ … })`. */
export interface TidingsProxy {
  GET: Handler;
  HEAD: Handler;
  POST: Handler;
  DELETE: Handler;
  /** Any of them, for frameworks that have one handler for all methods. */
  handler: Handler;
}

/** Sends what pages ask for to the server, in the name of who is logged in. */
export function tidingsProxy(options: ProxyOptions): TidingsProxy {
  const { maxDuration = MAX_DURATION_S } = options;
  if (!(maxDuration > 0)) throw new TypeError(`maxDuration is ${maxDuration}, not a number of seconds`);
  // A build runs this file too, where neither is set: then the first request says what is missing.
  const settings = lazily(() => settled(options));
  const handler = (request: Request) => answer(request, settings, options, maxDuration);
  return { GET: handler, HEAD: handler, POST: handler, DELETE: handler, handler };
}

interface Settings {
  url: string;
  key: Key;
  fetch: typeof fetch;
  onError(error: unknown): void;
}

function settled({ url, key, onError, fetch: given }: ProxyOptions): Settings {
  if (url === undefined || key === undefined) throw new TypeError('tidingsProxy needs `url` and `key`');
  keyOf(key);
  const { origin, pathname } = new URL(url);
  return {
    url: origin + pathname.replace(/\/+$/, ''),
    key,
    fetch: given ?? ((input, init) => fetch(input, init)),
    onError: onError ?? ((error) => console.error('tidings proxy:', error)),
  };
}

async function answer(
  request: Request,
  settings: () => Settings,
  options: ProxyOptions,
  maxDuration: number,
): Promise<Response> {
  const url = new URL(request.url);
  const position = positionOf(request, url);
  const path = routeOf(request.method, url, options);
  if (path === undefined) return refuse(request, 'not_found', position);
  if (isCrossSite(request, options.origins ?? [])) return refuse(request, 'cross_site', position);
  const set = settings();
  let signed: Signed | undefined;
  try {
    const grant = await options.authorize(request);
    signed = grant === null ? undefined : await sign(grant, set.key, Math.ceil(maxDuration) + TOKEN_MARGIN_S);
  } catch (error) {
    set.onError(error);
    return refuse(request, 'auth_unavailable', position);
  }
  if (signed === undefined) return refuse(request, 'unauthorized', position);
  const body = await bodyOf(request);
  if (body === undefined) return refuse(request, 'body_too_large', position);
  const endMs = endOf(maxDuration, signed.exp);
  return forward({ request, target: set.url + path + queryOf(url, signed.subject), position, signed, body, endMs, set });
}

interface Forward {
  request: Request;
  target: string;
  position: string;
  signed: Signed;
  body: Uint8Array<ArrayBuffer> | null;
  endMs: number;
  set: Settings;
}

async function forward({ request, target, position, signed, body, endMs, set }: Forward): Promise<Response> {
  const upstream = new AbortController();
  const gone = () => upstream.abort();
  if (request.signal.aborted) gone();
  else request.signal.addEventListener('abort', gone);
  const letGo = () => {
    request.signal.removeEventListener('abort', gone);
    upstream.abort();
  };
  const timer = setTimeout(gone, ANSWER_MS);
  let response: Response;
  try {
    response = await set.fetch(target, {
      method: request.method,
      headers: headersFor(request, signed.token, position),
      body,
      cache: 'no-store',
      redirect: 'manual',
      signal: upstream.signal,
    });
  } catch (error) {
    letGo();
    if (!request.signal.aborted) set.onError(error);
    return refuse(request, 'upstream_unreachable', position);
  } finally {
    clearTimeout(timer);
  }
  const isStream = response.status === 200 && isOfType(response, 'text/event-stream');
  if (isEventSource(request) && !isStream && isPassing(response.status)) {
    letGo();
    return comeBack();
  }
  const headers = headersFrom(response);
  if (response.body === null || request.method === 'HEAD') {
    letGo();
    return new Response(null, { status: response.status, headers });
  }
  const { status } = response;
  if (isStream) return new Response(relay({ body: response.body, signal: upstream.signal, onEnd: letGo, endMs }), { status, headers });
  // A file ends with its last byte, and is cut with the request.
  return new Response(until(response.body, letGo), { status, headers });
}

/** Overload, drain, and whatever a proxy in between makes of a server that is away. */
function isPassing(status: number): boolean {
  return status >= 500 || status === 429 || status === 408 || status === 425;
}

/** The grant's own end comes first where there is one: the reconnect asks for a new one. */
function endOf(maxDuration: number, exp: number | undefined): number {
  const most = maxDuration * 1_000;
  const left = exp === undefined ? most : Math.min(most, exp * 1_000 - Date.now());
  return Math.max(left - END_EARLY_MS, left / 2);
}

const PASSED_ON = [
  'accept',
  'content-type',
  'idempotency-key',
  'if-match',
  'if-modified-since',
  'if-none-match',
  'if-range',
  'if-unmodified-since',
  'range',
  'x-forwarded-for',
];

/** The application's cookies and credentials stay here. */
function headersFor(request: Request, token: string, position: string): Headers {
  const headers = new Headers({ authorization: `Bearer ${token}`, 'accept-encoding': 'identity' });
  for (const name of PASSED_ON) {
    const value = request.headers.get(name);
    if (value !== null) headers.set(name, value);
  }
  // The mark alone is of a refusal of ours, which had no position.
  if (position !== '' && position !== '~s') headers.set('last-event-id', position);
  return headers;
}

const PASSED_BACK = [
  'accept-ranges',
  'content-disposition',
  'content-length',
  'content-range',
  'content-type',
  'etag',
  'last-modified',
  'location',
  'retry-after',
  'vary',
];

function headersFrom(response: Response): Headers {
  const headers = new Headers(HEADERS);
  for (const name of PASSED_BACK) {
    const value = response.headers.get(name);
    if (value !== null) headers.set(name, value);
  }
  // A client may keep a file and ask whether it is still that. Its length and its ranges are those of the bytes as they are,
  // so the framework must not compress it.
  const caching = response.headers.get('cache-control');
  if (response.headers.has('content-disposition') && caching !== null) {
    headers.set('cache-control', `${caching}, no-transform`);
  }
  return headers;
}

function isOfType(response: Response, type: string): boolean {
  return response.headers.get('content-type')?.split(';')[0]?.trim().toLowerCase() === type;
}

/** Where the client stands: the header goes before the query, as with the server. */
function positionOf(request: Request, url: URL): string {
  return (
    request.headers.get('last-event-id') || url.searchParams.get('last_event_id') || url.searchParams.get('lastEventId') || ''
  );
}

/** The body, `null` if there is none, `undefined` if it is larger than any that the server takes. */
async function bodyOf(request: Request): Promise<Uint8Array<ArrayBuffer> | null | undefined> {
  if (request.body === null || request.method === 'GET' || request.method === 'HEAD') return null;
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  const reader = request.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    bytes += value.byteLength;
    if (bytes > BODY_BYTES_MAX) {
      reader.cancel().catch(() => {});
      return undefined;
    }
    pieces.push(value);
  }
  const body = new Uint8Array(bytes);
  let at = 0;
  for (const piece of pieces) {
    body.set(piece, at);
    at += piece.byteLength;
  }
  return body;
}

/** The same body, and a word when it is over. */
function until(body: ReadableStream<Uint8Array>, onEnd: () => void): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (!done) {
          controller.enqueue(value);
          return;
        }
        controller.close();
      } catch (error) {
        // A file that is cut must not look whole.
        controller.error(error);
      }
      onEnd();
    },
    cancel() {
      reader.cancel().catch(() => {});
      onEnd();
    },
  });
}

function lazily<T>(make: () => T): () => T {
  let made: { value: T } | undefined;
  return () => (made ??= { value: make() }).value;
}
