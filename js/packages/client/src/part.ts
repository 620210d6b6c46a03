// The parts of this package that are fetched when they are needed.
//
// Owns: what it means that one cannot be had. Does not know: what is in them, or what is done instead.
// Browsers remember for the life of a page that a module could not be fetched, as after a deployment that took it away. So only
// that is in them for which there is something else to do, or of which the one who asked for it is told.

import { TidingsError } from './error.js';

export type Rest = typeof import('./rest.js');

function missing(cause: unknown): never {
  throw new TidingsError('network', `code of the client is missing: ${String(cause)}`, { cause });
}

/** Throws `network`. */
export const rest = (): Promise<Rest> => import('./rest.js').catch(missing);

/** What tabs need to share a stream; throws `network`. */
export const sharing = (): Promise<[typeof import('./share.js'), Rest]> => Promise.all([import('./share.js').catch(missing), rest()]);
