// What the client gives to its handlers, whatever happens to its connection: the same cases in every engine.

import { after, describe, test } from 'node:test';

import { CHANNELS } from '../cases/channels.js';
import { CONNECTION } from '../cases/connection.js';
import { CREDENTIALS } from '../cases/credentials.js';
import { HISTORY } from '../cases/history.js';
import { JOBS } from '../cases/jobs.js';
import { ENGINE_BROWSERS } from '../support/browser.js';
import { ENGINES } from '../support/engines.js';
import { beginTrial } from '../support/trial.js';

/**
 * What `beginTrial` takes, what goes wrong, whether the browser's own `EventSource` survives it too (`native`), whether it
 * takes a `page`, and the `only` engine that it is for, if not all.
 */
const CASES = { ...CONNECTION, ...HISTORY, ...CHANNELS, ...JOBS, ...CREDENTIALS };

/** With `fetch`, and with the `EventSource` of browsers, which is told nothing of statuses. */
const PLACES = [
  ...ENGINES.map((engine) => ({ name: engine, engine, options: { transport: 'fetch' } })),
  ...ENGINE_BROWSERS.map((engine) => ({ name: `${engine} ES`, engine, options: { transport: 'eventsource' } })),
];

const matrix = new Map(Object.keys(CASES).map((name) => [name, new Map()]));

// Some at once: most cases wait.
describe('The client', { concurrency: 3 }, () => {
  for (const { name, engine, options } of PLACES) {
    const native = options.transport === 'eventsource';
    describe(`in ${name}`, { concurrency: 6, timeout: 600_000 }, () => {
      for (const [title, one] of Object.entries(CASES)) {
        if ((native && !one.native) || (engine === 'node' && one.page) || (one.only ?? engine) !== engine) continue;
        test(title, async (t) => {
          const began = performance.now();
          matrix.get(title).set(name, 'FAILED');
          const c = await beginTrial(t, engine, { ...one, options: { ...options, ...one.options } });
          await one.run(c);
          await c.check();
          matrix.get(title).set(name, `${Math.round(performance.now() - began)} ms`);
        });
      }
    });
  }
});

after(() => {
  const width = Math.max(...Object.keys(CASES).map(({ length }) => length));
  const line = (first, cells) => console.log([first.padEnd(width), ...cells.map((cell) => cell.padStart(11))].join(' '));
  line('', PLACES.map(({ name }) => name));
  for (const [title, row] of matrix) line(title, PLACES.map(({ name }) => row.get(name) ?? '-'));
});
