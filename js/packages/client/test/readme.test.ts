// Every example of the README, as a program of its own against the real server.

import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, transform } from 'esbuild';
import { expect, test } from 'vitest';
import { hasServer, startServer } from './support/server.js';

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));

test.skipIf(!hasServer)('every example of the README runs, and throws nothing', async () => {
  const readme = await readFile(path('../README.md'), 'utf8');
  const examples = [...readme.matchAll(/^```ts\n([^]*?)^```$/gm)].map(([, code = '']) => code);
  expect(examples.length).toBeGreaterThan(6);
  const server = await startServer();
  const folder = await mkdtemp(join(tmpdir(), 'tidings-readme-'));
  try {
    await build({ entryPoints: [path('../src/index.ts')], bundle: true, format: 'esm', outfile: join(folder, 'package.mjs') });
    await server.request('POST', '/v1/jobs', { type: 'report', id: '01JEXAMPLE', mode: 'external' });
    await server.publish({ channel: 'news', event: 'headline', data: 'extra' });
    const ran = examples.map(async (code, index) => {
      const { code: js } = await transform(code, { loader: 'ts', format: 'esm' });
      const file = join(folder, `${index}.mjs`);
      await writeFile(file, js.replaceAll('http://127.0.0.1:4080', server.url).replaceAll(/from ["']@tidings\/client["']/g, "from './package.mjs'"));
      // Those that watch run until they are stopped.
      return new Promise<string>((resolve) => {
        execFile(process.execPath, [file], { timeout: 6_000 }, (_error, _stdout, stderr) => resolve(stderr));
      });
    });
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    await server.publish({ channel: 'user:42', event: 'notification', data: { text: 'hello' } });
    await server.publish({ channel: 'orders', event: 'status-update', data: { id: 1, status: 'done' } });
    await server.request('POST', '/v1/jobs/01JEXAMPLE/complete', { result: { rows: 3 } });
    expect(await Promise.all(ran)).toEqual(examples.map(() => ''));
  } finally {
    await server.gone();
    await rm(folder, { recursive: true, force: true });
  }
}, 30_000);
