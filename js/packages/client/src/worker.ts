// The SharedWorker that has the one stream of a browser.
//
// Owns: the party that leads, and asking tabs for a token. Does not know: what tabs want; they say so to whoever leads.
// Flow: the first tab that connects says where the stream is; from then on it leads, as a tab would.

import { createApi } from './api.js';
import { createAuth } from './auth.js';
import type { Env } from './env.js';
import { errors, type TidingsError } from './error.js';
import { createLane } from './lane.js';
import { WORKER_TABS_MAX, WORKER_TOKEN_MS } from './limits.js';
import type { Context } from './link.js';
import type { ClientOptions, TokenReason } from './options.js';
import * as rest from './rest.js';
import { createShared } from './share.js';
import type { Source, SourceSink } from './source.js';
import type { FromTab, FromWorker, WorkerOptions } from './summon.js';

type Port = Pick<MessagePort, 'postMessage' | 'onmessage'>;

/** Takes the port of a tab that has connected. */
export function createWorker(env: Env): (port: Port) => void {
  const ports = new Set<Port>();
  /** Tabs that have been asked for a token, with what to do with the answer. */
  const asked = new Map<number, { readonly port: Port; over(token: string | null): void }>();
  let asks = 0;
  let source: Source | undefined;
  let refused = false;

  const tell = (message: FromWorker): void => ports.forEach((port) => port.postMessage(message));

  /** Of one tab at a time, the newest first: each may have to log in for it, and older ones may be gone. */
  async function askForToken(why: TokenReason): Promise<string> {
    for (const port of [...ports].reverse()) {
      const token = await askTab(port, why);
      if (token !== null) return token;
    }
    throw new Error('no tab has one');
  }

  function askTab(port: Port, why: TokenReason): Promise<string | null> {
    // It has left while another one was asked.
    if (!ports.has(port)) return Promise.resolve(null);
    const ask = (asks += 1);
    return new Promise((resolve) => {
      const over = (token: string | null): void => {
        env.clearTimeout(timer);
        asked.delete(ask);
        resolve(token);
      };
      // Silent, so it is gone, or frozen: it is known again when it says something.
      const timer = env.setTimeout(() => leave(port), WORKER_TOKEN_MS);
      asked.set(ask, { port, over });
      port.postMessage({ type: 'token', ask, why } satisfies FromWorker);
    });
  }

  function leave(port: Port): void {
    ports.delete(port);
    for (const { port: other, over } of asked.values()) if (other === port) over(null);
  }

  function start({ url, api, shareKey, tokens, retry, stallTimeout }: WorkerOptions): Source {
    const options: ClientOptions = { url, api, shareKey, retry, stallTimeout, auth: tokens ? { token: askForToken } : 'cookie' };
    const auth = createAuth(options.auth);
    const report = ({ code, message }: TidingsError): void => tell({ type: 'error', code, message });
    const context: Context = { env, options, auth, report, errors, api: createApi(options, env, auth) };
    const nothing = (): void => {};
    const sink: SourceSink = {
      joined: nothing, event: nothing, reset: nothing, moved: nothing, ended: nothing, status: nothing,
      refused: (channels) => void (refused ||= channels === null),
    };
    return createShared(context, sink, createLane, rest, true);
  }

  return (port) => {
    port.onmessage = ({ data }: MessageEvent<FromTab>) => {
      if (data.type === 'bye') return leave(port);
      ports.add(port);
      for (const oldest of ports) if (ports.size > WORKER_TABS_MAX) leave(oldest);
      if (data.type === 'token') return asked.get(data.ask)?.over(data.token);
      source ??= start(data.options);
      // With the credentials of tabs before.
      if (refused) source.reconnect();
      refused = false;
    };
  };
}
