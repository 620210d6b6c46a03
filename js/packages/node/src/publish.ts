// Owns: what a publish says, and what may be sent again. Does not know: how often.
// Flow: in ← one event, one for several channels, or a list · out → ids of durable events.

import { encode, json, send, sendOnce, type Transport } from './call.js';
import { answerInvalid, parsed, problem, record, TidingsError } from './error.js';
import type { ChannelName, ChannelsOf, EventName, Schema } from './schema.js';

export interface EventOptions {
  /** A newer event with the same channel and key may replace this one for streams that are behind. */
  key?: string | undefined;
  /** Finishes the channel: nothing can be published there afterwards, and streams end behind it. */
  final?: boolean | undefined;
  /** Past this age the event is neither delivered nor listed. */
  ttlMs?: number | undefined;
  /** Makes every repeat of this publish take effect once, also one by another process (24 h). Without it, each call gets
   * a key of its own, for its own repeats; `false` sends none. */
  idempotencyKey?: string | false | undefined;
}

export interface EphemeralOptions {
  /** Not stored: only streams that are in step get it, without an id. */
  ephemeral: true;
  key?: never;
  final?: never;
  ttlMs?: never;
  idempotencyKey?: never;
}

type Lasting = EventOptions & { ephemeral?: false | undefined };

type Content<E extends string, D> = ('message' extends E ? { event?: E | undefined } : { event: E }) &
  (
    | (undefined extends D ? { data?: D; text?: never } : { data: D; text?: never })
    | { text: string; data?: never }
  );

type Contents<S extends Schema, C extends ChannelName<S>> = {
  [E in EventName<S, C>]: Content<E, ChannelsOf<S>[C][E]>;
}[EventName<S, C>];

/** What is published, without its options. */
export type OneChannel<S extends Schema> = {
  [C in ChannelName<S>]: { channel: C; channels?: never } & Contents<S, C>;
}[ChannelName<S>];

/** The same event on several channels: adjacent, all or none. */
export type SeveralChannels<S extends Schema> = {
  [C in ChannelName<S>]: { channels: readonly C[]; channel?: never } & Contents<S, C>;
}[ChannelName<S>];

/** An event of a batch. */
export type BatchEvent<S extends Schema> = OneChannel<S> & (Lasting | EphemeralOptions);

export interface Published {
  /** The event's id. It is durable. */
  id: string;
  /** An earlier publish with the same idempotency key took effect, and this is its id. */
  duplicate: boolean;
}

export interface PublishedToSeveral {
  /** The ids by channel. */
  ids: Record<string, string>;
  duplicate: boolean;
}

export interface PublishedEphemeral {
  id: null;
}

/** What became of an event of a batch. */
export type BatchResult =
  | { id: string | null; duplicate: boolean; error?: undefined }
  /** It was refused, and the others were stored without it. */
  | { id?: undefined; error: TidingsError };

export interface CallOptions {
  /** Gives up; whether the request took effect is unknown then. */
  signal?: AbortSignal | undefined;
}

/** Publishes; when the promise resolves, the events are durable (unless they are ephemeral). */
export interface Publish<S extends Schema> {
  (event: OneChannel<S> & EphemeralOptions, options?: CallOptions): Promise<PublishedEphemeral>;
  (event: OneChannel<S> & Lasting, options?: CallOptions): Promise<Published>;
  (event: SeveralChannels<S> & EphemeralOptions, options?: CallOptions): Promise<PublishedEphemeral>;
  (event: SeveralChannels<S> & Lasting, options?: CallOptions): Promise<PublishedToSeveral>;
  /** A list is one commit: those that the server accepts are stored together, adjacently, or not at all. */
  (events: readonly BatchEvent<S>[], options?: CallOptions): Promise<BatchResult[]>;
}

/** Any event, for the code behind the types. */
interface AnyEvent extends EventOptions {
  channel?: string;
  channels?: readonly string[];
  event?: string;
  data?: unknown;
  text?: string;
  ephemeral?: boolean;
}

export function createPublish<S extends Schema>(transport: Transport): Publish<S> {
  const publish = (events: AnyEvent | readonly AnyEvent[], options: CallOptions = {}): Promise<unknown> =>
    isList(events) ? publishBatch(transport, events, options) : publishOne(transport, events, options);
  return publish as Publish<S>;
}

function isList(events: AnyEvent | readonly AnyEvent[]): events is readonly AnyEvent[] {
  return Array.isArray(events);
}

async function publishOne(transport: Transport, event: AnyEvent, { signal }: CallOptions): Promise<unknown> {
  // It has no key that would make a repeat safe: typing twice is worse than not at all.
  const given = event.ephemeral === true ? false : event.idempotencyKey;
  const answer = await sendOnce(transport, given, (key) => ({
    method: 'POST',
    path: '/v1/publish',
    body: line(event, key),
    repeats: key === undefined ? 'uncommitted' : 'few',
    signal,
  }));
  const body = record(json(answer));
  if (body === undefined || !('id' in body || 'ids' in body)) throw answerInvalid(answer.status, answer.body);
  return event.ephemeral === true ? { id: null } : { ...body, duplicate: body['duplicate'] === true };
}

async function publishBatch(
  transport: Transport,
  events: readonly AnyEvent[],
  { signal }: CallOptions,
): Promise<BatchResult[]> {
  if (events.length === 0) return [];
  const keys = events.map((event) => keyOf(transport, event));
  const isRepeatable = keys.every((key) => key !== undefined);
  const call = {
    method: 'POST' as const,
    path: '/v1/publish',
    contentType: 'application/x-ndjson',
    body: events.map((event, index) => `${line(event, keys[index])}\n`).join(''),
    repeats: isRepeatable ? ('few' as const) : ('uncommitted' as const),
    signal,
  };
  const answer = await send(transport, call);
  const results = answer.body.split('\n').filter((text) => text !== '').map(result);
  // A missing line would shift every later result to the wrong event.
  if (results.length !== events.length || results.includes(undefined)) throw answerInvalid(answer.status, answer.body);
  return results as BatchResult[];
}

function keyOf(transport: Transport, event: AnyEvent): string | undefined {
  if (event.ephemeral === true || event.idempotencyKey === false) return undefined;
  return event.idempotencyKey ?? (transport.isIdempotent ? crypto.randomUUID() : undefined);
}

/** The JSON of a publish, on one line. */
function line(event: AnyEvent, key: string | undefined): string {
  const { channel, channels, event: type, data, text, key: conflation, final, ephemeral, ttlMs } = event;
  return encode(
    {
      channel,
      channels,
      event: type,
      data,
      text,
      key: conflation,
      final,
      ephemeral,
      ttl_ms: ttlMs,
      idempotency_key: key,
    },
    'the event',
  );
}

/** Reads a result line; `undefined` if it is not one. */
function result(text: string): BatchResult | undefined {
  const value = record(parsed(text));
  if (value === undefined) return undefined;
  if (typeof value['code'] === 'string') return { error: problem(0, text) };
  const { id } = value;
  if (id !== null && typeof id !== 'string') return undefined;
  return { id, duplicate: value['duplicate'] === true };
}
