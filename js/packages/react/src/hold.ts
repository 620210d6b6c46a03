// How long something stays open: while it is used, and a little longer.
//
// Owns: the count of its users, and the time behind the last one. Does not know: what is open.
// Flow: `warm` while rendering, `use` when mounted → `open` → nobody uses it → the time passes → closed.

import { LINGER_MS, RENDER_MS } from './limits.js';

export interface Hold {
  /** Opens it for a user that is about to come. Once; it may be called in every render. */
  warm(): void;
  /** Keeps it open until what it returns is called. */
  use(): () => void;
  /** Closes it now; the next user opens it again. */
  shut(): void;
}

/** What `open` returns closes it, `lingerMs` behind its last user. */
export function createHold(open: () => () => void, lingerMs: number = LINGER_MS): Hold {
  let users = 0;
  let warmed = false;
  let close: (() => void) | null = null;
  let timer: ReturnType<typeof setTimeout> | undefined;

  const shut = () => {
    clearTimeout(timer);
    const end = close;
    close = null;
    end?.();
  };
  const closeIn = (ms: number) => {
    clearTimeout(timer);
    timer = setTimeout(shut, ms);
  };

  return {
    warm() {
      if (warmed) return;
      warmed = true;
      close = open();
      closeIn(RENDER_MS);
    },
    use() {
      warmed = true;
      users += 1;
      clearTimeout(timer);
      close ??= open();
      let over = false;
      return () => {
        if (over) return;
        over = true;
        users -= 1;
        if (users > 0) return;
        if (lingerMs === 0) shut();
        else closeIn(lingerMs);
      };
    },
    shut,
  };
}
