// Events for a handler.
//
// Owns: that none is lost between the first render and the mount. Does not know: React, or what the handler does.
// Flow: channel → events of the wanted types → inbox → handler.

import type { Reset, TidingsError, TidingsEvent } from '@tidings/client';

import { channelOpener, type ChannelSource } from './channel.js';
import { createInbox } from './inbox.js';
import { createStore, type Store } from './store.js';

export interface EventParts extends ChannelSource {
  /** Which types; none means all. */
  readonly events: readonly string[];
  onEvent(event: TidingsEvent): void;
  onReset(reset: Reset): void;
  onError(error: TidingsError): void;
}

/** Its snapshot never changes: it is there to be subscribed to. */
export function createEventStore({ events, onEvent, onReset, onError, ...source }: EventParts): Store<null> {
  const inbox = createInbox<() => void>((call) => call());
  const open = channelOpener(source);
  return createStore<null>({
    read: () => null,
    open: (_changed, shut) => open({
      event(event) {
        if (events.length > 0 && !events.includes(event.event)) return true;
        const room = inbox.put(() => onEvent(event));
        if (!room) shut();
        return room;
      },
      reset: (reset) => void inbox.put(() => onReset(reset)),
      refused: (error) => void inbox.put(() => onError(error)),
    }),
    watched: (watched) => inbox.open(watched),
  });
}
