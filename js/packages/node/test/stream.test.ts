import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { createStreamParser } from '../src/jobs/stream.js';

interface Case {
  name: string;
  input?: string;
  input_hex?: string;
  events: { event: string; data: string; last_event_id: string }[];
  retry?: number[];
  last_event_id?: string;
}

const fixture = new URL('../../../../spec/fixtures/sse-parse.json', import.meta.url);
const { cases } = JSON.parse(readFileSync(fixture, 'utf8')) as { cases: Case[] };

/** The bytes of a case, cut in pieces of this size. */
function read(one: Case, size: number) {
  const bytes = one.input === undefined ? Buffer.from(one.input_hex ?? '', 'hex') : Buffer.from(one.input);
  const parser = createStreamParser();
  const events = [];
  for (let at = 0; at < bytes.length; at += size) {
    for (const { event, data, lastEventId } of parser.push(bytes.subarray(at, at + size))) {
      events.push({ event, data, last_event_id: lastEventId });
    }
  }
  return { events, lastEventId: parser.lastEventId, retryMs: parser.retryMs };
}

test.each(cases.map((one) => [one.name, one] as const))('%s', (_, one) => {
  const expected = one.events.map(({ event, data, last_event_id }) => ({ event, data, last_event_id }));
  for (const size of [1, 2, 3, 7, 1_000_000]) {
    const { events, lastEventId, retryMs } = read(one, size);
    expect(events, `pieces of ${size}`).toEqual(expected);
    if (one.last_event_id !== undefined) expect(lastEventId).toBe(one.last_event_id);
    expect(retryMs).toBe(one.retry?.at(-1));
  }
});

test('an event without an end is given up', () => {
  const parser = createStreamParser();
  const piece = Buffer.from(`data: ${'x'.repeat(1_000_000)}`);
  parser.push(piece);
  parser.push(piece);
  expect(() => parser.push(piece)).toThrow('characters');
});
