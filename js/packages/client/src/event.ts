// What arrives on a channel.
//
// Owns: the shape of an event, and how the events of a channel are typed. Does not know: how they arrive.

/** The events of one channel: event type → what its data is. An interface or a type alias will do. */
export type AnyEvents = { [event: string]: unknown };

/** The channels of an application, where nothing is said about them. */
export type AnyChannels = { [channel: string]: AnyEvents };

/** Names of event types of a channel. */
export type EventName<E> = keyof E & string;

/** One event. */
export interface TidingsEvent<T = unknown, N extends string = string> {
  /** The event type; `message` where none was given. */
  readonly event: N;
  readonly data: T;
  readonly channel: string;
  /** Who published it, where the server knows a subject. */
  readonly from: string | null;
  /** When it was published, in Unix milliseconds. */
  readonly time: number;
  /** Opaque: compare for equality, store, send back. `null` for an ephemeral event. */
  readonly id: string | null;
}

/** Any event of a channel, told apart by `event`. */
export type EventOf<E> = { [K in EventName<E>]: TidingsEvent<E[K], K> }[EventName<E>];

/** Why events are missing. More reasons may come. */
export type ResetReason = 'expired' | 'epoch' | 'ahead' | 'malformed' | 'deleted' | 'corrupt' | (string & {});

/** Events of a channel are missing in front of what comes next: fetch its state anew. */
export interface Reset {
  readonly reason: ResetReason;
  readonly channel: string;
  /** The id of the oldest event that can still be had, where the server knows it. */
  readonly first: string | null;
}
