// What a type checker says to users of the hooks. It is not run; `npm run typecheck` reads it.
//
// Owns: the promises of the types. Does not know: what happens at run time.

import { useQuery, useSuspenseQuery } from '@tanstack/react-query';
import type { Client, CompletedJob, TidingsError, TidingsEvent } from '@tidings/client';
import useSWRSubscription from 'swr/subscription';
import { expectTypeOf, test } from 'vitest';

import { TidingsProvider, useEvent, useFeed, useJob, useJobProgress, useLatest, useStartJob } from '../src/index.js';
import type { EventIn } from '../src/register.js';
import { liveQueryOptions } from '../src/query.js';
import { swrSubscription } from '../src/swr.js';

interface Status { jobId: string; status: 'open' | 'done' }

declare const typed: Client<{ orders: { 'status-update': Status } }>;

test('without a register, the caller says what the data is', () => {
  useEvent('orders', 'status-update', (data, event) => {
    expectTypeOf(data).toEqualTypeOf<unknown>();
    expectTypeOf(event.id).toEqualTypeOf<string | null>();
  });
  useEvent<Status>('orders', ['status-update', 'other'], ({ jobId }) => {
    expectTypeOf(jobId).toEqualTypeOf<string>();
  });
  const latest = useLatest<Status>('orders', 'status-update');
  expectTypeOf(latest.data).toEqualTypeOf<Status | undefined>();
  expectTypeOf(useLatest('orders', 'count', { initialData: 1 }).data).toEqualTypeOf<unknown>();
  expectTypeOf(useFeed('orders').items).toEqualTypeOf<readonly TidingsEvent[]>();
  const { items } = useFeed<Status>('orders', { reduce: (items, { data }) => [...items, data as Status] });
  expectTypeOf(items).toEqualTypeOf<readonly Status[]>();
});

test('no channel is no error, another type is', () => {
  useEvent(null, 'status-update', () => {});
  useLatest(undefined, 'status-update');
  useFeed(['orders', 'user:42'] as const);
  // @ts-expect-error a channel is text
  useFeed(42);
  // @ts-expect-error an event type is text
  useEvent('orders', 1, () => {});
});

test('a job has the type of its result, and an end', () => {
  const job = useJob<{ rows: number }>('7', {
    onComplete: (done) => expectTypeOf(done).toEqualTypeOf<CompletedJob<{ rows: number }>>(),
    onError: (error) => expectTypeOf(error).toEqualTypeOf<TidingsError>(),
  });
  expectTypeOf(job.result).toEqualTypeOf<{ rows: number } | null>();
  expectTypeOf(job.state).toEqualTypeOf<
    'idle' | 'loading' | 'unavailable' | 'scheduled' | 'queued' | 'running' | 'retrying' | 'completed' | 'failed' | 'cancelled' | 'expired'
  >();
});

test('useJobProgress is what the article shows', () => {
  expectTypeOf(useJobProgress).parameter(0).toEqualTypeOf<string | null | undefined>();
  expectTypeOf(useJobProgress('7', { path: '/api/exports' })).toEqualTypeOf<{
    status: 'idle' | 'running' | 'complete' | 'error';
    progress: number;
    downloadUrl?: string;
    error?: string;
  }>();
});

test('the input of a job is required if it has one', () => {
  const exports = useStartJob<{ rows: number }, string>('/api/exports');
  void exports.start({ rows: 1 });
  // @ts-expect-error its input is missing
  void exports.start();
  // @ts-expect-error it has other fields
  void exports.start({ lines: 1 });
  void useStartJob<void>('/api/clean').start();
  expectTypeOf(exports.job.result).toEqualTypeOf<string | null>();
});

test('any client can be provided', () => {
  void <TidingsProvider client={typed} />;
  // @ts-expect-error a client is needed
  void <TidingsProvider />;
});

test('the options of a query know its data', () => {
  const options = liveQueryOptions({
    queryKey: ['orders'],
    queryFn: async () => [{ jobId: '7', status: 'open' } as Status],
    channel: 'orders',
    apply: (orders, { data }) => [...orders, data as Status],
  });
  expectTypeOf(useQuery(options).data).toEqualTypeOf<Status[] | undefined>();
  expectTypeOf(useSuspenseQuery(options).data).toEqualTypeOf<Status[]>();
  expectTypeOf(useQuery({ ...options, select: (orders) => orders.length, enabled: false }).data).toEqualTypeOf<number | undefined>();
});

test('a subscription of SWR knows its data', () => {
  const { data } = useSWRSubscription('orders', swrSubscription<Status>('orders', 'status-update'));
  expectTypeOf(data).toEqualTypeOf<Status | undefined>();
});

test('events of several types are told apart', () => {
  expectTypeOf<EventIn<string, 'a' | 'b'>['event']>().toEqualTypeOf<'a' | 'b'>();
});
