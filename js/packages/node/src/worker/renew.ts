// Owns: when leases are renewed, all together. Does not know: what runs under them.
// Flow: in ← the runs · out → renewals; what the server says of each goes to its run, and of the worker to the loop.

import { createBackoff } from '../backoff.js';
import { encode, json, send, type Transport } from '../call.js';
import type { TidingsError } from '../error.js';
import { ANSWER_BYTES_MAX, RENEW_ATTEMPT_MS, RETRY_FLOOR_MAX_MS } from '../limits.js';
import type { Cancel } from '../jobs/document.js';
import { sleep } from '../wait.js';
import type { Run } from './run.js';

export type WorkerState = 'run' | 'quiet' | 'stop';

interface Renewed {
  leases?: { id: string; status: 'ok' | 'cancel' | 'lost'; cancel?: Cancel | null }[];
  worker?: { state?: WorkerState };
}

export interface Renewals {
  /** A run was added or has gone. */
  wake(): void;
}

export interface RenewOptions {
  transport: Transport;
  workerId: string;
  runs: ReadonlySet<Run>;
  /** Aborted when the worker has ended. */
  signal: AbortSignal;
  onState(state: WorkerState): void;
  onError(error: TidingsError): void;
}

/** Renews the leases of `runs` until the signal is aborted. All of them whenever one is due, so that one request serves
 * all. A worker runs no more jobs than one request takes. */
export function startRenewals(options: RenewOptions): Renewals {
  const { transport, workerId, runs, signal } = options;
  const backoff = createBackoff({ floorMaxMs: RETRY_FLOOR_MAX_MS });
  let woken = new AbortController();
  void loop();
  return { wake: () => woken.abort() };

  async function loop(): Promise<void> {
    while (!signal.aborted) {
      woken = new AbortController();
      const held = [...runs].filter((run) => !run.isLost());
      const dueAt = Math.min(...held.map((run) => run.dueAt()));
      const wait = dueAt - performance.now();
      if (wait > 0) {
        // With nothing to renew until a run is added; the timer's own limit is 24 days.
        await sleep(Math.min(wait, 2 ** 31 - 1), woken.signal);
        continue;
      }
      if (await renew(held)) backoff.reset();
      // Not longer than the leases last.
      else await sleep(Math.min(backoff.next(), ...held.map((run) => run.renewEveryMs)), signal);
    }
  }

  async function renew(held: Run[]): Promise<boolean> {
    const askedAt = performance.now();
    try {
      const leases = held.map((run) => ({ id: run.id, token: run.token }));
      const answer = await send(transport, {
        method: 'POST',
        path: '/v1/leases:renew',
        body: encode({ worker_id: workerId, leases }, 'the leases'),
        repeats: 'never',
        attemptMs: RENEW_ATTEMPT_MS,
        answerBytesMax: ANSWER_BYTES_MAX,
        signal,
      });
      handle(held, askedAt, json<Renewed>(answer));
      return true;
    } catch (error) {
      if (!signal.aborted) options.onError(error as TidingsError);
      return false;
    }
  }

  function handle(held: Run[], askedAt: number, renewed: Renewed): void {
    const byId = new Map(renewed.leases?.map((lease) => [lease.id, lease]));
    for (const run of held) {
      const lease = byId.get(run.id);
      if (lease?.status === 'lost') run.handleLost();
      // Also where it is lost because its end was just reported, or where nothing was said of it: whatever the answer, the
      // next renewal is not due at once.
      run.handleRenewed(askedAt, wish(lease));
    }
    options.onState(renewed.worker?.state ?? 'run');
  }
}

function wish(lease: { status: string; cancel?: Cancel | null } | undefined): Cancel | undefined {
  if (lease?.cancel) return lease.cancel;
  return lease?.status === 'cancel' ? { reason: null, deadline: null } : undefined;
}
