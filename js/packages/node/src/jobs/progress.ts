// Owns: what a progress report says on the wire, and how two become one. Does not know: when they are sent.
// Flow: in ← a number or a `Progress` · out → the fields of a report.

import { invalid } from '../error.js';
import type { Progress } from './document.js';

export type ProgressFields = Record<string, unknown>;

const NUMBERS = ['progress', 'current', 'total', 'etaMs'] as const;

/** The fields of a report. What was not said is not in it, since `null` would clear it. */
export function progressFields(progress: number | Progress): ProgressFields {
  const given: Progress = typeof progress === 'number' ? { progress } : progress;
  for (const name of NUMBERS) {
    const value = given[name];
    // JSON makes these null, which would clear the field.
    if (typeof value === 'number' && !Number.isFinite(value)) throw invalid(`${name} is ${value}`);
  }
  const { etaMs, ...same } = given;
  const fields: ProgressFields = { ...same, eta_ms: etaMs };
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined) delete fields[name];
  }
  return fields;
}

/** One report that says what both said. */
export function mergeProgress(before: ProgressFields, after: ProgressFields): ProgressFields {
  const merged = { ...before, ...after };
  // The percentage that `before` gave is older than the count that `after` gives.
  if ('progress' in before && !('progress' in after) && ('current' in after || 'total' in after)) {
    delete merged['progress'];
  }
  return merged;
}
