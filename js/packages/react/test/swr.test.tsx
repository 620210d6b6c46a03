// @vitest-environment happy-dom

import useSWRSubscription from 'swr/subscription';
import { describe, expect, test } from 'vitest';

import { LINGER_MS } from '../src/limits.js';
import { swrSubscription } from '../src/swr.js';
import { fakeClient } from './support/fake-client.js';
import { frame, openPage, pass, stopTime } from './support/page.js';

stopTime();

describe('swrSubscription', () => {
  test('shows the newest event, once per frame, on one connection', async () => {
    const client = fakeClient();
    const subscribe = swrSubscription<number>('orders', 'count', { client });
    let renders = 0;
    function Component() {
      renders += 1;
      return String(useSWRSubscription('orders/newest', subscribe).data);
    }
    const page = await openPage(client, <Component />);
    const before = renders;
    await frame(() => {
      for (let n = 1; n <= 100; n += 1) client.publish('orders', 'count', n);
      client.publish('orders', 'other', 0);
    });
    expect(page.text).toBe('100');
    // StrictMode renders everything twice.
    expect(renders - before).toBe(2);
    expect(client.streams).toBe(1);
    await page.show(null);
    await pass(LINGER_MS);
    expect(client.open).toEqual([]);
  });

  test('shows what its reducer makes of the events', async () => {
    const client = fakeClient();
    const subscribe = swrSubscription<number>('orders', 'count', { client, reduce: (sum = 0, { data }) => sum + (data as number) });
    function Component() {
      return String(useSWRSubscription('orders/sum', subscribe).data);
    }
    const page = await openPage(client, <Component />);
    await frame(() => [1, 2].forEach((n) => client.publish('orders', 'count', n)));
    await frame(() => client.publish('orders', 'count', 3));
    expect(page.text).toBe('6');
  });

  test('is an error when the stream is over for good', async () => {
    const client = fakeClient();
    const subscribe = swrSubscription('orders', 'count', { client });
    function Component() {
      return String(useSWRSubscription('orders/error', subscribe).error?.message);
    }
    const page = await openPage(client, <Component />);
    await frame(() => client.set({ state: 'closed', reason: { code: 'unauthorized', message: 'sign in', status: 401 } }));
    expect(page.text).toBe('sign in');
  });
});
