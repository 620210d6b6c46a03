// @vitest-environment happy-dom

import { TidingsError } from '@tidings/client';
import { useEffect } from 'react';
import { describe, expect, test, vi } from 'vitest';

import { useLatest, useTidingsStatus } from '../src/index.js';
import { fakeClient } from './support/fake-client.js';
import { frame, openPage, stopTime } from './support/page.js';

stopTime();

describe('useLatest', () => {
  test('shows the initial data, then the newest event', async () => {
    const client = fakeClient();
    function Component() {
      const { data, event } = useLatest<string>('orders', ['paid', 'sent'], { initialData: 'new' });
      return `${data} ${event?.event ?? 'none'}`;
    }
    const page = await openPage(client, <Component />);
    expect(page.text).toBe('new none');
    await frame(() => client.publish('orders', 'paid', 'paid'));
    expect(page.text).toBe('paid paid');
    await frame(() => {
      client.publish('orders', 'sent', 'sent');
      client.publish('orders', 'other', 'not shown');
    });
    expect(page.text).toBe('sent sent');
  });

  test('loses no event between render and mount', async () => {
    const client = fakeClient();
    function Publishes() {
      useEffect(() => void client.publish('orders', 'paid', 'by the effect of a child'), []);
      return null;
    }
    function Component() {
      const { data } = useLatest<string>('orders', 'paid');
      return <>{data}<Publishes /></>;
    }
    const page = await openPage(client, <Component />, { strict: false });
    await frame();
    expect(page.text).toBe('by the effect of a child');
  });

  test('says that events were lost until the next one comes, and asks for the state anew', async () => {
    const client = fakeClient();
    const onReset = vi.fn();
    function Component() {
      const { data, reset } = useLatest<number>('orders', 'count', { initialData: 1, onReset });
      return `${data} ${reset?.reason ?? 'complete'}`;
    }
    const page = await openPage(client, <Component />);
    await frame(() => client.reset('orders', 'expired'));
    expect(page.text).toBe('1 expired');
    expect(onReset).toHaveBeenCalledOnce();
    await frame(() => client.publish('orders', 'count', 2));
    expect(page.text).toBe('2 complete');
  });

  test('says that the channel is refused, and goes on when it is not any more', async () => {
    const client = fakeClient();
    function Component() {
      const { data, error } = useLatest('orders', 'count', { initialData: 1 });
      return `${data} ${error?.code ?? 'granted'}`;
    }
    const page = await openPage(client, <Component />);
    await frame(() => client.refuse('orders', new TidingsError('forbidden', 'the grant does not cover this')));
    expect(page.text).toBe('1 forbidden');
    await frame(() => client.set({ state: 'open', since: 1, via: 'fetch' }));
    await frame(() => client.publish('orders', 'count', 2));
    expect(page.text).toBe('2 granted');
  });

  test('goes on from the position that the server rendered at', async () => {
    const client = fakeClient();
    const { id } = client.publish('orders', 'count', 1);
    client.publish('orders', 'count', 2);
    function Component() {
      const { data } = useLatest<number>('orders', 'count', { initialData: 1, from: { id: id! } });
      return String(data);
    }
    const page = await openPage(client, <Component />);
    await frame();
    expect(page.text).toBe('2');
  });
});

test('useTidingsStatus shows what the client does, and opens nothing', async () => {
  const client = fakeClient();
  function Component() {
    const status = useTidingsStatus();
    return status.state;
  }
  const page = await openPage(client, <Component />);
  expect(page.text).toBe('idle');
  await frame(() => client.set({ state: 'open', since: 1, via: 'fetch' }));
  expect(page.text).toBe('open');
  await frame(() => client.set({ state: 'paused', reason: 'offline' }));
  expect(page.text).toBe('paused');
  expect(client.streams).toBe(0);
});
