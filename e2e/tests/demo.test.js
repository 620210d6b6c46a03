// The demo, used as a visitor would use it.

import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import { BROWSERS, openPage } from '../support/browser.js';
import { eventually, output, startServer } from '../support/server.js';

const SIZES = { wide: { width: 1280, height: 900 }, phone: { width: 390, height: 844 } };

for (const name of BROWSERS) {
  describe(`The demo in ${name}`, { timeout: 120_000 }, () => {
    for (const [size, viewport] of Object.entries(SIZES)) {
      test(`exports to 100 % over a cut connection and the report opens, ${size}`, async (t) => {
        const { page, problems } = await start(t, name, viewport);
        await eventually('progress', async () => Number(await text(page, '#job-percent')) >= 20);
        await shoot(page, name, size, 'running');
        await page.click('#cut');
        await eventually('a reconnect', async () => (await text(page, '#reconnects')) === '1');
        await eventually('100 %', async () => (await text(page, '#job-percent')) === '100');
        await eventually('the report', () => page.$eval('#download', (link) => !link.hidden));
        await eventually('a tick', async () => Number(await text(page, '#gap-ticks').then(parseFloat)) >= 5);
        await shoot(page, name, size, 'done');
        assert.match(await text(page, '#gap-verdict'), /: 0 missing, 0 repeated$/);
        assert.equal(await text(page, '#resets'), '0');
        assert.equal(await overflow(page), 0, 'the page is wider than the window');
        await opensReport(page, name, size);
        assert.deepEqual(problems, []);
      });
    }

    test('takes a file of the visitor', async (t) => {
      const { server, page } = await start(t, name, SIZES.wide);
      await eventually('the first export', async () => (await text(page, '#job-state')) === 'completed');
      const orders = await readFile(join(server.data, 'orders.csv'), 'utf8');
      const file = join(server.data, '..', 'mine.csv');
      await writeFile(file, orders.split('\n').slice(0, 501).join('\n'));
      await (await page.$('#file')).uploadFile(file);
      await eventually('the upload', async () => (await text(page, '#source-rows')).endsWith('your file'));
      await page.click('#run');
      await eventually('its export', async () => (await text(page, '#job-current')) === '500');
      await eventually('its end', async () => (await text(page, '#job-state')) === 'completed');
    });

    test('carries a chat between two tabs, and notifications', async (t) => {
      const { server, page } = await start(t, name, SIZES.wide);
      const other = await openPage(t, name, page.url());
      for (const tab of [page, other]) await eventually('life', async () => (await text(tab, '#state')) === 'Live');
      await page.bringToFront();
      await page.type('#chat-text', 'Is <b>anyone</b> there?');
      await page.click('#chat-form button');
      for (const tab of [page, other]) {
        await eventually('the message', async () => (await text(tab, '#chat')).includes('Is <b>anyone</b> there?'));
      }
      await other.bringToFront();
      await other.type('#chat-text', 'Yes');
      await other.click('#chat-form button');
      await eventually('the answer', async () => (await text(page, '#chat')).includes('Yes'));
      await server.publish({ channel: 'demo:notifications', event: 'notification', data: { title: 'From outside' } });
      await eventually('the notification', async () => (await text(page, '#notes')).includes('From outside'));
      // Whoever comes later sees what was said last, however much was said before.
      for (let n = 0; n < 60; n += 1) {
        await server.publish({ channel: 'demo:chat', event: 'chat', data: { name: 'Ann', text: `message ${n}` } });
      }
      const third = await openPage(t, name, page.url());
      await eventually('the backlog', () => third.$eval('#chat', (chat) => chat.lastElementChild?.textContent.includes('message 59')));
    });

    test('goes on in mid-export after the server was killed', async (t) => {
      const { server, page } = await start(t, name, SIZES.wide);
      await eventually('progress', async () => Number(await text(page, '#job-percent')) >= 20);
      await server.kill();
      await server.start();
      await eventually('100 %', async () => (await text(page, '#job-percent')) === '100', 40_000);
      await eventually('the end', async () => (await text(page, '#job-state')) === 'completed');
      assert.match(await text(page, '#gap-verdict'), /: 0 missing, 0 repeated$/);
      assert.equal(await text(page, '#resets'), '0');
    });
  });
}

async function start(t, name, viewport) {
  const server = await startServer(t, { args: ['demo', '--rows-per-second', '20000'] });
  const page = await openPage(t, name, 'about:blank');
  await page.setViewport(viewport);
  const problems = problemsOf(page);
  await page.goto(server.url);
  return { server, page, problems };
}

function text(page, selector) {
  return page.$eval(selector, (node) => node.textContent.trim());
}

/** By how many pixels the page can be scrolled sideways. */
function overflow(page) {
  return page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
}

/** What a visitor's console would show. A stream that breaks off is no problem: that is what is tried here. */
function problemsOf(page) {
  const problems = [];
  page.on('pageerror', (error) => problems.push(String(error)));
  page.on('console', (message) => {
    const said = message.text();
    const isCut = /ERR_INCOMPLETE_CHUNKED|interrupted while the page was loading|connection to .*\/events/.test(said);
    if (message.type() === 'error' && !isCut) problems.push(said);
  });
  return problems;
}

/** Follows the download link, and looks at what a visitor would get. */
async function opensReport(page, name, size) {
  const { href, status, disposition, type, body } = await page.$eval('#download', async (link) => {
    const answer = await fetch(link.href);
    const headers = ['content-disposition', 'content-type'].map((header) => answer.headers.get(header));
    return { href: link.href, status: answer.status, disposition: headers[0], type: headers[1], body: await answer.text() };
  });
  assert.equal(status, 200);
  assert.match(disposition, /filename/);
  await mkdir(output, { recursive: true });
  const file = join(output, `report-${name}-${size}${type.startsWith('text/html') ? '.html' : '.txt'}`);
  await writeFile(file, body);
  await page.goto(`file://${file}`);
  assert.match(await page.$eval('body', (body) => body.innerText), /100,000/, href);
  assert.equal(await overflow(page), 0, 'the report is wider than the window');
  await shoot(page, name, size, 'report');
}

async function shoot(page, name, size, what) {
  await mkdir(output, { recursive: true });
  await page.screenshot({ path: join(output, `demo-${name}-${size}-${what}.png`) });
  if (size === 'phone') await page.screenshot({ path: join(output, `demo-${name}-${size}-${what}-whole.png`), fullPage: true });
}
