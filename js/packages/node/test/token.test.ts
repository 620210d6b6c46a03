import { createHmac, generateKeyPairSync, verify, type KeyObject } from 'node:crypto';
import { expect, test } from 'vitest';
import { createToken, type TokenKey } from '@tidings/node';

const SECRET = 'a secret that is thirty-two bytes long, and more';

function parts(token: string) {
  const [head = '', payload = '', signature = ''] = token.split('.');
  const json = (part: string): any => JSON.parse(Buffer.from(part, 'base64url').toString());
  return { head: json(head), payload: json(payload), signed: `${head}.${payload}`, signature };
}

test('a token has the subject, when it ends, its name, its session and the grant', async () => {
  const claims = { sub: '42', subscribe: ['orders', 'news:*'], publish: ['chat:7'], jobs: ['read:*', 'create:generate-report'] as const };
  const token = await createToken({ ...claims, session: 's1', expiresIn: '15m' }, { secret: SECRET, kid: 'k1' });
  const { head, payload, signed, signature } = parts(token);
  expect(head).toEqual({ alg: 'HS256', typ: 'JWT', kid: 'k1' });
  const now = Math.floor(Date.now() / 1_000);
  expect(payload).toEqual({
    sub: '42',
    iat: expect.closeTo(now, -1),
    exp: payload.iat + 900,
    jti: expect.stringMatching(/^[0-9a-f-]{36}$/),
    sid: 's1',
    tidings: { subscribe: ['orders', 'news:*'], publish: ['chat:7'], jobs: ['read:*', 'create:generate-report'] },
  });
  expect(signature).toBe(createHmac('sha256', SECRET).update(signed).digest('base64url'));
});

test('what is not granted is not in the token', async () => {
  const { head, payload } = parts(await createToken({ sub: 'ü', expiresIn: 60 }, { secret: new Uint8Array(32) }));
  expect(head).toEqual({ alg: 'HS256', typ: 'JWT' });
  expect(Object.keys(payload)).toEqual(['sub', 'iat', 'exp', 'jti', 'tidings']);
  expect(payload).toMatchObject({ sub: 'ü', tidings: {} });
});

const pairs = {
  RS256: generateKeyPairSync('rsa', { modulusLength: 2_048 }),
  ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  EdDSA: generateKeyPairSync('ed25519'),
};

function holds(alg: keyof typeof pairs, publicKey: KeyObject, token: string): boolean {
  const { signed, signature } = parts(token);
  const key = alg === 'ES256' ? ({ key: publicKey, dsaEncoding: 'ieee-p1363' } as const) : publicKey;
  return verify(alg === 'EdDSA' ? null : 'sha256', Buffer.from(signed), key, Buffer.from(signature, 'base64url'));
}

test.each(['RS256', 'ES256', 'EdDSA'] as const)('%s signs with PEM and JWK, and the public key agrees', async (alg) => {
  const { privateKey, publicKey } = pairs[alg];
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
  const jwk = privateKey.export({ format: 'jwk' }) as JsonWebKey;
  for (const key of [pem, jwk]) {
    const token = await createToken({ sub: '1', expiresIn: '1h' }, { privateKey: key, alg, kid: 'k' });
    expect(parts(token).head).toEqual({ alg, typ: 'JWT', kid: 'k' });
    expect(holds(alg, publicKey, token)).toBe(true);
  }
});

test('weak and wrong keys are refused, in words that help', async () => {
  const sign = (key: TokenKey) => createToken({ sub: '1', expiresIn: 60 }, key);
  await expect(sign({ secret: 'x'.repeat(31) })).rejects.toMatchObject({ code: 'token_unsigned', message: /31 bytes can be guessed/ });
  await expect(sign({ secret: 'ü'.repeat(16) })).resolves.toBeTypeOf('string');
  const small = generateKeyPairSync('rsa', { modulusLength: 1_024 }).privateKey;
  const pem = (key: KeyObject, type: 'pkcs1' | 'pkcs8' | 'sec1') => key.export({ type: type as 'pkcs8', format: 'pem' }) as string;
  await expect(sign({ privateKey: pem(small, 'pkcs8'), alg: 'RS256' })).rejects.toThrow('1024 bits');
  await expect(sign({ privateKey: pem(small, 'pkcs1'), alg: 'RS256' })).rejects.toThrow('openssl pkcs8 -topk8');
  await expect(sign({ privateKey: 'secret', alg: 'RS256' })).rejects.toThrow('not PEM');
  await expect(sign({ privateKey: pem(pairs.ES256.privateKey, 'pkcs8'), alg: 'EdDSA' })).rejects.toThrow('cannot be used');
  await expect(sign({ privateKey: 'x', alg: 'none' as 'EdDSA' })).rejects.toThrow('not with none');
  await expect(sign({ privateKey: 'x', alg: 'HS256' as 'EdDSA' })).rejects.toThrow('not with HS256');
});

test('how long it is good for is seconds, or has a unit', async () => {
  const life = async (expiresIn: number | string) => {
    const { payload } = parts(await createToken({ sub: '1', expiresIn }, { secret: SECRET }));
    return payload.exp - payload.iat;
  };
  expect(await Promise.all([90, '90s', '15m', '8h', '7d'].map(life))).toEqual([90, 90, 900, 28_800, 604_800]);
  for (const wrong of [0, -1, 1.5, Number.NaN, '15', '', 'm', '0s', '15 weeks']) {
    await expect(life(wrong), String(wrong)).rejects.toMatchObject({ code: 'token_unsigned' });
  }
  await expect(createToken({ sub: '', expiresIn: 60 }, { secret: SECRET })).rejects.toThrow('subject');
});
