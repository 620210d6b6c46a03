// WebKitGTK from Debian, which stands in for Safari.
//
// Owns: a display without a screen, and as much of the WebDriver protocol as the tests take. Does not know: the tests.
// Flow: a display → WebKitWebDriver → a session → windows, one command at a time.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { freePort } from './nginx.js';
import { end, eventually, spawnLogged } from './server.js';

const DISPLAY = process.env.XVFB ?? '/usr/bin/Xvfb';
const DRIVER = process.env.WEBKIT_DRIVER ?? '/usr/bin/WebKitWebDriver';

/** Debian has it beside the library, under the name of the architecture. */
const BROWSER = 'webkit2gtk-4.1/MiniBrowser';
const LIBRARIES = '/usr/lib';

/** No graphics card, no desktop and no settings of a user. */
export const ENVIRONMENT = {
  GDK_BACKEND: 'x11', GSETTINGS_BACKEND: 'memory', LIBGL_ALWAYS_SOFTWARE: '1', NO_AT_BRIDGE: '1',
  WEBKIT_DISABLE_DMABUF_RENDERER: '1',
};

/** Starts a browser; what it returns has of puppeteer's interface what the tests take. */
export async function launchWebKit() {
  const display = await startDisplay();
  const home = await mkdtemp(join(tmpdir(), 'tidings-webkit-'));
  const port = await freePort();
  const env = { ...process.env, ...ENVIRONMENT, DISPLAY: display.name, HOME: home, XDG_RUNTIME_DIR: home };
  const driver = await spawnLogged('webkit', DRIVER, [`--port=${port}`], { env });
  const command = commands(`http://127.0.0.1:${port}`);
  await eventually('WebKitWebDriver', () => {
    if (driver.exitCode !== null) throw new Error(`WebKitWebDriver ended:\n${driver.text}`);
    return command('GET', '/status').then(({ ready }) => ready, () => false);
  });
  const { sessionId } = await command('POST', '/session', {
    capabilities: { alwaysMatch: { 'webkitgtk:browserOptions': { binary: await browserFile(), args: ['--automation'] } } },
  });
  const session = inTurn((method, path, body) => command(method, `/session/${sessionId}${path}`, body));
  const first = await session((send) => send('GET', '/window'));
  return {
    kinds: true,
    newPage: (kind) => newWindow(session, first, kind),
    process: () => driver,
    async close() {
      await session(async (send) => send('DELETE', '')).catch(() => {});
      await end(driver, 'SIGTERM');
      await end(display.process, 'SIGTERM');
      await rm(home, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

/** The display chooses its own number, so that none is taken twice. */
export async function startDisplay() {
  const args = ['-displayfd', '3', '-screen', '0', '1024x768x24', '-nolisten', 'tcp'];
  const child = spawn(DISPLAY, args, { stdio: ['ignore', 'ignore', 'ignore', 'pipe'] });
  child.ended = once(child, 'close');
  const [number] = await Promise.race([
    once(child.stdio[3], 'data'),
    once(child, 'close').then(() => Promise.reject(new Error(`${DISPLAY} ended`))),
  ]);
  return { process: child, name: `:${String(number).trim()}` };
}

export async function browserFile() {
  if (process.env.WEBKIT) return process.env.WEBKIT;
  for (const folder of await readdir(LIBRARIES)) {
    const files = await readdir(join(LIBRARIES, folder, 'webkit2gtk-4.1')).catch(() => []);
    if (files.includes('MiniBrowser')) return join(LIBRARIES, folder, BROWSER);
  }
  throw new Error(`there is no ${BROWSER} under ${LIBRARIES}`);
}

/** Sends a WebDriver command and returns its value. */
function commands(url) {
  return async (method, path, body) => {
    const answer = await fetch(`${url}${path}`, { method, body: body === undefined ? undefined : JSON.stringify(body) });
    const { value } = await answer.json();
    if (!answer.ok) throw new Error(`${method} ${path} was answered ${value.error}: ${value.message}`);
    return value;
  };
}

/** A session has one current window, so what belongs together is sent by one at a time. */
function inTurn(send) {
  let last = Promise.resolve();
  return (work) => {
    const done = last.then(() => work(send));
    last = done.catch(() => {});
    return done;
  };
}

/** A `window` is visible and its timers are exact; a `tab` is hidden behind the first one, as most tabs are. */
async function newWindow(session, first, kind = 'window') {
  const { handle } = await session(async (send) => {
    // The current one may have been closed; the first one never is.
    await send('POST', '/window', { handle: first });
    return send('POST', '/window/new', { type: kind });
  });
  const there = (method, path, body) => session(async (send) => {
    await send('POST', '/window', { handle });
    return send(method, path, body);
  });
  let at = 'about:blank';
  return {
    async goto(url) {
      await there('POST', '/url', { url });
      at = url;
    },
    /** As in puppeteer, without asking the browser. */
    url: () => at,
    evaluate: (work, ...args) => there('POST', '/execute/async', { script: script(work), args }).then(unwrap),
    close: () => there('DELETE', '/window'),
  };
}

/** Runs a function in the page; what it throws comes back as text. */
function script(work) {
  return `const done = arguments[arguments.length - 1];
    (async () => (${work}).apply(null, Array.prototype.slice.call(arguments, 0, -1)))()
      .then((value) => done({ value }), (error) => done({ error: error + '\\n' + error.stack }));`;
}

function unwrap({ value, error }) {
  if (error !== undefined) throw new Error(error);
  return value;
}
