// Real browsers from Debian, and the pages in them.
//
// Owns: launching, pages, and what an EventSource in a page saw. Does not know: the server.
// Flow: a name → a headless browser for the whole file → pages → snapshots of what their streams got.

import { after } from 'node:test';
import puppeteer from 'puppeteer-core';

import { waitFor } from './patience.js';
import { launchWebKit } from './webkit.js';

export const BROWSERS = ['chromium', 'firefox'];

/** One browser of every engine that is in wide use. */
export const ENGINE_BROWSERS = [...BROWSERS, 'webkit'];

const EXECUTABLES = {
  chromium: process.env.CHROMIUM ?? '/usr/bin/chromium',
  firefox: process.env.FIREFOX ?? '/usr/bin/firefox-esr',
};

/** Browsers talk to nobody but the tests. */
const CHROMIUM_FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage', '--disable-background-timer-throttling',
  '--disable-backgrounding-occluded-windows', '--disable-renderer-backgrounding',
];

const FIREFOX_SETTINGS = {
  'app.update.enabled': false,
  'browser.safebrowsing.downloads.remote.enabled': false,
  'browser.safebrowsing.update.enabled': false,
  'dom.min_background_timeout_value': 4,
  // Looking for add-ons is a fifth of a start.
  'extensions.enabledScopes': 0,
  'network.captive-portal-service.enabled': false,
  'network.connectivity-service.enabled': false,
  'services.settings.server': 'data:,',
  'toolkit.telemetry.enabled': false,
};

/** How long anything may take to show in a page; reconnects alone take up to 5 s. */
const SEEN_MS = 30_000;

const launched = new Map();

/** The browser of that name, launched once per file. */
export function browser(name) {
  if (!launched.has(name)) launched.set(name, launch(name));
  return launched.get(name);
}

after(async () => {
  for (const one of launched.values()) await (await one).close();
});

async function launch(name) {
  if (name === 'webkit') return launchWebKit();
  const common = { executablePath: EXECUTABLES[name], headless: true };
  return name === 'firefox'
    ? puppeteer.launch({ ...common, browser: 'firefox', extraPrefsFirefox: FIREFOX_SETTINGS })
    : puppeteer.launch({ ...common, browser: 'chrome', args: CHROMIUM_FLAGS });
}

/**
 * A page at `url`; any answer of the server will do, for its origin is what counts. In WebKit it is a window, which is
 * visible, or a `tab`, which is not.
 */
export async function openPage(t, name, url, kind = 'window') {
  const page = await newPage(await browser(name), kind);
  // A test may have closed it already, or killed it.
  t.after(() => page.close().catch(() => {}));
  await page.goto(url);
  return page;
}

/** Firefox loses a new tab now and then when it has much to do; the next one stays. */
async function newPage(browser, kind, tries = 3) {
  return browser.newPage(browser.kinds ? kind : undefined).catch((error) => {
    if (tries === 1 || !/no such frame/.test(error.message)) throw error;
    return newPage(browser, kind, tries - 1);
  });
}

/** Opens an EventSource in a page, and records all that it fires. */
export async function openStream(page, url, { withCredentials = false, types = [] } = {}) {
  const name = await page.evaluate(
    (url, withCredentials, types) => {
      const source = new EventSource(url, { withCredentials });
      const seen = { events: [], hellos: [], controls: [], opens: 0, breaks: 0 };
      source.addEventListener('open', () => (seen.opens += 1));
      source.addEventListener('error', (event) => {
        if (event.data === undefined) seen.breaks += 1;
        else seen.events.push({ type: 'error', id: event.lastEventId, data: event.data });
      });
      for (const type of ['message', ...types]) {
        source.addEventListener(type, (event) =>
          seen.events.push({ type, id: event.lastEventId, data: event.data, at: Date.now() }));
      }
      source.addEventListener('tidings.hello', (event) =>
        seen.hellos.push({ id: event.lastEventId, ...JSON.parse(event.data) }));
      for (const type of ['tidings.reset', 'tidings.drain', 'tidings.unauthorized']) {
        source.addEventListener(type, (event) =>
          seen.controls.push({ type, id: event.lastEventId, ...JSON.parse(event.data) }));
      }
      window.streams ??= [];
      window.streams.push({ source, seen });
      return window.streams.length - 1;
    },
    url, withCredentials, types,
  );
  return new Stream(page, name);
}

class Stream {
  constructor(page, name) {
    Object.assign(this, { page, name });
  }

  /** What it saw so far: events, hellos, controls, opens, breaks and readyState. */
  async seen() {
    return this.page.evaluate((name) => {
      const { source, seen } = window.streams[name];
      return { ...seen, readyState: source.readyState };
    }, this.name);
  }

  /** What it saw, once `enough` of it is true. */
  async until(what, enough, limitMs = SEEN_MS) {
    let seen;
    const came = await waitFor(async () => enough(seen = await this.seen()), limitMs);
    if (!came) throw new Error(`${what} did not happen in ${limitMs} ms; the page saw ${JSON.stringify(seen)}`);
    return seen;
  }

  async close() {
    await this.page.evaluate((name) => window.streams[name].source.close(), this.name);
  }

  async connected(times = 1) {
    const seen = await this.until(`connection ${times}`, (seen) => seen.hellos.length >= times);
    return seen.hellos.at(-1);
  }

  async received(count) {
    return this.until(`event ${count}`, (seen) => seen.events.length >= count);
  }

  async closed() {
    return this.until('the end of the stream for good', (seen) => seen.readyState === 2);
  }
}

/** `[{n, id}]` of the events that `publishMany` made. */
export function numbers(seen) {
  return seen.events.map(({ id, data }) => ({ n: JSON.parse(data).n, id }));
}

/** The status of every answer to `path` from now on. */
export function statusesOf(page, path) {
  const statuses = [];
  page.on('response', (answer) => {
    const url = new URL(answer.url());
    if (url.pathname + url.search === path) statuses.push(answer.status());
  });
  return statuses;
}
