// A `fetch` that a test answers.
//
// Owns: what was asked, in order. Does not know: the server.

export interface Asked {
  method: string;
  path: string;
  headers: Headers;
  body: string;
  json: any;
}

/** `drop`: the connection breaks; `hold`: no answer comes. */
export type Reply = Response | 'drop' | 'hold';

export interface Scripted {
  fetch: typeof fetch;
  asked: Asked[];
  /** Resolves when a request like that has come. */
  seen(isIt: (asked: Asked) => boolean): Promise<Asked>;
}

export function scripted(reply: (asked: Asked, count: number) => Reply | Promise<Reply>): Scripted {
  const asked: Asked[] = [];
  const waiting: { isIt: (asked: Asked) => boolean; resolve: (asked: Asked) => void }[] = [];
  return {
    asked,
    seen: (isIt) =>
      new Promise((resolve) => {
        const found = asked.find(isIt);
        if (found) resolve(found);
        else waiting.push({ isIt, resolve });
      }),
    async fetch(input, init = {}) {
      init.signal?.throwIfAborted();
      const url = new URL(input as string);
      const body = typeof init.body === 'string' ? init.body : init.body ? await new Response(init.body).text() : '';
      const one: Asked = {
        method: init.method ?? 'GET',
        path: url.pathname + url.search,
        headers: new Headers(init.headers),
        body,
        json: parse(body),
      };
      asked.push(one);
      for (const { isIt, resolve } of waiting) if (isIt(one)) resolve(one);
      const answer = await reply(one, asked.length);
      if (answer === 'drop') throw new TypeError('fetch failed', { cause: new Error('other side closed') });
      if (answer !== 'hold') return answer;
      return new Promise((_, reject) => {
        init.signal?.addEventListener('abort', () => reject(init.signal?.reason as Error));
      });
    },
  };
}

function parse(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}

export function ok(body: unknown, status = 200): Response {
  return new Response(JSON.stringify(body), { status, headers: { 'content-type': 'application/json' } });
}

export function problem(status: number, code: string, more: object = {}, headers: Record<string, string> = {}): Response {
  const body = JSON.stringify({ code, status, title: 't', detail: 'd', ...more });
  return new Response(body, { status, headers: { 'content-type': 'application/problem+json', ...headers } });
}

export const stored = (): Response => ok({ stored: true, cancel_requested: false, v: 1 });
