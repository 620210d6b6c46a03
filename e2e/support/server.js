// The real `tidings` binary.
//
// Owns: starting, stopping and killing it, and requests to it. Does not know: browsers.
// Flow: options → a process on a free port → its URL from its log line → gone when the test ends.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, mkdir, rm } from 'node:fs/promises';
import { createWriteStream } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { waitFor } from './patience.js';

export const root = fileURLToPath(new URL('../../', import.meta.url));
export const output = join(root, 'target', 'e2e');
export const binary = process.env.TIDINGS_BIN ?? join(root, 'target', 'debug', 'tidings');

// A server refuses to start with variables that are none of its settings.
delete process.env.TIDINGS_BIN;

const START_MS = 20_000;
const STOP_MS = 20_000;

/** What `serve` logs and what `demo` prints. */
const SERVING = /\b(?:url=|open +)"?(http:\/\/[^\s"/]+)/;

const HOLDER = fileURLToPath(new URL('holder.py', import.meta.url));

/** Small files and a quick drain: a test starts many servers. */
const FLAGS = ['--segment-mib', '1', '--disk-reserve-mib', '16', '--drain-s', '1', '--shards', '1'];

/** Starts a server; it and its data are gone when test `t` ends. With `key`, an API key, requests from here bring it. */
export async function startServer(t, { args = [], held = false, dev = true, key } = {}) {
  const folder = await mkdtemp(join(tmpdir(), 'tidings-e2e-'));
  const server = new (held ? HeldServer : Server)(t.name, join(folder, 'data'), args);
  Object.assign(server, { dev, key });
  t.after(async () => {
    await server.gone();
    await rm(folder, { recursive: true, force: true });
  });
  await server.start();
  return server;
}

class Server {
  constructor(name, data, args) {
    Object.assign(this, { name, data, args, listen: '127.0.0.1:0', process: null, url: null });
  }

  async start() {
    this.process = await spawnLogged(this.name, binary, this.flags());
    this.url = await lineMatching(this.process, SERVING, START_MS);
    // A restart comes back where the pages expect it.
    this.listen = new URL(this.url).host;
  }

  flags() {
    const flags = this.args[0] === 'demo' ? this.args : ['serve', ...(this.dev ? ['--dev'] : []), ...FLAGS, ...this.args];
    return [...flags, '--listen', this.listen, '--data', this.data];
  }

  /** SIGTERM, and the exit code. */
  async stop() {
    return end(this.process, 'SIGTERM');
  }

  async kill() {
    return end(this.process, 'SIGKILL');
  }

  async gone() {
    await this.kill();
  }

  async request(method, path, body, headers = {}) {
    const type = body === undefined ? {} : { 'content-type': 'application/json' };
    const answer = await fetch(new URL(path, this.url), {
      method,
      headers: { ...type, ...(this.key && { authorization: `Bearer ${this.key}` }), ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await answer.text();
    let json = null;
    try {
      json = JSON.parse(text);
    } catch {
      // Not every answer is JSON.
    }
    return { status: answer.status, headers: answer.headers, text, json };
  }

  /** Publishes one event and returns its id. */
  async publish(event) {
    const answer = await this.request('POST', '/v1/publish', event);
    if (answer.status !== 201) throw new Error(`publish was answered ${answer.status}: ${answer.text}`);
    return answer.json.id ?? answer.json.ids;
  }

  /** Publishes `count` events `{n}` to a channel, in order, and returns `[{n, id}]`. */
  async publishMany(channel, first, count, more = {}) {
    const published = [];
    for (let n = first; n < first + count; n += 1) {
      published.push({ n, id: await this.publish({ channel, data: { n }, ...more }) });
    }
    return published;
  }

  /** The same in one request. */
  async publishBatch(channel, first, count) {
    const numbers = Array.from({ length: count }, (_, at) => first + at);
    const body = numbers.map((n) => JSON.stringify({ channel, data: { n } })).join('\n');
    const answer = await fetch(new URL('/v1/publish', this.url), { method: 'POST', headers: { 'content-type': 'application/x-ndjson' }, body });
    const lines = (await answer.text()).trim().split('\n').map((line) => JSON.parse(line));
    return numbers.map((n, at) => ({ n, id: lines[at].id }));
  }

  /** Cuts a stream by its connection's name. */
  async cut(connection) {
    const answer = await this.request('DELETE', `/v1/connections/${connection}`);
    if (answer.status !== 204) throw new Error(`cut was answered ${answer.status}: ${answer.text}`);
  }
}

/** A server on a socket that outlives it. */
class HeldServer extends Server {
  async start() {
    this.process ??= await spawnLogged(this.name, 'python3', [HOLDER, binary, ...this.flags()], { stdio: 'pipe' });
    this.process.text = '';
    this.process.stdin.write('start\n');
    this.pid = Number(await lineMatching(this.process, /^started (\d+)/m, START_MS));
    this.url = await lineMatching(this.process, SERVING, START_MS);
  }

  async stop() {
    return this.#signal('SIGTERM');
  }

  async kill() {
    return this.#signal('SIGKILL');
  }

  async gone() {
    if (this.process.exitCode !== null) return;
    if (!new RegExp(`^ended ${this.pid}`, 'm').test(this.process.text)) await this.kill();
    await end(this.process, 'SIGKILL');
  }

  async #signal(signal) {
    process.kill(this.pid, signal);
    await lineMatching(this.process, new RegExp(`^ended ${this.pid}`, 'm'), STOP_MS);
  }
}

let logs = 0;

/** Starts a process whose output goes to a file of its own under target/e2e. */
export async function spawnLogged(name, program, args, options = {}) {
  await mkdir(join(output, 'logs'), { recursive: true });
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
  const file = `${process.pid}-${(logs += 1)}-${name.replace(/[^a-z0-9]+/gi, '-').slice(0, 60)}.log`;
  const log = createWriteStream(join(output, 'logs', file));
  child.text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8');
    stream.on('data', (text) => {
      log.write(text);
      child.text += text;
      child.emit('text');
    });
  }
  child.ended = new Promise((resolve) => {
    child.once('error', (error) => {
      child.text += `${error}`;
      resolve({ code: null, signal: null });
    });
    child.once('close', (code, signal) => resolve({ code, signal }));
  });
  child.ended.then(() => log.end());
  return child;
}

/** The first group of `pattern` in what a process prints. */
export async function lineMatching(child, pattern, limitMs) {
  let over = false;
  child.ended.then(() => {
    over = true;
    child.emit('text');
  });
  const deadline = AbortSignal.timeout(limitMs);
  for (;;) {
    const found = pattern.exec(child.text);
    if (found) return found[1] ?? found[0];
    if (over) throw new Error(`the process ended before ${pattern} came:\n${child.text}`);
    await once(child, 'text', { signal: deadline }).catch(() => {
      throw new Error(`no ${pattern} after ${limitMs} ms:\n${child.text}`);
    });
  }
}

/** Resolves once `check` returns something; what it returned. */
export async function eventually(what, check, limitMs = 45_000) {
  const result = await waitFor(check, limitMs);
  if (result === null) throw new Error(`${what} did not happen in ${limitMs} ms`);
  return result;
}

/** Ends a process and returns how it ended; one that ignores SIGTERM is killed and reported. */
export async function end(child, signal) {
  if (child.exitCode === null && child.signalCode === null) child.kill(signal);
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
  const ended = await child.ended;
  clearTimeout(timer);
  return ended;
}
