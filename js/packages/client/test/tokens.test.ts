// Tokens that end, against the real server.

import { execFile } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createClient, type Client, type ClientOptions, type Status, type TidingsError } from '../src/index.js';
import { binary, eventually, hasServer, startServer, type Server } from './support/server.js';

describe.skipIf(!hasServer)('tokens', () => {
  let folder: string;
  let server: Server | undefined;
  let secret: string;
  let key: string;
  const clients: Client[] = [];

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'tidings-tokens-'));
    const run = async (...args: string[]): Promise<string> => {
      const { stdout, stderr } = await promisify(execFile)(binary, args, { cwd: folder, env: { PATH: process.env['PATH'] } });
      return stdout + stderr;
    };
    key = /^tk_\S+/m.exec(await run('key', 'new', 'app', '--publish', '*', '--admin'))![0];
    await run('token', 'secret', 'jwt.secret');
    secret = (await readFile(join(folder, 'jwt.secret'), 'utf8')).trim();
    server = await startServer({ dev: false, args: ['--api-key-file', join(folder, 'tidings.keys'), '--jwt-key', `HS256=${join(folder, 'jwt.secret')}`] });
  });
  afterEach(() => {
    for (const client of clients.splice(0)) client.close();
  });
  afterAll(async () => {
    await server?.gone();
    await rm(folder, { recursive: true, force: true });
  });

  function token(lifeMs: number, more: object = {}): string {
    const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
    const exp = Math.floor((Date.now() + lifeMs) / 1_000);
    const text = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ sub: 'anna', exp, tidings: { subscribe: ['a', 'b'] }, ...more })}`;
    return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`;
  }

  function connect(options: ClientOptions): { client: Client; got: unknown[]; states: Status[]; errors: TidingsError[] } {
    const errors: TidingsError[] = [];
    const states: Status[] = [];
    const got: unknown[] = [];
    const client = createClient({ url: `${server!.url}/events`, retry: { base: 50 }, onError: (error) => errors.push(error), ...options });
    clients.push(client);
    client.onStatus((status) => states.push(status));
    client.subscribe('a').on('message', (n) => got.push(n));
    return { client, got, states, errors };
  }

  async function publish(channel: string, data: unknown): Promise<void> {
    const answer = await fetch(`${server!.url}/v1/publish`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
      body: JSON.stringify({ channel, data }),
    });
    expect(answer.status).toBe(201);
  }

  const names = (states: Status[]): string[] => states.map(({ state }) => state);

  test('a token is renewed on the open stream, again and again, and nobody notices', async () => {
    const why: string[] = [];
    const { got, states, errors } = connect({ auth: { token: (reason) => (why.push(reason), token(4_000)) } });
    await eventually('open', () => states.at(-1)?.state === 'open');
    const end = Date.now() + 9_000;
    let n = 0;
    while (Date.now() < end) {
      await publish('a', (n += 1));
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    await eventually('the last event', () => got.length >= n);
    expect(got).toEqual(Array.from({ length: n }, (_, i) => i + 1));
    expect(names(states), 'one connection').toEqual(['connecting', 'open']);
    expect(why.length).toBeGreaterThan(2);
    expect(why.slice(0, 2)).toEqual(['first', 'expiring']);
    expect(errors).toEqual([]);
  });

  test('one that cannot be renewed ends the stream, and better ones go on where it was', async () => {
    let life: number | null = 2_500;
    const { client, got, states } = connect({
      auth: {
        token() {
          if (life === null) throw new Error('nobody is logged in');
          return token(life);
        },
      },
    });
    await eventually('open', () => states.at(-1)?.state === 'open');
    await publish('a', 1);
    life = null;
    await eventually('the end', () => client.status.state !== 'open');
    await publish('a', 2);
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(got).toEqual([1]);
    life = 60_000;
    client.reconnect();
    await eventually('what was missed', () => got.length === 2);
    expect(got).toEqual([1, 2]);
  });

  test('without the right, it is refused for good, and a channel that is not granted takes no other with it', async () => {
    const { client, got, states } = connect({ auth: { token: () => token(60_000) } });
    const refused: string[] = [];
    client.subscribe('secret').onRefused(({ code }) => refused.push(code));
    await eventually('open', () => states.at(-1)?.state === 'open');
    client.subscribe('other').onRefused(({ code }) => refused.push(code));
    await eventually('both refusals', () => refused.length === 2);
    expect(refused).toEqual(['forbidden', 'forbidden']);
    await publish('a', 1);
    await eventually('the event', () => got.length === 1);
    expect(client.status.state).toBe('open');
  });

  test('a grant that no longer covers a channel ends that one, in mid-stream or on the next stream, and the other goes on', async () => {
    let rights: string[];
    const current = (lifeMs: number): string => token(lifeMs, { tidings: { subscribe: rights } });
    // Not the client's own to renew, such as a cookie.
    const bring: typeof fetch = (url, init) => fetch(url, { ...init, headers: { ...Object.fromEntries(new Headers(init?.headers)), authorization: `Bearer ${current(60_000)}` } });
    for (const options of [{ auth: { token: () => current(2_500) } }, { fetch: bring }]) {
      rights = ['a', 'b'];
      const { client, got, states } = connect(options);
      const [refused, lost]: [string[], unknown[]] = [[], []];
      client.subscribe('b').onRefused(({ code }) => refused.push(code)).on('message', (n) => lost.push(n));
      await eventually('open', () => states.at(-1)?.state === 'open');
      await publish('b', 1);
      await publish('a', 1);
      await eventually('both', () => got.length + lost.length === 2);
      rights = ['a'];
      if ('fetch' in options) await fetch(`${server!.url}/v1/connections?subject=anna`, { method: 'DELETE', headers: { authorization: `Bearer ${key}` } });
      await eventually('the refusal', () => refused.length === 1);
      await publish('b', 2);
      await publish('a', 2);
      await eventually('what goes on', () => got.length === 2);
      expect([got, lost, refused]).toEqual([[1, 2], [1], ['forbidden']]);
      expect(names(states), 'it was never closed').not.toContain('closed');
      client.close();
    }
  });

  test('a token that is no good is asked for once more', async () => {
    const why: string[] = [];
    const { client, states } = connect({ auth: { token: (reason) => (why.push(reason), 'nonsense') } });
    await eventually('the end', () => client.status.state === 'closed');
    expect(states.at(-1)).toMatchObject({ state: 'closed', reason: { code: 'unauthorized', status: 401 } });
    expect(why).toEqual(['first', 'rejected']);
  });

  test('a ticket stands for the token', async () => {
    const { got, states } = connect({ auth: { token: () => token(60_000), send: 'query' } });
    await eventually('open', () => states.at(-1)?.state === 'open');
    await publish('a', 1);
    await eventually('the event', () => got.length === 1);
  });

  test('a log-out ends it within a second', async () => {
    const { client, states } = connect({ auth: { token: () => token(60_000, { sid: 's1' }) } });
    await eventually('open', () => states.at(-1)?.state === 'open');
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    const answer = await fetch(`${server!.url}/v1/revocations`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
      body: JSON.stringify({ subject: 'anna' }),
    });
    expect(answer.status).toBe(200);
    await eventually('the end', () => client.status.state !== 'open', 1_500);
  });
});
