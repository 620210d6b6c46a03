// @vitest-environment happy-dom

import { Profiler, useEffect } from 'react';
import { describe, expect, test } from 'vitest';

import { useEvent, useFeed, useLatest } from '../src/index.js';
import { FEED_LIMIT } from '../src/limits.js';
import { fakeClient } from './support/fake-client.js';
import { frame, FRAME, openPage, pass, stopTime } from './support/page.js';

stopTime();

describe('useFeed', () => {
  test('keeps the newest items, oldest first, and no more than its limit', async () => {
    const client = fakeClient();
    function Component() {
      const { items } = useFeed<{ data: number }>('log', { events: ['line'], limit: 3 });
      return items.map(({ data }) => data).join();
    }
    const page = await openPage(client, <Component />);
    await frame(() => [1, 2].forEach((n) => client.publish('log', 'line', n)));
    client.publish('log', 'other', 9);
    expect(page.text).toBe('1,2');
    await frame(() => [3, 4, 5].forEach((n) => client.publish('log', 'line', n)));
    expect(page.text).toBe('3,4,5');
  });

  test('has a limit of its own accord', async () => {
    const client = fakeClient();
    function Component() {
      return String(useFeed('log').items.length);
    }
    const page = await openPage(client, <Component />);
    await frame(() => {
      for (let n = 0; n < 3 * FEED_LIMIT; n += 1) client.publish('log', 'line', n);
    });
    expect(page.text).toBe(String(FEED_LIMIT));
  });

  test('is what its reducer makes of it', async () => {
    const client = fakeClient();
    function Component() {
      const { items } = useFeed<string>('todo', {
        initialItems: ['milk'],
        reduce: (items, { event, data }) =>
          event === 'removed' ? items.filter((item) => item !== data) : [...items, data as string],
      });
      return items.join();
    }
    const page = await openPage(client, <Component />);
    await frame(() => client.publish('todo', 'added', 'tea'));
    expect(page.text).toBe('milk,tea');
    await frame(() => client.publish('todo', 'removed', 'milk'));
    expect(page.text).toBe('tea');
  });

  test('says that events were lost, and forgets it with its items', async () => {
    const client = fakeClient();
    let clear = () => {};
    function Component() {
      const feed = useFeed('log');
      clear = feed.clear;
      return `${feed.items.length} ${feed.reset?.reason ?? 'complete'}`;
    }
    const page = await openPage(client, <Component />);
    await frame(() => client.publish('log', 'line', 1));
    await frame(() => client.reset('log', 'epoch'));
    await frame(() => client.publish('log', 'line', 2));
    expect(page.text).toBe('2 epoch');
    await frame(() => clear());
    expect(page.text).toBe('0 complete');
  });
});

describe('1,000 events in a second', () => {
  test('are no more than one render per frame, however many hooks see them', async () => {
    const client = fakeClient();
    let renders = 0;
    let handled = 0;
    function Component() {
      const { items } = useFeed('log');
      const { data } = useLatest('log', 'line');
      useEvent('log', 'line', () => { handled += 1; });
      return `${items.length} ${data}`;
    }
    const count = () => { renders += 1; };
    const page = await openPage(client, <Profiler id="page" onRender={count}><Component /></Profiler>);
    renders = 0;
    let sent = 0;
    const frames = Math.floor(1_000 / FRAME);
    for (let n = 1; n <= frames; n += 1) {
      const before = renders;
      await frame(() => {
        while (sent < n * 1_000 / frames) client.publish('log', 'line', sent += 1);
      });
      expect(renders - before).toBe(1);
    }
    expect(handled).toBe(1_000);
    expect(page.text).toBe('200 1000');
  });

  test('are one render in `throttleMs`, and the last one is shown', async () => {
    const client = fakeClient();
    let renders = 0;
    function Component() {
      const { data } = useLatest('log', 'line', { throttleMs: 250 });
      return String(data);
    }
    const count = () => { renders += 1; };
    const page = await openPage(client, <Profiler id="page" onRender={count}><Component /></Profiler>);
    renders = 0;
    for (let n = 1; n <= 60; n += 1) await frame(() => client.publish('log', 'line', n));
    await pass(250 + FRAME);
    expect(renders).toBeLessThanOrEqual(5);
    expect(page.text).toBe('60');
  });

  test('are shown in a hidden page too, where there are no frames', async () => {
    const client = fakeClient();
    Object.defineProperty(document, 'visibilityState', { value: 'hidden', configurable: true });
    const paint = globalThis.requestAnimationFrame;
    globalThis.requestAnimationFrame = () => 0;
    function Component() {
      const unread = useFeed('log').items.length;
      useEffect(() => { document.title = `${unread} unread`; }, [unread]);
      return null;
    }
    await openPage(client, <Component />);
    client.publish('log', 'line', 1);
    await pass(300);
    expect(document.title).toBe('1 unread');
    globalThis.requestAnimationFrame = paint;
    Reflect.deleteProperty(document, 'visibilityState');
  });
});
