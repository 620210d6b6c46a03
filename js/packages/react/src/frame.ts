// When listeners hear of changes: in the next frame, all of them in the same turn, so that React renders them once.
//
// Owns: the one frame that everybody waits for. Does not know: what changed.
// Flow: a flush → the set of this frame → requestAnimationFrame, or a timer where nothing paints → every flush.

import { FRAME_MS, HIDDEN_MS, STUCK_MS } from './limits.js';
import { report } from './report.js';

let waiting = new Set<() => void>();
let disarm: (() => void) | null = null;

/** Calls `flush` in the next frame, once however often it is asked for. What it returns takes that back. */
export function nextFrame(flush: () => void): () => void {
  waiting.add(flush);
  disarm ??= arm(run);
  return () => waiting.delete(flush);
}

function run(): void {
  disarm?.();
  disarm = null;
  const flushes = waiting;
  waiting = new Set();
  for (const flush of flushes) report(flush);
}

function arm(callback: () => void): () => void {
  if (typeof requestAnimationFrame !== 'function') return timer(callback, FRAME_MS);
  const hidden = typeof document !== 'undefined' && document.visibilityState === 'hidden';
  const frame = requestAnimationFrame(callback);
  const stop = timer(callback, hidden ? HIDDEN_MS : STUCK_MS);
  return () => {
    cancelAnimationFrame(frame);
    stop();
  };
}

function timer(callback: () => void, ms: number): () => void {
  const id = setTimeout(callback, ms);
  return () => clearTimeout(id);
}
