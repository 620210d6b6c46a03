// Stands for your own log-in: a cookie with the user's name, signed.

import { createHmac, randomUUID, timingSafeEqual } from 'node:crypto';
import { cookies } from 'next/headers';
import { tidings } from './tidings.js';

const NAME = 'session';

function sign(text) {
  return createHmac('sha256', process.env.SESSION_SECRET).update(text).digest('base64url');
}

export async function beginSession(user) {
  if (!/^[a-z0-9]{1,20}$/.test(user)) throw new Error('not a name');
  const text = `${user}.${randomUUID()}`;
  const secure = process.env.NODE_ENV === 'production';
  (await cookies()).set(NAME, `${text}.${sign(text)}`, { httpOnly: true, sameSite: 'lax', secure, path: '/' });
}

/** The log-in ends, and with it the streams that are open in its name. */
export async function endSession() {
  const jar = await cookies();
  const { session } = read(jar.get(NAME)?.value) ?? {};
  jar.delete(NAME);
  if (session !== undefined) await tidings().revoke({ session });
}

export async function currentUser() {
  return read((await cookies()).get(NAME)?.value)?.user ?? null;
}

/** The same of a `Cookie` header, for route handlers. */
export function userOf(header) {
  return read(new RegExp(`(?:^|; )${NAME}=([^;]+)`).exec(header)?.[1]);
}

function read(value) {
  const [user, session, signature] = value?.split('.') ?? [];
  if (signature === undefined) return undefined;
  const given = Buffer.from(signature);
  const right = Buffer.from(sign(`${user}.${session}`));
  return given.length === right.length && timingSafeEqual(given, right) ? { user, session } : undefined;
}
