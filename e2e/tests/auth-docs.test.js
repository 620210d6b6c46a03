// docs/auth.md: its commands are run one after the other, and its code is that of examples/auth-node.

import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { freePort, startApplication } from '../support/auth.js';
import { binary, end, eventually, lineMatching, root, spawnLogged } from '../support/server.js';

const PAGE = await readFile(join(root, 'docs', 'auth.md'), 'utf8');
const APPLICATION = await readFile(join(root, 'examples', 'auth-node', 'app.mjs'), 'utf8');

/** What `curl --max-time` ends a stream with. */
const TIMED_OUT = 28;

function blocks(language) {
  return [...PAGE.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\``, 'gms'))].map(([, text]) => text);
}

test('the commands of docs/auth.md work as they stand there, but for the addresses', { timeout: 120_000 }, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'tidings-docs-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  await mkdir(join(folder, 'bin'));
  await symlink(binary, join(folder, 'bin', 'tidings'));
  const [port, appPort] = [await freePort(), await freePort()];
  const env = { PATH: `${join(folder, 'bin')}:${process.env.PATH}`, TIDINGS_URL: `http://127.0.0.1:${port}` };
  await startApplication(t, { key: 'none', tidingsUrl: env.TIDINGS_URL, port: appPort });
  let server = null;
  const answers = [];
  for (const block of blocks('sh')) {
    const text = block.replaceAll('127.0.0.1:4080', `127.0.0.1:${port}`).replaceAll('127.0.0.1:3000', `127.0.0.1:${appPort}`);
    const lines = text.split('\n');
    const serve = lines.findIndex((line) => line.startsWith('tidings serve '));
    const before = serve < 0 ? text : lines.slice(0, serve).join('\n');
    const child = await spawnLogged(`block ${t.name}`, 'bash', ['-eu', '-c', before], { cwd: folder, env });
    const { code } = await child.ended;
    const expected = before.includes('--max-time') ? TIMED_OUT : 0;
    assert.equal(code, expected, `${before}\n${child.text}`);
    answers.push(child.text);
    if (serve < 0) continue;
    if (server) await end(server, 'SIGTERM');
    const command = lines[serve].includes('--listen') ? lines[serve].replace(/:4080/, `:${port}`) : `${lines[serve]} --listen 127.0.0.1:${port}`;
    server = await spawnLogged(`serve ${t.name}`, 'bash', ['-c', `exec ${command} --segment-mib 1 --disk-reserve-mib 16 --drain-s 1`], { cwd: folder, env });
    const running = server;
    t.after(() => end(running, 'SIGKILL'));
    await lineMatching(server, /serving/, 20_000);
  }
  assert.match(answers.at(-1), /event: tidings\.hello/);
  assert.ok(answers.some((text) => /check {3}good/.test(text)), answers.join('\n'));
  // One of the servers asked the application; the last one reads keys again.
  server.kill('SIGHUP');
  await eventually('the keys to be read', async () => /read the API keys again/.test(server.text));
});

test('the code of docs/auth.md is that of the application which the tests log in to', () => {
  const code = blocks('js');
  assert.equal(code.length, 4);
  for (const block of code) {
    const isPage = block.startsWith('new EventSource');
    assert.ok(isPage || APPLICATION.includes(block), `this is not in app.mjs:\n${block}`);
  }
});
