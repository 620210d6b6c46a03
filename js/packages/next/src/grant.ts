// Owns: a grant as the token that the server checks. Does not know: requests, cookies.
// Flow: in ← what `authorize` gave · out → a token for the server, and until when.

import { createToken, type Grant, type TokenKey } from '@tidings/node/token';

/** The key that the server knows: a secret of at least 32 bytes, or what `createToken` takes. */
export type Key = string | TokenKey;

export interface Signed {
  token: string;
  subject: string;
  /** When the grant itself ends, Unix seconds; `undefined` if it does not. */
  exp: number | undefined;
}

export function keyOf(key: Key): TokenKey {
  if (typeof key !== 'string') return key;
  if (key.startsWith('tk_')) {
    throw new TypeError('an API key cannot sign for a user: give the secret that the server checks tokens with');
  }
  return { secret: key };
}

/** A token for at most `seconds`; `undefined` if the grant has ended. */
export async function sign(grant: Grant, key: Key, seconds: number): Promise<Signed | undefined> {
  const { sub, exp, subscribe, publish, jobs, session } = grant;
  if (sub === undefined || sub === '') throw new TypeError('a grant has a subject: `sub`');
  const left = exp === undefined ? seconds : Math.floor(exp) - Math.floor(Date.now() / 1_000);
  if (left <= 0) return undefined;
  const expiresIn = Math.min(left, seconds);
  const token = await createToken({ sub, subscribe, publish, jobs, session, expiresIn }, keyOf(key));
  return { token, subject: sub, exp };
}
