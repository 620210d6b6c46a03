// What an application says about its channels, once, for every hook.
//
// Owns: the interface that is augmented. Does not know: any channel.

import type { AnyChannels, EventName, TidingsEvent } from '@tidings/client';

/**
 * ```ts
 * declare module '@tidings/react' {
 *   interface Register { channels: { orders: { 'status-update': { jobId: string; status: string } } } }
 * }
 * ```
 */
export interface Register {}

export type Channels = Register extends { channels: infer M } ? M : AnyChannels;
/** Any text, where nothing is registered; otherwise nothing else is a channel or an event type. */
export type Unregistered = Register extends { channels: unknown } ? never : string;
export type ChannelName = keyof Channels & string;
export type EventNameOf<C extends ChannelName> = EventName<Channels[C]>;
export type DataOf<C extends ChannelName, K extends EventNameOf<C>> = Channels[C][K];
/** Events of these types, told apart by `event`. */
export type EventIn<C extends ChannelName, K extends EventNameOf<C>> = { [N in K]: TidingsEvent<DataOf<C, N>, N> }[K];

/** One channel, several, or none: then nothing is opened. */
export type ChannelArgument<C extends string> = C | readonly C[] | null | undefined;
