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

/** Of a block of a stream. */
export function incoming(block: Block, fallback: { channel: string; time: number }): Incoming {
  const { event, data, id } = block;
  let value: { json: unknown } | undefined;
  return {
    event,
    channel: block.channel ?? fallback.channel,
    from: block.from ?? null,
    time: block.time ?? fallback.time,
    id: id === undefined || id === '' ? null : id,
    text: () => data,
    json: () => (value ??= { json: JSON.parse(data) as unknown }).json,
  };
}

/** As history lists it: text is a JSON string there. */
export interface Listed {
  event: string;
  channel: string;
  from?: string | undefined;
  time: number;
  id: string;
  data: unknown;
}

export function listed({ event, channel, from = undefined, time, id, data }: Listed): Incoming {
  const text = (): string => (typeof data === 'string' ? data : JSON.stringify(data));
  return { event, channel, from: from ?? null, time, id, text, json: () => data };
}
