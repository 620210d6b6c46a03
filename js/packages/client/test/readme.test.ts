// Every example of the README, as a program of its own against the real server; and by its types, with those of the front page.

import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, transform } from 'esbuild';
import { expect, onTestFinished, test } from 'vitest';
import { hasServer, startServer } from './support/server.js';

const examplesOf = (page: string): string[] => [...page.matchAll(/^```ts\n([^]*?)^```$/gm)].map(([, code = '']) => code);
const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));

test.skipIf(!hasServer)('every example of the README runs, and throws nothing', async () => {
  const examples = examplesOf(await readFile(path('../README.md'), 'utf8'));
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

test('every example of the README and of the front page has its types right', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'tidings-readme-types-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  for (const [name, page] of [['package', '../README.md'], ['front', '../../../../README.md']] as const) {
    const examples = examplesOf(await readFile(path(page), 'utf8'));
    expect(examples.length).toBeGreaterThan(0);
    for (const [index, code] of examples.entries()) await writeFile(join(folder, `${name}-${index + 1}.ts`), code);
  }
  // What an application has that is bundled.
  const compilerOptions = {
    composite: false, declaration: false, isolatedDeclarations: false, noEmit: true, module: 'ESNext', moduleResolution: 'bundler',
    lib: ['ES2022', 'DOM', 'DOM.Iterable'], paths: { '@tidings/client': [path('../src/index.ts')] },
  };
  await writeFile(join(folder, 'tsconfig.json'), JSON.stringify({ extends: path('../../../tsconfig.base.json'), compilerOptions }));
  const said = await new Promise<string>((resolve) => {
    execFile(process.execPath, [path('../../../node_modules/typescript/bin/tsc'), '-p', folder], (_error, stdout, stderr) => resolve(stdout + stderr));
  });
  expect(said).toBe('');
}, 60_000);
