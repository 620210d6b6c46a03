// Requests to the server.
//
// Owns: where its paths are, credentials, problems as errors. Does not know: what is asked.

import type { Auth } from './auth.js';
import type { Env } from './env.js';
import { TidingsError } from './error.js';
import { KEEPALIVE_DEFAULT_MS } from './limits.js';
import type { ClientOptions } from './options.js';

export interface Api {
  /** The stream's URL, with its own query. */
  readonly stream: URL;
  /** What `v1/…` is beside. */
  readonly root: string;
  /** Whether `url` needs no CORS. */
  ownOrigin(url: URL): boolean;
  /** A path on the server's origin, absolute where it begins with `/`. */
  resolve(path: string | URL): URL;
  credentials(url: URL): RequestCredentials;
  /** With the token, or with one that is not the current one yet, or with none. */
  fetch(path: string | URL, init?: RequestInit, token?: string | null): Promise<Response>;
  /** The JSON of a path below `/v1/`; throws a `TidingsError` for everything but 2xx. */
  call(method: string, path: string, options?: CallOptions): Promise<unknown>;
  /** The same for any URL of the server. */
  send(method: string, url: URL, options?: CallOptions): Promise<unknown>;
  /** Adds channels to an open stream; the position behind which their events come. */
  join(connection: string, channels: readonly string[]): Promise<string>;
}

export interface CallOptions {
  body?: unknown;
  signal?: AbortSignal | undefined;
  /** How long the whole answer may take. */
  limitMs?: number | undefined;
  token?: string | null | undefined;
}

export function createApi(options: ClientOptions, env: Env, auth: Auth): Api {
  const { base } = env.page;
  const { stallTimeout } = options;
  const stream = absolute(options.url ?? '/events');
  const { origin, pathname } = options.api === undefined ? stream : absolute(options.api);
  const root = origin + (options.api === undefined ? pathname.replace(/(\/v1)?\/[^/]*$/, '') : pathname.replace(/\/$/, ''));
  const fetch = options.fetch ?? env.fetch;

  function absolute(url: string | URL): URL {
    try {
      return new URL(url, base ?? undefined);
    } catch (cause) {
      throw new TypeError(`${String(url)} is not an absolute URL`, { cause });
    }
  }

  const api: Api = {
    stream,
    root,
    ownOrigin: (url) => base === null || new URL(base).origin === url.origin,
    resolve: (path) => new URL(path, stream),
    credentials: (url) => (auth.cookie && url.origin === stream.origin ? 'include' : 'same-origin'),
    async fetch(path, init = {}, token) {
      const url = api.resolve(path);
      const send = (bearer: string | null): Promise<Response> => {
        const headers = new Headers(init.headers);
        if (bearer !== null && !headers.has('authorization')) headers.set('authorization', `Bearer ${bearer}`);
        return fetch(url, { credentials: api.credentials(url), ...init, headers });
      };
      if (token !== undefined) return send(token);
      const first = url.origin === stream.origin ? await auth.token() : null;
      const answer = await send(first);
      // A token that is refused is asked for again, once.
      if (answer.status !== 401 || first === null || !(await auth.rejected(first))) return answer;
      await answer.body?.cancel();
      return send(await auth.token());
    },
    call(method, path, options) {
      const url = new URL(`${root}/v1/${path}`);
      // What the stream's URL says of the caller (`as`) goes for its other requests too.
      for (const [name, value] of stream.searchParams) url.searchParams.append(name, value);
      // Silence is no answer here either.
      return api.send(method, url, { limitMs: typeof stallTimeout === 'number' ? stallTimeout : 2.5 * KEEPALIVE_DEFAULT_MS, ...options });
    },
    async send(method, url, { body, signal, limitMs, token } = {}) {
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
        if (!answer.ok) throw await problem(answer);
        raw = await answer.text();
        status = answer.status;
        return raw && (JSON.parse(raw) as unknown);
      } catch (cause) {
        if (cause instanceof TidingsError) throw cause;
        // An answer that has come as a whole, but is not JSON.
        const code = status === undefined ? 'network' : 'http';
        throw new TidingsError(code, `${method} ${url.pathname}: ${String(cause)}`, { cause, status, raw: raw.slice(0, 1_000) });
      } finally {
        env.clearTimeout(timer);
        signal?.removeEventListener('abort', abort);
      }
    },
    async join(connection, channels) {
      const { position } = ((await api.call('POST', `connections/${connection}/channels`, { body: { channels } })) || {}) as { position?: string };
      // Whoever answered is not the server, or an old one: it cannot add channels.
      if (typeof position !== 'string') throw new TidingsError('http', 'the answer names no position', { status: 501 });
      return position;
    },
  };
  return api;
}

/** An answer that is not what was asked for, as an error with its code. */
export async function problem(answer: Response): Promise<TidingsError> {
  const { status, headers } = answer;
  let said: { code?: string; detail?: string; title?: string } | null | undefined;
  // Others answer too: proxies, log-in pages.
  if (headers.get('content-type')?.startsWith('application/problem+json')) said = (await answer.json().catch(() => null)) as { code?: string } | null;
  else await answer.body?.cancel();
  const code = said?.code ?? (status === 401 ? 'unauthorized' : status === 403 ? 'forbidden' : 'http');
  return new TidingsError(code, said?.detail ?? said?.title ?? `the status ${status}`, { status });
}
