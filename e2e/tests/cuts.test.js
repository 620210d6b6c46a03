// A stream that is cut after every one of its bytes, in every engine, as a clean end and as a reset connection.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { ENGINES, openEngine } from '../support/engines.js';
import { startFaults } from '../support/faults.js';
import { startServer } from '../support/server.js';

/** Clients of one engine at once: most of them wait for their second try, which takes no connection. */
const AT_ONCE = 50;

/** Clients of one command: some seconds. */
const BATCH = 100;

/** Subscriptions of one command; they are one client, and wait for their second try too. */
const READERS = 80;

const PAGE = /^GET \/v1\/history$/;

/** All that can be in an event: a type, several lines, characters of several bytes, and nothing. */
const EVENTS = [
  { event: 'status-update', data: { n: 0, title: 'Grüße, 世界 🎉' } },
  { text: '{\n"two":\n"lines"}' },
  { data: null },
  { event: 'done', data: '' },
];

const SPEC = { options: { retry: { base: 1, max: 5 }, share: false }, channels: 'orders' };

// Two engines at once: a client that waits for its second try takes no time of a processor.
describe('A stream that is cut', { concurrency: 2, timeout: 600_000 }, () => {
  for (const engine of ENGINES) {
    test(`in ${engine}, into its bytes, is the same stream`, async (t) => {
      const { place, proxy, before, owed } = await begin(t, engine);
      proxy.fate = () => ({ ask: { 'last-event-id': before }, drip: 1 });
      const [{ events, errors }] = await place.each([SPEC], { count: owed.length, atOnce: 1 });
      assert.deepEqual([events, errors], [owed, []]);
    });

    for (const how of ['fin', 'rst']) {
      test(`in ${engine}, after any byte (${how}), loses and repeats nothing`, async (t) => {
        const { place, proxy, before, owed } = await begin(t, engine);

        // A client that has not got hello is one that came right before the events. Only a RST, which throws away what
        // was not read, makes that hard to tell. Each names its cut, and is let through when it asks again.
        const { head, hello, all } = await measured(proxy, before, owed.at(-1).id);
        const cuts = Array.from({ length: all - head }, (_, n) => head + n);
        const asked = new Map(cuts.map((at) => [at, []]));
        proxy.fate = (query, { 'last-event-id': position = null }) => {
          const at = Number(query.get('cut'));
          const positions = asked.get(at);
          positions.push(position);
          const early = positions.length === 1 || at < hello || (how === 'rst' && position === null);
          const ask = early ? { 'last-event-id': before } : {};
          return positions.length === 1 ? { ask, cutHead: at, how } : { ask };
        };
        const began = performance.now();
        for (let from = 0; from < cuts.length; from += BATCH) {
          const batch = cuts.slice(from, from + BATCH);
          const specs = batch.map((at) => ({ ...SPEC, query: `?cut=${at}` }));
          const records = await place.each(specs, { count: owed.length, atOnce: AT_ONCE });
          records.forEach(({ events, resets, errors }, n) => {
            const what = `cut after byte ${batch[n]}`;
            assert.deepEqual(events, owed, what);
            assert.deepEqual([resets, errors, asked.get(batch[n]).length], [[], [], 2], what);
          });
        }
        t.diagnostic(`${cuts.length} cuts in ${Math.round(performance.now() - began)} ms`);
      });
    }

    test(`in ${engine}, of whose history the answer is cut, loses and repeats nothing`, async (t) => {
      const { place, proxy, before, owed } = await begin(t, engine);
      proxy.nextTo(PAGE, {});
      await (await fetch(`${proxy.url}/v1/history?channel=orders&after=${before}`)).text();
      const [{ sent }] = proxy.beside;
      // One byte closed, the next one reset. To browsers, heads and bodies that are closed may be whole, and no history: the client
      // then opens a stream of its own, of which they have six.
      // They have the same client as Node, so every fifth byte is enough of them.
      const cuts = Array.from({ length: sent }, (_, at) => ({ cutHead: at, how: engine === 'node' && at % 2 === 0 ? 'fin' : 'rst' }))
        .filter(({ cutHead }) => engine === 'node' || cutHead % 5 === 0);
      await place.start('it', { ...SPEC, channels: 'other' });
      await place.until('it', 'the start', ({ state }) => state === 'open');
      const began = performance.now();
      for (let from = 0; from < cuts.length; from += READERS) {
        const batch = cuts.slice(from, from + READERS);
        proxy.nextTo(PAGE, ...batch);
        const records = await place.many('it', { channels: 'orders', subscribe: { from: { id: before } } }, { times: batch.length, count: owed.length, limitMs: 40_000 });
        for (const { events, resets, refusals } of records) assert.deepEqual([events, resets, refusals], [owed, [], []]);
        assert.equal(proxy.unmet(), 0);
      }
      assert.deepEqual((await place.seen('it')).errors, []);
      t.diagnostic(`${cuts.length} cuts in ${Math.round(performance.now() - began)} ms`);
    });
  }
});

/** A server with events, the id before them, and what handlers have to get of them. */
async function begin(t, engine) {
  const server = await startServer(t);
  const before = await server.publish({ channel: 'orders', data: null });
  const owed = [];
  for (const { event = 'message', ...body } of EVENTS) {
    const id = await server.publish({ channel: 'orders', event, ...body });
    owed.push({ id, event, channel: 'orders', data: 'data' in body ? body.data : JSON.parse(body.text) });
  }
  const proxy = await startFaults(t, server);
  return { proxy, before, owed, place: await openEngine(t, engine, proxy) };
}

/** The bytes of an answer: its head, all up to hello, and all with the events. */
async function measured(proxy, before, last) {
  const answer = await fetch(`${proxy.url}/events?channel=orders`, { headers: { 'last-event-id': before } });
  let text = '';
  for await (const bytes of answer.body) {
    text += Buffer.from(bytes).toString('latin1');
    if (text.endsWith(`id: ${last}\n\n`)) break;
  }
  const [{ head }] = proxy.asked;
  return { head, hello: head + text.indexOf('\n\n', text.indexOf('tidings.hello')) + 2, all: head + text.length };
}
