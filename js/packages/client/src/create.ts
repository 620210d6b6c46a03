// createClient.
//
// Owns: putting the parts together. Does not know: what any of them does.

import { createApi, type Api } from './api.js';
import { createAuth } from './auth.js';
import { callEach, listen } from './callbacks.js';
import type { Client } from './client.js';
import { globalEnv, type Env } from './env.js';
import { errors } from './error.js';
import type { AnyChannels } from './event.js';
import type { FeedOptions } from './feed.js';
import { createHub } from './hub.js';
import { watchJob } from './jobs.js';
import { createLane } from './lane.js';
import { createSharedLater } from './later.js';
import type { Context } from './link.js';
import type { ClientOptions } from './options.js';
import { rest } from './part.js';
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

  const context: Context = {
    env,
    options,
    auth,
    report(error) {
      try {
        options.onError?.(error);
      } catch {
        // Whoever listens for errors has nobody to tell of its own.
      }
    },
    errors,
    // A relative URL needs a page, and where there is none, nothing may be subscribed at all.
    get api() {
      return (api ??= createApi(options, env, auth));
    },
  };
  const shared = options.share !== false && env.locks && env.BroadcastChannel;
  const hub = createHub(context, (status) => callEach(context.report, callbacks, status), shared ? createSharedLater : createLane);

  return {
    subscribe: ((channels: string | readonly string[], options?: FeedOptions) => hub.subscribe(channels, options)) as Client<M>['subscribe'],
    job: (id, options) => watchJob(context, hub, id, options),
    startJob: async (...job) => (await rest()).startJob(context, hub, watchJob, ...job),
    fetch: (path, init) => context.api.fetch(path, init),
    get status() {
      return hub.status;
    },
    onStatus: (callback) => listen(callbacks, callback),
    reconnect: hub.reconnect,
    close: hub.close,
  };
}
