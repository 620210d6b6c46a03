// The part of this package that is fetched when it is needed.
//
// Owns: what it means that it cannot be had. Does not know: what is in it, or what is done instead.
// Browsers remember for the life of a page that a module could not be fetched, as after a deployment that took it away. So only
// that is in it for which there is something else to do, or of which the one who asked for it is told.

import { TidingsError } from './error.js';

export type Rest = typeof import('./rest.js');

/** Throws `network`. */
export function rest(): Promise<Rest> {
  return import('./rest.js').catch((cause: unknown) => {
    throw new TidingsError('network', `code of the client is missing: ${String(cause)}`, { cause });
  });
}
