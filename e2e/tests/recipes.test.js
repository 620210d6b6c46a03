// The recipes of README.md, run as they stand there but for the addresses.

import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import { BROWSERS, numbers, openPage, openStream } from '../support/browser.js';
import { freePort } from '../support/nginx.js';
import { eventually, root, spawnLogged, startServer } from '../support/server.js';

const README = await readFile(join(root, 'README.md'), 'utf8');
const MODULES = join(root, 'e2e', 'node_modules');

/** How each language runs a file. */
const LANGUAGES = {
  curl: ['recipe.sh', 'bash', '-eu'],
  node: ['recipe.mjs', process.execPath],
  python: ['recipe.py', 'python3'],
  ruby: ['recipe.rb', 'ruby'],
};

/** How each dev server is started on a port, and what it needs beside its configuration. */
const DEV_SERVERS = {
  vite: {
    files: { 'package.json': '{"type":"module"}', 'index.html': '<!doctype html>' },
    config: 'vite.config.js',
    command: (port) => [join(MODULES, 'vite', 'bin', 'vite.js'), '--host', '127.0.0.1', '--strictPort', '--port', port],
  },
  next: {
    files: {
      'package.json': '{"type":"module"}',
      'pages/index.jsx': 'export default function Page() { return null }\n',
    },
    config: 'next.config.mjs',
    command: (port) => [join(MODULES, 'next', 'dist', 'bin', 'next'), 'dev', '-H', '127.0.0.1', '-p', port],
  },
};

describe('A publish as in the README', { concurrency: true, timeout: 60_000 }, () => {
  for (const [name, [file, program, ...flags]] of Object.entries(LANGUAGES)) {
    test(`from ${name}, also twice`, async (t) => {
      const server = await startServer(t);
      const folder = await folderOf(t, name);
      await writeFile(join(folder, file), recipe(name, server.url));
      for (const _ of ['once', 'again']) {
        const child = await spawnLogged(t.name, program, [...flags, file], { cwd: folder });
        assert.deepEqual(await child.ended, { code: 0, signal: null }, child.text);
      }
      const { json } = await server.request('GET', '/v1/history?channel=orders');
      const events = json.events.map(({ event, data }) => ({ event, data }));
      assert.deepEqual(events, [{ event: 'status-update', data: { jobId: '7', status: 'done' } }]);
    });
  }
});

describe('A worker as in the README', { timeout: 60_000 }, () => {
  test('takes a job, reports and ends it with nothing but curl', async (t) => {
    const server = await startServer(t);
    const folder = await folderOf(t, 'worker');
    await writeFile(join(folder, 'worker.sh'), recipe('worker', server.url));
    const child = await spawnLogged(t.name, 'bash', ['-eu', 'worker.sh'], { cwd: folder });
    assert.deepEqual(await child.ended, { code: 0, signal: null }, child.text);
    const { json } = await server.request('GET', '/v1/jobs/export-7');
    assert.deepEqual([json.state, json.result, json.progress], ['completed', { rows: 3 }, 100]);
    const file = await fetch(server.url + json.downloadUrl);
    assert.equal(await file.text(), 'a,b');
    const logs = await server.request('GET', '/v1/jobs/export-7/logs');
    assert.equal(logs.json.logs[0].message, '3 rows');
  });
});

describe('nginx as in the README', () => {
  for (const name of ['nginx', 'nginx-error-page']) {
    test(`${name} is what the file has, which other tests run`, async () => {
      const file = await readFile(join(root, 'deploy', 'proxies', `${name}.conf`), 'utf8');
      const lines = (text) => text.split('\n').map((line) => line.trim()).filter(Boolean).join('\n');
      assert.ok(lines(file).includes(lines(block(name))), `${name}.conf has another block than README.md`);
    });
  }
});

describe('A dev server as in the README', { concurrency: 2, timeout: 150_000 }, () => {
  for (const [name, kind] of Object.entries(DEV_SERVERS)) {
    for (const browser of BROWSERS) {
      test(`${name} streams, resumes and lets go, in ${browser}`, async (t) => {
        const server = await startServer(t, { args: ['--keepalive-s', '1'] });
        const url = await startDevServer(t, name, kind, server.url);
        const page = await openPage(t, browser, url);
        const stream = await openStream(page, '/events?channel=orders');
        const { connection } = await stream.connected();
        const published = [];
        for (let n = 0; n < 5; n += 1) {
          published.push(...(await server.publishMany('orders', n, 1)));
          await stream.received(n + 1);
        }
        await server.cut(connection);
        published.push({ n: 5, id: await publishFrom(page, { channel: 'orders', data: { n: 5 } }) });
        await stream.connected(2);
        published.push(...(await server.publishMany('orders', 6, 1)));
        assert.deepEqual(numbers(await stream.received(7)), published);
        await stream.close();
        await eventually('the end of the connection', async () => {
          const { json } = await server.request('GET', '/v1/connections');
          return json.connections.length === 0;
        });
      });
    }
  }
});

/** The code block under a marker. */
function block(name) {
  const found = new RegExp(`<!-- recipe: ${name} -->\\n+\`\`\`\\w+\\n([^]*?)\\n\`\`\``).exec(README);
  assert.ok(found, `README.md has no recipe ${name}`);
  return `${found[1]}\n`;
}

function recipe(name, url) {
  const text = block(name);
  assert.ok(text.includes('http://127.0.0.1:4080'), `the recipe ${name} names no server`);
  return text.replaceAll('http://127.0.0.1:4080', url);
}

/** A folder from which the installed packages are found. */
async function folderOf(t, name) {
  const parent = join(root, 'e2e', 'tmp');
  await mkdir(parent, { recursive: true });
  const folder = await mkdtemp(join(parent, `${name}-`));
  t.after(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }));
  return folder;
}

async function startDevServer(t, name, { files, config, command }, upstream) {
  const folder = await folderOf(t, name);
  for (const [path, text] of Object.entries({ ...files, [config]: recipe(name, upstream) })) {
    await mkdir(join(folder, path, '..'), { recursive: true });
    await writeFile(join(folder, path), text);
  }
  const port = String(await freePort());
  const child = await spawnLogged(`${name} ${t.name}`, process.execPath, command(port), {
    cwd: folder,
    // It has children of its own, which have to end with it.
    detached: true,
    env: { ...process.env, NEXT_TELEMETRY_DISABLED: '1' },
  });
  t.after(async () => {
    if (child.exitCode === null) process.kill(-child.pid, 'SIGKILL');
    await child.ended;
  });
  const url = `http://127.0.0.1:${port}`;
  await eventually(name, () => {
    if (child.exitCode !== null) throw new Error(`${name} ended:\n${child.text}`);
    return fetch(url).then((answer) => answer.ok, () => false);
  }, 60_000);
  return `${url}/`;
}

function publishFrom(page, event) {
  return page.evaluate(async (event) => {
    const headers = { 'content-type': 'application/json' };
    const answer = await fetch('/v1/publish', { method: 'POST', headers, body: JSON.stringify(event) });
    return (await answer.json()).id;
  }, event);
}
