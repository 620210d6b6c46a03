// The programs of examples/, as they are there.
//
// Owns: starting them against a server, and what the reports that they make hold. Does not know: browsers.
// Flow: a name → a process → its first line → gone when the test ends.

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { freePort } from './nginx.js';
import { end, lineMatching, root, spawnLogged } from './server.js';

/** Rows of a report: each hundred take a worker 50 ms. */
export const QUICK = 1_000;
/** Long enough to do something to a worker in between. */
export const SLOW = 6_000;

const EXAMPLES = join(root, 'examples');
const REDIS = process.env.REDIS_SERVER ?? 'redis-server';
const START_MS = 20_000;

/** How each worker is run, and what it prints when it is there. */
const WORKERS = {
  python: { command: ['python3', join(EXAMPLES, 'worker-python', 'worker.py')], ready: /takes/ },
  node: { command: [process.execPath, join(EXAMPLES, 'worker-node', 'worker.mjs')], ready: /takes/ },
  bullmq: { command: [process.execPath, join(EXAMPLES, 'bullmq', 'worker.mjs')], ready: /waiting for reports/ },
};

/** Starts a worker; it is gone when test `t` ends. */
export async function startWorker(t, name, server, env = {}) {
  const { command: [program, ...args], ready } = WORKERS[name];
  const worker = await spawnLogged(`${name} ${t.name}`, program, args, {
    env: { ...process.env, TIDINGS_URL: server.url, ...env },
  });
  t.after(() => end(worker, 'SIGKILL'));
  await lineMatching(worker, ready, START_MS);
  return worker;
}

/** Starts the export service; it can be killed and started again on the same data. */
export async function startExports(t) {
  const folder = await mkdtemp(join(tmpdir(), 'tidings-exports-'));
  const service = { url: null, process: null };
  let listen = '127.0.0.1:0';
  service.start = async () => {
    service.process = await spawnLogged(`exports ${t.name}`, join(root, 'target', 'debug', 'axum-export'), [], {
      env: { ...process.env, LISTEN: listen, DATA: folder, NO_COLOR: '1' },
    });
    service.url = await lineMatching(service.process, /\burl=(http:\/\/\S+)\//, START_MS);
    listen = new URL(service.url).host;
  };
  t.after(async () => {
    await end(service.process, 'SIGKILL');
    await rm(folder, { recursive: true, force: true });
  });
  await service.start();
  return service;
}

/** Starts Redis in a folder of its own, and returns its URL. */
export async function startRedis(t) {
  const folder = await mkdtemp(join(tmpdir(), 'tidings-redis-'));
  const port = await freePort();
  const flags = ['--port', port, '--bind', '127.0.0.1', '--dir', folder, '--save', '', '--appendonly', 'no'];
  const redis = await spawnLogged(`redis ${t.name}`, REDIS, flags.map(String));
  t.after(async () => {
    await end(redis, 'SIGKILL');
    await rm(folder, { recursive: true, force: true });
  });
  await lineMatching(redis, /Ready to accept connections/, START_MS);
  return `redis://127.0.0.1:${port}`;
}

/** Adds a job to the BullMQ queue as the example does, and returns its stream's URL. */
export async function addToQueue(t, rows, server, redis) {
  const env = { ...process.env, TIDINGS_URL: server.url, REDIS_URL: redis };
  const add = await spawnLogged(`add ${t.name}`, process.execPath, [join(EXAMPLES, 'bullmq', 'add.mjs'), String(rows)], { env });
  const { code } = await add.ended;
  if (code !== 0) throw new Error(`add.mjs ended with ${code}:\n${add.text}`);
  return add.text.trim();
}

/** What a report of so many rows holds. */
export function report(rows) {
  let text = 'number,customer,cents\n';
  for (let n = 1; n <= rows; n += 1) text += `${n},customer ${n % 97},${(n * 37) % 10_000}\n`;
  return text;
}

/** That a job's file has the right bytes, and comes as a file. */
export async function opens({ url }, { downloadUrl }, expected) {
  const answer = await fetch(new URL(downloadUrl, url));
  assert.equal(answer.status, 200, downloadUrl);
  assert.match(answer.headers.get('content-disposition'), /attachment/);
  assert.ok((await answer.text()) === expected, 'the file has other bytes');
}

/** A folder that is not there yet. */
export async function missingFolder(t) {
  const parent = await mkdtemp(join(tmpdir(), 'tidings-reports-'));
  t.after(() => rm(parent, { recursive: true, force: true }));
  return join(parent, 'reports');
}

/** Whether an event says that a run is under way. */
export const isHalfway = ({ data }) => data.state === 'running' && data.progress > 10;

export const lastOf = (events) => events.at(-1).data;
