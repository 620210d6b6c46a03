// The Next.js example in a real browser: log in, start an export, watch it, download it, hear of it in every tab.

import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';

import { browser } from '../support/browser.js';
import { buildApp, startApp } from '../support/next.js';
import { end, eventually } from '../support/server.js';

describe('The Next.js example', { timeout: 400_000 }, () => {
  let folder;
  before(async () => {
    folder = await buildApp();
  });
  after(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }));

  test('shows the progress of an export, offers its file, and tells every tab', async (t) => {
    const { server, url } = await startApp(t, folder);
    const context = await openBrowser(t);
    const page = await logIn(context, url, 'ann');
    const other = await openTab(context, url);
    await streams(server, 'ann', (count) => count >= 1);
    // A tab in the background draws nothing.
    await page.bringToFront();
    await page.click('section button');
    const seen = new Set();
    await eventually('the end of the export', async () => {
      seen.add(await page.$eval('progress', (bar) => bar.value));
      return (await statusOf(page)) === 'complete';
    });
    assert.ok(seen.size > 3, `the bar stood at ${[...seen]}`);
    const file = await page.$eval('section a', async (link) => {
      const answer = await fetch(link.href);
      return { name: answer.headers.get('content-disposition'), text: await answer.text(), href: link.href };
    });
    assert.ok(file.href.startsWith(`${url}/rt/`), file.href);
    assert.match(file.name, /report\.csv/);
    assert.equal(file.text.split('\n').length, 2_002);
    await page.type('input[name=text]', 'hello to all');
    await page.click('section form button');
    for (const tab of [page, other]) {
      await tab.bringToFront();
      await eventually('both notifications', async () => (await notificationsOf(tab)).join() === '2000 rows are ready,hello to all');
    }
    await page.close();
    await other.close();
    await streams(server, 'ann', (count) => count === 0);
  });

  test('goes on where it was when the server is killed in the middle', async (t) => {
    const { server, url } = await startApp(t, folder);
    const page = await logIn(await openBrowser(t), url, 'bob');
    await page.click('section button');
    await eventually('some progress', async () => (await page.$eval('progress', (bar) => bar.value)) > 5);
    await server.kill();
    await server.start();
    await eventually('the end of the export', async () => (await statusOf(page)) === 'complete', 40_000);
    await eventually('its notification', async () => (await notificationsOf(page)).join() === '2000 rows are ready');
    const { json } = await server.request('GET', '/v1/jobs?tag=user:bob');
    // Its file was on the way when the server died, and comes from a generator: then the attempt fails, and the next one is whole.
    assert.deepEqual(json.jobs.map(({ state, artifacts: [{ size }] }) => [state, size]), [['completed', 32_700]]);
  });

  test('ends what is open when its user logs out, in every tab, and shows nobody else their exports', async (t) => {
    const { server, url } = await startApp(t, folder);
    const context = await openBrowser(t);
    const page = await logIn(context, url, 'ann');
    await page.click('section button');
    await eventually('the end of the export', async () => (await statusOf(page)) === 'complete');
    const file = await page.$eval('section a', ({ href }) => href);
    const stranger = await openBrowser(t);
    await logIn(stranger, url, 'mallory');
    assert.equal((await fetch(file, { headers: { cookie: await cookiesOf(stranger) } })).status, 404);
    await streams(server, 'ann', (count) => count > 0);
    await page.click('main > form button');
    await page.waitForSelector('input[name=user]');
    await streams(server, 'ann', (count) => count === 0);
    await streams(server, 'mallory', (count) => count > 0);
  });

  test('lets nobody in who has no session, or one of their own making', async (t) => {
    const { server, url } = await startApp(t, folder);
    for (const cookie of ['', 'session=ann.1.forged']) {
      const headers = { cookie, accept: 'text/event-stream, application/problem+json' };
      const answer = await fetch(`${url}/rt/events`, { headers });
      assert.deepEqual([answer.status, (await answer.json()).code], [401, 'unauthorized']);
      const browser = await fetch(`${url}/rt/events`, { headers: { cookie, accept: 'text/event-stream' } });
      assert.deepEqual([browser.status, /^event: tidings.unauthorized$/m.test(await browser.text())], [200, true]);
    }
    await streams(server, 'ann', (count) => count === 0);
  });

  test('its worker ends what it has when it is told to stop', async (t) => {
    const { server, url, worker } = await startApp(t, folder);
    const page = await logIn(await openBrowser(t), url, 'eve');
    await page.click('section button');
    await eventually('some progress', async () => (await page.$eval('progress', (bar) => bar.value)) > 5);
    assert.deepEqual(await end(worker, 'SIGTERM'), { code: 0, signal: null }, worker.text);
    const { json } = await server.request('GET', '/v1/jobs');
    assert.equal(json.jobs[0].state, 'completed');
  });
});

/** A browser of one's own, as far as cookies go. */
async function openBrowser(t) {
  const context = await (await browser('chromium')).createBrowserContext();
  t.after(() => context.close());
  return context;
}

async function openTab(context, url) {
  const page = await context.newPage();
  await page.goto(url);
  return page;
}

async function cookiesOf(context) {
  return (await context.cookies()).map(({ name, value }) => `${name}=${value}`).join('; ');
}

async function logIn(context, url, user) {
  const page = await openTab(context, url);
  await page.type('input[name=user]', user);
  await page.click('button');
  await page.waitForSelector('progress');
  return page;
}

function statusOf(page) {
  return page.$eval('#status', ({ textContent }) => textContent);
}

function notificationsOf(page) {
  return page.$$eval('#notifications li', (items) => items.map(({ textContent }) => textContent));
}

/** Waits until as many streams of a subject are open. */
function streams(server, subject, isRight) {
  return eventually(`the right number of streams of ${subject}`, async () => {
    const { json } = await server.request('GET', `/v1/connections?subject=${subject}`);
    return isRight(json.connections.length);
  });
}
