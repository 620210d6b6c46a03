// @tidings/react/swr: useSWRSubscription.
//
// Owns: the function that it takes. Does not know: SWR beyond that.
// Flow: channel → events → once per frame → `next`.

import { TidingsError, type From, type Status, type TidingsEvent } from '@tidings/client';

import { untyped, type AnyClient } from './any-client.js';
import { channelList, channelOpener } from './channel.js';
import { defaultClient } from './default-client.js';
import { nextFrame } from './frame.js';
import { createHold } from './hold.js';
import { INBOX_MAX } from './limits.js';
import { followStatus } from './status-store.js';

export interface SwrSubscriptionOptions<T> {
  /** The data with `event` in it; default: the event's data. It changes nothing in place. */
  readonly reduce?: ((data: T | undefined, event: TidingsEvent) => T) | undefined;
  readonly from?: From | undefined;
  /** Default: the one that hooks without a provider use. */
  readonly client?: AnyClient | undefined;
}

export type SwrSubscription<T> = (
  key: unknown,
  options: { next(error?: Error | null, data?: T | ((data: T | undefined) => T | undefined)): void },
) => () => void;

/** What `useSWRSubscription` takes: the newest data of the types `event`, and an error when the stream is over for good. */
export function swrSubscription<T = unknown>(
  channel: string | readonly string[],
  event: string | readonly string[],
  { reduce = (_, event) => event.data as T, from, client }: SwrSubscriptionOptions<T> = {},
): SwrSubscription<T> {
  const channels = channelList(channel);
  const events = channelList(event);
  const clientNow = () => untyped(client) ?? defaultClient();

  return (_key, { next }) => {
    let over = false;
    let waiting: TidingsEvent[] = [];
    const tell = () => {
      const list = waiting;
      waiting = [];
      if (!over && list.length > 0) next(null, (data) => list.reduce<T | undefined>(reduce, data));
    };
    const open = channelOpener({ client: clientNow, channels, from });
    const hold = createHold(() => {
      const unfollow = followStatus({ client: clientNow, channels }, (status) => {
        const error = errorOf(status);
        if (error !== null && !over) next(error);
      });
      const close = open({
        event(event) {
          if (!events.includes(event.event)) return true;
          waiting.push(event);
          if (waiting.length === INBOX_MAX) tell();
          else nextFrame(tell);
          return true;
        },
        refused(error) {
          if (!over) next(error);
        },
      });
      return () => {
        unfollow();
        close();
      };
    });
    const release = hold.use();
    return () => {
      over = true;
      release();
    };
  };
}

function errorOf(status: Status): TidingsError | null {
  if (status.state !== 'closed' || status.reason.code === 'done' || status.reason.code === 'aborted') return null;
  const { code, message, status: http } = status.reason;
  return new TidingsError(code, message, { status: http });
}
