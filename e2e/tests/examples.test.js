// The examples, each run as it stands: from making a job to the end of its stream and the bytes of its file.

import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import { BROWSERS, openPage } from '../support/browser.js';
import {
  addToQueue, isHalfway, lastOf, missingFolder, opens, QUICK, report, SLOW, startExports, startRedis, startWorker,
} from '../support/examples.js';
import { startProxy } from '../support/proxy.js';
import { end, eventually, root, startServer } from '../support/server.js';
import { watch } from '../support/watch.js';

describe('The BullMQ example', { concurrency: 4, timeout: 120_000 }, () => {
  test('reports a job from the queue to its file', async (t) => {
    const { server, worker, stream } = await startQueue(t, QUICK);
    // It ends what it has, and tells the end.
    await stream.until('progress', ({ data }) => data.progress > 0);
    const ended = end(worker, 'SIGTERM');
    const events = await stream.end();
    assert.deepEqual(await ended, { code: 0, signal: null }, worker.text);
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

/** An export of 6 s at least: a browser that has much to do still sees it running. */
const ROWS = 300_000;

for (const name of BROWSERS) {
  describe(`The axum export in ${name}`, { concurrency: 2, timeout: 120_000 }, () => {
    test('exports, over a reload of the page, and the file can be downloaded', async (t) => {
      const { service, page } = await startPage(t, name);
      const exported = new RegExp(`^${ROWS} orders are exported$`);
      await exportRows(page, ROWS);
      await says(page, /^running: \d+ of \d+ orders$/);
      await page.reload();
      await says(page, /^running: \d+ of \d+ orders$/);
      await says(page, exported);
      assert.equal(await page.$eval('#bar', (bar) => bar.value), 100);
      const href = await page.$eval('#download', (link) => link.hidden ? null : link.href);
      assert.match(href, new RegExp(`^${service.url}/api/exports/[^/]+/download$`));
      await opens(service, { downloadUrl: href }, report(ROWS));
      // A page that comes after the end sees how it ended, and the log.
      await page.reload();
      await says(page, exported);
      assert.equal(await text(page, '#log'), `${ROWS} orders, attempt 1`);
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

/** A queue with a job in it that is watched before a worker comes. */
async function startQueue(t, rows, env = {}, fate = () => undefined) {
  const [server, redis] = await Promise.all([startServer(t), startRedis(t)]);
  const stream = watch(t, await addToQueue(t, rows, server, redis));
  await stream.until('its state', ({ data }) => data.state === 'queued');
  const worker = await startWorker(t, 'bullmq', await startProxy(t, server, fate), { REDIS_URL: redis, ...env });
  return { server, redis, worker, stream };
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

const types = (events) => [...new Set(events.map(({ type }) => type))];
