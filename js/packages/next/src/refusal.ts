// Owns: the answers that the proxy gives by itself, so that an `EventSource` survives those that pass.
// Does not know: why. Flow: in ← a request, a code · out → a response.

import { RETRY_MS, RETRY_REFUSED_MS } from './limits.js';

export type ProxyCode =
  | 'unauthorized'
  | 'cross_site'
  | 'not_found'
  | 'body_too_large'
  /** `authorize` threw. */
  | 'auth_unavailable'
  /** The server could not be reached. */
  | 'upstream_unreachable';

const PROBLEMS: Record<ProxyCode, readonly [number, string]> = {
  unauthorized: [401, 'No credentials, or none that cover this'],
  cross_site: [403, 'The request comes from another site'],
  not_found: [404, 'There is nothing here'],
  body_too_large: [413, 'The body is too large'],
  auth_unavailable: [503, 'Credentials could not be checked'],
  upstream_unreachable: [502, 'The server could not be reached'],
};

/** Browsers send just this; our own clients say that they read problems too. */
export function isEventSource(request: Request): boolean {
  return request.headers.get('accept')?.trim() === 'text/event-stream';
}

/** The head of everything that is no file. Never `Connection`: it is not this layer's to say. */
export const HEADERS: Readonly<Record<string, string>> = {
  'cache-control': 'no-store, no-transform',
  'x-accel-buffering': 'no',
  'x-content-type-options': 'nosniff',
};

export function refuse(request: Request, code: ProxyCode, position: string): Response {
  const [status, title] = PROBLEMS[code];
  if (isEventSource(request)) {
    // Any other status ends it for good.
    if (status >= 500) return comeBack();
    if (code === 'unauthorized') return position.endsWith('~s') ? stop() : unauthorized(position);
  }
  const headers: Record<string, string> = { ...HEADERS, 'content-type': 'application/problem+json' };
  if (status >= 500) headers['retry-after'] = '2';
  // Nothing of it was sent on, save where the server did not answer.
  const committed = code === 'upstream_unreachable' ? {} : { committed: false };
  return new Response(JSON.stringify({ code, status, title, ...committed }), { status, headers });
}

/** A stream that ends at once, to be tried again later. */
export function comeBack(): Response {
  return stream(`retry: ${between(RETRY_REFUSED_MS)}\n\n`);
}

/** What ends a response as planned. */
export function retrySoon(): string {
  return `retry: ${between(RETRY_MS)}\n\n`;
}

/** The mark on the id makes the reconnect ask for the end; a request with it goes on if the reason is gone. */
function unauthorized(position: string): Response {
  return stream(`event: tidings.unauthorized\ndata: {"code":"unauthorized"}\nid: ${position}~s\n\n`);
}

function stop(): Response {
  return new Response(null, { status: 204, headers: HEADERS });
}

function stream(text: string): Response {
  return new Response(text, { headers: { ...HEADERS, 'content-type': 'text/event-stream; charset=utf-8' } });
}

function between([least, most]: readonly [number, number]): number {
  return Math.floor(least + Math.random() * (most - least));
}
