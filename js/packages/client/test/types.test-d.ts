import { describe, expectTypeOf, test } from 'vitest';
import { createClient, type Client, type CompletedJob, type StandardSchema, type Status, type TidingsError, type TidingsErrorCode } from '@tidings/client';

interface Orders {
  'status-update': { id: number; status: string };
  removed: { id: number };
}
interface Channels {
  orders: Orders;
  [user: `user:${string}`]: { notification: { text: string } };
}

const client = createClient<Channels>();

describe('channels that are declared', () => {
  test('say which events there are, and what they carry', () => {
    client.subscribe('orders').on('removed', (data, event) => {
      expectTypeOf(data).toEqualTypeOf<{ id: number }>();
      expectTypeOf(event.event).toEqualTypeOf<'removed'>();
      expectTypeOf(event.id).toEqualTypeOf<string | null>();
    });
    client.subscribe('user:42').on('notification', ({ text }) => expectTypeOf(text).toBeString());
    // @ts-expect-error no such event
    client.subscribe('orders').on('notification', () => {});
    // @ts-expect-error no such channel
    client.subscribe('order');
  });

  test('tell events apart by their type', async () => {
    for await (const event of client.subscribe('orders')) {
      if (event.event === 'removed') expectTypeOf(event.data).toEqualTypeOf<{ id: number }>();
      else expectTypeOf(event.data.status).toBeString();
    }
  });
});

test('without a declaration, data is unknown and not any', () => {
  createClient().subscribe('a').on('message', (data) => expectTypeOf(data).toBeUnknown());
  expectTypeOf(createClient()).toExtend<Client>();
});

test('a schema says what data is', () => {
  const number = {} as StandardSchema<number>;
  const text = {} as StandardSchema<string>;
  client.subscribe('anything', { schema: number }).on('whatever', (data) => expectTypeOf(data).toBeNumber());
  client.subscribe('anything', { schema: { a: number, b: text } }).on('b', (data) => expectTypeOf(data).toBeString());
});

test('a job gives its document when it is awaited', async () => {
  const done = await client.job<{ rows: number }>('7');
  expectTypeOf(done).toEqualTypeOf<CompletedJob<{ rows: number }>>();
  expectTypeOf(done.result.rows).toBeNumber();
  const { job } = await client.startJob<{ rows: number }>('/api/exports');
  expectTypeOf(await job).toEqualTypeOf<CompletedJob<{ rows: number }>>();
});

test('a status is told apart by its state', () => {
  const status = client.status as Status;
  if (status.state === 'waiting') expectTypeOf(status.retryAt).toBeNumber();
  // @ts-expect-error only while it waits
  if (status.state === 'open') void status.retryAt;
});

test('codes are known by name, and may be others', () => {
  expectTypeOf<TidingsError['code']>().toEqualTypeOf<TidingsErrorCode>();
  expectTypeOf<'job_not_found'>().toExtend<TidingsErrorCode>();
});

test('options refuse what they do not know', () => {
  // @ts-expect-error a transport that is not there
  createClient({ transport: 'carrier-pigeon' });
  createClient({ auth: { token: async (why) => (expectTypeOf(why).toEqualTypeOf<'first' | 'expiring' | 'rejected'>(), 't') } });
});
