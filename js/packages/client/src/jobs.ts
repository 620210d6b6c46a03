// A job that is watched.
//
// Owns: the handle on it, and that it ends exactly once. Does not know: how its events travel, or what they say.

import { callEach, listen } from './callbacks.js';
import type { TidingsError } from './error.js';
import type { Hub } from './hub.js';
import type { CompletedJob, Job, JobHandle, JobLog, JobOptions } from './job.js';
import type { Context } from './link.js';
import { rest } from './part.js';

export type End<R> = { readonly job: CompletedJob<R> } | { readonly error: TidingsError };

/** What is told of a job. */
export interface Told<R> {
  change: Job<R>;
  log: JobLog;
  output: unknown;
  end: End<R>;
}
type Callbacks<R> = { readonly [K in keyof Told<R>]: Set<(value: Told<R>[K]) => void> };

/** What the code that watches it, which is fetched, has of a handle. */
export interface Watched<R> {
  readonly handle: JobHandle<R> & { current: Job<R> | null };
  readonly options: JobOptions;
  /** Aborted when nobody wants to know any more. */
  readonly left: AbortSignal;
  tell<K extends keyof Told<R>>(what: K, value: Told<R>[K]): void;
  /** Once. */
  finish(how: End<R>): void;
}

export function watchJob<R>(context: Context, hub: Hub, id: string, options: JobOptions = {}): JobHandle<R> {
  const callbacks: Callbacks<R> = { change: new Set(), log: new Set(), output: new Set(), end: new Set() };
  const leave = new AbortController();
  let end: End<R> | undefined;

  const to = <K extends keyof Told<R>>(what: K) => (callback: (value: Told<R>[K]) => void) => listen(callbacks[what], callback);
  const handle = {
    id,
    current: (options.initial ?? null) as Job<R> | null,
    error: null as TidingsError | null,
    onChange: to('change'),
    onLog: to('log'),
    onOutput: to('output'),
    onEnd(callback: (end: End<R>) => void) {
      if (end) queueMicrotask(() => callEach(context.report, [callback], end!));
      return to('end')(callback);
    },
    cancel: async (reason?: string) => (await watcher).cancel(reason),
    retry: async () => (await watcher).retry(),
    close: () => leave.abort(),
    then(...handlers) {
      const done = new Promise<CompletedJob<R>>((resolve, reject) => {
        handle.onEnd((how) => ('error' in how ? reject(how.error) : resolve(how.job)));
      });
      return done.then(...handlers);
    },
  } satisfies JobHandle<R>;

  const watched: Watched<R> = {
    handle,
    options,
    left: leave.signal,
    tell: (what, value) => callEach(context.report, callbacks[what], value),
    finish(how) {
      end = how;
      if ('error' in how) handle.error = how.error;
      watched.tell('end', how);
    },
  };
  const watcher = rest().then(({ createWatcher }) => createWatcher(context, hub, watched, watchJob));
  watcher.catch((error: TidingsError) => watched.finish({ error }));
  return handle;
}

export type JobWatch = typeof watchJob;
