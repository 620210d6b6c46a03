// The places where a client runs: Node, and the pages of three browsers.
//
// Owns: the client's bundle, and how a command gets to a recorder. Does not know: what is recorded.
// Flow: an engine and an origin → a page with the bundle, or a module of this process → `call`.

import { createServer } from 'node:http';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'vite';

import { ENGINE_BROWSERS, openPage } from './browser.js';
import { waitFor } from './patience.js';
import { recorder } from './recorder.js';
import { eventually, root } from './server.js';

export const ENGINES = ['node', ...ENGINE_BROWSERS];

const CLIENT = process.env.CLIENT ?? join(root, 'js', 'packages', 'client', 'dist', 'index.js');
const PAGE = '<!doctype html><title>client</title><script type="module" src="/suite.js"></script>';

// Patience, not a promise: three browsers at once on two cores may stand still for long.
const SEEN_MS = 45_000;

/** A place for clients of the server behind `proxy`: the proxy's own origin, or another one. */
export async function openEngine(t, engine, proxy, { origin = null, kind = 'window' } = {}) {
  if (engine === 'node') {
    const here = recorder(await import(pathToFileURL(CLIENT)));
    t.after(here.closeAll);
    return place(here, proxy.url);
  }
  let page;
  if (origin === null) {
    await servePage(proxy);
    page = await openPage(t, engine, `${proxy.url}/suite`, kind);
  } else {
    page = await openPage(t, engine, await site(t, origin), kind);
  }
  // A busy WebKit says that a page is there before its module has run.
  await eventually('the script of the page', () => page.evaluate(() => globalThis.suite !== undefined));
  return placeIn(page, proxy.url);
}

/** A page with the script is a place for clients of the server behind `url`. */
export function placeIn(page, url) {
  const commands = new Proxy({}, {
    get: (_, command) => async (...args) => JSON.parse(await page.evaluate(inPage, command, JSON.stringify(args))),
  });
  return { ...place(commands, url), page };
}

/** As text, because a driver may send an object that is there twice only once. */
async function inPage(command, args) {
  return JSON.stringify((await globalThis.suite[command](...JSON.parse(args))) ?? null);
}

/** Commands to one recorder, and waiting for what it records. */
function place(commands, url) {
  const withUrl = ({ options, query = '', ...more }) => ({ options: { url: `${url}/events${query}`, ...options }, ...more });
  return {
    start: async (name, spec) => commands.start(name, withUrl(spec)),
    each: async (specs, more) => commands.each(specs.map(withUrl), { limitMs: SEEN_MS, ...more }),
    many: async (of, spec, more) => commands.many(of, spec, { limitMs: SEEN_MS, ...more }),
    ...Object.fromEntries(
      ['subscribe', 'watch', 'seen', 'count', 'reconnect', 'close', 'go', 'bear', 'cancel', 'closeAll'].map((command) => [command, async (...args) => commands[command](...args)]),
    ),
    /** The record, once `enough` is true of its counts. */
    async until(name, what, enough, limitMs = SEEN_MS) {
      const came = await waitFor(async () => enough(await commands.count(name)), limitMs);
      const seen = await commands.seen(name);
      if (!came) throw new Error(`${what} did not happen in ${limitMs} ms; recorded is ${JSON.stringify(seen)}`);
      return seen;
    },
  };
}

let bundled;

/** The page and its scripts, on the proxy's origin. */
export async function servePage(proxy) {
  proxy.serve('/suite', 'text/html', PAGE);
  for (const [path, script] of await bundle()) proxy.serve(path, 'text/javascript', script);
}

/** The package as an application's bundler makes it, and the recorder: paths and scripts, for some are loaded later. */
function bundle() {
  bundled ??= build({
    configFile: false,
    logLevel: 'error',
    resolve: { alias: { '@tidings/client': CLIENT } },
    build: {
      write: false,
      minify: false,
      lib: { entry: fileURLToPath(new URL('page.js', import.meta.url)), formats: ['es'], fileName: () => 'suite.js' },
    },
  }).then(([{ output }]) => new Map(output.map(({ fileName, code }) => [`/${fileName}`, code])));
  return bundled;
}

/** A site of its own with the page, and its URL. */
async function site(t, origin) {
  const scripts = await bundle();
  const http = createServer(({ url }, answer) => (scripts.has(url)
    ? answer.writeHead(200, { 'content-type': 'text/javascript' }).end(scripts.get(url))
    : answer.writeHead(200, { 'content-type': 'text/html' }).end(PAGE)));
  await new Promise((resolve) => http.listen(0, new URL(origin).hostname, resolve));
  t.after(() => new Promise((resolve) => http.close(resolve).closeAllConnections()));
  return `${origin}:${http.address().port}/`;
}
