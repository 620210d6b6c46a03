// A tab's side of the SharedWorker that has the stream.
//
// Owns: when there is one, what it is told, and the token that it asks for. Does not know: who leads, or what is streamed:
// that goes over the same BroadcastChannel as between tabs.

import type { Context } from './link.js';
import type { RetryOptions, TokenReason } from './options.js';

/** What a tab tells the worker. */
export type FromTab =
  | { type: 'start'; options: WorkerOptions }
  | { type: 'token'; ask: number; token: string | null }
  | { type: 'bye' };

/** What the worker tells a tab. */
export type FromWorker =
  | { type: 'token'; ask: number; why: TokenReason }
  | { type: 'error'; code: string; message: string };

/** What the worker needs of a tab's options. */
export interface WorkerOptions {
  url: string;
  api: string;
  shareKey: string;
  /** Tabs have tokens; otherwise cookies do. */
  tokens: boolean;
  retry: RetryOptions | undefined;
  stallTimeout: number | 'auto' | undefined;
}

export interface Summoned {
  close(): void;
}

/**
 * The worker of this name, which is started if no other tab has done so; `null` where there cannot be one. A worker asks whichever
 * tab is there for a token, so with tokens the key has to say whose tabs they are.
 */
export function summon({ env, options, api, auth, report, errors }: Context, root: string, name: string, failed: () => void): Summoned | null {
  const { SharedWorker } = env;
  if (!SharedWorker || (!auth.cookie && options.shareKey === undefined)) return null;
  let worker: SharedWorker;
  try {
    worker = new SharedWorker(api.resolve(options.workerUrl ?? `${root}/tidings/worker.js`), { name });
  } catch (cause) {
    report(new errors.TidingsError('network', `no worker: ${String(cause)}`, { cause }));
    return null;
  }
  const { port } = worker;
  worker.onerror = () => {
    report(new errors.TidingsError('network', 'the worker could not be started, so a tab has the stream'));
    failed();
  };
  port.onmessage = ({ data }: MessageEvent<FromWorker>) => {
    if (data.type === 'error') report(new errors.TidingsError(data.code, data.message));
    else void answer(data);
  };
  const tell = (message: FromTab): void => port.postMessage(message);
  const { retry, stallTimeout } = options;
  // The worker's lock has the same name.
  const shareKey = name.replace('tidings:', '');
  tell({ type: 'start', options: { url: api.stream.href, api: root, shareKey, tokens: !auth.cookie, retry, stallTimeout } });

  async function answer({ ask, why }: { ask: number; why: TokenReason }): Promise<void> {
    try {
      // Not the one at hand, which the worker may have been refused with.
      const token = await (typeof options.auth === 'object' ? options.auth.token(why) : null);
      tell({ type: 'token', ask, token });
    } catch (cause) {
      report(new errors.TidingsError('token_failed', `no token: ${String(cause)}`, { cause }));
      tell({ type: 'token', ask, token: null });
    }
  }

  return {
    close() {
      tell({ type: 'bye' });
      port.close();
    },
  };
}
