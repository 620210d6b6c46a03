// The package on the runtimes that can be had: `npm ci --prefix js/runtimes` brings Bun and Deno.

import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import { expect, onTestFinished, test } from 'vitest';
import { startServer } from './support/server.js';

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));
const check = path('support/check.mjs');
const bin = (name: string) => path(`../../../runtimes/node_modules/.bin/${name}`);

const runtimes: Record<string, [string, ...string[]]> = {
  node: [process.execPath],
  bun: [bin('bun')],
  deno: [bin('deno'), 'run', '-A', '--no-config', '--node-modules-dir=none'],
};

test.for(Object.entries(runtimes))('on %s everything works', { timeout: 60_000 }, async ([name, [program, ...args]], { skip }) => {
  if (!existsSync(program)) skip(`${name} is not installed: npm ci --prefix js/runtimes`);
  const server = await startServer();
  const folder = await mkdtemp(join(tmpdir(), 'tidings-runtime-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const file = join(folder, 'package.mjs');
  await build({ entryPoints: [path('../src/index.ts')], bundle: true, format: 'esm', platform: 'neutral', external: ['node:fs'], outfile: file });
  const { stdout } = await promisify(execFile)(program, [...args, check, file, server.url], { timeout: 60_000 });
  expect(JSON.parse(stdout)).toEqual({
    published: 'string',
    batch: ['ok', 'channel_reserved'],
    refused: { code: 'channel_name_invalid', status: 400, committed: false },
    aborted: 'aborted',
    watched: 'complete',
    job: ['completed', { rows: 1_000 }, ['stream.csv', 'web.csv', 'bytes.bin', 'self.mjs']],
    file: 1_001,
    stopped: true,
    released: 'released',
    tokens: [3, 3, 3],
  });
});
