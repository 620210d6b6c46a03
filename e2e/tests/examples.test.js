// The examples, each run as it stands: from making a job to the end of its stream and the bytes of its file.

import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import { BROWSERS, openPage } from '../support/browser.js';
import { addToQueue, report, startExports, startRedis, startWorker } from '../support/examples.js';
import { startProxy } from '../support/proxy.js';
import { end, eventually, root, startServer } from '../support/server.js';
import { watch } from '../support/watch.js';

/** Each hundred rows take a worker 50 ms. */
const QUICK = 1_000;
/** Long enough to do something to a worker in between. */
const SLOW = 6_000;

const OTHER = { python: 'node', node: 'python' };

for (const kind of ['python', 'node']) {
  describe(`The ${kind} worker`, { concurrency: 4, timeout: 120_000 }, () => {
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
      const retry = { max_attempts: 5, backoff: { kind: 'fixed', base_ms: 300, jitter: 0 } };
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

describe('The BullMQ example', { concurrency: 4, timeout: 120_000 }, () => {
  test('reports a job from the queue to its file', async (t) => {
    const { server, stream } = await startQueue(t, QUICK);
    const events = await stream.end();
    const [{ data: first }] = events;
    assert.match(first.id, /^bull:reports:/);
    assert.deepEqual([first.mode, first.queue, first.state], ['external', 'reports', 'queued']);
    assert.deepEqual(types(events), ['progress', 'complete']);
    assert.deepEqual([lastOf(events).result, lastOf(events).attempt], [{ rows: QUICK }, 1]);
    await opens(server, lastOf(events), report(QUICK));
  });

  test('shows the second attempt after a failure', async (t) => {
    const folder = await missingFolder(t);
    const { server, stream } = await startQueue(t, QUICK, { REPORTS_DIR: folder });
    const { data } = await stream.until('a failure', ({ data }) => data.state === 'retrying');
    assert.equal(data.attempt, 2);
    assert.match(data.error.message, /no such file or directory/);
    await mkdir(folder);
    const events = await stream.end();
    assert.equal(events.at(-1).type, 'complete');
    assert.ok(lastOf(events).attempt >= 2, `it worked in attempt ${lastOf(events).attempt}`);
    await opens(server, lastOf(events), report(QUICK));
  });

  test('is cancelled from tidings, and does not run again', async (t) => {
    const { server, redis, stream } = await startQueue(t, SLOW);
    const { data } = await stream.until('progress', isHalfway);
    assert.equal((await server.request('POST', `/v1/jobs/${data.id}/cancel`, {})).status, 202);
    const events = await stream.end();
    assert.equal(events.at(-1).type, 'error');
    assert.deepEqual([lastOf(events).state, lastOf(events).attempt], ['cancelled', 1]);
    const job = await jobsOf(t, redis)(data.id);
    assert.deepEqual([await job.getState(), job.attemptsMade, job.failedReason], ['failed', 1, 'cancelled']);
  });

  test('is cancelled also if it tells nothing', async (t) => {
    const { server, stream } = await startQueue(t, 10 * SLOW, {}, (_, path) => (path.endsWith('/progress') ? 400 : undefined));
    const { data } = await stream.until('the run', ({ data }) => data.state === 'running');
    assert.equal((await server.request('POST', `/v1/jobs/${data.id}/cancel`, {})).status, 202);
    const events = await stream.end();
    assert.deepEqual([events.at(-1).type, lastOf(events).state], ['error', 'cancelled']);
  });

  test('goes on while tidings is away, and catches up', async (t) => {
    const { server, redis, stream } = await startQueue(t, SLOW);
    const { data } = await stream.until('progress', isHalfway);
    await server.kill();
    const job = jobsOf(t, redis);
    await eventually('the end of the work', async () => (await job(data.id)).progress.current === SLOW);
    await server.start();
    const events = await watch(t, `${server.url}/v1/jobs/${data.id}/events`).end();
    assert.deepEqual([events.at(-1).type, lastOf(events).attempt], ['complete', 1]);
    await opens(server, lastOf(events), report(SLOW));
  });
});

for (const name of BROWSERS) {
  describe(`The axum export in ${name}`, { concurrency: 2, timeout: 120_000 }, () => {
    test('exports, over a reload of the page, and the file can be downloaded', async (t) => {
      const { service, page } = await startPage(t, name);
      await exportRows(page, 100_000);
      await says(page, /^running: \d+ of 100000 orders$/);
      await page.reload();
      await says(page, /^running: \d+ of 100000 orders$/);
      await says(page, /^100000 orders are exported$/);
      assert.equal(await page.$eval('#bar', (bar) => bar.value), 100);
      const href = await page.$eval('#download', (link) => link.hidden ? null : link.href);
      assert.match(href, new RegExp(`^${service.url}/api/exports/[^/]+/download$`));
      await opens(service, { downloadUrl: href }, report(100_000));
      // A page that comes after the end sees how it ended.
      await page.reload();
      await says(page, /^100000 orders are exported$/);
    });

    test('is cancelled by its button, and says why it failed', async (t) => {
      const { page } = await startPage(t, name);
      await exportRows(page, 100_000_000);
      await says(page, /^running: \d+ of/);
      await eventually('the log', async () => (await text(page, '#log')) === '100000000 orders, attempt 1');
      await page.click('#cancel');
      await says(page, /^cancelled$/);
      await exportRows(page, 0);
      await says(page, /^there is nothing to export$/);
      assert.equal(await page.$eval('#cancel', (button) => button.disabled), true);
    });
  });
}

test('The axum export begins anew after it was killed', { timeout: 120_000 }, async (t) => {
  const service = await startExports(t);
  const headers = { 'content-type': 'application/json' };
  const made = await fetch(`${service.url}/api/exports`, { method: 'POST', headers, body: '{"rows":60000}' });
  const { jobId } = await made.json();
  const url = `${service.url}/api/exports/${jobId}/events`;
  await watch(t, url).until('progress', isHalfway);
  await end(service.process, 'SIGKILL');
  await service.start();
  const events = await watch(t, url).end();
  assert.deepEqual([events.at(-1).type, lastOf(events).attempt], ['complete', 2]);
  await opens(service, lastOf(events), report(60_000));
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
  return { id: answer.json.id, events: server.url + answer.json.urls.events };
}

/** A queue with a job in it that is watched before a worker comes. */
async function startQueue(t, rows, env = {}, fate = () => undefined) {
  const [server, redis] = await Promise.all([startServer(t), startRedis(t)]);
  const stream = watch(t, await addToQueue(t, rows, server, redis));
  await stream.until('its state', ({ data }) => data.state === 'queued');
  await startWorker(t, 'bullmq', await startProxy(t, server, fate), { REDIS_URL: redis, ...env });
  return { server, redis, stream };
}

/** Jobs as BullMQ has them. */
function jobsOf(t, redis) {
  const { Queue } = createRequire(join(root, 'examples', 'bullmq', 'package.json'))('bullmq');
  const queue = new Queue('reports', { connection: { url: redis } });
  t.after(() => queue.close());
  return (id) => queue.getJob(id.slice('bull:reports:'.length));
}

async function startPage(t, name) {
  const service = await startExports(t);
  return { service, page: await openPage(t, name, `${service.url}/`) };
}

async function exportRows(page, rows) {
  await page.$eval('#rows', (input, rows) => (input.value = rows), rows);
  await page.click('#form button');
}

function says(page, pattern) {
  return eventually(`${pattern}`, async () => pattern.test(await text(page, '#status')));
}

function text(page, selector) {
  return page.$eval(selector, (node) => node.textContent.trim());
}

/** A folder that is not there yet. */
async function missingFolder(t) {
  const parent = await mkdtemp(join(tmpdir(), 'tidings-reports-'));
  t.after(() => rm(parent, { recursive: true, force: true }));
  return join(parent, 'reports');
}

async function opens({ url }, { downloadUrl }, expected) {
  const answer = await fetch(new URL(downloadUrl, url));
  assert.equal(answer.status, 200, downloadUrl);
  assert.match(answer.headers.get('content-disposition'), /attachment/);
  assert.ok((await answer.text()) === expected, 'the file has other bytes');
}

const isHalfway = ({ data }) => data.state === 'running' && data.progress > 10;
const types = (events) => [...new Set(events.map(({ type }) => type))];
const lastOf = (events) => events.at(-1).data;
