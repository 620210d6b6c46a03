// The newest events of a channel, as a list with an end.
//
// Owns: the list and its limit. Does not know: React, or what an item is.
// Flow: channel → events of the wanted types → `reduce` → the newest `limit` items → a snapshot per frame.

import type { Reset, Status, TidingsError, TidingsEvent } from '@tidings/client';

import { channelOpener, type ChannelSource } from './channel.js';
import { createInbox } from './inbox.js';
import { followStatus } from './status-store.js';
import { createStore, type Store } from './store.js';

export interface FeedState<T> {
  /** Oldest first. */
  readonly items: readonly T[];
  /** The last time that events were lost: something may be missing among the items. */
  readonly reset: Reset | null;
  /** The server refused the channel. */
  readonly error: TidingsError | null;
  readonly status: Status;
}

export interface FeedParts<T> extends ChannelSource {
  /** Which types; none means all. */
  readonly events: readonly string[];
  readonly initialItems: readonly T[];
  readonly limit: number;
  readonly throttleMs?: number | undefined;
  reduce(items: readonly T[], event: TidingsEvent): readonly T[];
  onReset(reset: Reset): void;
}

export interface FeedStore<T> extends Store<FeedState<T>> {
  /** Forgets the items, and that some were lost. */
  clear(): void;
}

export function createFeedStore<T>(parts: FeedParts<T>): FeedStore<T> {
  const { events, limit, throttleMs, reduce, onReset, ...source } = parts;
  let state: FeedState<T> = { items: newest(parts.initialItems, limit), reset: null, error: null, status: { state: 'idle' } };
  let changed = () => {};
  const set = (part: Partial<FeedState<T>>) => {
    state = { ...state, ...part };
    changed();
  };
  const resets = createInbox(onReset);
  const open = channelOpener(source);
  const store = createStore({
    throttleMs,
    watched: resets.open,
    read: () => state,
    open(tell) {
      changed = tell;
      const unfollow = followStatus(source, (status) => set({ status }));
      const close = open({
        event(event) {
          if (events.length > 0 && !events.includes(event.event)) return true;
          const items = reduce(state.items, event);
          if (items !== state.items) set({ items: newest(items, limit) });
          return true;
        },
        reset(reset) {
          set({ reset });
          resets.put(reset);
        },
        refused: (error) => set({ error }),
        live: () => set({ error: null }),
      });
      return () => {
        unfollow();
        close();
      };
    },
  });
  return { ...store, clear: () => set({ items: [], reset: null }) };
}

function newest<T>(items: readonly T[], limit: number): readonly T[] {
  return items.length > limit ? items.slice(items.length - limit) : items;
}
