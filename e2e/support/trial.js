// A client that is tried: what was published, what its handlers got, and that the two are equal.
//
// Owns: the one checker of all cases. Does not know: what goes wrong on the way, or in which engine.
// Flow: a server, the proxy before it, a connected client → whatever the case does → `check`.

import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';

import { openEngine } from './engines.js';
import { startFaults } from './faults.js';
import { givePlace, takePlace } from './pool.js';
import { eventually, startServer } from './server.js';
import { startSession } from './tokens.js';
import { trialJob } from './trial-job.js';

/** A test has no time for the delays of a user. */
const QUICK = { retry: { base: 10, max: 50 } };

const CLIENT = 'it';
const CHANNEL = 'orders';

/**
 * Starts all that a case takes: `args` of the server, `faults` of the proxy, `options` of the client, `origin` of its page, and
 * the kind of `session` that it has if the server asks for credentials.
 * `resets` are those that the handlers have to get, with how many events before each, and `closed` why the client stops; `errors` are the codes
 * of what its `onError` is told; of those in `may` it may be told or not.
 */
export async function beginTrial(t, engine, { args = [], faults, origin, session, options = {}, ...owed }) {
  const native = options.transport === 'eventsource';
  const guard = session && await startSession(t, session, { args, channels: [CHANNEL] });
  const server = guard?.server ?? await startServer(t, { args });
  const { proxy, place } = origin === undefined ? await takePlace(engine, server, faults) : await elsewhere(t, engine, server, faults, origin);
  const more = await guard?.begin(proxy, place) ?? {};
  await place.start(CLIENT, { options: { ...QUICK, share: false, ...options, ...more }, channels: CHANNEL });
  // The server has decided where the stream starts when it answers.
  await eventually('a stream', () => proxy.streams.size === 1);
  const given = () => (origin === undefined ? givePlace(engine, { proxy, place }) : undefined);
  return trial(server, proxy, place, { ...owed, native, session: guard, given });
}

async function elsewhere(t, engine, server, faults, origin) {
  const proxy = await startFaults(t, server, faults);
  return { proxy, place: await openEngine(t, engine, proxy, { origin }) };
}

function trial(server, proxy, place, { native, session, given, resets = [], closed = null, errors = [], may = [] }) {
  const published = [];
  /** What has to hold at the end beside the client's first subscription. */
  const checks = [];
  const until = (what, enough) => place.until(CLIENT, what, enough);
  const self = {
    server, proxy, place, published, native, until,
    seen: () => place.seen(CLIENT),
    logIn: () => session.logIn(CLIENT),
    lapse: (lifeS) => session.lapse(CLIENT, lifeS),
    lapseOpen: (lifeS) => session.lapseOpen(CLIENT, lifeS),

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

    /** The server ends, and is there again: killed or in good order, with its log or with none. */
    async again({ drain = false, empty = false } = {}) {
      await (drain ? server.stop() : server.kill());
      if (empty) await rm(server.data, { recursive: true });
      await server.start();
    },

    /** The server closes every stream. */
    async closeStreams() {
      const { json } = await server.request('GET', '/v1/connections');
      for (const { id } of json.connections) await server.cut(id);
    },

    /** Retention has come to where an event is a channel's first. */
    firstOf: (channel, id) => eventually('retention', async () => {
      const { json } = await server.request('GET', `/v1/channels?channel=${channel}`);
      return json.first === id;
    }),

    /** Another channel, whose subscription is of the same client. */
    side(channel) {
      const one = side(server, place, channel);
      checks.push(one.check);
      return one;
    },

    /** A job that another queue reports, and the client watches. */
    async job(id) {
      const one = await trialJob(server, proxy, place, CLIENT, id);
      checks.push(one.check);
      return one;
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
      for (const check of checks) await check();
      const seen = await self.seen();
      assert.deepEqual(seen.events.map(({ id, data }) => ({ n: data.n, id })), published);
      assert.deepEqual(seen.resets, resets);
      // An EventSource is not told of statuses.
      const told = seen.errors.map(({ code }) => code).filter((code) => !may.includes(code));
      assert.deepEqual(told, errors.filter((code) => !native || code !== 'http'));
      assert.equal(proxy.unmet(), 0, 'faults that were never met');
      for (const { fate: { cut, stall }, sent, head } of [...proxy.asked, ...proxy.beside]) {
        const at = cut ?? stall;
        if (at !== undefined) assert.equal(sent - head, at, 'an answer that ended before its fault');
      }
      await given();
    },
  };
  return self;
}

/** A channel beside the first one: what was published there, and what its own handlers got. */
function side(server, place, channel) {
  const published = [];
  const until = (what, enough) => place.until(channel, what, enough);
  let opened = false;
  const self = {
    published, resets: [], refusals: [], until, mayBeReset: false,
    async publish(count) {
      published.push(...(await server.publishMany(channel, published.length, count)));
    },
    /** The same in one request, and durable together. */
    async publishBatch(count) {
      published.push(...(await server.publishBatch(channel, published.length, count)));
    },
    async open({ from, slow }) {
      await place.subscribe(CLIENT, channel, { channels: channel, subscribe: { from }, slow });
      opened = true;
    },
    /** Everything that is published from now on has to come. */
    live: () => until('the channel', ({ live }) => live),
    go: () => place.go(channel),
    received: () => until(`event ${published.length} of ${channel}`, ({ events }) => events >= published.length),
    async check() {
      if (!opened) return;
      if (self.refusals.length === 0) {
        await self.publish(1);
        await self.received();
      }
      const seen = await place.seen(channel);
      assert.deepEqual(seen.events.map(({ id, data }) => ({ n: data.n, id })), published);
      if (!self.mayBeReset) assert.deepEqual(seen.resets, self.resets);
      assert.deepEqual(seen.refusals, self.refusals);
    },
  };
  return self;
}
