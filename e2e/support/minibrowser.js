// WebKitGTK's browser without its driver, which ends all pages when one of them crashes.
//
// Owns: the browser, its tabs, and how work gets to a page that nobody drives. Does not know: what is tested.
// Flow: a page asks a server of ours for work → does it → tells what came of it.

import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { end, spawnLogged } from './server.js';
import { ENVIRONMENT, browserFile, startDisplay } from './webkit.js';

/** The first tab is visible, the others are behind it. Returns the process, and for each tab `evaluate` as puppeteer has it. */
export async function openTabs(t, count, url) {
  const desk = await startDesk(t);
  const display = await startDisplay();
  const home = await mkdtemp(join(tmpdir(), 'tidings-webkit-'));
  const tabs = Array.from({ length: count }, (_, n) => desk.tab(String(n)));
  const urls = tabs.map((_, n) => `${url}#${desk.url}/${n}`);
  const env = { ...process.env, ...ENVIRONMENT, DISPLAY: display.name, HOME: home, XDG_RUNTIME_DIR: home };
  const browser = await spawnLogged('minibrowser', await browserFile(), urls, { env });
  t.after(async () => {
    await end(browser, 'SIGKILL');
    await end(display.process, 'SIGTERM');
    await rm(home, { recursive: true, force: true, maxRetries: 5 });
  });
  return { browser, tabs };
}

/** What such a page runs: all that it is sent, one after the other. */
export const REMOTE = `
  const desk = location.hash.slice(1);
  for (;;) {
    const { work, args } = await (await fetch(desk)).json();
    const done = await (0, eval)('(' + work + ')')(...args).then((value) => ({ value }), (error) => ({ error: String(error) }));
    await fetch(desk, { method: 'POST', body: JSON.stringify(done) });
  }`;

/** By another name than the server's, so that no request of the page waits for one of ours. */
async function startDesk(t) {
  const tabs = new Map();
  const http = createServer(async (request, answer) => {
    answer.setHeader('access-control-allow-origin', '*');
    const tab = tabs.get(request.url);
    if (request.method === 'GET') return tab.next((work) => answer.end(JSON.stringify(work)));
    let body = '';
    for await (const part of request.setEncoding('utf8')) body += part;
    answer.end();
    tab.done(JSON.parse(body));
  });
  http.listen(0, 'localhost');
  await once(http, 'listening');
  t.after(() => new Promise((resolve) => http.close(resolve).closeAllConnections()));
  return { url: `http://localhost:${http.address().port}`, tab: (name) => createTab(tabs, name) };
}

function createTab(tabs, name) {
  const waiting = [];
  let asked = null;
  let current = null;
  const hand = () => {
    if (asked === null || current !== null || waiting.length === 0) return;
    current = waiting.shift();
    const answer = asked;
    asked = null;
    answer({ work: current.work, args: current.args });
  };
  tabs.set(`/${name}`, {
    next(answer) {
      asked = answer;
      hand();
    },
    done({ value, error }) {
      const { resolve, reject } = current;
      current = null;
      if (error === undefined) resolve(value);
      else reject(new Error(error));
    },
  });
  return {
    evaluate: (work, ...args) => new Promise((resolve, reject) => {
      // A function that is not async gives its value all the same.
      waiting.push({ work: `async (...all) => (${work})(...all)`, args, resolve, reject });
      hand();
    }),
  };
}
