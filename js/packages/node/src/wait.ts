// Owns: sleeping and deadlines that end with a signal, and leave no timer or listener behind. Does not know: requests.
// Flow: in ← milliseconds, a signal · out → a promise, or a signal that is aborted by whichever comes first.

/** Resolves after `ms`, or as soon as the signal is aborted: whoever waits looks at the signal. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) {
      resolve();
      return;
    }
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal?.addEventListener('abort', end);
  });
}

export interface Deadline {
  readonly signal: AbortSignal;
  /** It was the time that ran out, not the caller's signal. */
  readonly isOver: boolean;
  /** Begins the time anew. */
  restart(ms: number): void;
  /** Lets go of the timer and of the caller's signal. */
  clear(): void;
}

/** A signal that is aborted after `ms` or with `parent`. (`AbortSignal.timeout` and `any` keep what they hold for as
 * long as the parent lives, which for a worker is the whole process.) */
export function deadline(ms: number, parent?: AbortSignal): Deadline {
  const controller = new AbortController();
  let isOver = false;
  const expire = () => {
    isOver = true;
    controller.abort(new Error('no answer in time'));
  };
  let timer = setTimeout(expire, ms);
  const follow = () => {
    clearTimeout(timer);
    controller.abort(parent?.reason);
  };
  if (parent?.aborted) follow();
  else parent?.addEventListener('abort', follow);
  return {
    signal: controller.signal,
    get isOver() {
      return isOver;
    },
    restart(next) {
      clearTimeout(timer);
      if (!controller.signal.aborted) timer = setTimeout(expire, next);
    },
    clear() {
      clearTimeout(timer);
      parent?.removeEventListener('abort', follow);
    },
  };
}

/** Resolves when the signal is aborted. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
