// A world for a client: its time, its page, and a server that answers as a test says.
//
// Owns: `Env`, streams that a test writes. Does not know: what is tested.

import { vi } from 'vitest';
import type { Env, PageSignal } from '../../src/env.js';
import { createClientIn } from '../../src/create.js';
import type { Client, ClientOptions, TidingsError, Status } from '../../src/index.js';

export interface Request {
  method: string;
  url: URL;
  headers: Headers;
  body: unknown;
  credentials: RequestCredentials | undefined;
  signal: AbortSignal | null;
}

export interface Stream {
  readonly request: Request;
  readonly response: Response;
  send(text: string): Promise<void>;
  /** `tidings.hello`, with a connection of its own name. */
  hello(id: string | null, more?: object): Promise<void>;
  event(id: string | null, channel: string, data: unknown, event?: string): Promise<void>;
  /** `tidings.cursor`, which says what has been added. */
  joined(id: string, channels: readonly string[]): Promise<void>;
  end(): Promise<void>;
  fail(): Promise<void>;
  /** It is over, whoever ended it. */
  readonly aborted: boolean;
}

type Answer = Response | Promise<Response>;

export interface World {
  readonly env: Env;
  readonly requests: Request[];
  /** Streams that were answered by `stream`, in order. */
  readonly streams: Stream[];
  readonly errors: TidingsError[];
  readonly states: string[];
  random: number;
  hidden: boolean;
  offline: boolean;
  /** What the server answers; a stream by default. */
  answer: (request: Request) => Answer | undefined;
  stream(request: Request): Response;
  signal(signal: PageSignal): void;
  client(options?: ClientOptions): Client;
  /** Lets so much time pass. */
  pass(ms: number): Promise<void>;
  last(): Stream;
}

export function createWorld(base: string | null = 'https://app.example/page'): World {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'], now: 1_000_000 });
  const listeners = new Set<(signal: PageSignal) => void>();

  async function fetch(input: RequestInfo | URL, init: RequestInit = {}): Promise<Response> {
    const request: Request = {
      method: init.method ?? 'GET',
      url: new URL(String(input)),
      headers: new Headers(init.headers),
      body: typeof init.body === 'string' ? (JSON.parse(init.body) as unknown) : undefined,
      credentials: init.credentials,
      signal: init.signal ?? null,
    };
    if (init.signal?.aborted === true) throw new DOMException('aborted', 'AbortError');
    world.requests.push(request);
    const answer = Promise.resolve(world.answer(request) ?? (request.method === 'HEAD' ? new Response(null) : world.stream(request)));
    const aborted = new Promise<never>((_, reject) => {
      init.signal?.addEventListener('abort', () => reject(new DOMException('aborted', 'AbortError')));
    });
    aborted.catch(() => {});
    return Promise.race([answer, aborted]);
  }

  const world: World = {
    requests: [],
    streams: [],
    errors: [],
    states: [],
    random: 0.5,
    hidden: false,
    offline: false,
    answer: () => undefined,
    env: {
      fetch: fetch as typeof globalThis.fetch,
      EventSource: undefined,
      now: () => Date.now(),
      random: () => world.random,
      setTimeout: (callback, ms) => setTimeout(callback, ms),
      clearTimeout: (timer) => clearTimeout(timer as number),
      page: {
        base,
        hidden: () => world.hidden,
        offline: () => world.offline,
        listen(callback) {
          listeners.add(callback);
          return () => void listeners.delete(callback);
        },
      },
      locks: undefined,
      BroadcastChannel: undefined,
      SharedWorker: undefined,
    },
    stream(request) {
      const stream = createStream(request, world.streams.length);
      world.streams.push(stream);
      return stream.response;
    },
    signal(signal) {
      if (signal === 'hidden' || signal === 'visible') world.hidden = signal === 'hidden';
      else world.offline = false;
      for (const listener of [...listeners]) listener(signal);
    },
    client(options = {}) {
      const client = createClientIn(world.env, { share: false, onError: (error) => world.errors.push(error), ...options });
      client.onStatus((status) => world.states.push(named(status)));
      return client;
    },
    async pass(ms) {
      await vi.advanceTimersByTimeAsync(ms);
      await settled();
    },
    last: () => world.streams.at(-1)!,
  };
  return world;
}

/** Everything that needs no time has happened. */
export async function settled(): Promise<void> {
  // What a client fetches when it needs it is there, too.
  await vi.dynamicImportSettled();
  for (let n = 0; n < 5; n += 1) await new Promise((resolve) => setImmediate(resolve));
}

function named(status: Status): string {
  return 'reason' in status ? `${status.state}:${typeof status.reason === 'string' ? status.reason : status.reason.code}` : status.state;
}

export function json(status: number, body: unknown, headers: Record<string, string> = {}): Response {
  const type = status < 400 ? 'application/json' : 'application/problem+json';
  return new Response(JSON.stringify(body), { status, headers: { 'content-type': type, ...headers } });
}

export function problem(status: number, code: string, headers: Record<string, string> = {}): Response {
  return json(status, { code, status, title: code, detail: code }, headers);
}

function createStream(request: Request, number: number): Stream {
  let controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  let aborted = false;
  const body = new ReadableStream<Uint8Array>({
    start: (c) => void (controller = c),
    cancel: () => void (aborted = true),
  });
  request.signal?.addEventListener('abort', () => {
    aborted = true;
    try {
      controller?.error(new DOMException('aborted', 'AbortError'));
    } catch {
      // It had ended.
    }
  });
  const stream: Stream = {
    request,
    response: new Response(body, { headers: { 'content-type': 'text/event-stream; charset=utf-8' } }),
    async send(text) {
      controller?.enqueue(new TextEncoder().encode(text));
      await settled();
    },
    hello(id, more = {}) {
      const data = JSON.stringify({ connection: `c${number}`, keepalive_ms: 15_000, ...more });
      return stream.send(`: connected\nretry: 2000\n\nevent: tidings.hello\ndata: ${data}\n${id === null ? '' : `id: ${id}\n`}\n`);
    },
    event(id, channel, data, event = 'message') {
      const type = event === 'message' ? '' : `event: ${event}\n`;
      return stream.send(`${type}channel: ${channel}\ntime: 5\ndata: ${JSON.stringify(data)}\n${id === null ? '' : `id: ${id}\n`}\n`);
    },
    joined: (id, channels) => stream.send(`event: tidings.cursor\ndata: ${JSON.stringify({ joined: channels })}\nid: ${id}\n\n`),
    async end() {
      aborted = true;
      controller?.close();
      await settled();
    },
    async fail() {
      aborted = true;
      controller?.error(new TypeError('network error'));
      await settled();
    },
    get aborted() {
      return aborted;
    },
  };
  return stream;
}
