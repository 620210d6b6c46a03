// The client of pages that do not make one.
//
// Owns: that there is one of it, and none before it is used. Does not know: who uses it.

import { TidingsError, type Client } from '@tidings/client';

export function defaultClient(): Client {
  throw new TidingsError('closed', 'there is no client: put a TidingsProvider around what uses these hooks');
}
