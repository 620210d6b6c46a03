// Hooks of an application that has said what its channels are. A program of its own: what is registered holds for all of it.

import { expectTypeOf, test } from 'vitest';

import { useEvent, useFeed, useLatest, useTidings } from '@tidings/react';

interface Status { jobId: string; status: 'open' | 'done' }
interface Note { text: string }

declare module '@tidings/react' {
  interface Register {
    channels: {
      orders: { 'status-update': Status; 'note': Note };
      [user: `user:${string}`]: { notification: Note };
    };
  }
}

test('channels, event types and data are known', () => {
  useEvent('orders', 'status-update', (data, event) => {
    expectTypeOf(data).toEqualTypeOf<Status>();
    expectTypeOf(event.event).toEqualTypeOf<'status-update'>();
  });
  useEvent('orders', ['status-update', 'note'], (data, event) => {
    expectTypeOf(data).toEqualTypeOf<Status | Note>();
    if (event.event === 'note') expectTypeOf(event.data).toEqualTypeOf<Note>();
  });
  expectTypeOf(useLatest('user:42', 'notification').data).toEqualTypeOf<Note | undefined>();
  const { items } = useFeed('orders', { events: ['note'] });
  expectTypeOf(items[0]!.data).toEqualTypeOf<Note>();
  useTidings().subscribe('orders').on('note', ({ text }) => expectTypeOf(text).toEqualTypeOf<string>());
  // @ts-expect-error there is no such event
  useEvent('orders', 'stauts-update', (data: Status) => data);
  // @ts-expect-error there is no such channel
  useLatest('invoices', 'note');
});
