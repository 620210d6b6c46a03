// The real `tidings` binary, for tests.
//
// Owns: starting, killing and starting it again on the same port and data. Does not know: clients.

import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const binary: string = process.env['TIDINGS_BIN'] ?? fileURLToPath(new URL('../../../../../target/debug/tidings', import.meta.url));
const FLAGS = ['serve', '--segment-mib', '1', '--disk-reserve-mib', '16', '--drain-s', '1', '--shards', '1'];
const SERVING = /\burl="?(http:\/\/[^\s"/]+)/;

export const hasServer: boolean = existsSync(binary);

export interface Server {
  readonly url: string;
  publish(event: object): Promise<string>;
  request(method: string, path: string, body?: unknown): Promise<{ status: number; json: unknown }>;
  stop(): Promise<void>;
  kill(): Promise<void>;
  start(): Promise<void>;
  gone(): Promise<void>;
}

export async function startServer({ args = [], dev = true }: { args?: readonly string[]; dev?: boolean } = {}): Promise<Server> {
  const folder = await mkdtemp(join(tmpdir(), 'tidings-client-'));
  let listen = '127.0.0.1:0';
  let child: ChildProcess | null = null;

  const end = async (signal: NodeJS.Signals): Promise<void> => {
    const ended = child;
    child = null;
    if (ended === null || ended.exitCode !== null) return;
    const over = new Promise((resolve) => ended.once('exit', resolve));
    ended.kill(signal);
    await over;
  };
  const server: Server = {
    get url() {
      return `http://${listen}`;
    },
    async start() {
      const own = (child = spawn(binary, [...FLAGS, ...(dev ? ['--dev'] : []), ...args, '--listen', listen, '--data', join(folder, 'data')], {
        stdio: ['ignore', 'pipe', 'pipe'],
        // The server refuses variables of its name that are no settings, such as the one of these tests.
        env: { PATH: process.env['PATH'] },
      }));
      listen = await new Promise<string>((resolve, reject) => {
        let text = '';
        for (const stream of [own.stdout, own.stderr]) {
          stream.setEncoding('utf8').on('data', (part: string) => {
            text = (text + part).slice(-100_000);
            const found = SERVING.exec(text)?.[1];
            if (found !== undefined) resolve(new URL(found).host);
          });
        }
        own.once('exit', () => reject(new Error(`the server ended:\n${text}`)));
      });
    },
    async request(method, path, body) {
      const init: RequestInit = { method };
      if (body !== undefined) Object.assign(init, { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } });
      const answer = await fetch(new URL(path, server.url), init);
      const text = await answer.text();
      return { status: answer.status, json: text === '' ? null : (JSON.parse(text) as unknown) };
    },
    async publish(event) {
      const { status, json } = await server.request('POST', '/v1/publish', event);
      if (status !== 201) throw new Error(`publish was answered ${status}: ${JSON.stringify(json)}`);
      return (json as { id: string }).id;
    },
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
    async gone() {
      await end('SIGKILL');
      await rm(folder, { recursive: true, force: true });
    },
  };
  await server.start();
  return server;
}

export async function eventually(what: string, check: () => boolean, limitMs = 15_000): Promise<void> {
  const deadline = performance.now() + limitMs;
  while (!check()) {
    if (performance.now() > deadline) throw new Error(`${what} did not happen in ${limitMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
