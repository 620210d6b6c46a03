// The server.
//
// Owns: where its paths are, and with which credentials they are asked. Does not know: what is asked.

import type { Auth } from './auth.js';
import type { Env } from './env.js';
import type { ClientOptions } from './options.js';

export interface Api {
  /** The stream's URL, with its own query. */
  readonly stream: URL;
  /** The option `api`; without it, the stream's URL, from which that follows. */
  readonly beside: URL;
  /** Whether `url` needs no CORS. */
  ownOrigin(url: URL): boolean;
  /** A path on the server's origin, absolute where it begins with `/`. */
  resolve(path: string | URL): URL;
  credentials(url: URL): RequestCredentials;
  /** With the token, or with one that is not the current one yet, or with none. */
  fetch(path: string | URL, init?: RequestInit, token?: string | null): Promise<Response>;
}

export function createApi(options: ClientOptions, env: Env, auth: Auth): Api {
  const { base } = env.page;
  const fetch = options.fetch ?? env.fetch;
  const stream = absolute(options.url ?? '/events');

  function absolute(url: string | URL): URL {
    try {
      return new URL(url, base ?? undefined);
    } catch (cause) {
      throw new TypeError(`${String(url)} is not an absolute URL`, { cause });
    }
  }

  const api: Api = {
    stream,
    beside: absolute(options.api ?? stream),
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
  };
  return api;
}
