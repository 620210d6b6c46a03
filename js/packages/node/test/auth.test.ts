// Tokens, keys and revocations, as the real server judges them.

import { generateKeyPairSync } from 'node:crypto';
import { expect, onTestFinished, test } from 'vitest';
import { createTidings, createToken, type TokenClaims, type TokenKey } from '@tidings/node';
import { eventually, startGuarded, type Guarded } from './support/server.js';

const claims: TokenClaims = { sub: '42', subscribe: ['news:*'], publish: ['chat:7'], expiresIn: '15m' };

function client(server: Guarded, key: string) {
  return createTidings({ url: server.url, key, onError: () => {}, retry: { attempts: 1 } });
}

/** A stream as a browser has it, read to its end. */
async function streaming(server: Guarded, query: string, token?: string) {
  const headers = { accept: 'text/event-stream, application/problem+json', ...(token === undefined ? {} : { authorization: `Bearer ${token}` }) };
  const response = await fetch(`${server.url}/events?${query}`, { headers });
  const stream = { status: response.status, text: '', isDone: false };
  void (async () => {
    for await (const piece of response.body ?? []) stream.text += new TextDecoder().decode(piece);
    stream.isDone = true;
  })().catch(() => {});
  return stream;
}

test('every algorithm makes tokens that the server takes, and nobody else\'s', async () => {
  const pairs = {
    RS256: generateKeyPairSync('rsa', { modulusLength: 2_048 }),
    ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
    EdDSA: generateKeyPairSync('ed25519'),
  };
  const pem = Object.fromEntries(Object.entries(pairs).map(([alg, { publicKey }]) => [alg, publicKey.export({ type: 'spki', format: 'pem' }) as string]));
  const server = await startGuarded(pem);
  const keys: TokenKey[] = [{ secret: server.secret }];
  for (const alg of ['RS256', 'ES256', 'EdDSA'] as const) {
    keys.push({ privateKey: pairs[alg].privateKey.export({ type: 'pkcs8', format: 'pem' }) as string, alg, kid: alg });
  }
  for (const key of keys) {
    const { publish } = client(server, await createToken(claims, key));
    expect(await publish({ channel: 'chat:7', data: 1 })).toMatchObject({ duplicate: false });
    await expect(publish({ channel: 'chat:8', data: 1 })).rejects.toMatchObject({ code: 'forbidden', status: 403 });
  }
  const forged = await createToken(claims, { secret: 'another secret that is thirty-two bytes long' });
  await expect(client(server, forged).publish({ channel: 'chat:7', data: 1 })).rejects.toMatchObject({ code: 'token_invalid', status: 401 });
});

test('a token subscribes to what it says, to its subject\'s own channel, and no longer than it lasts', async () => {
  const server = await startGuarded();
  const token = await createToken({ ...claims, expiresIn: 2 }, { secret: server.secret });
  const api = client(server, server.key);
  const [own, news, other] = await Promise.all([
    streaming(server, '', token),
    streaming(server, 'channel=news:1', token),
    streaming(server, 'channel=orders', token),
  ]);
  expect([own.status, news.status, other.status]).toEqual([200, 200, 403]);
  await api.publish({ channels: ['user:42', 'news:1'], data: { n: 7 } });
  await eventually(() => own.text.includes('{"n":7}') && news.text.includes('{"n":7}'));
  await eventually(() => own.isDone && news.isDone, 10_000);
  expect(own.text).toContain('event: tidings.unauthorized');
  await expect(client(server, token).publish({ channel: 'chat:7', data: 1 })).rejects.toMatchObject({ code: 'token_expired' });
});

test('a log-out ends the streams of its session at once, and its token is good for nothing more', async () => {
  const server = await startGuarded();
  const api = client(server, server.key);
  const of = (session: string) => createToken({ ...claims, session }, { secret: server.secret });
  const tokens = await Promise.all(['phone', 'laptop'].map(of));
  const [phone, laptop] = await Promise.all(tokens.map((token) => streaming(server, '', token)));
  await eventually(() => phone?.text.includes('hello') && laptop?.text.includes('hello'));
  expect(await api.revoke({ session: 'phone' })).toMatchObject({ closed: 1 });
  await eventually(() => phone?.isDone, 2_000);
  expect(phone?.text).toContain('tidings.unauthorized');
  await expect(client(server, tokens[0] ?? '').publish({ channel: 'chat:7', data: 1 })).rejects.toMatchObject({ code: 'token_revoked' });
  expect(await client(server, tokens[1] ?? '').publish({ channel: 'chat:7', data: 1 })).toHaveProperty('id');
  expect(await api.revoke({ subject: '42' })).toMatchObject({ closed: 1 });
  await eventually(() => laptop?.isDone, 2_000);
});

test('a token that is revoked by its name is one, and only that', async () => {
  const server = await startGuarded();
  const [one, two] = await Promise.all(['a', 'b'].map((jti) => createToken({ ...claims, jti }, { secret: server.secret })));
  await client(server, server.key).revoke({ token: 'a' });
  await expect(client(server, one ?? '').publish({ channel: 'chat:7', data: 1 })).rejects.toMatchObject({ code: 'token_revoked' });
  expect(await client(server, two ?? '').publish({ channel: 'chat:7', data: 1 })).toHaveProperty('id');
  await expect(client(server, two ?? '').revoke({ subject: '1' })).rejects.toMatchObject({ code: 'forbidden' });
});

test('a ticket opens one stream, of the channels it names', async () => {
  const server = await startGuarded();
  const { tickets } = client(server, await createToken(claims, { secret: server.secret }));
  const { ticket } = await tickets.create({ channels: ['news:1'] });
  expect((await streaming(server, `channel=news:2&ticket=${ticket}`)).status).toBe(403);
  const next = await tickets.create({ channels: ['news:1'] });
  expect((await streaming(server, `channel=news:1&ticket=${next.ticket}`)).status).toBe(200);
  expect((await streaming(server, `channel=news:1&ticket=${next.ticket}`)).status).toBe(401);
});

test('a job is its subject\'s to watch, and a worker works with a key', async () => {
  const server = await startGuarded();
  const api = client(server, server.key);
  const worker = api.worker('report', async (job) => {
    await job.progress(50);
    await job.artifact('x.csv', 'a,b');
    return 'done';
  });
  onTestFinished(() => worker.stop({ graceMs: 0 }));
  const { id } = await api.jobs.create('report', {}, { subject: '42' });
  const mine = client(server, await createToken({ sub: '42', expiresIn: 60 }, { secret: server.secret }));
  const items = [];
  for await (const item of mine.jobs.watch(id)) items.push(item.type);
  expect(items.at(-1)).toBe('complete');
  expect(await (await mine.jobs.download(id)).text()).toBe('a,b');
  const theirs = client(server, await createToken({ sub: '43', expiresIn: 60 }, { secret: server.secret }));
  await expect(theirs.jobs.get(id)).rejects.toMatchObject({ code: 'job_not_found', status: 404 });
  await expect(theirs.jobs.create('report')).rejects.toMatchObject({ code: 'forbidden' });
  const refused = theirs.worker('report', () => {});
  await expect(refused.done).rejects.toMatchObject({ code: 'forbidden' });
});
