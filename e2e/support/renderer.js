// The process that runs a page, for tests that kill or freeze it.
//
// Owns: how it is found, in any browser. Does not know: what becomes of the page.
// Flow: the page computes for a moment → the process of the browser for pages that used most time.

import { readdir, readFile } from 'node:fs/promises';

/** How browsers name a process that runs pages. */
const RENDERER = /--type=renderer|-contentproc.*\btab\b|WebKitWebProcess/;

/** So long at a time, until one process has used so much, in ticks of 10 ms, and so many times more than any other. */
const BUSY_MS = 300;
const TICKS = 15;
const TIMES_MORE = 3;
const TRIES = 20;

/** The process id of a page of the browser that is, or descends from, process `browser`. */
export async function rendererOf(browser, page) {
  const before = await ticks(browser);
  let used = [];
  for (let left = TRIES; left > 0; left -= 1) {
    await page.evaluate((ms) => {
      const end = performance.now() + ms;
      while (performance.now() < end);
    }, BUSY_MS);
    used = [...await ticks(browser)].map(([pid, now]) => ({ pid, used: now - (before.get(pid) ?? 0) }));
    used.sort((a, b) => b.used - a.used);
    const [first, second = { used: 0 }] = used;
    if (first.used >= TICKS && first.used >= TIMES_MORE * second.used) return first.pid;
  }
  throw new Error(`no process was the busiest: ${JSON.stringify(used)}`);
}

/** CPU time of every descendant that runs pages, in ticks of 10 ms. */
async function ticks(browser) {
  const all = new Map();
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const text = await readFile(`/proc/${entry}/stat`, 'utf8').catch(() => null);
    if (text === null) continue;
    // The name is in parentheses, and may have some itself.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    all.set(Number(entry), { parent: Number(fields[1]), ticks: Number(fields[11]) + Number(fields[12]) });
  }
  const found = new Map();
  for (const [pid, { ticks }] of all) {
    if (!descends(all, pid, browser)) continue;
    const command = await readFile(`/proc/${pid}/cmdline`, 'latin1').catch(() => '');
    if (RENDERER.test(command.replaceAll('\0', ' '))) found.set(pid, ticks);
  }
  return found;
}

function descends(all, pid, ancestor) {
  for (let up = pid; up > 1; up = all.get(up)?.parent ?? 0) if (up === ancestor) return true;
  return false;
}
