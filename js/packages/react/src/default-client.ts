// The client of pages that do not make one.
//
// Owns: that there is one of it, and none before it is used. Does not know: who uses it.

import { createClient, type Client } from '@tidings/client';

let client: Client | null = null;

/** For `/events` on the page's origin. Never called while a server renders, where it would be shared by everybody. */
export function defaultClient(): Client {
  const made: Client = (client ??= createClient());
  return made;
}
