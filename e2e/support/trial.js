// A client that is tried: what was published, what its handlers got, and that the two are equal.
//
// Owns: the one checker of all cases. Does not know: what goes wrong on the way, or in which engine.
// Flow: a server, the proxy before it, a connected client → whatever the case does → `check`.

import assert from 'node:assert/strict';

import { openEngine } from './engines.js';
import { startFaults } from './faults.js';
import { eventually, startServer } from './server.js';

/** A test has no time for the delays of a user. */
const QUICK = { retry: { base: 10, max: 50 } };

const CLIENT = 'it';
const CHANNEL = 'orders';

/**
 * Starts all that a case takes: `args` of the server, `faults` of the proxy, `options` of the client, `origin` of its page.
 * `resets` are those that the handlers have to get, with how many events before each, and `closed` why the client stops; `errors` are the codes
 * of what its `onError` is told.
 */
export async function beginTrial(t, engine, { args = [], faults, origin, options = {}, ...owed }) {
  const server = await startServer(t, { args });
  const proxy = await startFaults(t, server, faults);
  const place = await openEngine(t, engine, proxy, { origin });
  await place.start(CLIENT, { options: { ...QUICK, share: false, ...options }, channels: CHANNEL });
  // The server has decided where the stream starts when it answers.
  await eventually('a stream', () => proxy.streams.size === 1);
  return trial(server, proxy, place, { ...owed, native: options.transport === 'eventsource' });
}

function trial(server, proxy, place, { native, resets = [], closed = null, errors = [] }) {
  const published = [];
  const until = (what, enough) => place.until(CLIENT, what, enough);
  const self = {
    server, proxy, place, published,
    seen: () => place.seen(CLIENT),

    /** Publishes so many events that the handlers have to get. */
    async publish(count) {
      published.push(...(await server.publishMany(CHANNEL, published.length, count)));
    },

    /** All that was published until now. */
    received: () => until(`event ${published.length}`, ({ events }) => events >= published.length),

    /** The resets that the case is about. */
    reset: () => until(`reset ${resets.length}`, (seen) => seen.resets >= resets.length),

    /** Events before a fault, during it and after it. */
    async broken(fault) {
      await self.publish(3);
      await self.received();
      await fault();
      await self.publish(3);
      await self.received();
    },

    /** The client has said why it waited. */
    async waitedFor(code) {
      const { states } = await self.seen();
      const reasons = states.filter(({ state }) => state === 'waiting').map(({ reason }) => reason.code);
      assert.ok(reasons.includes(native ? 'network' : code), `it waited for ${JSON.stringify(reasons)}`);
    },

    /** The handlers got what was published, once, in order, and were told of every gap. */
    async check() {
      if (closed === null) {
        // What would come twice, or too late, has come before this one.
        await self.publish(1);
        await self.received();
      } else {
        const { status } = await until('the end', ({ state }) => state === 'closed');
        assert.equal(status.reason.code, closed);
        await eventually('the end of the stream', () => proxy.streams.size === 0);
      }
      const seen = await self.seen();
      assert.deepEqual(seen.events.map(({ id, data }) => ({ n: data.n, id })), published);
      assert.deepEqual(seen.resets, resets);
      assert.deepEqual(seen.errors.map(({ code }) => code), native ? [] : errors);
    },
  };
  return self;
}
