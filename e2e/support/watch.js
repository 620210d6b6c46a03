// A job's stream as a program reads it that is no browser.
//
// Owns: one response, from its first to its last byte. Does not know: reconnecting.
// Flow: a URL → `{type, id, data}` of every event → the end.

import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';

import { eventually } from './server.js';

/** Watches a job until its stream ends, or the connection is lost. */
export function watch(t, url) {
  const seen = [];
  const ended = new AbortController();
  t.after(() => ended.abort());
  const end = read(url, seen, ended.signal);
  // Whoever waits for it hears of the failure; nobody has to.
  end.catch(() => {});
  return {
    seen,

    /** All events, once the stream has ended. */
    async end() {
      await end;
      return seen;
    },

    /** The first event that `enough` accepts. */
    until: (what, enough) => eventually(what, () => seen.find(enough)),
  };
}

async function read(url, seen, signal) {
  const answer = await fetch(url, { headers: { accept: 'text/event-stream, application/problem+json' }, signal });
  if (answer.status !== 200) throw new Error(`the stream was answered ${answer.status}: ${await answer.text()}`);
  let event = {};
  for await (const line of createInterface({ input: Readable.fromWeb(answer.body) })) {
    const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (line !== '') event[field] = value;
    else {
      if (event.data !== undefined && !event.event.startsWith('tidings.')) {
        seen.push({ type: event.event, id: event.id, data: JSON.parse(event.data) });
      }
      event = {};
    }
  }
}
