// deploy/: the settings of the image and the compose file, and the units of systemd, as far as they can be tried without a
// container engine.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmod, chown, cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { credentials, freePort } from '../support/auth.js';
import { binary, end, eventually, lineMatching, root, spawnLogged } from '../support/server.js';

const DEPLOY = join(root, 'deploy');
const DOCKERFILE = await readFile(join(DEPLOY, 'Dockerfile'), 'utf8');
const COMPOSE = await readFile(join(DEPLOY, 'compose.yaml'), 'utf8');

/** The last value of an instruction of the image. */
function instruction(name) {
  return [...DOCKERFILE.matchAll(new RegExp(`^${name} (.*)$`, 'gm'))].at(-1)[1];
}

function has(program) {
  try {
    execFileSync('which', [program], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** The process that a sandbox runs in the end. */
async function innermost(pid) {
  const children = (await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')).trim();
  return children ? innermost(children.split(' ')[0]) : pid;
}

const isRoot = process.getuid() === 0;

test("the compose file's command runs with the image's user, without rights and on a root that cannot be written", {
  timeout: 60_000, skip: has('bwrap') && isRoot ? false : 'needs bwrap and root, to become the user of the image',
}, async (t) => {
  const user = Number(instruction('USER').split(':')[0]);
  assert.ok(user > 0, 'not root');
  const made = await credentials(t);
  await chown(made.keyFile, user, user);
  const data = await mkdtemp(join(tmpdir(), 'tidings-deploy-'));
  t.after(() => rm(data, { recursive: true, force: true }));
  await chown(data, user, user);
  // The binary where the user of the image can reach it.
  const program = join(data, '..', `tidings-${process.pid}`);
  await cp(binary, program);
  await chmod(program, 0o755);
  t.after(() => rm(program, { force: true }));
  const env = Object.fromEntries(instruction('ENV').split(' ').map((pair) => pair.split('=')));
  const port = await freePort();
  env.TIDINGS_LISTEN = env.TIDINGS_LISTEN.replace('4080', port);
  const command = JSON.parse(/^ +command: (\[.*\])$/m.exec(COMPOSE)[1]);
  assert.match(COMPOSE, /read_only: true[^]*cap_drop: \[ALL\][^]*no-new-privileges:true/);
  const box = [
    '--ro-bind', '/', '/', '--dev', '/dev', '--proc', '/proc', '--tmpfs', '/var/lib', '--bind', data, '/var/lib/tidings',
    '--perms', '0755', '--tmpfs', '/run', '--perms', '0755', '--dir', '/run/secrets', '--ro-bind', made.keyFile, '/run/secrets/tidings_keys', '--remount-ro', '/var/lib',
    '--cap-drop', 'ALL', '--cap-add', 'CAP_SETUID', '--cap-add', 'CAP_SETGID', '--cap-add', 'CAP_SETPCAP',
  ];
  const less = ['setpriv', '--reuid', user, '--regid', user, '--clear-groups', '--no-new-privs', '--bounding-set', '-all', '--inh-caps', '-all'];
  const inside = (args) => [...box, ...less, program, ...args].map(String);
  const run = { env: { PATH: process.env.PATH, ...env } };
  const server = await spawnLogged(t.name, 'bwrap', inside([...command, '--disk-reserve-mib', '16']), run);
  // What runs in the sandbox outlives it.
  t.after(async () => {
    process.kill(await innermost(server.pid), 'SIGKILL');
    await end(server, 'SIGKILL');
  });
  await lineMatching(server, /serving/, 20_000);
  const [, ...check] = JSON.parse(/CMD (\[.*\])$/.exec(instruction('HEALTHCHECK'))[1]);
  await eventually('health', async () => (await (await spawnLogged(`health ${t.name}`, 'bwrap', inside(check), run)).ended).code === 0);
  const publish = await fetch(`http://127.0.0.1:${port}/v1/publish`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${made.key}` },
    body: '{"channel":"demo:1","data":1}',
  });
  assert.equal(publish.status, 201);
  assert.equal((await fetch(`http://127.0.0.1:${port}/v1/history?channel=demo:1`)).status, 200);
  assert.equal((await fetch(`http://127.0.0.1:${port}/v1/history?channel=orders`)).status, 401);
  const status = await readFile(`/proc/${await innermost(server.pid)}/status`, 'utf8');
  assert.match(status, /^CapEff:\t0+$/m);
  assert.match(status, /^NoNewPrivs:\t1$/m);
  assert.match(status, new RegExp(`^Uid:\t${user}\t${user}`, 'm'));
});

test('the image gets every member of the workspace, without which cargo builds none', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'tidings-image-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const sent = (await readFile(join(DEPLOY, 'Dockerfile.dockerignore'), 'utf8')).matchAll(/^!(.+)$/gm);
  const kept = (path) => !/\/(target|node_modules)(\/|$)/.test(path.slice(root.length));
  for (const [, path] of sent) await cp(join(root, path), join(folder, path), { recursive: true, filter: kept });
  execFileSync('cargo', ['metadata', '--locked', '--no-deps', '--format-version', '1'], { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });
});

test('the units of systemd are sound and leave the server few rights', {
  timeout: 60_000, skip: has('systemd-analyze') ? false : 'there is no systemd-analyze',
}, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'tidings-units-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  await mkdir(folder, { recursive: true });
  for (const name of ['tidings.service', 'tidings.socket']) {
    const unit = await readFile(join(DEPLOY, 'systemd', name), 'utf8');
    await writeFile(join(folder, name), unit.replace('/usr/local/bin/tidings', '/bin/true'));
  }
  const units = ['tidings.service', 'tidings.socket'].map((name) => join(folder, name));
  const said = execFileSync('systemd-analyze', ['verify', ...units], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  assert.equal(said, '');
  // 10 is everything that a service can do, below 2 is what systemd calls OK.
  const judged = execFileSync('systemd-analyze', ['security', '--offline=true', '--threshold=20', units[0]], { encoding: 'utf8' });
  assert.match(judged, /Overall exposure level/);
});
