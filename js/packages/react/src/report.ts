// What a callback of the application throws, where nobody waits for it.
//
// Owns: that it is seen, and that it stops nothing. Does not know: what was called.

/** Calls `callback`; what it throws becomes an error of the page. */
export function report(callback: () => void): void {
  try {
    callback();
  } catch (error) {
    if (typeof reportError === 'function') reportError(error);
    else queueMicrotask(() => { throw error; });
  }
}
