// Keys of tokens from an https address: fetched from whoever can show a certificate for it, and from nobody else.

import assert from 'node:assert/strict';
import { generateKeyPairSync, sign } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:https';
import { join } from 'node:path';
import { test } from 'node:test';

import { root, startServer } from '../support/server.js';

const CERTIFICATES = join(root, 'e2e', 'certificates');

// The authorities that the server trusts, instead of the system's: so does an operator with one of their own.
process.env.SSL_CERT_FILE = join(CERTIFICATES, 'ca.pem');

/** Whoever signs tokens: the address of the public keys, and a token of alice. */
async function publisher(t, certificate) {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const [key, cert] = await Promise.all(['server.key', `${certificate}.pem`].map((name) => readFile(join(CERTIFICATES, name))));
  const asked = [];
  const server = createServer({ key, cert }, (request, response) => {
    asked.push(request.url);
    if (request.url === '/moved') response.writeHead(302, { location: '/keys' }).end();
    else response.end(JSON.stringify({ keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'k1' }] }));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const claims = { sub: 'alice', exp: Math.floor(Date.now() / 1000) + 600 };
  const signed = `${part({ alg: 'ES256', kid: 'k1' })}.${part(claims)}`;
  const signature = sign('sha256', Buffer.from(signed), { key: privateKey, dsaEncoding: 'ieee-p1363' });
  return { url: `https://localhost:${server.address().port}`, token: `${signed}.${signature.toString('base64url')}`, asked };
}

async function answered(t, certificate, path) {
  const { url, token, asked } = await publisher(t, certificate);
  const server = await startServer(t, { args: ['--jwks-url', `${url}${path}`], dev: false });
  const { status, json } = await server.request('GET', '/v1/history?channel=user:alice', undefined, { authorization: `Bearer ${token}` });
  return { status, code: json?.code, asked, said: server.process.text };
}

test('keys come from an https address whose certificate is good', async (t) => {
  const { status, asked } = await answered(t, 'good', '/keys');
  assert.equal(status, 200);
  assert.deepEqual(asked, ['/keys'], 'once');
});

for (const certificate of ['expired', 'other-name', 'other-authority']) {
  test(`a certificate that is no good brings no keys: ${certificate}`, async (t) => {
    const { status, code, asked, said } = await answered(t, certificate, '/keys');
    assert.deepEqual([status, code], [503, 'auth_unavailable']);
    assert.deepEqual(asked, [], 'nothing is asked of it');
    assert.match(said, /keys of tokens could not be fetched.*certificate/);
  });
}

test('a redirect is not followed', async (t) => {
  const { status, code, asked } = await answered(t, 'good', '/moved');
  assert.deepEqual([status, code], [503, 'auth_unavailable']);
  assert.deepEqual(asked, ['/moved']);
});
