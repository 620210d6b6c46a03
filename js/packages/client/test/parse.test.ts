import { describe, expect, test } from 'vitest';
import { EVENT_CHARS_MAX } from '../src/limits.js';
import { createParser, type Block } from '../src/parse.js';
import { fixture } from './support/fixtures.js';

interface Case {
  name: string;
  input?: string;
  input_hex?: string;
  events: { event: string; data: string; last_event_id: string; channel?: string; time?: number }[];
  retry?: number[];
  last_event_id: string;
}

function parse(chunks: Iterable<Uint8Array>) {
  let last = '';
  const retry: number[] = [];
  const parser = createParser((ms) => retry.push(ms));
  const blocks: Block[] = [];
  for (const chunk of chunks) blocks.push(...parser.push(chunk));
  const events = blocks.map(({ event = 'message', data, id, channel, time }) => ({
    event: event || 'message', data, last_event_id: (last = id ?? last),
    ...(channel === undefined ? {} : { channel }),
    ...(time === undefined ? {} : { time }),
  }));
  return { events, retry };
}

function* sized(bytes: Uint8Array, size: number) {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

describe('every case of the fixture, at every chunking', () => {
  for (const c of fixture<{ cases: Case[] }>('sse-parse').cases) {
    test(c.name, () => {
      const bytes = c.input_hex === undefined ? new TextEncoder().encode(c.input) : Uint8Array.from(Buffer.from(c.input_hex, 'hex'));
      const expected = { events: c.events, retry: c.retry ?? [] };
      for (const size of [bytes.length + 1, 1, 2, 3, 5, 7, 64]) expect(parse(sized(bytes, size))).toEqual(expected);
      for (let cut = 0; cut <= bytes.length; cut += 1) {
        expect(parse([bytes.subarray(0, cut), new Uint8Array(), bytes.subarray(cut)])).toEqual(expected);
      }
    });
  }
});

const text = (t: string) => new TextEncoder().encode(t);

test('the id of an unfinished block is not taken', () => {
  const parser = createParser(() => {});
  expect(parser.push(text('data: a\nid: 1\n\ndata: b\nid: 2\n'))).toMatchObject([{ id: '1' }]);
});

test('an event without an id says so', () => {
  const parser = createParser(() => {});
  expect(parser.push(text('data: a\nid: 1\n\ndata: b\n\n'))[1]).toMatchObject({ id: undefined });
});

test('an event that is too large is dropped with its id known, and what follows is read', () => {
  for (const lines of [1, 5]) {
    const parser = createParser(() => {});
    const line = `data: ${'x'.repeat((EVENT_CHARS_MAX + 9) / lines)}\n`;
    const blocks: Block[] = [];
    const bytes = text(`${line.repeat(lines)}id: 1\n\ndata: small\nid: 2\n\n`);
    for (const chunk of sized(bytes, 65_536)) blocks.push(...parser.push(chunk));
    expect(blocks).toMatchObject([{ tooLarge: true, data: '', id: '1' }, { data: 'small', id: '2' }]);
  }
});

test('a line without end takes a bounded amount of memory', () => {
  const parser = createParser(() => {});
  const chunk = text('x'.repeat(65_536));
  for (let n = 0; n < 200; n += 1) parser.push(chunk);
  expect(parser.push(text('\n\ndata: a\n\n'))).toMatchObject([{ data: 'a' }]);
});
