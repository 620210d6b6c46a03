// The article's flow, in a page that knows only EventSource: start, progress, complete, download, and all that may come
// in between.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { BROWSERS, openPage, statusesOf } from '../support/browser.js';
import { report, startWorker } from '../support/examples.js';
import { eventually, startServer } from '../support/server.js';

describe("The article's page", { concurrency: 2, timeout: 120_000 }, () => {
  for (const name of BROWSERS) {
    describe(`in ${name}`, { concurrency: 4, timeout: 120_000 }, () => {
      test('starts an export, shows its progress, and its file can be downloaded', async (t) => {
        const { server, page, job } = await startExport(t, name, { rows: 2_000 });
        const streams = statusesOf(page, `/api/exports/${job}/events`);
        await startWorker(t, 'python', server);
        const shown = await shows(page, ({ status }) => status === 'complete');
        assert.deepEqual([shown.progress, shown.error], [100, undefined]);
        assert.equal(shown.downloadUrl, `/api/exports/${job}/download`);
        const file = await page.$eval('#download', async (link) => {
          const answer = await fetch(link.href);
          return { status: answer.status, disposition: answer.headers.get('content-disposition'), text: await answer.text() };
        });
        assert.equal(file.status, 200);
        assert.match(file.disposition, /^attachment; filename="?report\.csv/);
        assert.ok(file.text === report(2_000), 'the file has other bytes');
        await gotAll(server, page, job);
        const { events } = await exported(page);
        assert.ok(events.filter(({ type }) => type === 'progress').length > 3, 'there was progress in between');
        assert.ok(isRising(events.map(({ data }) => data.progress)), JSON.stringify(events));
        assert.deepEqual(streams, [], 'the page closed its stream, and never asked again');
      });

      test('shows why an export failed', async (t) => {
        const { server, page, job } = await startExport(t, name, { rows: 'many' });
        await startWorker(t, 'python', server);
        const { error } = await shows(page, ({ status }) => status === 'error');
        assert.equal(error, 'rows has to be a whole number above 0');
        await gotAll(server, page, job);
      });

      test('is stopped for good by a 204 if it does not close its stream itself', async (t) => {
        const { server, page, job } = await startExport(t, name, { rows: 'many' }, { closes: false });
        const failed = statusesOf(page, `/api/exports/${job}/events`);
        await startWorker(t, 'python', server);
        await closed(page);
        await gotAll(server, page, job);
        assert.deepEqual(failed, [204]);

        // An id as this server makes them; for one of another queue, the stream would wait a while.
        const unknown = job.replace(/.$/, (last) => (last === '0' ? '1' : '0'));
        const missing = statusesOf(page, `/api/exports/${unknown}/events`);
        await page.evaluate((id) => window.exported.watch(id), unknown);
        await eventually('an error', async () => (await exported(page)).events.length > 0);
        await closed(page);
        const { events, state } = await exported(page);
        assert.deepEqual(events.map(({ type, data }) => [type, data.code]), [['error', 'job_not_found']]);
        assert.deepEqual([state.status, state.error], ['error', 'Job not found']);
        assert.deepEqual(missing, [200, 204]);
      });

      test('sees the state at once after a reload and in a second tab, and the same end in both', async (t) => {
        const { server, page, job } = await startExport(t, name);
        const worker = await leased(server);
        await worker.report('progress', { progress: 25 });
        await shows(page, ({ progress }) => progress === 25);
        await worker.report('progress', { progress: 40, step: 'writing' });
        await shows(page, ({ progress }) => progress === 40);
        await page.reload();
        const tab = await openExports(t, name, page.url());
        // The worker says nothing meanwhile: this is what the stream begins with.
        for (const one of [page, tab]) {
          await shows(one, ({ progress }) => progress === 40);
          const { events: [first, ...more] } = await exported(one);
          assert.deepEqual([first.type, first.data.progress, first.data.step, first.data.state], ['progress', 40, 'writing', 'running']);
          assert.deepEqual(more, []);
        }
        await worker.report('progress', { progress: 60 });
        await worker.report('complete', { result: { rows: 7 } });
        for (const one of [page, tab]) {
          await shows(one, ({ status }) => status === 'complete');
          const { events } = await exported(one);
          assert.deepEqual(events.map(({ type, data }) => [type, data.progress]), [
            ['progress', 40], ['progress', 60], ['progress', 100], ['complete', 100],
          ]);
          await gotAll(server, one, job);
        }
        const [first, second] = [await exported(page), await exported(tab)];
        assert.deepEqual(first.events, second.events);
      });

      test('goes on after the server was killed, with the worker that survived it', async (t) => {
        const { server, page, job } = await startExport(t, name, { rows: 8_000 });
        await startWorker(t, 'python', server);
        await shows(page, ({ progress }) => progress >= 10);
        await server.kill();
        const { state: { status } } = await exported(page);
        assert.equal(status, 'running', 'a lost connection is no failure of the export');
        await server.start();
        await shows(page, ({ status }) => status === 'complete');
        await gotAll(server, page, job);
        const { events, breaks } = await exported(page);
        assert.ok(breaks >= 1, 'the stream was cut');
        assert.deepEqual(new Set(events.map(({ data }) => data.attempt)), new Set([1]));
        assert.ok(isRising(events.map(({ data }) => data.progress)), JSON.stringify(events));
      });
    });
  }
});

/** A server with the article's paths, its page, and an export that the page has started. */
async function startExport(t, name, input = {}, { closes = true } = {}) {
  const server = await startServer(t, { args: ['--job-route', '/api/exports=generate-report'] });
  const page = await openExports(t, name, `${server.url}/healthz`, closes);
  const job = await page.evaluate((input) => window.exported.start(input), input);
  await eventually('the first event', async () => (await exported(page)).events.length > 0);
  return { server, page, job };
}

async function openExports(t, name, url, closes = true) {
  const page = await openPage(t, name, 'about:blank');
  await page.evaluateOnNewDocument(exportsPage, closes);
  await page.goto(url);
  return page;
}

/** What the article's page does, without React; and what it got, for the test. Runs in every document of the page. */
function exportsPage(closes) {
  const exported = (window.exported = { state: { status: 'idle', progress: 0 }, events: [], breaks: 0, source: null });

  exported.start = async (input) => {
    const headers = { 'content-type': 'application/json' };
    const answer = await fetch('/api/exports', { method: 'POST', headers, body: JSON.stringify(input) });
    const { jobId } = await answer.json();
    location.hash = jobId;
    exported.watch(jobId);
    return jobId;
  };

  exported.watch = (jobId) => {
    exported.events = [];
    const source = (exported.source = new EventSource(`/api/exports/${jobId}/events`, { withCredentials: true }));
    const on = (type, show) => source.addEventListener(type, (event) => {
      if (event.data === undefined) return void (exported.breaks += 1);
      const data = JSON.parse(event.data);
      exported.events.push({ type, id: event.lastEventId, data });
      exported.state = show(data);
      if (type !== 'progress' && closes) source.close();
    });
    on('progress', ({ progress }) => ({ ...exported.state, status: 'running', progress }));
    on('complete', ({ downloadUrl }) => {
      const link = document.body.appendChild(Object.assign(document.createElement('a'), { id: 'download', textContent: 'Download' }));
      if (downloadUrl) link.href = downloadUrl;
      return { status: 'complete', progress: 100, downloadUrl };
    });
    on('error', ({ message }) => ({ ...exported.state, status: 'error', error: message }));
  };

  addEventListener('load', () => location.hash.length > 1 && exported.watch(location.hash.slice(1)));
}

/** What a page shows and got so far. */
function exported(page) {
  return page.evaluate(() => {
    const { state, events, breaks, source } = window.exported;
    return { state, events, breaks, readyState: source?.readyState };
  });
}

/** What a page shows, once `enough` of it is true. */
async function shows(page, enough) {
  return eventually(`${enough}`, async () => {
    const { state } = await exported(page);
    return enough(state) && state;
  });
}

function closed(page) {
  return eventually('the end of the stream for good', async () => (await exported(page)).readyState === 2);
}

/** A page got every event of its job behind the first one that it saw, once and in order, and then the end. */
async function gotAll(server, page, job) {
  const { events } = await exported(page);
  const { json } = await server.request('GET', `/v1/history?channel=job:${job}&limit=1000`);
  const stored = json.events.filter(({ event }) => event !== 'log').map(({ event, id, data }) => ({ type: event, id, data }));
  const first = stored.findIndex(({ id }) => id === events[0].id);
  assert.notEqual(first, -1, 'the first event is one of the job');
  assert.deepEqual(events, stored.slice(first));
  assert.deepEqual(events.filter(({ type }) => type !== 'progress').length, 1);
}

/** A worker that says what the test says: it takes the one job that waits. */
async function leased(server) {
  const wanted = { worker_id: 'test', types: ['generate-report'] };
  const { json } = await server.request('POST', '/v1/queues/default/lease', wanted);
  const [{ id, lease: { token } }] = json.jobs;
  return {
    /** Progress that is only held back (202) is sent until it is stored. */
    report: (kind, body) => eventually(kind, async () => {
      const answer = await server.request('POST', `/v1/jobs/${id}/${kind}`, { ...body, lease: token });
      assert.ok([200, 202].includes(answer.status), answer.text);
      return answer.status === 200;
    }),
  };
}

function isRising(numbers) {
  return numbers.every((number, at) => at === 0 || number >= numbers[at - 1]);
}
