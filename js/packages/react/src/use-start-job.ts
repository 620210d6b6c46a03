// useStartJob: makes a job and watches it.
//
// Owns: which job was started last. Does not know: how a job is watched.

import { useCallback, useMemo, useRef, useState } from 'react';
import { TidingsError } from '@tidings/client';

import { useClient } from './client-context.js';
import { aliasOf, jobSource } from './job-source.js';
import { useJob, type UseJob, type UseJobOptions } from './use-job.js';

export interface UseStartJobOptions<R = unknown> extends Omit<UseJobOptions<R>, 'path' | 'initialJob'> {
  /** A job to show until one is started, such as one that the page's address names; read once. */
  initialId?: string | null | undefined;
}

export interface UseStartJob<Input = unknown, R = unknown> {
  /** Makes a job and shows it instead of the one before, which goes on. The job's id, or `null` if there is none: `error` says why. */
  start(...input: undefined extends Input ? [input?: Input] : [input: Input]): Promise<string | null>;
  /** The job was asked for and is not made yet. */
  readonly starting: boolean;
  /** Why it could not be made. */
  readonly error: TidingsError | null;
  readonly job: UseJob<R>;
}

interface Started {
  readonly id: string | null;
  readonly starting: boolean;
  readonly error: TidingsError | null;
}

/** `start(input)` is a `POST` to `path`; what it makes is then watched there. */
export function useStartJob<Input = unknown, R = unknown>(
  path: string, options: UseStartJobOptions<R> = {},
): UseStartJob<Input, R> {
  const client = useClient();
  const [started, set] = useState<Started>({ id: options.initialId ?? null, starting: false, error: null });
  const newest = useRef(0);
  const start = useCallback(async (input?: Input) => {
    const turn = (newest.current += 1);
    set((before) => ({ ...before, starting: true, error: null }));
    let next: Started;
    try {
      const { id, job } = await client().startJob(path, input);
      jobSource(client(), { id, path: aliasOf(path) }, null, job);
      next = { id, starting: false, error: null };
    } catch (error) {
      next = { id: null, starting: false, error: asTidingsError(error) };
    }
    // One that was overtaken goes on, and is not shown. One that could not be made leaves what is shown as it is.
    if (turn === newest.current) set((before) => ({ ...next, id: next.id ?? before.id }));
    return next.id;
  }, [client, path]);
  const job = useJob<R>(started.id, { ...options, path });
  return useMemo(() => ({ start, starting: started.starting, error: started.error, job }), [start, started, job]);
}

function asTidingsError(error: unknown): TidingsError {
  return error instanceof TidingsError ? error : new TidingsError('network', String(error), { cause: error });
}
