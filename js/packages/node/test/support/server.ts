// The real `tidings` binary.
//
// Owns: starting, stopping and killing it. Does not know: what is asked of it.

import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { onTestFinished } from 'vitest';

const binary = process.env['TIDINGS_BIN'] ?? fileURLToPath(new URL('../../../../../target/debug/tidings', import.meta.url));

/** What is set for the tests is no setting of the server. */
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('TIDINGS_')));

/** Small files and a quick drain: a test starts many servers. */
const FLAGS = ['--segment-mib', '1', '--disk-reserve-mib', '16', '--drain-s', '1', '--shards', '1'];

export interface Server {
  readonly url: string;
  stop(): Promise<void>;
  kill(): Promise<void>;
  start(): Promise<void>;
}

/** Starts a server; it and its data are gone when the test ends. */
export async function startServer(args: string[] = ['--dev']): Promise<Server> {
  const folder = await mkdtemp(join(tmpdir(), 'tidings-js-'));
  let listen = '127.0.0.1:0';
  let child: ChildProcess | undefined;
  const server = {
    url: '',
    async start() {
      child = spawn(binary, ['serve', ...FLAGS, ...args, '--listen', listen, '--data', join(folder, 'data')], {
        stdio: ['ignore', 'pipe', 'pipe'],
        env,
      });
      server.url = await said(child, /\burl="?(http:\/\/[^\s"/]+)/);
      // A restart comes back where clients expect it.
      listen = new URL(server.url).host;
    },
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
  };
  async function end(signal: NodeJS.Signals): Promise<void> {
    const ending = child;
    if (ending === undefined || ending.exitCode !== null || ending.signalCode !== null) return;
    await new Promise((resolve) => {
      ending.once('exit', resolve);
      ending.kill(signal);
    });
  }
  onTestFinished(async () => {
    await server.kill();
    await rm(folder, { recursive: true, force: true });
  });
  await server.start();
  return server;
}

export interface Guarded extends Server {
  /** What tokens are signed with. */
  readonly secret: string;
  /** An API key that may do everything. */
  readonly key: string;
}

/** Starts a server that asks who a request is from; `keys` are more keys that it checks tokens with, in PEM. */
export async function startGuarded(keys: Record<string, string> = {}): Promise<Guarded> {
  const folder = await mkdtemp(join(tmpdir(), 'tidings-keys-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const secret = randomBytes(48).toString('base64url');
  const args = ['--jwt-key', `HS256=${join(folder, 'secret')}`, '--api-key-file', join(folder, 'keys')];
  await writeFile(join(folder, 'secret'), secret, { mode: 0o600 });
  for (const [name, pem] of Object.entries(keys)) {
    await writeFile(join(folder, name), pem);
    args.push('--jwt-key', `${name}:${name}=${join(folder, name)}`);
  }
  const flags = ['--file', join(folder, 'keys'), '--subscribe', '*', '--publish', '*', '--jobs', '*', '--admin', 'test'];
  const { stdout } = await promisify(execFile)(binary, ['key', 'new', ...flags], { env });
  const key = /tk_\S+/.exec(stdout)?.[0] ?? '';
  return Object.assign(await startServer(args), { secret, key });
}

/** The first group of `pattern` in what a process prints. What it prints later is read and dropped. */
function said(child: ChildProcess, pattern: RegExp): Promise<string> {
  let text = '';
  return new Promise((resolve, reject) => {
    const read = (piece: Buffer) => {
      text = (text + piece.toString()).slice(-100_000);
      const found = pattern.exec(text);
      if (found) resolve(found[1] ?? '');
    };
    child.stdout?.on('data', read);
    child.stderr?.on('data', read);
    child.once('error', reject);
    child.once('exit', () => reject(new Error(`the server ended before ${String(pattern)} came:\n${text}`)));
  });
}

/** A `fetch` whose answers get lost where `isLost` says so: the server has done what it was asked. */
export function losing(isLost: (method: string, path: string, count: number) => boolean): typeof fetch {
  let count = 0;
  return async (input, init) => {
    const answer = await fetch(input, init);
    const { pathname } = new URL(input as string);
    if (!isLost(init?.method ?? 'GET', pathname, (count += 1))) return answer;
    await answer.arrayBuffer();
    throw new TypeError('fetch failed', { cause: new Error('the answer got lost') });
  };
}

/** Resolves once `check` gives something; what it gave. */
export async function eventually<T>(check: () => T | Promise<T>, limitMs = 15_000): Promise<NonNullable<T>> {
  const begun = performance.now();
  for (;;) {
    const found = await check();
    if (found) return found as NonNullable<T>;
    if (performance.now() - begun > limitMs) throw new Error(`${String(check)} did not come about`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
