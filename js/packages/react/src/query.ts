// @tidings/react/query: TanStack Query.
//
// Owns: the options. Does not know: how a query is kept up to date.

import type { TidingsEvent } from '@tidings/client';
import { isServer, type DataTag, type QueryFunctionContext, type QueryKey } from '@tanstack/react-query';

import { untyped, type AnyClient } from './any-client.js';
import { channelList } from './channel.js';
import { defaultClient } from './default-client.js';
import { isLive, liveQuery } from './live-query.js';

export interface LiveQueryParts<T, Key extends QueryKey = QueryKey> {
  readonly queryKey: Key;
  queryFn(context: QueryFunctionContext<Key>): T | Promise<T>;
  /** Where changes of the data are published. */
  readonly channel: string | readonly string[];
  /** Which event types; default all. */
  readonly events?: readonly string[] | undefined;
  /**
   * The data with `event` in it, made anew, or `undefined` if it has to be fetched. Without it every event is a refetch,
   * four a second at most. An event may be in the data already: applied twice, it must change nothing.
   */
  readonly apply?: ((data: T, event: TidingsEvent) => T | undefined) | undefined;
  /** Default: the one that hooks without a provider use. */
  readonly client?: AnyClient | undefined;
}

export interface LiveQueryOptions<T, Key extends QueryKey = QueryKey> {
  readonly queryKey: DataTag<Key, T>;
  readonly queryFn: (context: QueryFunctionContext<Key>) => Promise<T>;
  readonly staleTime: number;
  readonly refetchOnMount: (query: unknown) => boolean | 'always';
}

/**
 * Options for `useQuery` and its like: the channel is followed while the query has observers, and after a reset the data is
 * fetched anew. Where a server renders, it is fetched and nothing else; the page then fetches it once more.
 */
export function liveQueryOptions<T, const Key extends QueryKey = QueryKey>(parts: LiveQueryParts<T, Key>): LiveQueryOptions<T, Key> {
  const { queryKey, queryFn, channel, events = [], apply, client } = parts;
  return {
    queryKey: queryKey as DataTag<Key, T>,
    async queryFn(context) {
      const query = context.client.getQueryCache().find({ queryKey: context.queryKey, exact: true });
      if (isServer || query === undefined) return queryFn(context);
      const live = liveQuery<T>(query, context.client, {
        client: () => untyped(client) ?? defaultClient(), channels: channelList(channel), events, apply,
      });
      return live.fetch(() => queryFn(context));
    },
    // Events say when it is.
    staleTime: Infinity,
    // Data that came from a server, or from a cache, is older than the subscription.
    refetchOnMount: (query) => isLive(query) || 'always',
  };
}
