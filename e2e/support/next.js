// The Next.js example, built and served as in production.
//
// Owns: its folder with the packages of js/, the build, the processes, and the keys that they and the server share.
// Does not know: browsers.
// Flow: `buildApp` once for a file → `startApp` → a URL → gone when the test ends.

import { randomBytes } from 'node:crypto';
import { cp, mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { freePort } from './nginx.js';
import { binary, end, eventually, lineMatching, root, spawnLogged, startServer } from './server.js';

const APP = join(root, 'examples', 'next-app');
const NEXT = join(root, 'e2e', 'node_modules', 'next', 'dist', 'bin', 'next');
const PACKAGES = ['client', 'next', 'node', 'react'];
const START_MS = 30_000;

/** Builds the app in a folder of its own, which is the caller's to remove. The packages of js/ are in it as an install would
 * leave them. */
export async function buildApp() {
  const parent = join(root, 'e2e', 'tmp');
  await mkdir(parent, { recursive: true });
  const folder = await mkdtemp(join(parent, 'next-app-'));
  await cp(APP, folder, { recursive: true, filter: (path) => !/node_modules|\.next/.test(path.slice(APP.length)) });
  for (const name of PACKAGES) {
    const from = join(root, 'js', 'packages', name);
    const to = join(folder, 'node_modules', '@tidings', name);
    await stat(join(from, 'dist', 'index.js')).catch(() => {
      throw new Error(`@tidings/${name} is not built: npm ci --prefix js && npm run build --prefix js`);
    });
    for (const part of ['dist', 'package.json']) await cp(join(from, part), join(to, part), { recursive: true });
  }
  const build = await spawnLogged('next build', process.execPath, [NEXT, 'build'], { cwd: folder, env: env() });
  const { code } = await build.ended;
  if (code !== 0) throw new Error(`next build ended with ${code}:\n${build.text}`);
  return folder;
}

/** A server that knows the app's keys, the built app, and its worker. */
export async function startApp(t, folder) {
  const port = await freePort();
  const { key, secret, args } = await makeKeys(t);
  const server = await startServer(t, {
    args: [...args, '--public-url', `http://127.0.0.1:${port}/rt`],
    dev: false,
    key,
  });
  const settings = env({ TIDINGS_URL: server.url, TIDINGS_KEY: key, TIDINGS_SECRET: secret });
  // It has children of its own, which have to end with it.
  const options = { cwd: folder, detached: true, env: settings };
  const flags = [NEXT, 'start', '-H', '127.0.0.1', '-p', String(port)];
  const app = await spawnLogged(`next ${t.name}`, process.execPath, flags, options);
  t.after(async () => {
    if (app.exitCode === null) process.kill(-app.pid, 'SIGKILL');
    await app.ended;
  });
  const worker = await spawnLogged(`worker ${t.name}`, process.execPath, ['worker.mjs'], { cwd: folder, env: settings });
  t.after(() => end(worker, 'SIGKILL'));
  await lineMatching(worker, /waiting for jobs/, START_MS);
  const url = `http://127.0.0.1:${port}`;
  await eventually('the app', () => {
    if (app.exitCode !== null) throw new Error(`next start ended:\n${app.text}`);
    return fetch(url).then((answer) => answer.ok, () => false);
  }, START_MS);
  return { url, server, worker };
}

/** As the README of the example has it. */
async function makeKeys(t) {
  const folder = await mkdtemp(join(tmpdir(), 'tidings-keys-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const secret = randomBytes(48).toString('base64');
  await writeFile(join(folder, 'secret'), `${secret}\n`, { mode: 0o600 });
  const flags = ['--file', join(folder, 'keys'), '--publish', '*', '--jobs', '*', '--admin', 'next-app'];
  const made = await spawnLogged(`key ${t.name}`, binary, ['key', 'new', ...flags]);
  await made.ended;
  const key = await lineMatching(made, /(tk_\S+)/, START_MS);
  return { key, secret, args: ['--jwt-key', `HS256=${join(folder, 'secret')}`, '--api-key-file', join(folder, 'keys')] };
}

function env(more = {}) {
  return { ...process.env, NEXT_TELEMETRY_DISABLED: '1', SESSION_SECRET: 'of this test', ...more };
}
