// What the client needs of the world.
//
// Owns: the list of it, and where a browser, a worker or Node has it. Does not know: what it is used for.
// Nothing is touched when the package is imported, so that it can be on a server or in a worker.

/** What happens to a page. */
export type PageSignal = 'visible' | 'hidden' | 'online';

export interface Page {
  /** Where relative URLs start, and which origin needs no CORS; `null` outside of pages. */
  readonly base: string | null;
  hidden(): boolean;
  offline(): boolean;
  listen(callback: (signal: PageSignal) => void): () => void;
}

export interface Env {
  fetch: typeof fetch;
  EventSource: typeof EventSource | undefined;
  now(): number;
  /** 0 to 1. */
  random(): number;
  setTimeout(callback: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
  readonly page: Page;
  readonly locks: LockManager | undefined;
  readonly BroadcastChannel: typeof BroadcastChannel | undefined;
  readonly SharedWorker: typeof SharedWorker | undefined;
}

interface Globals {
  location?: { href: string };
  document?: Document;
  navigator?: { onLine?: boolean; locks?: LockManager };
  addEventListener?: typeof addEventListener;
  EventSource?: typeof EventSource;
  BroadcastChannel?: typeof BroadcastChannel;
  SharedWorker?: typeof SharedWorker;
}

export function globalEnv(): Env {
  const global = globalThis as unknown as Globals;
  const { location, document, navigator, EventSource, BroadcastChannel, SharedWorker } = global;
  const hidden = (): boolean => !!document?.hidden;
  return {
    fetch: (input, init) => fetch(input, init),
    EventSource,
    now: () => Date.now(),
    random: () => Math.random(),
    setTimeout: (callback, ms) => setTimeout(callback, ms),
    clearTimeout: (timer) => clearTimeout(timer as number),
    page: {
      base: location?.href ?? null,
      hidden,
      offline: () => navigator?.onLine === false,
      listen(callback) {
        // Its signal makes it the options of each listener.
        const listening = new AbortController();
        const on = (target: Pick<Globals, 'addEventListener'> | undefined, ...types: string[]): void => {
          const heard = ({ type }: Event): void => callback(type === 'online' ? type : hidden() ? 'hidden' : 'visible');
          for (const type of types) target?.addEventListener?.(type, heard, listening);
        };
        // A page out of the back/forward cache is shown, and one that was frozen is resumed.
        on(document, 'visibilitychange', 'resume');
        // Not Node, which has listeners of other things.
        if (location) on(global, 'pageshow', 'online');
        return () => listening.abort();
      },
    },
    locks: navigator?.locks,
    // Node has both, but no tabs: a channel there would only keep the process alive.
    BroadcastChannel: document && BroadcastChannel,
    SharedWorker,
  };
}
