// What goes wrong while a job is watched, on the stream that everything shares and on one of its own.

import assert from 'node:assert/strict';

import { eventually } from '../support/server.js';

const DOCUMENT = /^GET \/v1\/jobs\/[^/]+$/;
const CANCEL = /^POST \/v1\/jobs\/[^/]+\/cancel$/;

const COMPLETED = { state: 'completed', result: { rows: 3 } };

export const JOBS = {
  ...faults({
    'whose streams end': { fault: (c) => c.proxy.cut('end') },
    'whose streams are reset': { native: true, fault: (c) => c.proxy.cut('rst') },
    'whose streams come back to 502': { fault: (c) => back(c, { status: 502 }) },
    'whose streams come back to 429, with Retry-After': { fault: (c) => back(c, { status: 429, headers: { 'retry-after': 1 } }) },
    'whose streams come back to a page': {
      // Of each stream.
      errors: ['http', 'http'],
      fault: (c) => back(c, { status: 200, headers: { 'content-type': 'text/html' }, body: '<p>Please log in' }),
    },
    'whose server is killed and started again': { native: true, fault: (c) => c.again() },
    'whose server drains and is started again': { fault: (c) => c.again({ drain: true }) },
    'whose streams stop coming': { args: ['--keepalive-s', '1'], fault: (c) => c.proxy.stall() },
  }),
  ...documents({
    'is answered 502 and 503': [{ status: 502 }, { status: 503 }],
    'is reset in the middle': [{ cut: 50, how: 'rst' }],
    'is refused': [{ refuse: true }],
  }),
  ...documents({ 'is never answered': [{ silent: true }] }, { options: { stallTimeout: 2_000 }, args: ['--keepalive-s', '1'] }),
  'a job that completes while there is no connection': {
    native: true,
    run: async (c) => {
      const job = await watched(c);
      await c.proxy.down();
      await job.progress(80);
      await job.complete(COMPLETED.result);
      await c.proxy.up();
      await job.ended(COMPLETED);
    },
  },
  'a job that fails while the server comes again': {
    run: async (c) => {
      const job = await watched(c);
      c.proxy.next({ refuse: true }, { refuse: true });
      await c.again();
      await job.fail({ message: 'the file has no header', code: 'no_header' });
      await job.ended({ code: 'job_failed', state: 'failed' });
    },
  },
  'a job that is cut in the middle of its end': {
    native: true,
    run: async (c) => {
      const job = await watched(c);
      // So that both come back into the bytes of the last events.
      await c.proxy.down();
      await job.complete(COMPLETED.result);
      c.proxy.next({ cut: 400, how: 'rst' }, { cut: 400, how: 'fin' });
      await c.proxy.up();
      await job.ended(COMPLETED);
    },
  },
  'a job is cancelled while its streams are away': {
    native: true,
    run: async (c) => {
      const job = await watched(c);
      c.proxy.next({ refuse: true }, { refuse: true });
      c.proxy.cut('rst');
      assert.equal(await job.cancel(), null);
      await job.stop();
      await job.ended({ code: 'job_cancelled', state: 'cancelled' });
    },
  },
  'a job is cancelled, and the answer is lost': {
    run: async (c) => {
      const job = await watched(c);
      c.proxy.nextTo(CANCEL, { cutHead: 0, how: 'rst' });
      // Firefox sends it again by itself, if the connection had been in use.
      assert.ok(['network', null].includes(await job.cancel()));
      await job.stop();
      await job.ended({ code: 'job_cancelled', state: 'cancelled' });
    },
  },
  'a job is cancelled, but not before a 503': {
    run: async (c) => {
      const job = await watched(c);
      c.proxy.nextTo(CANCEL, { status: 503 });
      assert.equal(await job.cancel(), 'http');
      await job.progress(60);
      assert.equal(await job.cancel(), null);
      await job.stop();
      await job.ended({ code: 'job_cancelled', state: 'cancelled' });
    },
  },
};

function faults(all) {
  return Object.fromEntries(Object.entries(all).map(([what, { fault, ...more }]) => [`a job ${what}`, {
    ...more,
    run: async (c) => {
      const job = await watched(c);
      await fault(c);
      await job.progress(60);
      await job.shows(60);
      await job.complete(COMPLETED.result);
      await job.ended(COMPLETED);
    },
  }]));
}

/** What is asked for beside the stream that everything shares: the document as it is now. */
function documents(all, more) {
  return Object.fromEntries(Object.entries(all).map(([what, fates]) => [`a job whose document ${what}`, {
    ...more,
    run: async (c) => {
      c.proxy.nextTo(DOCUMENT, ...fates);
      const job = await watched(c);
      await job.complete(COMPLETED.result);
      await job.ended(COMPLETED);
    },
  }]));
}

/** Each stream is refused once, and perhaps one of them twice. */
async function back(c, fate) {
  const before = c.proxy.asked.length;
  c.proxy.next(fate, fate);
  c.proxy.cut('rst');
  await eventually('two refusals', () => c.proxy.asked.length >= before + 2);
}

/** A job that is in its middle, and watched. */
async function watched(c) {
  const job = await c.job('import:7');
  await job.progress(20);
  await job.watch();
  await job.shows(20);
  await job.progress(40);
  await job.shows(40);
  return job;
}
