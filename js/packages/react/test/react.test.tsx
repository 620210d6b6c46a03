// @vitest-environment happy-dom
//
// What differs between versions of React.

import * as React from 'react';
import { expect, test } from 'vitest';

import { useEvent, useFeed } from '../src/index.js';
import { LINGER_MS } from '../src/limits.js';
import { fakeClient } from './support/fake-client.js';
import { frame, openPage, pass, stopTime } from './support/page.js';

stopTime();

test('The React is the one that is meant', () => {
  expect(React.version).toMatch(new RegExp(`^${process.env['REACT'] ?? '19'}\\.`));
});

test.runIf('Activity' in React)('What React hides gets what it missed when it is shown again', async () => {
  const client = fakeClient();
  const handled: unknown[] = [];
  function Tab() {
    const { items } = useFeed('orders');
    useEvent('orders', 'status', (data) => handled.push(data));
    return items.map(({ data }) => data).join();
  }
  const tab = (mode: 'visible' | 'hidden') => <React.Activity mode={mode}><Tab /></React.Activity>;
  const page = await openPage(client, tab('visible'));
  await frame(() => client.publish('orders', 'status', 1));
  await page.show(tab('hidden'));
  await pass(LINGER_MS);
  expect(client.open).toEqual([]);
  await frame(() => client.publish('orders', 'status', 2));
  await page.show(tab('visible'));
  await frame(() => client.publish('orders', 'status', 3));
  await frame();
  expect(page.text).toBe('1,2,3');
  expect(handled).toEqual([1, 2, 3]);
});
