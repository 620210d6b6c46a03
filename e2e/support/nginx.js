// nginx from Debian, with the files of deploy/proxies as they are but for the addresses.
//
// Owns: the smallest configuration around such a file. Does not know: what is behind it.
// Flow: a file and an upstream → nginx on a free port → its URL → gone when the test ends.

import { randomInt } from 'node:crypto';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { end, eventually, root, spawnLogged } from './server.js';

const PROGRAM = process.env.NGINX ?? '/usr/sbin/nginx';

export async function startNginx(t, file, upstream) {
  const folder = await mkdtemp(join(tmpdir(), 'tidings-nginx-'));
  // The workers are not root and have to get through.
  await chmod(folder, 0o755);
  const address = `127.0.0.1:${await freePort()}`;
  const recipe = await readFile(join(root, 'deploy', 'proxies', file), 'utf8');
  await writeFile(join(folder, 'tidings.conf'), addressed(recipe, address, upstream));
  await writeFile(join(folder, 'nginx.conf'), [
    'daemon off;', 'worker_processes 1;', `pid ${folder}/pid;`, 'events {}', 'http {', 'access_log off;',
    ...['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${folder}/${kind};`),
    `include ${folder}/tidings.conf;`, '}',
  ].join('\n'));
  const nginx = await spawnLogged(`nginx ${t.name}`, PROGRAM, ['-p', folder, '-c', 'nginx.conf', '-e', 'stderr']);
  t.after(async () => {
    await end(nginx, 'SIGTERM');
    await rm(folder, { recursive: true, force: true });
  });
  const url = `http://${address}`;
  await eventually('nginx', () => {
    if (nginx.exitCode !== null) throw new Error(`nginx ended:\n${nginx.text}`);
    return fetch(`${url}/healthz`).then((answer) => answer.ok, () => false);
  });
  return url;
}

/** The recipe with our addresses; that it has others to replace is part of the test. */
function addressed(recipe, address, upstream) {
  for (const part of ['listen 80;', 'http://127.0.0.1:4080;']) {
    if (!recipe.includes(part)) throw new Error(`the recipe has no ${part}`);
  }
  return recipe.replaceAll('listen 80;', `listen ${address};`).replaceAll('http://127.0.0.1:4080;', `${upstream};`);
}

/** Below those that the kernel gives to whoever asks for any, of which there are many at once, and above those that browsers refuse. */
const PORTS = { from: 10_100, to: 32_000 };

/** A port that was free a moment ago: nginx cannot say which one it took. */
export async function freePort() {
  for (;;) {
    const port = randomInt(PORTS.from, PORTS.to);
    const listener = createServer();
    const isFree = await new Promise((resolve) => {
      listener.on('error', () => resolve(false));
      listener.listen(port, () => listener.close(() => resolve(true)));
    });
    if (isFree) return port;
  }
}
