// The newest event of some types.
//
// Owns: which event that is, and whether one in front of it may be missing. Does not know: React.
// Flow: channel → events of the wanted types → the newest one → a snapshot per frame.

import type { Reset, Status, TidingsError, TidingsEvent } from '@tidings/client';

import { channelOpener, type ChannelSource } from './channel.js';
import { createInbox } from './inbox.js';
import { followStatus } from './status-store.js';
import { createStore, type Store } from './store.js';

export interface Latest<T, E = TidingsEvent<T>> {
  /** Its data; `initialData` until there is one. */
  readonly data: T | undefined;
  readonly event: E | null;
  /** Events were lost since: `data` may be out of date until the next one. */
  readonly reset: Reset | null;
  /** The server refused the channel. */
  readonly error: TidingsError | null;
  readonly status: Status;
}

export interface LatestParts<T> extends ChannelSource {
  readonly events: readonly string[];
  readonly initialData: T | undefined;
  readonly throttleMs?: number | undefined;
  onReset(reset: Reset): void;
}

export function createLatestStore<T>({ events, initialData, throttleMs, onReset, ...source }: LatestParts<T>): Store<Latest<T>> {
  let latest: Latest<T> = { data: initialData, event: null, reset: null, error: null, status: { state: 'idle' } };
  const resets = createInbox(onReset);
  const open = channelOpener(source);
  return createStore({
    throttleMs,
    watched: resets.open,
    read: () => latest,
    open(changed) {
      const set = (part: Partial<Latest<T>>) => {
        latest = { ...latest, ...part };
        changed();
      };
      const unfollow = followStatus(source, (status) => set({ status }));
      const close = open({
        event(event) {
          if (events.includes(event.event)) set({ data: event.data as T, event: event as TidingsEvent<T>, reset: null });
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
}
