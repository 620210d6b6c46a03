// What an application holds: a client, and its subscriptions.
//
// Owns: the interface. Does not know: how it is kept.

import type { TidingsError } from './error.js';
import type { AnyChannels, EventName, EventOf, Reset, TidingsEvent } from './event.js';
import type { JobHandle, JobOptions, StartedJob } from './job.js';
import type { SchemaEvents, Schemas } from './schema.js';
import type { Status } from './status.js';

/** Where a subscription begins: with what is published from now on, with all that is retained, behind an event, or with the newest. */
export type From = 'now' | 'start' | { readonly id: string } | { readonly last: number };

export interface SubscribeOptions {
  /** Default `now`. */
  from?: From | undefined;
  /** Closes the subscription. */
  signal?: AbortSignal | undefined;
  /** `text` leaves data as it was sent, for events that were published as text; default `json`. */
  format?: 'json' | 'text' | undefined;
  /** Called when nothing that is published from then on can be missed: state that is fetched then and what follows are complete. */
  live?: (() => void) | undefined;
}

/** Events of one or more channels. It is open from when it is made until `close()`. */
export interface Subscription<E = { [event: string]: unknown }> extends AsyncIterable<EventOf<E>> {
  readonly channels: readonly string[];
  /** `callback` for every event of one type. What it throws goes to `onError`; the event counts as delivered. */
  on<K extends EventName<E>>(event: K, callback: (data: E[K], event: TidingsEvent<E[K], K>) => void): this;
  off<K extends EventName<E>>(event: K, callback: (data: E[K], event: TidingsEvent<E[K], K>) => void): this;
  onAny(callback: (event: EventOf<E>) => void): this;
  /** Events are missing: fetch the state of the channel anew; what follows is complete from there on. */
  onReset(callback: (reset: Reset) => void): this;
  /** The channels are finished, or the subscription was closed; nothing more will come. */
  onEnd(callback: () => void): this;
  /** The server refused it: nothing comes until `reconnect()`, for which new credentials are a reason. */
  onRefused(callback: (error: TidingsError) => void): this;
  /** Everything up to it was delivered. Store it, and pass it as `from` to go on. */
  readonly cursor: string | null;
  close(): void;
}

export interface Client<M = AnyChannels> {
  /** Channels share one stream; adding one does not interrupt the others. */
  subscribe<C extends keyof M & string>(channel: C | readonly C[], options?: SubscribeOptions): Subscription<M[C]>;
  /** The same, with data that is checked as it arrives; what does not fit goes to `onError` instead of a handler. */
  subscribe<S extends Schemas>(channel: string | readonly string[], options: SubscribeOptions & { schema: S }): Subscription<SchemaEvents<S>>;
  job<R = unknown>(id: string, options?: JobOptions): JobHandle<R>;
  /** `POST path` with the input as its body, as for `/api/exports`; the answer's `jobId` is then watched there. */
  startJob<R = unknown>(path: string, input?: unknown, options?: Omit<JobOptions, 'path' | 'initial'>): Promise<StartedJob<R>>;
  /** `fetch` with this client's credentials; a path stands for itself on the server's origin. The token is sent to no other. */
  fetch(path: string | URL, init?: RequestInit): Promise<Response>;
  readonly status: Status;
  /** Called with every new status. */
  onStatus(callback: (status: Status) => void): () => void;
  /** Drops the connection and resumes, at once and in every state but idle. */
  reconnect(): void;
  /** Ends every subscription. */
  close(): void;
}

