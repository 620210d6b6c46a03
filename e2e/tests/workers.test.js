// The workers of examples/, each run as it stands: from making a job to the end of its stream and the bytes of its file,
// and through what happens to workers.

import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { describe, test } from 'node:test';

import { isHalfway, lastOf, missingFolder, opens, QUICK, report, SLOW, startWorker } from '../support/examples.js';
import { startProxy } from '../support/proxy.js';
import { end, eventually, startServer } from '../support/server.js';
import { watch } from '../support/watch.js';

const OTHER = { python: 'node', node: 'python' };

describe('The worker', { concurrency: 2, timeout: 120_000 }, () => {
  for (const kind of ['python', 'node']) {
    describe(`in ${kind}`, { concurrency: 4, timeout: 120_000 }, () => {
      test('runs a job to its end, and its file can be downloaded', async (t) => {
        const { server, job } = await start(t, kind, { rows: QUICK });
        const events = await watch(t, job.events).end();
        assert.deepEqual(types(events), ['progress', 'log', 'complete']);
        assert.equal(events.find(({ type }) => type === 'log').data.message, 'a report of 1000 rows, attempt 1');
        assert.deepEqual([lastOf(events).result, lastOf(events).attempt], [{ rows: QUICK }, 1]);
        await opens(server, lastOf(events), report(QUICK));
      });

      test('fails, and the job is tried again until it works', async (t) => {
        const folder = await missingFolder(t);
        const retry = { max_attempts: 20, backoff: { kind: 'fixed', base_ms: 300, jitter: 0 } };
        const { server, job } = await start(t, kind, { rows: QUICK }, { retry }, { REPORTS_DIR: folder });
        const stream = watch(t, job.events);
        const { data } = await stream.until('a failure', ({ data }) => data.state === 'retrying');
        assert.match(data.error.message, /no such file or directory/i);
        await mkdir(folder);
        const events = await stream.end();
        assert.ok(lastOf(events).attempt >= 2, `it worked in attempt ${lastOf(events).attempt}`);
        await opens(server, lastOf(events), report(QUICK));
      });

      test('says when another attempt would not help', async (t) => {
        const { job } = await start(t, kind, { rows: 'many' });
        const events = await watch(t, job.events).end();
        const { state, attempt, message } = lastOf(events);
        assert.deepEqual([state, attempt, message], ['failed', 1, 'rows has to be a whole number above 0']);
      });

      test('stops in mid-job when it is cancelled', async (t) => {
        const { server, job, worker } = await start(t, kind, { rows: SLOW });
        const stream = watch(t, job.events);
        await stream.until('progress', isHalfway);
        assert.equal((await server.request('POST', `/v1/jobs/${job.id}/cancel`, { reason: 'no need' })).status, 202);
        const events = await stream.end();
        assert.equal(events.at(-1).type, 'error');
        assert.equal(lastOf(events).state, 'cancelled');
        await eventually('the end of the run', () => worker.text.includes(`${job.id}: attempt 1: fail`));
      });

      test('gives its job back at SIGTERM, and another worker runs the same attempt', async (t) => {
        const { server, job, worker } = await start(t, kind, { rows: SLOW });
        const stream = watch(t, job.events);
        await stream.until('progress', isHalfway);
        assert.deepEqual(await end(worker, 'SIGTERM'), { code: 0, signal: null }, worker.text);
        const { data } = await stream.until('the release', ({ data }) => data.reason === 'released');
        assert.deepEqual([data.state, data.attempt], ['queued', 1]);
        await startWorker(t, OTHER[kind], server);
        const events = await stream.end();
        assert.deepEqual([events.at(-1).type, lastOf(events).attempt], ['complete', 1]);
        await opens(server, lastOf(events), report(SLOW));
      });

      test('ends at once at SIGTERM when it has no job', async (t) => {
        const server = await startServer(t);
        const worker = await startWorker(t, kind, server);
        await eventually('its request', async () => (await server.request('GET', '/v1/workers')).json.workers.length === 1);
        assert.deepEqual(await end(worker, 'SIGTERM'), { code: 0, signal: null }, worker.text);
      });

      test('is killed in mid-job, which another worker then runs', async (t) => {
        const { server, job, worker } = await start(t, kind, { rows: SLOW }, { lease_ms: 2_000 });
        const stream = watch(t, job.events);
        await stream.until('progress', isHalfway);
        await end(worker, 'SIGKILL');
        await startWorker(t, OTHER[kind], server);
        const { data } = await stream.until('the stall', ({ data }) => data.reason === 'stalled');
        assert.deepEqual([data.state, data.attempt], ['retrying', 2]);
        const events = await stream.end();
        assert.deepEqual([events.at(-1).type, lastOf(events).attempt], ['complete', 2]);
        await opens(server, lastOf(events), report(SLOW));
      });

      test('keeps its lease though none of its progress gets through', async (t) => {
        const server = await startServer(t);
        const proxy = await startProxy(t, server, (_, path) => (path.endsWith('/progress') ? 503 : undefined));
        await startWorker(t, kind, proxy);
        const events = await watch(t, (await create(server, { rows: SLOW }, { lease_ms: 2_000 })).events).end();
        assert.deepEqual([events.at(-1).type, lastOf(events).attempt], ['complete', 1]);
        assert.deepEqual([...new Set(events.map(({ data }) => data.progress))], [0, undefined, 100]);
        await opens(server, lastOf(events), report(SLOW));
      });

      test('says everything once though its answers get lost', async (t) => {
        const server = await startServer(t);
        const lost = new Set();
        const proxy = await startProxy(t, server, (_, path) => {
          const [, kind] = /(logs|artifacts|complete)/.exec(path) ?? [];
          if (kind === undefined || lost.has(kind)) return undefined;
          lost.add(kind);
          return 'lost';
        });
        const worker = await startWorker(t, kind, proxy);
        const job = await create(server, { rows: QUICK });
        const events = await watch(t, job.events).end();
        assert.equal(events.filter(({ type }) => type === 'log').length, 1);
        assert.deepEqual([events.at(-1).type, lastOf(events).attempt, lastOf(events).artifacts.length], ['complete', 1, 1]);
        await eventually('the worker to hear of it', () => worker.text.includes(`${job.id}: attempt 1: complete`));
        assert.equal(lost.size, 3);
        await opens(server, lastOf(events), report(QUICK));
      });

      test('goes on over a restart of the server, in mid-job and without one', async (t) => {
        const { server, job, worker } = await start(t, kind, { rows: SLOW });
        await watch(t, job.events).until('progress', isHalfway);
        await server.kill();
        await server.start();
        const events = await watch(t, job.events).end();
        assert.deepEqual([events.at(-1).type, lastOf(events).attempt], ['complete', 1], worker.text);
        await opens(server, lastOf(events), report(SLOW));
        await server.kill();
        await eventually('the worker to notice', () => worker.text.includes('no jobs:'));
        await server.start();
        const next = await watch(t, (await create(server, { rows: QUICK })).events).end();
        assert.deepEqual([next.at(-1).type, lastOf(next).attempt], ['complete', 1]);
      });
    });
  }
});

/** A server, a worker and its job. */
async function start(t, kind, input, more = {}, env = {}) {
  const server = await startServer(t);
  const worker = await startWorker(t, kind, server, env);
  return { server, worker, job: await create(server, input, more) };
}

async function create(server, input, more = {}) {
  const answer = await server.request('POST', '/v1/jobs', { type: 'generate-report', input, ...more });
  assert.equal(answer.status, 201, answer.text);
  // All of them, however late the watch begins.
  return { id: answer.json.id, events: `${server.url}${answer.json.urls.events}?from=start` };
}

const types = (events) => [...new Set(events.map(({ type }) => type))];
