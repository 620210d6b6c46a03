import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createTidings, TidingsError } from '@tidings/node';
import { ok, problem, scripted, type Reply } from './support/scripted.js';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** What a publish makes of these answers, how it ended, and how long it took. */
async function publishing(replies: Reply[], event: object = { channel: 'c', data: 1 }, options: object = {}) {
  const server = scripted(() => replies.shift() ?? 'drop');
  const tidings = createTidings({ url: 'http://t/', fetch: server.fetch, ...options });
  const begun = performance.now();
  const promise = tidings.publish(event as never).then(
    (value: unknown) => ({ value, error: undefined }),
    (error: unknown) => ({ value: undefined, error: error as TidingsError }),
  );
  await vi.runAllTimersAsync();
  return { ...(await promise), bodies: server.asked.map(({ json }) => json), asked: server.asked, ms: performance.now() - begun };
}

test('a publish says what was said, and carries a key of its own', async () => {
  const event = { channel: 'orders', event: 'status', data: { a: 1 }, key: 'k', ttlMs: 5 };
  const { value, asked, bodies } = await publishing([ok({ id: 'e-1' }, 201)], event, { key: 'tk_1' });
  expect(value).toEqual({ id: 'e-1', duplicate: false });
  expect(asked[0]).toMatchObject({ method: 'POST', path: '/v1/publish' });
  expect(asked[0]?.headers.get('authorization')).toBe('Bearer tk_1');
  expect(asked[0]?.headers.get('content-type')).toBe('application/json');
  const { idempotency_key, ...rest } = bodies[0];
  expect(idempotency_key).toMatch(/^[0-9a-f-]{36}$/);
  expect(rest).toEqual({ channel: 'orders', event: 'status', data: { a: 1 }, key: 'k', ttl_ms: 5 });
});

test('what may pass is repeated with the same key, and a duplicate is told', async () => {
  const replies: Reply[] = ['drop', problem(503, 'outcome_unknown'), problem(502, ''), ok({ id: 'e-1', duplicate: true })];
  const { value, bodies } = await publishing(replies);
  expect(value).toEqual({ id: 'e-1', duplicate: true });
  expect(bodies).toHaveLength(4);
  expect(new Set(bodies.map((body) => body.idempotency_key)).size).toBe(1);
});

test('a refusal is not repeated, and says what it is', async () => {
  const { error, bodies } = await publishing([problem(409, 'channel_finished', { committed: false })]);
  expect(bodies).toHaveLength(1);
  expect(error).toBeInstanceOf(TidingsError);
  expect(error).toMatchObject({ code: 'channel_finished', status: 409, committed: false, detail: 'd' });
});

test('after five attempts it is over, and nobody knows whether the first took effect', async () => {
  const busy = () => problem(503, 'overloaded', { committed: false });
  const unknown = await publishing(['drop', busy(), busy(), busy(), busy()]);
  expect(unknown.bodies).toHaveLength(5);
  expect(unknown.error).toMatchObject({ code: 'overloaded', committed: undefined });
  const known = await publishing([busy(), busy(), busy(), busy(), busy()]);
  expect(known.error).toMatchObject({ code: 'overloaded', committed: false });
});

test('Retry-After holds a repeat back, up to ten seconds, and the jitter comes on top', async () => {
  vi.spyOn(Math, 'random').mockReturnValue(0.5);
  const later = (after: string) => problem(429, 'streams_too_many', {}, { 'retry-after': after });
  expect((await publishing([later('3'), ok({ id: 'e-1' })])).ms).toBe(3_250);
  expect((await publishing([later('3600'), ok({ id: 'e-1' })])).ms).toBe(10_250);
  expect((await publishing([later('Wed, 21 Oct 2026 07:28:00 GMT'), ok({ id: 'e-1' })])).ms).toBe(250);
  vi.mocked(Math.random).mockRestore();
});

test('an ephemeral event is repeated only where nothing of it was sent on', async () => {
  const event = { channel: 'c', data: 1, ephemeral: true };
  const lost = await publishing(['drop', ok({ id: null }, 202)], event);
  expect(lost.error).toMatchObject({ code: 'no_answer', committed: undefined });
  expect(lost.bodies).toEqual([{ channel: 'c', data: 1, ephemeral: true }]);
  const busy = await publishing([problem(503, 'overloaded', { committed: false }), ok({ id: null }, 202)], event);
  expect(busy.value).toEqual({ id: null });
});

test('when no more keys are remembered, the key that nobody asked for is left out', async () => {
  const full = () => problem(503, 'idempotency_keys_full', { committed: false });
  const made = await publishing([full(), full(), full(), full(), full(), ok({ id: 'e-1' })]);
  expect(made.value).toEqual({ id: 'e-1', duplicate: false });
  expect(made.bodies.at(-1)).toEqual({ channel: 'c', data: 1 });
  const given = await publishing([full(), full(), full(), full(), full()], { channel: 'c', data: 1, idempotencyKey: 'mine' });
  expect(given.error?.code).toBe('idempotency_keys_full');
});

test('without keys, only what was surely not stored is repeated', async () => {
  const options = { idempotent: false };
  const lost = await publishing(['drop'], { channel: 'c', data: 1 }, options);
  expect(lost.bodies).toEqual([{ channel: 'c', data: 1 }]);
  const unknown = await publishing([problem(503, 'outcome_unknown')], { channel: 'c', data: 1 }, options);
  expect(unknown).toMatchObject({ bodies: [{}], error: { code: 'outcome_unknown' } });
  const busy = [problem(503, 'overloaded', { committed: false }), ok({ id: 'e-1' })];
  expect((await publishing(busy, { channel: 'c', data: 1 }, options)).value).toMatchObject({ id: 'e-1' });
});

test('a list is NDJSON with a key in each line, and each event has its result', async () => {
  const lines = '{"id":"e-1"}\n{"line":2,"code":"channel_finished","detail":"d"}\n{"id":null}\n';
  const { value, asked } = await publishing(
    [new Response(lines)],
    [{ channel: 'a', data: 1 }, { channel: 'b', text: 'x\ny' }, { channel: 'c', data: 2, ephemeral: true }],
  );
  expect(asked[0]?.headers.get('content-type')).toBe('application/x-ndjson');
  const sent = asked[0]?.body.trimEnd().split('\n').map((line) => JSON.parse(line)) ?? [];
  expect(sent.map(({ idempotency_key }) => typeof idempotency_key)).toEqual(['string', 'string', 'undefined']);
  expect(sent[1]).toMatchObject({ channel: 'b', text: 'x\ny' });
  expect(value).toEqual([
    { id: 'e-1', duplicate: false },
    { error: expect.objectContaining({ code: 'channel_finished' }) },
    { id: null, duplicate: false },
  ]);
});

test('a list with too few results is not guessed at', async () => {
  const events = [{ channel: 'a', data: 1 }, { channel: 'b', data: 2 }];
  expect((await publishing([new Response('{"id":"e-1"}\n')], events)).error?.code).toBe('answer_invalid');
  expect((await publishing([], [])).value).toEqual([]);
});

test('what is no JSON is not sent', async () => {
  const { error, bodies } = await publishing([], { channel: 'c', data: 1n });
  expect(error).toMatchObject({ code: 'request_invalid', committed: false });
  expect(bodies).toEqual([]);
});

test('a signal ends the waiting, and before the request it says that nothing was sent', async () => {
  const server = scripted(() => 'drop');
  const tidings = createTidings({ url: 'http://t', fetch: server.fetch });
  const controller = new AbortController();
  const promise = tidings.publish({ channel: 'c', data: 1 }, { signal: controller.signal }).catch((e: unknown) => e);
  await vi.advanceTimersByTimeAsync(0);
  controller.abort(new Error('shutdown'));
  expect(await promise).toMatchObject({ code: 'aborted', committed: undefined, cause: { message: 'shutdown' } });
  const asked = server.asked.length;
  const late = tidings.publish({ channel: 'c', data: 1 }, { signal: controller.signal });
  await expect(late).rejects.toMatchObject({ code: 'aborted', committed: false });
  expect(server.asked).toHaveLength(asked);
  expect(vi.getTimerCount()).toBe(0);
});

test('an attempt without an answer ends after thirty seconds, and an answer without end is not read', async () => {
  const late = await publishing(['hold', ok({ id: 'e-1' })]);
  expect(late.value).toMatchObject({ id: 'e-1' });
  expect(late.ms).toBeGreaterThanOrEqual(30_000);
  const endless = new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(65_536)) });
  expect((await publishing([new Response(endless)])).error?.code).toBe('answer_invalid');
});

test('something else than tidings that answers is named by its status', async () => {
  const { error } = await publishing([new Response('<html>moved', { status: 404 })]);
  expect(error).toMatchObject({ code: 'http_404', status: 404 });
  const moved = await publishing([new Response(null, { status: 301, headers: { location: 'https://t' } })]);
  expect(moved.error).toMatchObject({ code: 'http_301' });
});

test('a key that changes is asked for before each attempt, and a URL with a path keeps it', async () => {
  const replies: Reply[] = ['drop', ok({ id: 'e-1' })];
  let n = 0;
  const options = { url: 'http://t/rt/', key: async () => `token-${(n += 1)}` };
  const { asked } = await publishing(replies, undefined, options);
  expect(asked.map(({ headers }) => headers.get('authorization'))).toEqual(['Bearer token-1', 'Bearer token-2']);
  expect(asked[0]?.path).toBe('/rt/v1/publish');
  expect(() => createTidings({ url: 'file:///x' })).toThrow('not an http URL');
});
