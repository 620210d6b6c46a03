// @vitest-environment happy-dom

import { TidingsError } from '@tidings/client';
import { Suspense, useEffect, useState } from 'react';
import { describe, expect, test, vi } from 'vitest';

import { createEventStore } from '../src/event-store.js';
import { useEvent } from '../src/index.js';
import { LINGER_MS, RENDER_MS } from '../src/limits.js';
import { fakeClient } from './support/fake-client.js';
import { frame, openPage, pass, stopTime, UNUSED_MS } from './support/page.js';

stopTime();

describe('useEvent', () => {
  test('calls the newest handler for each event of its type, once and in order, and renders nothing', async () => {
    const client = fakeClient();
    const got: string[] = [];
    let renders = 0;
    function Component({ name }: { name: string }) {
      renders += 1;
      useEvent<{ n: number }>('orders', 'status', ({ n }) => got.push(`${name}${n}`));
      return null;
    }
    const page = await openPage(client, <Component name="a" />, { strict: false });
    await frame(() => client.publish('orders', 'status', { n: 1 }));
    client.publish('orders', 'other', { n: 9 });
    client.publish('invoices', 'status', { n: 9 });
    expect(renders).toBe(1);
    await page.show(<Component name="b" />);
    client.publish('orders', 'status', { n: 2 });
    expect(got).toEqual(['a1', 'b2']);
    expect(client.open).toHaveLength(1);
  });

  test('loses no event between render and mount', async () => {
    const client = fakeClient();
    const got: unknown[] = [];
    function Component() {
      useEvent('orders', 'status', (data) => got.push(data));
      // A child of the same render publishes before any effect has run.
      return <Publishes />;
    }
    let published = false;
    function Publishes() {
      if (!published) client.publish('orders', 'status', 'first');
      published = true;
      return null;
    }
    await openPage(client, <Component />);
    expect(got).toEqual(['first']);
  });

  test('loses no event if it is mounted later than anything stays open', async () => {
    const client = fakeClient();
    const got: unknown[] = [];
    const store = createEventStore({
      client: () => client, channels: ['orders'], events: [],
      onEvent: ({ data }) => got.push(data), onReset: () => {}, onError: () => {},
    });
    store.snapshot();
    client.publish('orders', 'status', 1);
    await pass(RENDER_MS);
    expect(client.open).toEqual([]);
    client.publish('orders', 'status', 2);
    store.snapshot();
    store.subscribe(() => {});
    await frame(() => client.publish('orders', 'status', 3));
    expect(got).toEqual([1, 2, 3]);
  });

  test('a handler that throws stops neither the component nor the next event', async () => {
    const client = fakeClient();
    const got: unknown[] = [];
    const thrown = vi.fn();
    vi.stubGlobal('reportError', thrown);
    let published = false;
    function Component() {
      useEvent('orders', 'status', (data) => {
        got.push(data);
        if (data === 1) throw new Error('broken');
      });
      if (!published) [1, 2].forEach((n) => client.publish('orders', 'status', n));
      published = true;
      return 'shown';
    }
    const page = await openPage(client, <Component />, { strict: false });
    // They came before the effect, and waited for it.
    expect(page.text).toBe('shown');
    expect(thrown).toHaveBeenCalledOnce();
    expect(got).toEqual([1, 2]);
    vi.unstubAllGlobals();
  });

  test('opens nothing without a channel, and follows its channel when that changes', async () => {
    const client = fakeClient();
    const got: unknown[] = [];
    function Component({ channel }: { channel: string | null }) {
      useEvent(channel, 'status', (data) => got.push(data));
      return null;
    }
    const page = await openPage(client, <Component channel={null} />);
    expect(client.streams).toBe(0);
    await page.show(<Component channel="a" />);
    await page.show(<Component channel="b" />);
    client.publish('a', 'status', 'of a');
    client.publish('b', 'status', 'of b');
    await pass(UNUSED_MS);
    expect(got).toEqual(['of b']);
    expect(client.open.map(({ channels }) => channels)).toEqual([['b']]);
    expect(client.streams).toBe(1);
  });

  test('is told of a reset, and of a refusal', async () => {
    const client = fakeClient();
    const onReset = vi.fn();
    const onError = vi.fn();
    function Component() {
      useEvent('orders', 'status', () => {}, { onReset, onError });
      return null;
    }
    await openPage(client, <Component />);
    client.refuse('orders', new TidingsError('forbidden', 'no'));
    expect(onError.mock.calls.map(([{ code }]) => code)).toEqual(['forbidden']);
    client.reset('orders', 'expired');
    expect(onReset).toHaveBeenCalledExactlyOnceWith({ channel: 'orders', reason: 'expired', first: null });
  });
});

describe('One connection', () => {
  test('is kept under StrictMode and over changes of route, and closed behind the last one', async () => {
    const client = fakeClient();
    function Route({ channel }: { channel: string }) {
      useEvent(channel, 'status', () => {});
      return null;
    }
    const page = await openPage(client, <Route key="a" channel="a" />);
    for (const route of ['b', 'c', 'a', 'b']) await page.show(<Route key={route} channel={route} />);
    // A route that loads for a while shows nothing meanwhile.
    await page.show(null);
    await pass(LINGER_MS - 1);
    await page.show(<Route key="d" channel="d" />);
    expect(client.streams).toBe(1);
    await pass(UNUSED_MS);
    expect(client.open.map(({ channels }) => channels)).toEqual([['d']]);
    await page.show(null);
    await pass(LINGER_MS);
    expect(client.open).toEqual([]);
  });

  test('what was rendered and never mounted is closed', async () => {
    const client = fakeClient();
    const never = new Promise<null>(() => {});
    function Component(): null {
      useEvent('orders', 'status', () => {});
      throw never;
    }
    await openPage(client, <Suspense><Component /></Suspense>);
    expect(client.open.length).toBeGreaterThan(0);
    await pass(RENDER_MS);
    expect(client.open).toEqual([]);
  });

  test('a component that is gone for long gets, if it keeps its state, what it missed', async () => {
    const client = fakeClient();
    const got: unknown[] = [];
    const store = createEventStore({
      client: () => client, channels: ['orders'], events: [],
      onEvent: ({ data }) => got.push(data), onReset: () => {}, onError: () => {},
    });
    const leave = store.subscribe(() => {});
    client.publish('orders', 'status', 1);
    leave();
    await pass(LINGER_MS);
    expect(client.open).toEqual([]);
    client.publish('orders', 'status', 2);
    store.subscribe(() => {});
    await frame(() => client.publish('orders', 'status', 3));
    expect(got).toEqual([1, 2, 3]);
  });

  test('more events than wait for a mount are fetched again, and none is lost', async () => {
    const client = fakeClient();
    const got: unknown[] = [];
    const store = createEventStore({
      client: () => client, channels: ['orders'], events: [],
      onEvent: ({ data }) => got.push(data), onReset: () => {}, onError: () => {},
    });
    store.snapshot();
    for (let n = 0; n < 2_500; n += 1) client.publish('orders', 'status', n);
    expect(client.open).toEqual([]);
    store.subscribe(() => {});
    await frame();
    expect(got).toEqual(Array.from({ length: 2_500 }, (_, n) => n));
  });
});

test('a handler may change state', async () => {
  const client = fakeClient();
  function Component() {
    const [count, setCount] = useState(0);
    const [mounted, setMounted] = useState(false);
    useEffect(() => setMounted(true), []);
    useEvent<number>('orders', 'status', (n) => setCount((count) => count + n));
    return `${mounted} ${count}`;
  }
  const page = await openPage(client, <Component />);
  await frame(() => client.publish('orders', 'status', 2));
  await frame(() => client.publish('orders', 'status', 3));
  expect(page.text).toBe('true 5');
});
