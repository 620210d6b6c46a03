// A job that is watched once, however many components look at it.
//
// Owns: one handle for each job and path of a client. Does not know: React, or what is shown.
// Flow: first user → handle → documents, logs, output, the end → the last user goes → closed and forgotten.

import type { Client, Job, JobHandle, JobLog, TidingsError } from '@tidings/client';

import { createHold, type Hold } from './hold.js';

export interface JobKey {
  readonly id: string;
  /** As in `JobOptions`: none is the client's own stream. */
  readonly path: string | undefined;
}

export interface JobView {
  readonly job: Job | null;
  /** Why it did not complete, or cannot be watched. */
  readonly error: TidingsError | null;
  readonly ended: boolean;
}

export interface JobListener {
  changed(): void;
  log(log: JobLog): void;
  output(chunk: unknown): void;
}

export interface JobSource {
  view(): JobView;
  /** Watches the job until what it returns is called. */
  listen(listener: JobListener): () => void;
  cancel(reason?: string): Promise<void>;
  /** The id of the new job, which is watched already. */
  retry(): Promise<string>;
}

const sources = new WeakMap<Client, Map<string, JobSource>>();

/** The one source of a job. `handle` is one that is open already, and then becomes its. */
export function jobSource(client: Client, key: JobKey, initial: Job | null = null, handle: JobHandle | null = null): JobSource {
  const known = sources.get(client) ?? new Map<string, JobSource>();
  sources.set(client, known);
  const name = `${key.path ?? ''} ${key.id}`;
  const found = known.get(name);
  if (found !== undefined) {
    handle?.close();
    return found;
  }
  const made = createSource(client, key, initial, handle, () => known.delete(name));
  known.set(name, made);
  return made;
}

function createSource(
  client: Client, { id, path }: JobKey, initial: Job | null, given: JobHandle | null, forget: () => void,
): JobSource {
  const listeners = new Set<JobListener>();
  let view: JobView = { job: given?.current ?? initial, error: null, ended: false };
  let handle = given;
  const handleNow = () => (handle ??= client.job(id, { path, ...(view.job === null ? {} : { initial: view.job }) }));

  const show = (part: Partial<JobView>) => {
    view = { ...view, ...part };
    for (const listener of [...listeners]) listener.changed();
  };
  const hold: Hold = createHold(() => {
    const watched = handleNow();
    if (watched.current !== null) show({ job: watched.current });
    const ends = [
      watched.onChange((job) => show({ job })),
      watched.onLog((log) => listeners.forEach((listener) => listener.log(log))),
      watched.onOutput((chunk) => listeners.forEach((listener) => listener.output(chunk))),
      watched.onEnd((end) => show('job' in end
        ? { job: end.job, ended: true }
        : { job: end.error.job ?? view.job, error: end.error, ended: true })),
    ];
    return () => {
      for (const end of ends) end();
      watched.close();
      handle = null;
      forget();
    };
    // Its users linger themselves.
  }, 0);
  const using = async <T>(call: (handle: JobHandle) => Promise<T>): Promise<T> => {
    const release = hold.use();
    try {
      return await call(handleNow());
    } finally {
      release();
    }
  };
  // Whoever started it is about to look at it.
  if (given !== null) hold.warm();

  return {
    view: () => view,
    listen(listener) {
      listeners.add(listener);
      const release = hold.use();
      return () => {
        listeners.delete(listener);
        release();
      };
    },
    cancel: (reason) => using((handle) => handle.cancel(reason)),
    retry: () => using(async (handle) => {
      const { id, job } = await handle.retry();
      jobSource(client, { id, path }, null, job);
      return id;
    }),
  };
}

/** The path of an alias; jobs at `/v1/jobs` come on the client's own stream. */
export function aliasOf(path: string | undefined): string | undefined {
  return path === '/v1/jobs' ? undefined : path;
}
