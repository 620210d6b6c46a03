// @vitest-environment happy-dom
//
// Every example of the README: as the type checker sees it, and rendered with a client that has no server.

import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { ComponentType } from 'react';
import { afterAll, expect, test, vi } from 'vitest';

import { fakeClient } from './support/fake-client.js';
import { frame, openPage, stopTime } from './support/page.js';

const client = vi.hoisted(() => ({ made: null as unknown }));
vi.mock('@tidings/client', async (original) => ({ ...await original<object>(), createClient: () => client.made }));
stopTime();

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));
const readme = await readFile(path('../README.md'), 'utf8');
const examples = [...readme.matchAll(/^```tsx\n([^]*?)^```$/gm)].map(([, code = '']) => code);
const folder = await mkdtemp(path('.readme-'));
afterAll(() => rm(folder, { recursive: true, force: true }));
await Promise.all(examples.map((code, n) => writeFile(join(folder, `${n + 1}.tsx`), code)));

test('the README has examples', () => expect(examples.length).toBeGreaterThan(7));

test('they are well typed', async () => {
  const registers = (code: string) => code.includes('interface Register');
  for (const [name, wanted] of [['plain', (code: string) => !registers(code)], ['registered', registers]] as const) {
    const files = examples.flatMap((code, n) => (wanted(code) ? [`${n + 1}.tsx`] : []));
    expect(files).not.toEqual([]);
    const paths = Object.fromEntries(['client', 'react', 'react/query', 'react/swr'].map((name) =>
      [`@tidings/${name}`, [path(`../../${name.includes('/') ? name.replace('/', '/src/') : `${name}/src/index`}.ts`)]]));
    const project = join(folder, `${name}.json`);
    await writeFile(project, JSON.stringify({ extends: path('../../../tsconfig.test.json'), compilerOptions: { paths, noUnusedParameters: false }, files, include: [] }));
    await promisify(execFile)(path('../../../node_modules/.bin/tsc'), ['-p', project]);
  }
}, 60_000);

test.each(examples.map((_, n) => n + 1))('example %i is rendered', async (n) => {
  const made = fakeClient();
  client.made = made;
  const complaints = vi.spyOn(console, 'error');
  const { App } = await import(join(folder, `${n}.tsx`)) as { App: ComponentType };
  await openPage(made, <App />);
  await frame(() => made.publish('prices:EUR', 'tick', 1.2));
  expect(document.body.innerHTML).not.toBe('');
  expect(complaints).not.toHaveBeenCalled();
});
