import { expect, test } from 'vitest';
import { clearTidingsCookie, tidingsCookie } from '@tidings/next';

const key = 'a secret that is thirty-two bytes long, and more';

test('a cookie is out of reach of scripts and other sites, and ends with its token', async () => {
  const cookie = await tidingsCookie({ sub: '42', subscribe: ['orders'], expiresIn: '15m' }, { key });
  expect(cookie.header).toBe(`tidings=${cookie.value}; Path=/; Max-Age=900; HttpOnly; Secure; SameSite=Lax`);
  expect(cookie.options).toEqual({ httpOnly: true, secure: true, sameSite: 'lax', path: '/', maxAge: 900 });
  const payload = JSON.parse(Buffer.from(cookie.value.split('.')[1] ?? '', 'base64url').toString());
  expect(payload).toMatchObject({ sub: '42', tidings: { subscribe: ['orders'] } });
  expect(payload.exp - payload.iat).toBe(900);
});

test('its name, path and host are the application\'s to say, within what a cookie can be', async () => {
  const claims = { sub: '1', expiresIn: 60 };
  const cookie = await tidingsCookie(claims, { key, name: 'rt', path: '/rt', domain: 'app.example', secure: false, sameSite: 'strict' });
  expect(cookie.header).toMatch(/^rt=.+; Path=\/rt; Max-Age=60; HttpOnly; SameSite=Strict; Domain=app.example$/);
  await expect(tidingsCookie(claims, { key, path: '/; Domain=evil' })).rejects.toThrow('cannot stand in a cookie');
  await expect(tidingsCookie(claims, { key, name: 'a b' })).rejects.toThrow('no name of a cookie');
  const channels = Array.from({ length: 100 }, (_, n) => `a-channel-with-quite-a-long-name-${n}`);
  await expect(tidingsCookie({ ...claims, subscribe: channels }, { key })).rejects.toThrow('dropped by browsers');
  await expect(tidingsCookie(claims, { key: 'short' })).rejects.toMatchObject({ code: 'token_unsigned' });
});

test('a log-out takes it back', () => {
  expect(clearTidingsCookie().header).toBe('tidings=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax');
});
