// Requests to the server beside the stream.
//
// Owns: where its paths are, credentials, problems as errors. Does not know: what is asked.

import type { Auth } from './auth.js';
import type { Env } from './env.js';
import { TidingsError } from './error.js';
import type { ClientOptions } from './options.js';

export interface Api {
  /** The stream's URL, with its own query. */
  readonly stream: URL;
  /** Whether `url` needs no CORS. */
  ownOrigin(url: URL): boolean;
  /** A path on the server's origin, absolute where it begins with `/`. */
  resolve(path: string | URL): URL;
  credentials(url: URL): RequestCredentials;
  fetch(path: string | URL, init?: RequestInit): Promise<Response>;
  /** The JSON of a path below `/v1/`; throws a `TidingsError` for everything but 2xx. */
  call(method: string, path: string, options?: CallOptions): Promise<unknown>;
  /** The same for any URL of the server. */
  send(method: string, url: URL, options?: Omit<CallOptions, 'query'>): Promise<unknown>;
}

export interface CallOptions {
  query?: Iterable<[string, string]> | undefined;
  body?: unknown;
  signal?: AbortSignal | undefined;
  /** A token that is not the current one yet. */
  token?: string | null | undefined;
}

export function createApi(options: ClientOptions, env: Env, auth: Auth): Api {
  const stream = absolute(options.url ?? '/events', env);
  const root = options.api === undefined ? new URL(stream.href.replace(/[?#].*$/, '')) : absolute(options.api, env);
  if (options.api === undefined) root.pathname = root.pathname.replace(/(?:\/v1)?\/[^/]*$/, '/');
  if (!root.pathname.endsWith('/')) root.pathname += '/';
  const send = options.fetch ?? env.fetch;

  const api: Api = {
    stream,
    ownOrigin: (url) => env.page.base === null || new URL(env.page.base).origin === url.origin,
    resolve: (path) => new URL(path, stream),
    credentials: (url) => (auth.cookie && url.origin === stream.origin ? 'include' : 'same-origin'),
    async fetch(path, init = {}) {
      return request(api.resolve(path), init);
    },
    call(method, path, options) {
      const url = new URL(`v1/${path}`, root);
      // What the stream's URL says of the caller (`as`) goes for its other requests too.
      for (const [name, value] of [...stream.searchParams, ...(options?.query ?? [])]) url.searchParams.append(name, value);
      return api.send(method, url, options);
    },
    async send(method, url, { body, signal, token } = {}) {
      const init: RequestInit = { method, cache: 'no-store', signal: signal ?? null };
      if (body !== undefined) {
        init.body = JSON.stringify(body);
        init.headers = { 'content-type': 'application/json' };
      }
      let answer: Response;
      try {
        answer = await request(url, init, token);
      } catch (cause) {
        if (cause instanceof TidingsError) throw cause;
        throw new TidingsError('network', `${method} ${url.pathname} was not answered`, { cause });
      }
      if (!answer.ok) throw await problem(answer);
      const text = await answer.text();
      return text === '' ? null : parseJson(text, answer.status);
    },
  };

  async function request(url: URL, init: RequestInit, token?: string | null): Promise<Response> {
    const ours = url.origin === stream.origin;
    const first = token ?? (ours ? await auth.token() : null);
    const answer = await send(url, withToken(init, url, first));
    if (answer.status !== 401 || first === null || token !== undefined || !(await auth.rejected(first))) return answer;
    await answer.body?.cancel();
    return send(url, withToken(init, url, await auth.token()));
  }

  function withToken(init: RequestInit, url: URL, token: string | null): RequestInit {
    const headers = new Headers(init.headers);
    if (token !== null && !headers.has('authorization')) headers.set('authorization', `Bearer ${token}`);
    return { credentials: api.credentials(url), ...init, headers };
  }

  return api;
}

function absolute(url: string | URL, env: Env): URL {
  try {
    return new URL(url, env.page.base ?? undefined);
  } catch (cause) {
    throw new TypeError(`${String(url)} is not an absolute URL, and there is no page that it could be relative to`, { cause });
  }
}

function parseJson(text: string, status: number): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new TidingsError('http', `an answer with the status ${status} is not JSON`, { cause, status, raw: text.slice(0, 1_000) });
  }
}

/** An answer that is not what was asked for, as an error with its code. */
export async function problem(answer: Response): Promise<TidingsError> {
  const { status } = answer;
  let code = status === 401 ? 'unauthorized' : status === 403 ? 'forbidden' : 'http';
  let message = `the status ${status}`;
  if (answer.headers.get('content-type')?.startsWith('application/problem+json') === true) {
    try {
      const body = (await answer.json()) as { code?: unknown; detail?: unknown; title?: unknown };
      if (typeof body.code === 'string') code = body.code;
      const text = body.detail ?? body.title;
      if (typeof text === 'string') message = text;
    } catch {
      // The status has to do.
    }
  } else await answer.body?.cancel();
  return new TidingsError(code, message, { status });
}
