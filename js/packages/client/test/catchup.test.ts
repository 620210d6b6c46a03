// Putting history and what came meanwhile together, where the two meet.

import { afterEach, expect, test, vi } from 'vitest';
import { createApi } from '../src/api.js';
import { createAuth } from '../src/auth.js';
import { catchUp, type Behind } from '../src/catchup.js';
import { errors } from '../src/error.js';
import { createWorld, json } from './support/world.js';

afterEach(() => void vi.useRealTimers());

test('what comes in the moment in which the last page has been read is not lost', async () => {
  const { env, ...world } = createWorld();
  const auth = createAuth(undefined);
  env.fetch = async () => json(200, { events: [{ event: 'message', channel: 'a', time: 1, id: 'e-1', data: 1 }], next: 'e-1' });
  const context = { env, options: {}, auth, errors, report: (error: Error) => void expect.unreachable(String(error)), api: createApi({}, env, auth) };
  const read: string[] = [];
  let live = false;
  const feed: Behind = {
    channels: ['a'],
    backlog: { later: [], dropped: null },
    signal: new AbortController().signal,
    event: ({ id }) => void read.push(id!),
    reset: () => {},
    // One that finds no room in the backlog, as soon as anything else can run.
    reached: () => queueMicrotask(() => void (live ? read.push('e-2') : (feed.backlog.dropped = 'e-2'))),
    room: () => {},
    live: () => void (live = true),
    refused: context.report,
    dedicate: () => void expect.unreachable(),
  };
  await catchUp(context, feed, { id: 'e-0', until: 'e-1' });
  expect([live, read, world.errors]).toEqual([true, ['e-1', 'e-2'], []]);
});
