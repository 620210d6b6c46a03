// Where the events of many subscriptions come from.
//
// Owns: the seam between subscriptions and a stream, be it this page's or another tab's. Does not know: either side.

import type { From } from './client.js';
import type { TidingsError } from './error.js';
import type { Incoming } from './incoming.js';
import type { LinkReset } from './link.js';
import type { Status } from './status.js';

export interface Source {
  /** Where the stream stands; everything of the joined channels up to it has gone to the sink. */
  readonly position: string | null;
  /** Whether everything of a channel behind the position comes. */
  has(channel: string): boolean;
  /** The channels that are wanted from now on; those that are there already are not disturbed. */
  want(channels: ReadonlySet<string>): void;
  reconnect(): void;
  close(): void;
}

/** What a source tells, in the order of its stream. */
export interface SourceSink {
  /** Everything of these channels behind the position comes from now on. */
  joined(channels: readonly string[]): void;
  /** A promise holds the stream back. */
  event(event: Incoming): void | Promise<void>;
  reset(reset: LinkReset): void;
  /** The position is about to be another stream's: everybody goes on from where they stand. */
  moved(): void;
  /** These channels are finished. Whoever is told so says anew what is wanted. */
  ended(channels: readonly string[]): void;
  /** These channels are not to be had, and likewise; `null` if nothing is. */
  refused(channels: readonly string[] | null, error: TidingsError): void;
  status(status: Status): void;
}

/** Whether a subscription to `own` is meant where these are named; all are, where none is. */
export function means(channels: readonly string[] | null | undefined, own: readonly string[]): boolean {
  return !channels || own.some((channel) => channels.includes(channel));
}

/** Those of `channels` that are not among `others`. */
export function without(channels: ReadonlySet<string>, others: Iterable<string>): ReadonlySet<string> {
  const out = new Set(channels);
  for (const channel of others) out.delete(channel);
  return out;
}

/** Where something begins: behind an event, with so many of the newest, or with all that is retained; `null` with what comes next. */
export type Begin = { readonly id?: string | undefined; readonly last?: number | undefined } | null;

export function beginOf(from: From): Begin {
  return from === 'now' ? null : from === 'start' ? {} : from;
}
