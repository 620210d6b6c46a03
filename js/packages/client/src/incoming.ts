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

/** Of a block of a stream; `channel` and `time` are for a server that says neither. */
export function incoming({ event, data, id, from, ...said }: Block, channel: string, time: number): Incoming {
  let value: { json: unknown } | undefined;
  return {
    channel,
    time,
    ...said,
    event: event || 'message',
    from: from ?? null,
    id: id || null,
    text: () => data,
    // Made once: several subscriptions may ask.
    json: () => (value ??= { json: JSON.parse(data) as unknown }).json,
  };
}
