// A query of TanStack Query whose channel is followed while somebody looks at it.
//
// Owns: the subscription beside a query, and what its events make of the data. Does not know: React, or what the data is.
// Flow: queryFn → subscribed → fetched → events → patches, or a refetch → no observer for a while → closed, and the data is stale.

import type { Client, TidingsEvent } from '@tidings/client';
import type { Query, QueryCache, QueryClient } from '@tanstack/react-query';

import { channelOpener } from './channel.js';
import { nextFrame } from './frame.js';
import { createHold } from './hold.js';
import { INBOX_MAX, READY_MS, REFETCH_MS, RENDER_MS } from './limits.js';
import { createPace } from './pace.js';

export interface LiveParts<T> {
  readonly client: () => Client;
  readonly channels: readonly string[];
  /** Which types; none means all. */
  readonly events: readonly string[];
  /** The data with `event` in it, or `undefined` if it has to be fetched anew. None: it always has. */
  readonly apply: ((data: T, event: TidingsEvent) => T | undefined) | undefined;
}

export interface LiveQuery<T> {
  /** Fetches once the channel is followed, so that no change falls between the two. */
  fetch(fetcher: () => T | Promise<T>): Promise<T>;
  /** How many look at it may have changed. */
  observed(): void;
  close(): void;
}

const lives = new WeakMap<Query, LiveQuery<never>>();
const followed = new WeakSet<QueryCache>();

/** Whether the channel of a query is followed. */
export function isLive(query: unknown): boolean {
  return lives.has(query as Query);
}

/** The one `LiveQuery` of a query. */
export function liveQuery<T>(query: Query, queries: QueryClient, parts: LiveParts<T>): LiveQuery<T> {
  const cache = queries.getQueryCache();
  if (!followed.has(cache)) {
    followed.add(cache);
    cache.subscribe(({ type, query }) => {
      if (type === 'observerAdded' || type === 'observerRemoved') lives.get(query)?.observed();
      else if (type === 'removed') lives.get(query)?.close();
    });
  }
  const found = lives.get(query) as LiveQuery<T> | undefined;
  if (found !== undefined) return found;
  const made = createLiveQuery(query, queries, parts, () => {
    lives.delete(query);
    // Nobody follows it any more: whoever looks next fetches it.
    query.invalidate();
  });
  lives.set(query, made as LiveQuery<never>);
  made.observed();
  return made;
}

function createLiveQuery<T>(
  query: Query, queries: QueryClient, { client, channels, events, apply }: LiveParts<T>, closed: () => void,
): LiveQuery<T> {
  let waiting: TidingsEvent[] = [];
  /** Events since a fetch began: it may have them or not. */
  let since: TidingsEvent[] | null = null;
  let outdated = false;
  let late = false;
  let ready = (): void => {};
  /** Everything that is published from when it resolves comes; or that takes too long, and what is fetched is fetched again then. */
  const following = new Promise<void>((resolve) => { ready = resolve; });

  const refetch = createPace(REFETCH_MS, () => {
    // A fetch that runs is not cut short: under many events none would ever end.
    if (since !== null || !outdated) return;
    outdated = false;
    void queries.invalidateQueries({ queryKey: query.queryKey, exact: true });
  });
  const isOutdated = () => {
    outdated = true;
    refetch.changed();
  };
  /** The data with the events in it, as far as they can be put in. */
  const patched = (data: T, list: readonly TidingsEvent[]): T => list.reduce((data, event) => {
    const next = apply?.(data, event);
    if (next === undefined) isOutdated();
    return next ?? data;
  }, data);
  const flush = () => {
    const list = waiting;
    waiting = [];
    const data = query.state.data as T | undefined;
    if (data === undefined || apply === undefined) isOutdated();
    else queries.setQueryData(query.queryKey, patched(data, list));
  };

  const open = channelOpener({ client, channels });
  const hold = createHold(() => {
    const timer = setTimeout(() => {
      late = true;
      ready();
    }, READY_MS);
    const close = open({
      event(event) {
        if (events.length > 0 && !events.includes(event.event)) return true;
        for (const list of since === null ? [waiting] : [waiting, since]) {
          if (list.length < INBOX_MAX) list.push(event);
          else isOutdated();
        }
        nextFrame(flush);
        return true;
      },
      reset: isOutdated,
      refused: ready,
      live() {
        if (late) isOutdated();
        late = false;
        clearTimeout(timer);
        ready();
      },
    });
    return () => {
      clearTimeout(timer);
      // Whoever still waits fetches all the same.
      ready();
      close();
      refetch.stop();
      closed();
    };
  });
  let release: (() => void) | null = null;

  return {
    async fetch(fetcher) {
      // Followed as long as it is fetched: whoever comes meanwhile shares this fetch, and needs what follows it.
      const release = hold.use();
      await following;
      const mine: TidingsEvent[] = [];
      since = mine;
      try {
        return patched(await fetcher(), mine);
      } finally {
        // Unless it was cut short by another one.
        if (since === mine) since = null;
        if (outdated) refetch.changed();
        // One without observers was fetched for somebody who is about to look.
        if (query.getObserversCount() > 0) release();
        else setTimeout(release, RENDER_MS);
      }
    },
    observed() {
      const wanted = query.getObserversCount() > 0;
      if (wanted) release ??= hold.use();
      else {
        release?.();
        release = null;
      }
    },
    close: hold.shut,
  };
}
