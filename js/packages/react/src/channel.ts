// The events of some channels, over several subscriptions that follow one another.
//
// Owns: the cursor from one subscription to the next. Does not know: what events are for.
// Flow: open → from the start, or from the cursor → events and resets → closed; the cursor is kept.

import type { Client, From, Reset, TidingsError, TidingsEvent } from '@tidings/client';

export interface ChannelSource {
  readonly client: () => Client;
  /** None: nothing is opened. */
  readonly channels: readonly string[];
  readonly from?: From | undefined;
}

export interface Sink {
  /** `false`: it was not taken, nor is what follows; it comes again when the channels are opened again. */
  event(event: TidingsEvent): boolean;
  reset?(reset: Reset): void;
  /** Nothing comes, until the client reconnects with better credentials. */
  refused?(error: TidingsError): void;
  /** From now on everything comes. */
  live?(): void;
}

/** What opens the channels. What that returns closes them; opened again, they go on where they were. */
export function channelOpener({ client, channels, from = 'now' }: ChannelSource): (sink: Sink) => () => void {
  let cursor: string | null = null;
  return (sink) => {
    if (channels.length === 0) return () => {};
    const subscription = client().subscribe(channels, {
      from: cursor === null ? from : { id: cursor },
      live: () => sink.live?.(),
    });
    let refused = false;
    subscription.onAny((event) => {
      if (refused) return;
      refused = !sink.event(event);
      if (!refused) cursor = event.id ?? cursor;
    });
    subscription.onReset((reset) => sink.reset?.(reset));
    subscription.onRefused((error) => sink.refused?.(error));
    return () => {
      if (!refused) cursor = subscription.cursor ?? cursor;
      subscription.close();
    };
  };
}

/** The channels that a hook was given, as a list. */
export function channelList(channel: string | readonly string[] | null | undefined): readonly string[] {
  if (channel === null || channel === undefined || channel === '') return [];
  return typeof channel === 'string' ? [channel] : channel;
}
