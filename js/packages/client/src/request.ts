// Requests beside the stream: tickets, channels, history, jobs, renewals.
//
// Owns: their bodies, limits and answers. Does not know: what is asked.
// Whatever asks them is fetched when it is needed, and this with it.

import { KEEPALIVE_DEFAULT_MS } from './limits.js';
import type { Context } from './link.js';

export interface CallOptions {
  body?: unknown;
  signal?: AbortSignal | undefined;
  /** How long the whole answer may take. */
  limitMs?: number | undefined;
  token?: string | null | undefined;
}

/** What `v1/…` is beside. */
export function rootOf({ api: { beside }, options }: Context): string {
  return beside.origin + beside.pathname.replace(options.api === undefined ? /(\/v1)?\/[^/]*$/ : /\/$/, '');
}

/** The JSON of a path below `/v1/`; throws a `TidingsError` for everything but 2xx. */
export function call(context: Context, method: string, path: string, options?: CallOptions): Promise<unknown> {
  const { stream } = context.api;
  const { stallTimeout } = context.options;
  const url = new URL(`${rootOf(context)}/v1/${path}`);
  // What the stream's URL says of the caller (`as`) goes for its other requests too.
  for (const [name, value] of stream.searchParams) url.searchParams.append(name, value);
  // Silence is no answer here either.
  return send(context, method, url, { limitMs: typeof stallTimeout === 'number' ? stallTimeout : 2.5 * KEEPALIVE_DEFAULT_MS, ...options });
}

/** The same for any URL of the server. */
export async function send({ api, env, errors }: Context, method: string, url: URL, { body, signal, limitMs, token }: CallOptions = {}): Promise<unknown> {
  const own = new AbortController();
  const abort = (): void => own.abort();
  if (signal?.aborted) abort();
  signal?.addEventListener('abort', abort);
  const timer = limitMs && env.setTimeout(abort, limitMs);
  const init: RequestInit = { method, cache: 'no-store', signal: own.signal };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { 'content-type': 'application/json' };
  }
  let status: number | undefined;
  let raw = '';
  try {
    const answer = await api.fetch(url, init, token);
    if (!answer.ok) throw await errors.problem(answer);
    raw = await answer.text();
    status = answer.status;
    return raw && (JSON.parse(raw) as unknown);
  } catch (cause) {
    if (cause instanceof errors.TidingsError) throw cause;
    // An answer that has come as a whole, but is not JSON.
    const code = status === undefined ? 'network' : 'http';
    throw new errors.TidingsError(code, `${method} ${url.pathname}: ${String(cause)}`, { cause, status, raw: raw.slice(0, 1_000) });
  } finally {
    env.clearTimeout(timer);
    signal?.removeEventListener('abort', abort);
  }
}

/** It stands for the token in the URL of one stream. */
export async function ticket(context: Context, signal: AbortSignal): Promise<string> {
  return ((await call(context, 'POST', 'tickets', { body: {}, signal })) as { ticket: string }).ticket;
}
