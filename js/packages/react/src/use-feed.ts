// useFeed: the newest events of a channel, as a list with an end.
//
// Owns: the hook. Does not know: how events arrive.

import { useMemo, useSyncExternalStore } from 'react';
import type { From, Reset, TidingsEvent } from '@tidings/client';

import { channelList } from './channel.js';
import { useClient } from './client-context.js';
import { createFeedStore, type FeedState } from './feed-store.js';
import { FEED_LIMIT } from './limits.js';
import type { ChannelArgument, ChannelName, EventIn, EventNameOf, Unregistered } from './register.js';
import { useNewest, useStored } from './use-stored.js';

export interface UseFeedOptions<T, E = TidingsEvent, K extends string = string> {
  /** Which event types; default all. */
  events?: readonly K[] | undefined;
  /** How many items are kept, the newest ones; default 200. */
  limit?: number | undefined;
  /** The items with `event` among them; default: the event at their end. It changes nothing in place. */
  reduce?: ((items: readonly T[], event: E) => readonly T[]) | undefined;
  /** What is shown first, also by a server that renders; read once. */
  initialItems?: readonly T[] | undefined;
  /** Where it begins, read once; default `now`: from when the server has heard of it. With items from a server: the position they were read at. */
  from?: From | undefined;
  /** At most one render in this time; default: one per frame. */
  throttleMs?: number | undefined;
  /** Events are missing: fetch the state anew. */
  onReset?: ((reset: Reset) => void) | undefined;
}

export interface Feed<T> extends FeedState<T> {
  clear(): void;
}

/** The newest events of `channel`, oldest first. Without a channel nothing is opened. */
export function useFeed<C extends ChannelName, K extends EventNameOf<C> = EventNameOf<C>, T = EventIn<C, K>>(
  channel: ChannelArgument<C>,
  options?: UseFeedOptions<T, EventIn<C, K>, K>,
): Feed<T>;
export function useFeed<T>(channel: ChannelArgument<Unregistered>, options?: UseFeedOptions<T>): Feed<T>;
export function useFeed(channel: ChannelArgument<string>, options: UseFeedOptions<unknown> = {}): Feed<unknown> {
  const client = useClient();
  const channels = channelList(channel);
  const events = options.events ?? [];
  const newest = useNewest(options);
  const limit = options.limit ?? FEED_LIMIT;
  const store = useStored(`${channels.join()} ${events.join()} ${limit}`, client, () => createFeedStore<unknown>({
    client, channels, events, limit,
    from: options.from,
    initialItems: options.initialItems ?? [],
    throttleMs: options.throttleMs,
    reduce: (items, event) => newest.current.reduce?.(items, event) ?? [...items, event],
    onReset: (reset) => newest.current.onReset?.(reset),
  }));
  const state = useSyncExternalStore(store.subscribe, store.snapshot, store.initial);
  return useMemo(() => ({ ...state, clear: store.clear }), [state, store]);
}
