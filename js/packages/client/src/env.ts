// What the client needs of the world.
//
// Owns: the list of it, and where a browser, a worker or Node has it. Does not know: what it is used for.
// Nothing is touched when the package is imported, so that it can be on a server or in a worker.

/** What happens to a page. */
export type PageSignal = 'visible' | 'hidden' | 'online' | 'offline';

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
}

interface Globals {
  location?: { href: string; origin: string };
  document?: Document;
  navigator?: { onLine?: boolean; locks?: LockManager };
  addEventListener?: typeof addEventListener;
  removeEventListener?: typeof removeEventListener;
  EventSource?: typeof EventSource;
  BroadcastChannel?: typeof BroadcastChannel;
}

export function globalEnv(): Env {
  const global = globalThis as unknown as Globals;
  return {
    fetch: (input, init) => fetch(input, init),
    EventSource: global.EventSource,
    now: () => Date.now(),
    random: () => Math.random(),
    setTimeout: (callback, ms) => setTimeout(callback, ms),
    clearTimeout: (timer) => clearTimeout(timer as number),
    page: globalPage(global),
    locks: global.navigator?.locks,
    // Node has both, but no tabs: a channel there would only keep the process alive.
    BroadcastChannel: global.document === undefined ? undefined : global.BroadcastChannel,
  };
}

function globalPage({ location, document, navigator, addEventListener, removeEventListener }: Globals): Page {
  return {
    base: location?.href ?? null,
    hidden: () => document?.visibilityState === 'hidden',
    offline: () => navigator?.onLine === false,
    listen(callback) {
      const undo: (() => void)[] = [];
      const on = (target: 'page' | 'document', type: string, then: (event: Event) => void): void => {
        if (target === 'document') {
          document?.addEventListener(type, then);
          undo.push(() => document?.removeEventListener(type, then));
        } else {
          addEventListener?.(type, then);
          undo.push(() => removeEventListener?.(type, then));
        }
      };
      if (document !== undefined || location !== undefined) {
        on('document', 'visibilitychange', () => callback(document?.visibilityState === 'hidden' ? 'hidden' : 'visible'));
        // A page out of the back/forward cache, or one that was frozen.
        on('page', 'pageshow', (event) => (event as PageTransitionEvent).persisted && callback('visible'));
        on('document', 'resume', () => callback('visible'));
        on('page', 'online', () => callback('online'));
        on('page', 'offline', () => callback('offline'));
      }
      return () => undo.forEach((f) => f());
    },
  };
}
