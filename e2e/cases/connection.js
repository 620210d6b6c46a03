// What goes wrong with the one stream that a client has.

import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';

import { eventually } from '../support/server.js';

export const CONNECTION = {
  'the stream ends': {
    native: true,
    run: async (c) => c.broken(() => c.proxy.cut('end')),
  },
  'the stream ends, in chunks': {
    native: true,
    faults: { chunked: true },
    run: async (c) => c.broken(() => c.proxy.cut('end')),
  },
  'the connection is closed in front of the last chunk': {
    native: true,
    faults: { chunked: true },
    run: async (c) => c.broken(() => c.proxy.cut('fin')),
  },
  'the connection is reset': {
    native: true,
    run: async (c) => c.broken(() => c.proxy.cut('rst')),
  },
  'the server closes the connection': {
    native: true,
    run: async (c) => c.broken(async () => {
      const { json } = await c.server.request('GET', '/v1/connections');
      for (const { id } of json.connections) await c.server.cut(id);
    }),
  },
  ...refusals([500, 502, 503, 504, 429, 408, 425]),
  ...delays([503, 429]),
  'a reconnect gets a page in place of a stream': {
    native: true,
    errors: ['http', 'http'],
    run: async (c) => {
      const page = { status: 200, headers: { 'content-type': 'text/html' }, body: '<p>Please log in' };
      c.proxy.next(page, page);
      await c.broken(() => c.proxy.cut('rst'));
      assert.equal(c.proxy.asked.length, 4);
      await c.waitedFor('content_type');
    },
  },
  'connections are refused for a while': {
    native: true,
    run: async (c) => {
      c.proxy.next({ refuse: true }, { refuse: true });
      await c.broken(async () => {
        await c.proxy.down();
        await c.publish(1);
        await c.proxy.up();
      });
    },
  },
  'the page is left and comes back out of the back/forward cache, with its stream and without it': {
    // The others load a page anew that had a stream open.
    only: 'chromium',
    native: true,
    run: async (c) => {
      for (const isCut of [false, true]) {
        await c.broken(async () => {
          await c.place.page.goto('about:blank');
          await c.publish(2);
          if (isCut) await c.proxy.cut('rst');
          await c.place.page.goBack();
        });
      }
    },
  },
  'bytes stop coming on a connection that stays': {
    args: ['--keepalive-s', '1'],
    run: async (c) => {
      await c.broken(() => c.proxy.stall());
      await c.waitedFor('stalled');
    },
  },
  'bytes stop coming amid an event': {
    args: ['--keepalive-s', '1'],
    run: async (c) => {
      // Behind the comment, the retry and hello.
      c.proxy.next({ stall: 180 });
      await c.broken(() => c.proxy.cut('rst'));
      await c.waitedFor('stalled');
    },
  },
  'a reconnect is never answered': {
    options: { stallTimeout: 2_000 },
    args: ['--keepalive-s', '1'],
    run: async (c) => {
      c.proxy.next({ silent: true });
      await c.broken(() => c.proxy.cut('rst'));
      await c.waitedFor('stalled');
    },
  },
  'the server is killed and started again': {
    native: true,
    run: async (c) => c.broken(async () => {
      await c.server.kill();
      await c.server.start();
    }),
  },
  'the server is killed behind a proxy that answers 502': {
    native: true,
    faults: { away: 502 },
    run: async (c) => c.broken(async () => {
      await c.server.kill();
      await eventually('a 502', () => c.proxy.asked.length > 2);
      await c.server.start();
    }),
  },
  'the server is killed and started again, with the delays of a user': {
    faults: { retryMs: null },
    options: { retry: {} },
    run: async (c) => c.broken(async () => {
      await c.server.kill();
      await c.server.start();
    }),
  },
  'the server of another origin is killed and started again': {
    native: true,
    origin: 'http://localhost',
    run: async (c) => c.broken(async () => {
      await c.server.kill();
      await eventually('a reconnect', () => c.proxy.asked.length > 2);
      await c.server.start();
    }),
  },
  'the server drains and is started again': {
    native: true,
    run: async (c) => c.broken(async () => {
      assert.deepEqual(await c.server.stop(), { code: 0, signal: null });
      await c.server.start();
    }),
  },
  'the log is replaced by another one': {
    native: true,
    resets: [{ reason: 'epoch', behind: 3 }],
    run: async (c) => {
      await c.publish(3);
      await c.received();
      await c.proxy.down();
      await c.server.kill();
      await rm(c.server.data, { recursive: true });
      await c.server.start();
      // What is in the new log already is told by the reset alone.
      await c.server.publishMany('orders', 100, 2);
      await c.proxy.up();
      await c.reset();
      await c.publish(3);
    },
  },
  'what was missed is no longer kept': {
    native: true,
    args: ['--retain-events', '5'],
    resets: [{ reason: 'expired', behind: 3 }],
    run: async (c) => {
      await c.publish(3);
      await c.received();
      await c.proxy.down();
      const all = await c.server.publishMany('orders', 3, 40);
      const kept = all.slice(-5);
      await eventually('retention', async () => {
        const { json } = await c.server.request('GET', '/v1/channels?channel=orders');
        return json.first === kept[0].id;
      });
      c.published.push(...kept);
      await c.proxy.up();
      await c.received();
    },
  },
  'what was missed was deleted': {
    native: true,
    resets: [{ reason: 'deleted', behind: 3 }],
    run: async (c) => {
      await c.publish(3);
      await c.received();
      await c.proxy.down();
      await c.server.publishMany('orders', 3, 3);
      assert.equal((await c.server.request('DELETE', '/v1/channels?channel=orders')).status, 204);
      await c.publish(2);
      await c.proxy.up();
      await c.received();
    },
  },
  'a reconnect is not authorized': {
    closed: 'unauthorized',
    errors: ['unauthorized'],
    run: async (c) => {
      await c.publish(3);
      await c.received();
      c.proxy.next({ status: 401 });
      c.proxy.cut('rst');
    },
  },
  'the channel is finished': {
    closed: 'done',
    run: async (c) => {
      await c.broken(() => c.proxy.cut('rst'));
      c.published.push({ n: 99, id: await c.server.publish({ channel: 'orders', data: { n: 99 }, final: true }) });
    },
  },
};

/** One case for each status that is worth another try. */
function refusals(statuses) {
  return Object.fromEntries(statuses.map((status) => [`a reconnect is answered ${status}`, {
    run: async (c) => {
      c.proxy.next({ status }, { status });
      await c.broken(() => c.proxy.cut('rst'));
      assert.equal(c.proxy.asked.length, 4);
      // Chromium may repeat a 408 by itself, at once, on a connection that it has used before, and the client never hears of it.
      if (status !== 408) await c.waitedFor('http');
    },
  }]));
}

/** One case for each status that says when to come again. */
function delays(statuses) {
  return Object.fromEntries(statuses.map((status) => [`a reconnect is answered ${status}, with Retry-After`, {
    run: async (c) => {
      c.proxy.next({ status, headers: { 'retry-after': 2 } });
      await c.broken(() => c.proxy.cut('rst'));
      const [, refused, next] = c.proxy.asked;
      assert.ok(next.at - refused.at >= 2_000, `it came again after ${next.at - refused.at} ms`);
    },
  }]));
}
