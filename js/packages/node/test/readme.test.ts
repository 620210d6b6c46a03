// Every example of the README, as a program of its own against the real server.

import { execFile, type ExecFileException } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, transform } from 'esbuild';
import { expect, onTestFinished, test } from 'vitest';
import { createTidings } from '@tidings/node';
import { startServer } from './support/server.js';

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));
const readme = await readFile(path('../README.md'), 'utf8');
const examples = [...readme.matchAll(/^```ts\n([^]*?)^```$/gm)].map(([, code = '']) => code);
const SHARED = "import { createTidings } from '@tidings/node';\nconst tidings = createTidings({ url: 'http://127.0.0.1:4080' });\n";

test('the README has examples', () => expect(examples.length).toBeGreaterThan(7));

test.each(examples.map((code, index) => [index + 1, code] as const))('example %i runs', async (_, code) => {
  const server = await startServer();
  const folder = await mkdtemp(join(tmpdir(), 'tidings-readme-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const bundle = join(folder, 'package.mjs');
  await build({ entryPoints: [path('../src/index.ts')], bundle: true, format: 'esm', platform: 'neutral', external: ['node:fs'], outfile: bundle });
  const whole = code.includes('createTidings(') || code.includes('createTidings<') ? code : SHARED + code;
  const { code: js } = await transform(whole, { loader: 'ts', format: 'esm' });
  const file = join(folder, 'example.mjs');
  const source = js.replaceAll('http://127.0.0.1:4080', server.url).replaceAll(/from ["']@tidings\/node["']/g, "from './package.mjs'");
  await writeFile(file, source);
  let stderr = '';
  const ended = new Promise<ExecFileException | null>((resolve) => {
    const child = execFile(process.execPath, [file], { timeout: 15_000 }, (error, _stdout, text) => {
      stderr = text;
      resolve(error);
    });
    // A worker runs until it is told to stop; by then it has done a job.
    if (code.includes('SIGTERM')) void tried().finally(() => child.kill('SIGTERM'));
  });
  async function tried(): Promise<void> {
    const { jobs } = createTidings({ url: server.url });
    const { id } = await jobs.create('generate-report', { rows: 1_000 });
    expect(await jobs.wait(id)).toMatchObject({ state: 'completed', result: { rows: 1_000 }, artifacts: [{ name: 'report.csv' }] });
    const wrong = await jobs.create('generate-report', { rows: 0 });
    expect(await jobs.wait(wrong.id)).toMatchObject({ state: 'failed', attempt: 1, error: { code: 'rows_invalid' } });
  }
  const error = await ended;
  expect(stderr).toBe('');
  expect(error).toBeNull();
});
