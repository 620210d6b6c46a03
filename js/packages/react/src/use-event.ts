// useEvent: a callback for every event, without a render.
//
// Owns: the hook. Does not know: how events arrive.

import { useSyncExternalStore } from 'react';
import type { From, Reset, TidingsError, TidingsEvent } from '@tidings/client';

import { channelList } from './channel.js';
import { useClient } from './client-context.js';
import { createEventStore } from './event-store.js';
import type { ChannelArgument, ChannelName, DataOf, EventIn, EventNameOf, Unregistered } from './register.js';
import { useNewest, useStored } from './use-stored.js';

export interface UseEventOptions {
  /** Where it begins, read once; default `now`: from when the server has heard of it, which is told with the first render. */
  from?: From | undefined;
  /** Events are missing: fetch the state anew. */
  onReset?: ((reset: Reset) => void) | undefined;
  /** The server refused the channel. */
  onError?: ((error: TidingsError) => void) | undefined;
}

/**
 * Calls `handler` for every event of the types `event` on `channel`, each once and in order, also for those that came before
 * it was mounted. The newest handler is called. Without a channel nothing is opened.
 */
export function useEvent<C extends ChannelName, K extends EventNameOf<C>>(
  channel: ChannelArgument<C>,
  event: K | readonly K[],
  handler: (data: DataOf<C, K>, event: EventIn<C, K>) => void,
  options?: UseEventOptions,
): void;
export function useEvent<T>(
  channel: ChannelArgument<Unregistered>,
  event: Unregistered | readonly Unregistered[],
  handler: (data: T, event: TidingsEvent<T>) => void,
  options?: UseEventOptions,
): void;
export function useEvent(
  channel: ChannelArgument<string>,
  event: string | readonly string[],
  handler: (data: never, event: never) => void,
  options: UseEventOptions = {},
): void {
  const client = useClient();
  const channels = channelList(channel);
  const events = channelList(event);
  const newest = useNewest({ handler, options });
  const store = useStored(`${channels.join()} ${events.join()}`, client, () => createEventStore({
    client, channels, events,
    from: options.from,
    onEvent: (event) => newest.current.handler(event.data as never, event as never),
    onReset: (reset) => newest.current.options.onReset?.(reset),
    onError: (error) => newest.current.options.onError?.(error),
  }));
  useSyncExternalStore(store.subscribe, store.snapshot, store.initial);
}
