// useTidingsStatus: what the client is doing.
//
// Owns: the hook. Does not know: what leads from one status to the next.

import { useSyncExternalStore } from 'react';
import type { Status } from '@tidings/client';

import { useClient } from './client-context.js';
import { createStatusStore } from './status-store.js';
import { useStored } from './use-stored.js';

/** What the client is doing; `idle` while a server renders. It opens nothing. */
export function useTidingsStatus(): Status {
  const client = useClient();
  const store = useStored('', client, () => createStatusStore(client));
  return useSyncExternalStore(store.subscribe, store.snapshot, store.initial);
}
