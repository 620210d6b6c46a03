// Pages: the hooks of @tidings/react, and the examples that are pages, in real browsers.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { BROWSERS, openPage } from '../support/browser.js';
import { opens, report, startWorker } from '../support/examples.js';
import { example, oneFile, program, startPages, testPage } from '../support/pages.js';
import { end, eventually, lineMatching, spawnLogged, startServer } from '../support/server.js';

const PACE = { count: 1_000, batch: 20, everyMs: 20 };

for (const name of BROWSERS) {
  describe(`React in ${name}`, { timeout: 60_000 }, () => {
    test('1,000 events in a second are no more than one render per frame, and none is lost', async (t) => {
      const { server, page } = await start(t, name, testPage('react-page'));
      await page.evaluate(() => globalThis.go('many'));
      await eventually('a stream', () => page.evaluate(() => globalThis.seen.ready));
      const before = await page.evaluate(() => Object.assign(globalThis.seen, { worst: 0 }));
      await publishMany(server, 'many');
      await eventually('the last event', async () => (await text(page, '#many')) === `100 ${PACE.count}`);
      const after = await page.evaluate(() => globalThis.seen);
      assert.deepEqual(after.handled, Array.from({ length: PACE.count }, (_, n) => n + 1));
      const [renders, frames] = [after.renders - before.renders, after.frames - before.frames];
      t.diagnostic(`${renders} renders in ${frames} frames`);
      assert.equal(after.worst, 1, `${after.worst} renders in one frame`);
      assert.ok(renders <= frames + 1, `${renders} renders in ${frames} frames`);
    });

    test('TanStack Query and SWR show the newest, with few fetches', async (t) => {
      const { server, page } = await start(t, name, testPage('react-page'));
      await server.publish({ channel: 'adapted', event: 'tick', data: { n: -1 } });
      await page.evaluate(() => globalThis.go('adapted'));
      await shows(page, '#adapted', /^-1$/);
      await publishMany(server, 'adapted');
      await shows(page, '#adapted', new RegExp(`^${PACE.count} ${PACE.count}$`));
      // A second of events, at most four in it, one before and one behind; and some more where the machine is slow.
      const fetches = await page.evaluate(() => globalThis.seen.fetches);
      assert.ok(fetches <= 20, `${fetches} fetches`);
      assert.equal((await connections(server)).length, 1);
    });

    test('one connection under StrictMode and over changes of route, for channels and a job', async (t) => {
      const { server, page } = await start(t, name, testPage('react-page'));
      await page.evaluate(() => globalThis.go('a'));
      await shows(page, '#route', /^a open/);
      const [first] = await connections(server);
      for (const [n, route] of ['b', 'c', 'a', 'd'].entries()) {
        // What is published behind the render is there, whenever the stream has the channel.
        await page.evaluate((route) => globalThis.go(route), route);
        await eventually(`channel ${route}`, async () => (await connections(server))[0]?.channels.includes(route));
        await server.publish({ channel: route, data: { n } });
        await shows(page, '#route', new RegExp(`^${route} open (\\d,)*${n}$`));
      }
      assert.deepEqual((await connections(server)).map(({ id }) => id), [first.id]);
      await server.request('PUT', '/v1/jobs/export-7', { type: 'export', state: 'running' });
      await page.evaluate(() => globalThis.go('job:export-7'));
      await shows(page, '#job', /^{"status":"running","progress":0}$/);
      await server.request('POST', '/v1/jobs/export-7/progress', 40);
      await shows(page, '#job', /^{"status":"running","progress":40}$/);
      await server.request('POST', '/v1/jobs/export-7/complete', { artifacts: [{ name: 'a.csv', url: 'https://files.example.com/a.csv' }] });
      await shows(page, '#job', /^{"status":"complete","progress":100,"downloadUrl":"[^"]+"}$/);
      assert.deepEqual((await connections(server)).map(({ id }) => id), [first.id]);
      await page.evaluate(() => globalThis.go(null));
      await eventually('the end of the connection', async () => (await connections(server)).length === 0);
    });
  });
}

describe('Of the examples', { concurrency: 3, timeout: 120_000 }, () => {
  test('The export in React goes on over a reload, and the file can be downloaded', async (t) => {
    const { pages, page } = await startExport(t);
    await exportRows(page, 4_000);
    await shows(page, '.pill', /^running$/);
    const id = await page.evaluate(() => location.hash.slice(1));
    await page.reload();
    await shows(page, '.rows', /^[\d,]+ of 4,000 rows$/);
    await shows(page, '#message', /^4,000 orders are exported\.$/);
    assert.equal(await text(page, '.percent'), '100%');
    assert.equal(await page.evaluate(() => location.hash.slice(1)), id);
    await opens(pages, { downloadUrl: await page.$eval('#download', ({ href }) => href) }, report(4_000));
  });

  test('The export in React is cancelled, and begun again', async (t) => {
    const { page } = await startExport(t);
    await exportRows(page, 100_000);
    await shows(page, '.pill', /^running$/);
    await click(page, '#cancel');
    await shows(page, '.pill', /^cancelled$/);
    const before = page.url();
    await click(page, '#retry');
    await shows(page, '.pill', /^running$/);
    assert.notEqual(page.url(), before);
  });

  test('Notifications are unread and read in both tabs alike, over one connection', async (t) => {
    const { server, pages, page: first } = await start(t, 'chromium', example('notifications'));
    const second = await openPage(t, 'chromium', `${pages.url}/`);
    for (const page of [first, second]) await shows(page, '#state', /^Live/);
    await eventually('one connection', async () => (await connections(server)).length === 1);
    await click(first, '#send');
    await click(second, '#send');
    for (const page of [first, second]) {
      await shows(page, '#unread', /^2$/);
      await eventually('the title', async () => (await page.title()) === '(2) Notifications');
    }
    await click(second, '#read');
    for (const page of [first, second]) await eventually('that all is read', async () => (await page.title()) === 'Notifications');
    await server.publish({ channel: 'user:dev', event: 'notification', data: { kind: 'info', title: 'Third', text: '' } });
    // A tab that comes later has the same.
    await second.reload();
    for (const page of [first, second]) {
      await shows(page, '#unread', /^1$/);
      assert.deepEqual(await page.$$eval('li', (notes) => notes.map(({ dataset }) => dataset.read)), ['false', 'true', 'true']);
    }
  });

  test('The chat shows every post once and in order, also one whose answer was lost', async (t) => {
    const { server, pages, page: ann } = await start(t, 'chromium', example('chat'));
    const bob = await openPage(t, 'chromium', `${pages.url}/`);
    for (const page of [ann, bob]) await shows(page, '#state', /^Live$/);
    await say(ann, 'Ann', 'Hello');
    await shows(bob, '#posts', /Hello/);
    await say(bob, 'Bob', '<b>Hi</b>');
    await shows(ann, '#posts', /Hi/);
    pages.fate = (method) => (method === 'POST' ? 'lost' : undefined);
    await say(ann, 'Ann', 'Lost on the way back');
    // Whatever became of the answer, the post is there once its event has come.
    for (const page of [ann, bob]) await eventually('the post', async () => (await states(page)).join() === 'sent,sent,sent');
    pages.fate = (method) => (method === 'POST' ? 503 : undefined);
    await say(ann, 'Ann', 'Not sent');
    await eventually('the failure', () => ann.$('[data-state="failed"]'));
    pages.fate = () => undefined;
    await click(ann, '[data-state="failed"] button');
    const wanted = ['Hello', '<b>Hi</b>', 'Lost on the way back', 'Not sent'];
    for (const page of [ann, bob]) await eventually('all posts', async () => (await posts(page)).join() === wanted.join());
    await bob.reload();
    await eventually('all posts', async () => (await posts(bob)).join() === wanted.join());
    assert.equal(await ann.$('[data-state="failed"], [data-state="sending"]'), null);
    // What another client sends as its key is no name of anything on the page.
    for (const text of ['One', 'Two']) await server.publish({ channel: 'chat:lobby', event: 'post', data: { key: 'form', name: 'Eve', text } });
    for (const page of [ann, bob]) await eventually('both posts', async () => (await posts(page)).join() === [...wanted, 'One', 'Two'].join());
    assert.notEqual(await ann.$('main > #form button'), null);
  });

  for (const name of BROWSERS) {
    test(`The plain page in ${name} goes on after the server was killed`, async (t) => {
      const { server, pages, page } = await start(t, name, oneFile('plain-html'), `?server=`);
      await shows(page, '#state', /^Live$/);
      await page.$eval('#order', (input) => { input.value = '7'; });
      await click(page, 'form button');
      await shows(page, '#order-7', /^7open/);
      await server.kill();
      await shows(page, '#state', /^Connecting$/);
      await server.start();
      await server.publish({ channel: 'orders', event: 'status-update', data: { jobId: '7', status: 'paid' } });
      await shows(page, '#order-7', /^7paid/);
      await page.reload();
      await shows(page, '#order-7', /^7paid/);
      assert.equal(pages.url, new URL(page.url()).origin);
    });
  }

  test('The stream of tokens survives reloads in the middle and the death of the model, without loss or repeat', async (t) => {
    const { server, page } = await start(t, 'chromium', example('token-stream'));
    const model = await startModel(t, server);
    await click(page, 'form button');
    const says = (length) => eventually(`${length} characters`, async () => (await text(page, '#answer')).length > length);
    for (const length of [40, 200]) {
      await says(length);
      assert.equal(await text(page, '#state'), 'running');
      await page.reload();
    }
    // The half of an answer is thrown away when another model begins it anew.
    await says(300);
    await end(model, 'SIGKILL');
    await startModel(t, server);
    await page.reload();
    await shows(page, '#state', /^completed$/);
    const id = await page.evaluate(() => location.hash.slice(1));
    const { json: job } = await server.request('GET', `/v1/jobs/${id}`);
    assert.equal(job.attempt, 2);
    assert.match(job.result.text, /^You asked: “What happens if I reload\?”/);
    assert.equal(await page.$eval('#answer', (node) => node.textContent), job.result.text);
    await page.reload();
    await eventually('the answer', async () => (await page.$eval('#answer', (node) => node.textContent)) === job.result.text);
  });
});

async function start(t, name, files, query = '', args = []) {
  const server = await startServer(t, { args });
  const pages = await startPages(t, server, files);
  return { server, pages, page: await openPage(t, name, `${pages.url}/${query}${query.endsWith('=') ? server.url : ''}`) };
}

async function startModel(t, server) {
  const model = await spawnLogged(`model ${t.name}`, process.execPath, [await program('token-stream', 'model.mjs')], {
    env: { ...process.env, TIDINGS_URL: server.url, PACE_MS: '20' },
  });
  t.after(() => end(model, 'SIGKILL'));
  await lineMatching(model, /^answers/m, 20_000);
  return model;
}

async function startExport(t) {
  const started = await start(t, 'chromium', example('react-export'), '', ['--job-route', '/api/exports=generate-report']);
  await startWorker(t, 'node', started.server);
  return started;
}

/** Without a pointer, which only the tab in front has. */
function click(page, selector) {
  return page.$eval(selector, (node) => node.click());
}

async function exportRows(page, rows) {
  await page.$eval('#rows', (input, rows) => {
    // As React hears of it.
    Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(input, rows);
    input.dispatchEvent(new Event('input', { bubbles: true }));
  }, String(rows));
  await click(page, '#export');
}

async function say(page, name, what) {
  await page.evaluate((name, what) => {
    document.querySelector('#name').value = name;
    document.querySelector('#text').value = what;
  }, name, what);
  await click(page, 'form button');
}

const states = (page) => page.$$eval('#posts li', (all) => all.map(({ dataset }) => dataset.state));

const posts = (page) => page.$$eval('#posts p', (all) => all.map(({ textContent }) => textContent));

/** A second of events, in small batches, as fast as they would come from many publishers. */
async function publishMany(server, channel) {
  const start = performance.now();
  for (let first = 1; first <= PACE.count; first += PACE.batch) {
    const lines = Array.from({ length: PACE.batch }, (_, n) => JSON.stringify({ channel, event: 'tick', data: { n: first + n } }));
    const headers = { 'content-type': 'application/x-ndjson' };
    const answer = await fetch(new URL('/v1/publish', server.url), { method: 'POST', headers, body: lines.join('\n') });
    assert.equal(answer.status, 200);
    await answer.text();
    await sleep(Math.max(0, start + (first / PACE.batch) * PACE.everyMs - performance.now()));
  }
}

async function connections(server) {
  return (await server.request('GET', '/v1/connections')).json.connections;
}

function shows(page, selector, pattern) {
  return eventually(`${pattern} in ${selector}`, async () => pattern.test(await text(page, selector)));
}

async function text(page, selector) {
  const all = await page.$$eval(selector, (nodes) => nodes.map(({ textContent }) => textContent.trim()));
  return all.join(' ');
}
