// What useSyncExternalStore wants, for something that is open while somebody looks at it.
//
// Owns: the snapshot that React sees, and when it changes. Does not know: React, or what is looked at.
// Flow: rendered → open → `changed` → paced → `read` → listeners.

import { createHold } from './hold.js';
import { createPace } from './pace.js';

export interface Store<S> {
  /** From now on `listener` is called when the snapshot is another one. */
  subscribe(listener: () => void): () => void;
  /** The snapshot; the first call opens the store, so that nothing is missed until it is mounted. */
  snapshot(): S;
  /** The snapshot of a page that is rendered by a server, which opens nothing. */
  initial(): S;
}

export interface StoreParts<S> {
  read(): S;
  /** Begins to call `changed`; what it returns ends that. `shut` ends it until the next listener comes. */
  open(changed: (urgent?: boolean) => void, shut: () => void): () => void;
  /** The first listener is there, or the last one has gone. */
  watched?(watched: boolean): void;
  throttleMs?: number | undefined;
}

export function createStore<S>({ read, open, watched, throttleMs = 0 }: StoreParts<S>): Store<S> {
  const listeners = new Set<() => void>();
  const initial = read();
  let shown = initial;
  let stale = false;

  const show = () => {
    if (stale) shown = read();
    stale = false;
  };
  const pace = createPace(throttleMs, () => {
    show();
    for (const listener of [...listeners]) listener();
  });
  const changed = (urgent?: boolean) => {
    stale = true;
    if (listeners.size > 0) pace.changed(urgent);
  };
  const hold = createHold(() => open(changed, () => hold.shut()));

  return {
    subscribe(listener) {
      const release = hold.use();
      listeners.add(listener);
      if (listeners.size === 1) watched?.(true);
      if (stale) pace.changed(true);
      return () => {
        listeners.delete(listener);
        if (listeners.size === 0) {
          pace.stop();
          watched?.(false);
        }
        release();
      };
    },
    snapshot() {
      hold.warm();
      // While nobody listens nobody is told either: whoever looks sees the newest.
      if (listeners.size === 0) show();
      return shown;
    },
    initial: () => initial,
  };
}
