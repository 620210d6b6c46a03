// Every example of the README, before the real server.

import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import { expect, onTestFinished, test, vi } from 'vitest';
import { startServer } from '../../node/test/support/server.js';

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));
const SECRET = 'a secret that is thirty-two bytes long, and more';
const SESSION = "export const getSession = async (request) => (request.headers.has('cookie') ? { userId: '42', id: 's1' } : null);";

/** The example under a heading, as a module. */
async function example(heading: string): Promise<any> {
  const { url } = await startServer();
  vi.stubEnv('TIDINGS_URL', url);
  vi.stubEnv('TIDINGS_SECRET', SECRET);
  onTestFinished(() => void vi.unstubAllEnvs());
  const readme = await readFile(path('../README.md'), 'utf8');
  const [, code] = new RegExp(`^## ${heading}$[^]*?^\`\`\`ts\\n([^]*?)^\`\`\`$`, 'm').exec(readme) ?? [];
  const folder = await mkdtemp(join(tmpdir(), 'tidings-readme-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  await writeFile(join(folder, 'session.mjs'), SESSION);
  await writeFile(join(folder, 'example.ts'), code?.replaceAll('http://127.0.0.1:4080', url) ?? '');
  const outfile = join(folder, 'example.mjs');
  const alias = {
    '@tidings/next': path('../src/index.ts'),
    '@tidings/node/token': path('../../node/src/token.ts'),
    '@/lib/session': join(folder, 'session.mjs'),
  };
  await build({ entryPoints: [join(folder, 'example.ts')], bundle: true, format: 'esm', platform: 'node', alias, outfile });
  return import(/* @vite-ignore */ pathToFileURL(outfile).href);
}

/** The beginning of a stream. */
async function firstOf(response: Response): Promise<string> {
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  let text = '';
  while (!text.includes('tidings.hello')) text += new TextDecoder().decode((await reader.read()).value);
  await reader.cancel();
  return text;
}

test('the proxy route streams to who is logged in', async () => {
  const route = await example('A proxy route');
  expect(route).toMatchObject({ dynamic: 'force-dynamic', maxDuration: 300 });
  const cookie = 'session=1';
  const stream = await route.GET(new Request('https://app.example/rt/events', { headers: { cookie, accept: 'text/event-stream' } }));
  expect(await firstOf(stream)).toContain('keepalive_ms');
  expect((await route.GET(new Request('https://app.example/rt/v1/jobs/x'))).status).toBe(401);
});

test('the cookie is set and taken back', async () => {
  const login = await example('A cookie instead');
  expect((await login.POST()).headers.get('set-cookie')).toMatch(/^tidings=.+; Max-Age=28800; HttpOnly; Secure; SameSite=Lax$/);
  expect((await login.DELETE()).headers.get('set-cookie')).toMatch(/^tidings=; .*Max-Age=0/);
});

test('a server of Node streams', async () => {
  const { server } = (await example('Express and Connect')) as { server: Server };
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  if (!server.listening) await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as AddressInfo;
  expect(await firstOf(await fetch(`http://127.0.0.1:${port}/rt/events?channel=orders`))).toContain('keepalive_ms');
});
