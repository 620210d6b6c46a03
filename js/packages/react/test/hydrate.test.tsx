// @vitest-environment happy-dom

import { renderToString } from 'react-dom/server';
import { expect, test, vi } from 'vitest';

import { TidingsProvider, useFeed, useJob, useLatest, useTidingsStatus } from '../src/index.js';
import { documentOf, fakeClient } from './support/fake-client.js';
import { frame, openPage, stopTime } from './support/page.js';

stopTime();

test('What a server rendered is taken over without a mismatch, and goes on from there', async () => {
  const complaints = vi.spyOn(console, 'error');
  const client = fakeClient();
  // Between the two, the client is open already and events came: the first render in the page is the server's all the same.
  client.set({ state: 'open', since: 1, via: 'fetch' });
  const { id } = client.publish('orders', 'status', 'paid');
  client.publish('orders', 'status', 'sent');
  const document = { ...documentOf('7'), progress: 40 };
  const renders: string[] = [];
  function Component() {
    const { data } = useLatest<string>('orders', 'status', { initialData: 'paid', from: { id: id! } });
    const { items } = useFeed<unknown>('orders', { initialItems: [1], from: { id: id! } });
    const { progress } = useJob('7', { initialJob: document });
    const { state } = useTidingsStatus();
    renders.push(`${data} ${items.length} ${progress} ${state}`);
    return <p>{renders.at(-1)}</p>;
  }
  const html = renderToString(<TidingsProvider client={client}><Component /></TidingsProvider>);
  expect(html).toBe('<p>paid 1 40 idle</p>');
  renders.length = 0;
  const page = await openPage(client, <Component />, { html });
  expect(renders[0]).toBe('paid 1 40 idle');
  await frame();
  expect(page.text).toBe('sent 2 40 open');
  expect(complaints).not.toHaveBeenCalled();
});
