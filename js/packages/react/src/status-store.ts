// What a client is doing.
//
// Owns: nothing but the newest status. Does not know: React.

import type { Client, Status } from '@tidings/client';

import { createStore, type Store } from './store.js';

export function createStatusStore(client: () => Client): Store<Status> {
  let status: Status = { state: 'idle' };
  return createStore({
    read: () => status,
    open: (changed) => followStatus({ client, channels: null }, (next) => {
      status = next;
      changed();
    }),
  });
}

/** Calls `set` with what the client is doing, now and from now on; never where nothing is subscribed. */
export function followStatus(
  { client, channels }: { client: () => Client; channels: readonly string[] | null },
  set: (status: Status) => void,
): () => void {
  if (channels?.length === 0) return () => {};
  const followed = client();
  set(followed.status);
  return followed.onStatus(set);
}
