// What the compiler knows of a program's own channels and jobs.

import { expectTypeOf } from 'vitest';
import { createTidings, createToken, type BatchResult, type Job, type JobItem, type Published, type WorkerJob } from '@tidings/node';

type App = {
  channels: {
    orders: { 'status-update': { id: string; status: 'open' | 'done' } };
    [user: `user:${string}`]: { note: { text: string }; message: number };
  };
  jobs: { 'generate-report': { input: { rows: number }; result: { pages: number } } };
};

const url = 'http://127.0.0.1:4080';
const typed = createTidings<App>({ url });
const plain = createTidings({ url });

// Published events are those of their channels.
expectTypeOf(typed.publish({ channel: 'orders', event: 'status-update', data: { id: '1', status: 'done' } })).resolves.toEqualTypeOf<Published>();
void typed.publish({ channel: 'user:42', event: 'note', data: { text: 'x' } });
void typed.publish({ channel: 'user:42', data: 7 });
void typed.publish({ channel: 'orders', event: 'status-update', text: 'as text' });
expectTypeOf(typed.publish({ channels: ['user:1', 'user:2'], event: 'note', data: { text: 'x' } })).resolves.toHaveProperty('ids');
expectTypeOf(typed.publish({ channel: 'user:1', data: 1, ephemeral: true })).resolves.toEqualTypeOf<{ id: null }>();
expectTypeOf(typed.publish([{ channel: 'user:1', data: 1 }, { channel: 'user:2', data: 2, ephemeral: true }])).resolves.toEqualTypeOf<BatchResult[]>();
// @ts-expect-error no such channel
void typed.publish({ channel: 'order', event: 'status-update', data: { id: '1', status: 'done' } });
// @ts-expect-error no such event there
void typed.publish({ channel: 'orders', event: 'note', data: { text: 'x' } });
// @ts-expect-error another status
void typed.publish({ channel: 'orders', event: 'status-update', data: { id: '1', status: 'gone' } });
// @ts-expect-error the event type is left out, and `message` is none of this channel
void typed.publish({ channel: 'orders', data: { id: '1', status: 'done' } });
// @ts-expect-error either data or text
void typed.publish({ channel: 'user:1', data: 1, text: 'x' });
// @ts-expect-error an ephemeral event is not final
void typed.publish({ channel: 'user:1', data: 1, ephemeral: true, final: true });
// @ts-expect-error either a channel or several
void typed.publish({ channel: 'user:1', channels: ['user:2'], data: 1 });

// Jobs have their inputs and results.
void typed.jobs.create('generate-report', { rows: 3 });
// @ts-expect-error no such type
void typed.jobs.create('send-mail', {});
// @ts-expect-error another input
void typed.jobs.create('generate-report', { rows: '3' });
typed.worker('generate-report', (job, input) => {
  expectTypeOf(job).toEqualTypeOf<WorkerJob>();
  expectTypeOf(input).toEqualTypeOf<{ rows: number }>();
  return { pages: input.rows };
});
typed.worker({ 'generate-report': async (_, { rows }) => ({ pages: rows }) }, { concurrency: 2 });
// @ts-expect-error another result
typed.worker('generate-report', () => ({ pages: 'many' }));
// @ts-expect-error no such type
typed.worker({ 'send-mail': () => {} });
expectTypeOf(typed.jobs.get<{ pages: number }>('j1')).resolves.toEqualTypeOf<Job<{ pages: number }>>();
for await (const item of typed.jobs.watch<{ pages: number }>('j1')) {
  expectTypeOf(item).toEqualTypeOf<JobItem<{ pages: number }>>();
  if (item.type === 'complete') expectTypeOf(item.job.result).toEqualTypeOf<{ pages: number } | null>();
  if (item.type === 'error') expectTypeOf(item.error.state).toEqualTypeOf<'failed' | 'cancelled' | 'expired'>();
}

// Without types of one's own, everything goes that the server could take.
void plain.publish({ channel: 'anything', data: { any: 'thing' } });
void plain.publish({ channel: 'anything', event: 'status', text: 'x' });
void plain.jobs.create('anything', { any: 'thing' });
plain.worker('anything', (_, input) => {
  expectTypeOf(input).toEqualTypeOf<unknown>();
});

// Rights and revocations say one thing each.
void createToken({ sub: '1', expiresIn: '1h', jobs: ['read:*', 'create:generate-report', '*'] }, { secret: 'x'.repeat(32) });
// @ts-expect-error no such right
void createToken({ sub: '1', expiresIn: '1h', jobs: ['delete:*'] }, { secret: 'x'.repeat(32) });
// @ts-expect-error a token ends
void createToken({ sub: '1' }, { secret: 'x'.repeat(32) });
// @ts-expect-error a private key says how it signs
void createToken({ sub: '1', expiresIn: 1 }, { privateKey: 'x' });
void plain.revoke({ subject: '42' });
// @ts-expect-error one of the three
void plain.revoke({ subject: '42', session: 's' });
