// An event before anybody has looked at its data.
//
// Owns: data as text and as JSON, each made when it is asked for. Does not know: who wants which.

import type { Block } from './parse.js';

export interface Incoming {
  readonly event: string;
  readonly channel: string;
  readonly from: string | null;
  readonly time: number;
  readonly id: string | null;
  text(): string;
  /** Throws if it is not JSON. */
  json(): unknown;
}

/** Of a block of a stream; `fallback` is for a server that says neither the channel nor the time. */
export function incoming({ event = 'message', data, id, from, ...said }: Block, fallback: { channel: string; time: number }): Incoming {
  let value: { json: unknown } | undefined;
  return {
    channel: fallback.channel,
    time: fallback.time,
    ...said,
    event: event || 'message',
    from: from ?? null,
    id: id || null,
    text: () => data,
    // Made once: several subscriptions may ask.
    json: () => (value ??= { json: JSON.parse(data) as unknown }).json,
  };
}
