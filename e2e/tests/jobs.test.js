// A job's stream in a page that knows only EventSource and the events progress, complete and error.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { BROWSERS, openPage, openStream } from '../support/browser.js';
import { eventually, startServer } from '../support/server.js';

const TYPES = ['progress', 'complete'];

for (const name of BROWSERS) {
  describe(`A job in ${name}`, { concurrency: 4, timeout: 120_000 }, () => {
    test('shows its state first to a page that comes late, and goes on over a cut to its end', async (t) => {
      const { server, page } = await start(t, name);
      await report(server, 'PUT', '', { type: 'import' }, 201);
      await report(server, 'POST', '/progress', { n: 1, current: 10, total: 100, step: 'reading' });
      await report(server, 'POST', '/progress', { n: 2, current: 40, total: 100 });
      const stream = await openStream(page, '/v1/jobs/7/events', { types: TYPES });
      const { connection } = await stream.connected();
      const [state] = (await stream.received(1)).events.map(parsed);
      assert.deepEqual([state.type, state.data.progress, state.data.step], ['progress', 40, 'reading']);
      await server.cut(connection);
      await report(server, 'POST', '/progress', { n: 3, current: 60 });
      await stream.connected(2);
      await report(server, 'POST', '/complete', { result: { rows: 100 } });
      const { events } = await stream.closed();
      const shown = events.map(parsed).map(({ type, data }) => [type, data.progress, data.state]);
      assert.deepEqual(shown, [
        ['progress', 40, 'running'],
        ['progress', 60, 'running'],
        ['progress', 100, 'completed'],
        ['complete', 100, 'completed'],
      ]);
      assert.deepEqual(parsed(events.at(-1)).data.result, { rows: 100 });
    });

    test('ends with an error that has data, and is not asked for again', async (t) => {
      const { server, page } = await start(t, name);
      await report(server, 'PUT', '', { type: 'import' }, 201);
      const stream = await openStream(page, '/v1/jobs/7/events', { types: TYPES });
      await stream.connected();
      await report(server, 'POST', '/progress', { n: 1, progress: 25 });
      await report(server, 'POST', '/fail', { message: 'the file has no header', code: 'no_header' });
      const seen = await stream.closed();
      const { type, data } = parsed(seen.events.at(-1));
      assert.deepEqual([type, data.message, data.code, data.state, data.jobId], [
        'error', 'the file has no header', 'no_header', 'failed', '7',
      ]);
      assert.equal(seen.events.filter((event) => event.type === 'error').length, 1);
      assert.equal(seen.hellos.length, 1);
    });

    test('says so if there is no such job, and stops the page', async (t) => {
      const { page } = await start(t, name);
      const stream = await openStream(page, '/v1/jobs/unknown/events', { types: TYPES });
      const { events } = await stream.closed();
      assert.deepEqual(events.map(parsed).map(({ type, data }) => [type, data.code]), [['error', 'job_not_found']]);
    });

    test('shows how it ended to a page that comes after the end', async (t) => {
      const { server, page } = await start(t, name);
      await report(server, 'PUT', '', { type: 'import' }, 201);
      await report(server, 'POST', '/complete', { result: 5 });
      const stream = await openStream(page, '/v1/jobs/7/events', { types: TYPES });
      const { events } = await stream.closed();
      const last = parsed(events.at(-1));
      assert.deepEqual([last.type, last.data.result], ['complete', 5]);
    });
  });
}

async function start(t, name) {
  const server = await startServer(t);
  return { server, page: await openPage(t, name, `${server.url}/healthz`) };
}

/** A report about job 7, as its queue would send it; one that is only held back (202) is sent until it is stored. */
async function report(server, method, path, body, status = 200) {
  await eventually(`${status} for ${path}`, async () => {
    const answer = await server.request(method, `/v1/jobs/7${path}`, body);
    assert.ok([status, 202].includes(answer.status), answer.text);
    return answer.status === status;
  });
}

function parsed({ type, data }) {
  return { type, data: JSON.parse(data) };
}
