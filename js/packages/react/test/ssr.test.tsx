// In Node, without a window: what a server renders.

import { createElement } from 'react';
import { renderToString } from 'react-dom/server';
import { describe, expect, test, vi } from 'vitest';

import { TidingsProvider, useEvent, useFeed, useJob, useJobProgress, useLatest, useStartJob, useTidingsStatus } from '../src/index.js';
import { swrSubscription } from '../src/swr.js';
import { liveQueryOptions } from '../src/query.js';
import { documentOf, fakeClient } from './support/fake-client.js';

const created = vi.hoisted(() => vi.fn());
vi.mock('@tidings/client', async (original) => ({ ...await original<object>(), createClient: created }));

function Everything() {
  useEvent('orders', 'status', () => {});
  const latest = useLatest('orders', 'status', { initialData: 'paid' });
  const feed = useFeed('log', { initialItems: ['one', 'two'] });
  const job = useJob('7', { initialJob: { ...documentOf('7'), progress: 40 } });
  const progress = useJobProgress('8');
  const started = useStartJob('/api/exports');
  const status = useTidingsStatus();
  return [latest.data, feed.items.join('+'), job.progress, progress.status, started.job.state, status.state].join(' ');
}

describe('On a server', () => {
  test('there is no window, and everything renders what it was given', () => {
    expect(typeof window).toBe('undefined');
    const client = fakeClient();
    const html = renderToString(<TidingsProvider client={client}><Everything /></TidingsProvider>);
    expect(html).toBe('paid one+two 40 idle idle idle');
    expect([client.streams, client.jobs]).toEqual([0, []]);
  });

  test('no client is made where none was given', () => {
    expect(renderToString(createElement(Everything))).toBe('paid one+two 40 idle idle idle');
    swrSubscription('orders', 'status');
    liveQueryOptions({ queryKey: ['orders'], queryFn: () => 1, channel: 'orders' });
    expect(created).not.toHaveBeenCalled();
  });

  test('only rendering does nothing: the stores work in Node', async () => {
    const client = fakeClient();
    const { createLatestStore } = await import('../src/latest-store.js');
    const store = createLatestStore<number>({
      client: () => client, channels: ['orders'], events: ['count'], initialData: 0, onReset: () => {},
    });
    const changed = new Promise<void>((resolve) => void store.subscribe(resolve));
    client.publish('orders', 'count', 1);
    await changed;
    expect(store.snapshot().data).toBe(1);
  });
});
