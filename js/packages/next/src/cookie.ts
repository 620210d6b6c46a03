// Owns: a grant as a cookie that the browser shows to the server itself. Does not know: who is logged in.
// Flow: in ← a grant, a key · out → a `Set-Cookie` header, or what `cookies().set` takes.

import { createToken, seconds, type TokenClaims } from '@tidings/node/token';
import { keyOf, type Key } from './grant.js';
import { COOKIE_BYTES_MAX } from './limits.js';

export interface CookieOptions {
  /** What the server checks tokens with. */
  key: Key;
  /** As the server has it (`tidings`). */
  name?: string | undefined;
  /** Where the server is on the application's origin (`/`). */
  path?: string | undefined;
  /** For a server on another host of the same site: `.app.example`. */
  domain?: string | undefined;
  /** `false` only for development over plain HTTP, in browsers that do not trust localhost (`true`). */
  secure?: boolean | undefined;
  sameSite?: 'lax' | 'strict' | undefined;
}

export interface TidingsCookie {
  name: string;
  value: string;
  /** What `cookies().set(name, value, options)` and `response.cookies.set` of Next.js take. */
  options: {
    httpOnly: true;
    secure: boolean;
    sameSite: 'lax' | 'strict';
    path: string;
    maxAge: number;
    domain?: string;
  };
  /** The whole `Set-Cookie` header, for everything else. */
  header: string;
}

/** A cookie with a token: scripts cannot read it, other sites cannot use it to write, and it ends with the token. */
export async function tidingsCookie(claims: TokenClaims, options: CookieOptions): Promise<TidingsCookie> {
  const value = await createToken(claims, keyOf(options.key));
  return cookie(value, seconds(claims.expiresIn), options);
}

/** What takes the cookie back at a log-out. Revoke the session too: a copy of the token would go on. */
export function clearTidingsCookie(options: Omit<CookieOptions, 'key'> = {}): TidingsCookie {
  return cookie('', 0, options);
}

function cookie(value: string, maxAge: number, options: Omit<CookieOptions, 'key'>): TidingsCookie {
  const { name = 'tidings', path = '/', domain, secure = true, sameSite = 'lax' } = options;
  if (!/^[\w.-]+$/.test(name)) throw new TypeError(`${JSON.stringify(name)} is no name of a cookie`);
  for (const part of [path, domain ?? '']) {
    if (/[;\s\0-\x1f]/.test(part)) throw new TypeError(`${JSON.stringify(part)} cannot stand in a cookie`);
  }
  const parts = [`${name}=${value}`, `Path=${path}`, `Max-Age=${maxAge}`, 'HttpOnly'];
  if (secure) parts.push('Secure');
  parts.push(sameSite === 'lax' ? 'SameSite=Lax' : 'SameSite=Strict');
  if (domain !== undefined) parts.push(`Domain=${domain}`);
  const header = parts.join('; ');
  if (header.length > COOKIE_BYTES_MAX) {
    throw new RangeError(`a cookie of ${header.length} bytes would be dropped by browsers; grant less, by patterns`);
  }
  const common = { httpOnly: true as const, secure, sameSite, path, maxAge };
  return { name, value, options: domain === undefined ? common : { ...common, domain }, header };
}
