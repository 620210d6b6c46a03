// Credentials: a folder with an API key and a secret, and the application of examples/auth-node.
//
// Owns: making them with the binary's own commands. Does not know: browsers.
// Flow: a test → files → flags of a server and the environment of the application.

import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { freePort } from './nginx.js';
import { binary, end, lineMatching, root, spawnLogged } from './server.js';

/** Runs the binary to its end; what it printed. */
export async function tidings(t, args, { cwd, env = {} } = {}) {
  const child = await spawnLogged(`${args[0]} ${t.name}`, binary, args, { cwd, env: { PATH: process.env.PATH, ...env } });
  const { code } = await child.ended;
  return { code, text: child.text };
}

/** A folder with `tidings.keys` and `jwt.secret`, and what is in them. */
export async function credentials(t) {
  const folder = await mkdtemp(join(tmpdir(), 'tidings-auth-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const made = await tidings(t, ['key', 'new', 'app', '--publish', '*', '--subscribe', '*', '--admin'], { cwd: folder });
  const key = /^tk_\S+/m.exec(made.text)?.[0];
  if (!key) throw new Error(made.text);
  await tidings(t, ['token', 'secret', 'jwt.secret'], { cwd: folder });
  const secret = (await readFile(join(folder, 'jwt.secret'), 'utf8')).trim();
  return { folder, key, secret, keyFile: join(folder, 'tidings.keys'), secretFile: join(folder, 'jwt.secret') };
}

/** Starts the application. The server's address is known only later: see `port`. */
export async function startApplication(t, { key, secret, tidingsUrl, port }) {
  const app = await spawnLogged(`application ${t.name}`, process.execPath, [join(root, 'examples', 'auth-node', 'app.mjs')], {
    env: { PATH: process.env.PATH, PORT: String(port), TIDINGS_URL: tidingsUrl, TIDINGS_TOKEN: key, ...(secret && { JWT_SECRET: secret }) },
  });
  t.after(() => end(app, 'SIGKILL'));
  return lineMatching(app, /open (http:\/\/[^/]+)/, 20_000);
}

export { freePort };
