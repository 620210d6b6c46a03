// useLatest: the newest event of a type.
//
// Owns: the hook. Does not know: how events arrive.

import { useSyncExternalStore } from 'react';
import type { From, Reset } from '@tidings/client';

import { channelList } from './channel.js';
import { useClient } from './client-context.js';
import { createLatestStore, type Latest } from './latest-store.js';
import type { ChannelArgument, ChannelName, DataOf, EventIn, EventNameOf, Unregistered } from './register.js';
import { useNewest, useStored } from './use-stored.js';

export interface UseLatestOptions<T> {
  /** What is shown until an event comes, also by a server that renders; read once. */
  initialData?: T | undefined;
  /** Where it begins, read once; default `now`: from when the server has heard of it. With data from a server: the position it was read at. */
  from?: From | undefined;
  /** At most one render in this time; default: one per frame. */
  throttleMs?: number | undefined;
  /** Events are missing: fetch the state anew. */
  onReset?: ((reset: Reset) => void) | undefined;
}

/** The newest event of the types `event` on `channel`. Without a channel nothing is opened. */
export function useLatest<C extends ChannelName, K extends EventNameOf<C>>(
  channel: ChannelArgument<C>,
  event: K | readonly K[],
  options?: UseLatestOptions<DataOf<C, K>>,
): Latest<DataOf<C, K>, EventIn<C, K>>;
export function useLatest<T>(
  channel: ChannelArgument<Unregistered>,
  event: Unregistered | readonly Unregistered[],
  options?: UseLatestOptions<T>,
): Latest<T>;
export function useLatest(
  channel: ChannelArgument<string>,
  event: string | readonly string[],
  options: UseLatestOptions<unknown> = {},
): Latest<unknown> {
  const client = useClient();
  const channels = channelList(channel);
  const events = channelList(event);
  const newest = useNewest(options);
  const store = useStored(`${channels.join()} ${events.join()}`, client, () => createLatestStore({
    client, channels, events,
    from: options.from,
    initialData: options.initialData,
    throttleMs: options.throttleMs,
    onReset: (reset) => newest.current.onReset?.(reset),
  }));
  return useSyncExternalStore(store.subscribe, store.snapshot, store.initial);
}
