// @vitest-environment happy-dom

import { QueryClient, QueryClientProvider, useQuery } from '@tanstack/react-query';
import { StrictMode } from 'react';
import { describe, expect, expectTypeOf, test } from 'vitest';

import { LINGER_MS, REFETCH_MS } from '../src/limits.js';
import { liveQueryOptions } from '../src/query.js';
import { fakeClient } from './support/fake-client.js';
import { frame, openPage, pass, stopTime } from './support/page.js';

stopTime();

interface Order { id: string; status: string }

/** An application whose server says how an order is, after as many frames as `slow` says. */
function shop({ apply = false, slow = 0 } = {}) {
  const client = fakeClient();
  client.set({ state: 'open', since: 1, via: 'fetch' });
  const queries = new QueryClient();
  const server = { status: 'new', fetches: 0 };
  const options = liveQueryOptions({
    queryKey: ['order', '7'],
    channel: 'orders',
    events: ['status'],
    client,
    async queryFn(): Promise<Order> {
      server.fetches += 1;
      const { status } = server;
      if (slow > 0) await new Promise((resolve) => setTimeout(resolve, slow));
      return { id: '7', status };
    },
    ...(apply ? { apply: (order: Order, { data }: { data: unknown }) => (typeof data === 'string' ? { ...order, status: data } : undefined) } : {}),
  });
  let renders = 0;
  function Status() {
    renders += 1;
    const { data } = useQuery(options);
    return data?.status ?? 'nothing';
  }
  const element = <QueryClientProvider client={queries}><Status /></QueryClientProvider>;
  return { client, queries, server, options, element, renders: () => renders };
}

const settle = () => pass(1).then(() => pass(1)).then(() => pass(1));

describe('liveQueryOptions', () => {
  test('follows the channel before it fetches', async () => {
    const { client, element, server, options } = shop({ slow: 5 });
    const order: string[] = [];
    const subscribe = client.subscribe.bind(client) as (...args: unknown[]) => unknown;
    (client as { subscribe: unknown }).subscribe = (...args: unknown[]) => {
      order.push(`subscribed after ${server.fetches} fetches`);
      return subscribe(...args);
    };
    await openPage(client, element);
    await settle();
    expect(order).toEqual(['subscribed after 0 fetches']);
    expect(options.staleTime).toBe(Infinity);
  });

  test('fetches anew for an event, and for many not more often than four times a second', async () => {
    const { client, element, server } = shop();
    const page = await openPage(client, element);
    await settle();
    expect([page.text, server.fetches]).toEqual(['new', 1]);
    server.status = 'paid';
    await frame(() => client.publish('orders', 'other', 1));
    await pass(REFETCH_MS);
    expect(server.fetches).toBe(1);
    for (let n = 0; n < 62; n += 1) await frame(() => client.publish('orders', 'status', n));
    await pass(REFETCH_MS);
    await settle();
    expect(page.text).toBe('paid');
    expect(server.fetches).toBeLessThanOrEqual(6);
  });

  test('shows what came while it fetched, though the answer is older', async () => {
    for (const apply of [false, true]) {
      const { client, element, server } = shop({ apply, slow: 50 });
      const page = await openPage(client, element);
      await settle();
      server.status = 'paid';
      await frame(() => client.publish('orders', 'status', 'paid'));
      for (let n = 0; n < 60; n += 1) await frame();
      expect(page.text).toBe('paid');
    }
  });

  test('patches the data, once per frame, and fetches what it cannot patch', async () => {
    const { client, element, server, renders } = shop({ apply: true });
    const page = await openPage(client, element, { strict: false });
    await settle();
    const before = renders();
    await frame(() => {
      for (let n = 0; n < 100; n += 1) client.publish('orders', 'status', `at ${n}`);
    });
    await settle();
    expect(page.text).toBe('at 99');
    expect(renders() - before).toBe(1);
    expect(server.fetches).toBe(1);
    server.status = 'as fetched';
    await frame(() => client.publish('orders', 'status', { unknown: true }));
    await pass(REFETCH_MS);
    await settle();
    expect([page.text, server.fetches]).toEqual(['as fetched', 2]);
  });

  test('fetches anew after a reset', async () => {
    const { client, element, server } = shop({ apply: true });
    const page = await openPage(client, element);
    await settle();
    server.status = 'missed';
    await frame(() => client.reset('orders', 'expired'));
    await settle();
    expect([page.text, server.fetches]).toEqual(['missed', 2]);
  });

  test('is closed when nobody looks, and fetched by whoever looks next', async () => {
    const { client, element, server } = shop();
    const page = await openPage(client, element);
    await settle();
    await page.show(null);
    await page.show(element);
    await pass(LINGER_MS);
    expect([client.streams, client.open.length, server.fetches]).toEqual([1, 1, 1]);
    await page.show(null);
    await pass(LINGER_MS);
    expect(client.open).toEqual([]);
    server.status = 'paid';
    await page.show(element);
    await settle();
    expect([page.text, server.fetches]).toEqual(['paid', 2]);
  });

  test('is followed by who comes back while it is still fetched', async () => {
    const { client, element, server } = shop({ slow: 3 * LINGER_MS });
    const page = await openPage(client, element);
    await settle();
    await page.show(null);
    await pass(LINGER_MS);
    await page.show(element);
    await pass(3 * LINGER_MS);
    await settle();
    expect([page.text, server.fetches]).toEqual(['new', 1]);
    server.status = 'paid';
    await frame(() => client.publish('orders', 'status', 'paid'));
    await pass(REFETCH_MS);
    await pass(3 * LINGER_MS);
    await settle();
    expect(page.text).toBe('paid');
    await page.show(null);
    await pass(LINGER_MS);
    expect(client.open).toEqual([]);
  });

  test('fetches data that came from elsewhere once, since changes may lie between', async () => {
    const { client, queries, options, element, server } = shop();
    queries.setQueryData(options.queryKey, { id: '7', status: 'from the server' });
    expectTypeOf(queries.getQueryData(options.queryKey)).toEqualTypeOf<Order | undefined>();
    const page = await openPage(client, element);
    expect(page.text).toBe('from the server');
    await settle();
    expect([page.text, server.fetches, client.open.length]).toEqual(['new', 1, 1]);
  });

  test('waits for the stream to be open, but not forever', async () => {
    const { client, element, server } = shop();
    client.set({ state: 'connecting', attempt: 1 });
    const page = await openPage(client, <StrictMode>{element}</StrictMode>);
    await settle();
    expect(server.fetches).toBe(0);
    await pass(2_000);
    await settle();
    expect([page.text, server.fetches]).toEqual(['new', 1]);
    // What changed until it was: nobody told.
    server.status = 'paid';
    await frame(() => client.set({ state: 'open', since: 2, via: 'fetch' }));
    await settle();
    expect([page.text, server.fetches]).toEqual(['paid', 2]);
  });
});
