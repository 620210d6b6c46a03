// createClient.
//
// Owns: putting the parts together. Does not know: what any of them does.

import { createApi, type Api } from './api.js';
import { createAuth } from './auth.js';
import { callEach, listen } from './callbacks.js';
import type { Client } from './client.js';
import { globalEnv, type Env } from './env.js';
import type { TidingsError } from './error.js';
import type { AnyChannels } from './event.js';
import type { FeedOptions } from './feed.js';
import { createHub } from './hub.js';
import { startedJob, watchJob, type Jobs } from './jobs.js';
import { createSharedLater } from './later.js';
import type { Context } from './link.js';
import type { ClientOptions } from './options.js';
import type { Status } from './status.js';

/** A client. Nothing is opened before something is subscribed, so one can be made anywhere, a server's render included. */
export function createClient<M = AnyChannels>(options: ClientOptions = {}): Client<M> {
  return createClientIn<M>(globalEnv(), options);
}

/** The same in a world that is handed in. */
export function createClientIn<M = AnyChannels>(env: Env, options: ClientOptions): Client<M> {
  const auth = createAuth(options.auth);
  const callbacks = new Set<(status: Status) => void>();
  let api: Api | undefined;

  function report(error: TidingsError): void {
    try {
      options.onError?.(error);
    } catch {
      // Whoever listens for errors has nobody to tell of its own.
    }
  }

  const context: Context = {
    env,
    options,
    auth,
    report,
    // A relative URL needs a page, and where there is none, nothing may be subscribed at all.
    get api() {
      return (api ??= createApi(options, env, auth));
    },
  };
  const tell = (status: Status): void => callEach(report, callbacks, status);
  const shared = options.share !== false && env.locks !== undefined && env.BroadcastChannel !== undefined;
  const hub = createHub(context, tell, shared ? createSharedLater : undefined);
  let closed = false;
  const jobs: Jobs = {
    channel: (name, live) => hub.subscribe([name], { live }),
    stream: (path, channel) => hub.subscribe([channel], {}, path),
    closed: () => closed,
  };

  return {
    subscribe: ((channel: string | readonly string[], options: FeedOptions = {}) =>
      hub.subscribe(typeof channel === 'string' ? [channel] : channel, options)) as unknown as Client<M>['subscribe'],
    job: (id, options) => watchJob(context, jobs, id, options),
    async startJob(path, input = {}, options = {}) {
      const { api } = context;
      const made = (await api.send('POST', api.resolve(path), { body: input, signal: options.signal })) as { jobId: string };
      return startedJob(context, jobs, made.jobId, { ...options, path });
    },
    fetch: (path, init) => context.api.fetch(path, init),
    get status() {
      return hub.status;
    },
    onStatus: (callback) => listen(callbacks, callback),
    reconnect: () => hub.reconnect(),
    close() {
      closed = true;
      hub.close();
    },
  };
}
