// Calling what an application handed in.
//
// Owns: that what a callback throws is reported and stops nothing. Does not know: what callbacks are for.

import { TidingsError } from './error.js';

export type Report = (error: TidingsError) => void;

export function guard(report: Report, call: () => unknown): void {
  const failed = (cause: unknown): void => report(new TidingsError('handler_failed', `a handler threw: ${String(cause)}`, { cause }));
  try {
    const result = call();
    // An async handler is not waited for, but what it throws is not lost.
    if (result instanceof Promise) result.catch(failed);
  } catch (cause) {
    failed(cause);
  }
}

export function callEach<T>(report: Report, callbacks: Iterable<(value: T) => void>, value: T): void {
  for (const callback of callbacks) guard(report, () => callback(value));
}

export function listen<T>(callbacks: Set<T>, callback: T): () => void {
  callbacks.add(callback);
  return () => void callbacks.delete(callback);
}
