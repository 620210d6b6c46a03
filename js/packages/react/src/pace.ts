// How often a store tells its listeners of changes.
//
// Owns: the time since it told them last. Does not know: what changed.
// Flow: `changed` → the rest of `throttleMs` → the next frame → `flush`.

import { nextFrame } from './frame.js';

export interface Pace {
  /** There is something to tell, with the next frame if it is urgent. */
  changed(urgent?: boolean): void;
  stop(): void;
}

export function createPace(throttleMs: number, flush: () => void): Pace {
  let told = -Infinity;
  let stop: (() => void) | null = null;
  let urgentNow = false;

  const frame = () => {
    stop = nextFrame(() => {
      stop = null;
      urgentNow = false;
      told = performance.now();
      flush();
    });
  };

  return {
    changed(urgent = false) {
      if (stop !== null && (urgentNow || !urgent)) return;
      stop?.();
      const rest = told + throttleMs - performance.now();
      urgentNow = urgent || rest <= 0;
      if (urgentNow) return frame();
      const timer = setTimeout(frame, rest);
      stop = () => clearTimeout(timer);
    },
    stop() {
      stop?.();
      stop = null;
    },
  };
}
