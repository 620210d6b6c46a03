// Places that one case after the other has.
//
// Owns: which are free. Does not know: what is done in them.
// Flow: an engine, a server → a free place, or a new one → given back when nothing of the case is left, or given up.

import { after } from 'node:test';

import { openEngine } from './engines.js';
import { startFaults } from './faults.js';
import { eventually } from './server.js';

const free = new Map();
const ends = [];

/** They outlive the tests that take them. */
const file = { after: (work) => ends.push(work) };

after(async () => {
  for (const end of ends.reverse()) await end();
});

/** A proxy in front of `server`, and a place of its origin; a browser needs longer for a page than most cases take. */
export async function takePlace(engine, server, faults) {
  const found = free.get(engine)?.pop();
  if (found !== undefined) {
    found.proxy.again(server, faults);
    return found;
  }
  const proxy = await startFaults(file, server, faults);
  return { proxy, place: await openEngine(file, engine, proxy) };
}

/** Whoever failed gives none back, so that no case pays for another one. */
export async function givePlace(engine, { proxy, place }) {
  await place.closeAll();
  await eventually('the end of all streams', () => proxy.streams.size === 0);
  free.set(engine, [...(free.get(engine) ?? []), { proxy, place }]);
}
