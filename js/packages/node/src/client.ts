// Owns: the settings of a client, and what hangs off it. Does not know: what is sent.
// Flow: in ← a URL and a key · out → publish, jobs, workers.

import { createAdmin, type Connections, type Revocation, type Revoked, type Tickets } from './admin.js';
import type { RetrySettings, Transport } from './call.js';
import { guarded, invalid, type TidingsError } from './error.js';
import { createJobs, type Jobs } from './jobs/jobs.js';
import { createPublish, type CallOptions, type Publish } from './publish.js';
import type { Schema } from './schema.js';
import { createWorkers, type StartWorker } from './worker/worker.js';

export interface TidingsOptions {
  /** Where the server is, with a path if it has one: `http://127.0.0.1:4080`. */
  url: string | URL;
  /** Sent as `Authorization: Bearer`: an API key or a token. A function is asked before every request. */
  key?: string | (() => string | Promise<string>) | undefined;
  /** How a request that may be repeated is repeated: up to `attempts` (5), with full jitter over a window that doubles
   * from `baseMs` (500) to `maxMs` (30,000), on top of what the server asks for. */
  retry?: RetrySettings | undefined;
  /** Every publish and every new job gets an idempotency key, so that its own repeats take effect once (`true`). The
   * server remembers 2,000,000 keys for 24 hours: above 20 requests a second in the long run, turn this off and give keys
   * to those that need one. */
  idempotent?: boolean | undefined;
  fetch?: typeof fetch | undefined;
  /** Hears of reports and renewals that failed and that nobody awaited (`console.error`). */
  onError?: ((error: TidingsError) => void) | undefined;
}

export interface Tidings<S extends Schema = Schema> {
  readonly publish: Publish<S>;
  readonly jobs: Jobs<S>;
  /** Leases jobs of a queue and runs them. */
  readonly worker: StartWorker<S>;
  /** Ends what a token, a session or a subject may, at once, open streams included. */
  readonly revoke: (what: Revocation, options?: CallOptions) => Promise<Revoked>;
  readonly connections: Connections;
  readonly tickets: Tickets;
}

/** A client of a server. It holds no connection; make one and share it. */
export function createTidings<S extends Schema = Schema>(options: TidingsOptions): Tidings<S> {
  const onError = guarded(options.onError ?? ((error) => console.error(`tidings: ${error.message}`)));
  const transport = createTransport(options);
  return {
    publish: createPublish<S>(transport),
    jobs: createJobs<S>(transport, onError),
    worker: createWorkers<S>(transport, onError),
    ...createAdmin(transport),
  };
}

function createTransport(options: TidingsOptions): Transport {
  const { key } = options;
  let url: URL;
  try {
    url = new URL(options.url);
  } catch (error) {
    throw invalid(`${String(options.url)} is not a URL`, error);
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:') throw invalid(`${url.href} is not an http URL`);
  return {
    url: url.origin + url.pathname.replace(/\/+$/, ''),
    // Looked up each time, so that a program may replace the global one.
    fetch: options.fetch ?? ((input, init) => fetch(input, init)),
    retry: options.retry ?? {},
    isIdempotent: options.idempotent ?? true,
    async authorization() {
      if (key === undefined) return {};
      try {
        return { authorization: `Bearer ${typeof key === 'function' ? await key() : key}` };
      } catch (error) {
        throw invalid('the key could not be had', error);
      }
    },
  };
}
