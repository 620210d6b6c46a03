// Owns: signing tokens that carry a grant. Does not know: the server, who the user is.
// Flow: in ← a subject, patterns, how long · out → a compact JWT.

import { reasonOf, TidingsError } from './error.js';
import { RSA_BITS_MIN, SECRET_BYTES_MIN } from './limits.js';

/** A right over jobs: on ids to read, on types to create and manage, on queues to work; `*` at the end matches the rest. */
export type JobRight = '*' | `read:${string}` | `create:${string}` | `manage:${string}` | `work:${string}`;

/** What a request may do, as spec/wire.md has it. */
export interface Grant {
  /** Whose it is. It may always subscribe to `user:<sub>` and to its own jobs. */
  sub?: string | undefined;
  /** When it ends, in seconds since 1970. */
  exp?: number | undefined;
  /** Patterns of channels: a channel, or the beginning of one and `*`. */
  subscribe?: readonly string[] | undefined;
  publish?: readonly string[] | undefined;
  jobs?: readonly JobRight[] | undefined;
  /** The log-in that it belongs to, so that it can be revoked with it. */
  session?: string | undefined;
}

export interface TokenClaims extends Omit<Grant, 'sub' | 'exp'> {
  sub: string;
  /** How long it is good for: seconds, or `'90s'`, `'15m'`, `'8h'`, `'7d'`. */
  expiresIn: number | string;
  /** The token's own name, so that it alone can be revoked (made up). */
  jti?: string | undefined;
  /** Who made it, and for whom, if the server checks that. */
  issuer?: string | undefined;
  audience?: string | undefined;
}

export type TokenAlgorithm = 'HS256' | 'RS256' | 'ES256' | 'EdDSA';

export type TokenKey =
  | {
      /** Shared with the server; at least 32 bytes. */
      secret: string | Uint8Array;
      alg?: 'HS256' | undefined;
      kid?: string | undefined;
    }
  | {
      /** PKCS #8 in PEM (`BEGIN PRIVATE KEY`), a JWK, or a key of WebCrypto. */
      privateKey: string | JsonWebKey | CryptoKey;
      alg: 'RS256' | 'ES256' | 'EdDSA';
      /** Which of the server's keys it is. */
      kid?: string | undefined;
    };

interface Algorithm {
  import: RsaHashedImportParams | EcKeyImportParams | HmacImportParams | { name: 'Ed25519' };
  sign: AlgorithmIdentifier | EcdsaParams;
}

const ALGORITHMS: Record<TokenAlgorithm, Algorithm> = {
  HS256: { import: { name: 'HMAC', hash: 'SHA-256' }, sign: 'HMAC' },
  RS256: { import: { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' }, sign: 'RSASSA-PKCS1-v1_5' },
  ES256: { import: { name: 'ECDSA', namedCurve: 'P-256' }, sign: { name: 'ECDSA', hash: 'SHA-256' } },
  EdDSA: { import: { name: 'Ed25519' }, sign: 'Ed25519' },
};

const UNITS: Record<string, number> = { s: 1, m: 60, h: 3_600, d: 86_400 };

/** Signs a token with a grant: what a page sends as `Authorization: Bearer`, or has as the cookie `tidings`. */
export async function createToken(claims: TokenClaims, key: TokenKey): Promise<string> {
  const { sub, subscribe, publish, jobs, session, jti, issuer, audience } = claims;
  if (typeof sub !== 'string' || sub === '') throw keyInvalid('a token has a subject');
  const iat = Math.floor(Date.now() / 1_000);
  const payload = {
    sub,
    iat,
    exp: iat + seconds(claims.expiresIn),
    jti: jti ?? crypto.randomUUID(),
    sid: session,
    iss: issuer,
    aud: audience,
    tidings: { subscribe, publish, jobs },
  };
  const { alg, cryptoKey } = await signingKey(key);
  const head = { alg, typ: 'JWT', kid: key.kid };
  const signed = `${base64url(utf8(JSON.stringify(head)))}.${base64url(utf8(JSON.stringify(payload)))}`;
  const signature = await crypto.subtle.sign(ALGORITHMS[alg].sign, cryptoKey, utf8(signed));
  return `${signed}.${base64url(new Uint8Array(signature))}`;
}

/** Seconds of a number, or of a text with a unit. */
export function seconds(time: number | string): number {
  if (typeof time === 'number') {
    if (Number.isSafeInteger(time) && time > 0) return time;
  } else {
    const [, count, unit] = /^(\d{1,6}) ?([smhd])$/.exec(time) ?? [];
    const value = Number(count) * (UNITS[unit ?? ''] ?? Number.NaN);
    if (value > 0) return value;
  }
  throw keyInvalid(`expiresIn is ${JSON.stringify(time)}, not a whole number of seconds or such as '15m'`);
}

async function signingKey(key: TokenKey): Promise<{ alg: TokenAlgorithm; cryptoKey: CryptoKey }> {
  if ('secret' in key) {
    const secret = typeof key.secret === 'string' ? utf8(key.secret) : bytes(key.secret);
    if (secret.length < SECRET_BYTES_MIN) {
      throw keyInvalid(`a secret of ${secret.length} bytes can be guessed; HS256 needs ${SECRET_BYTES_MIN} random ones`);
    }
    const cryptoKey = await crypto.subtle.importKey('raw', secret, ALGORITHMS.HS256.import, false, ['sign']);
    return { alg: 'HS256', cryptoKey };
  }
  const { alg } = key;
  if (!Object.hasOwn(ALGORITHMS, alg) || (alg as TokenAlgorithm) === 'HS256') {
    throw keyInvalid(`a private key signs with RS256, ES256 or EdDSA, not with ${String(alg)}`);
  }
  const cryptoKey = await importPrivate(key.privateKey, ALGORITHMS[alg].import);
  const { modulusLength } = cryptoKey.algorithm as { modulusLength?: number };
  if (modulusLength !== undefined && modulusLength < RSA_BITS_MIN) {
    throw keyInvalid(`an RSA key of ${modulusLength} bits is too short; RS256 needs ${RSA_BITS_MIN}`);
  }
  return { alg, cryptoKey };
}

async function importPrivate(key: string | JsonWebKey | CryptoKey, algorithm: Algorithm['import']): Promise<CryptoKey> {
  if (typeof key === 'object' && 'algorithm' in key && 'extractable' in key) return key as CryptoKey;
  try {
    if (typeof key === 'object') {
      return await crypto.subtle.importKey('jwk', key as JsonWebKey, algorithm, false, ['sign']);
    }
    return await crypto.subtle.importKey('pkcs8', pem(key), algorithm, false, ['sign']);
  } catch (error) {
    if (error instanceof TidingsError) throw error;
    throw keyInvalid(`the private key cannot be used: ${reasonOf(error)}`, error);
  }
}

function pem(text: string): Uint8Array<ArrayBuffer> {
  const [, label, body] = /-----BEGIN ([A-Z ]+)-----([^-]+)-----END/.exec(text) ?? [];
  if (label !== 'PRIVATE KEY' || body === undefined) {
    const what = label === undefined ? 'not PEM' : `of the kind "${label}"`;
    throw keyInvalid(`the private key is ${what}; make it PKCS #8: openssl pkcs8 -topk8 -nocrypt -in key.pem`);
  }
  return Uint8Array.from(atob(body.replace(/\s+/g, '')), (char) => char.charCodeAt(0));
}

function utf8(text: string): Uint8Array<ArrayBuffer> {
  return bytes(new TextEncoder().encode(text));
}

/** On a buffer that is not shared, which WebCrypto asks for. */
function bytes(view: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(view);
}

function base64url(view: Uint8Array): string {
  let text = '';
  for (const byte of view) text += String.fromCharCode(byte);
  return btoa(text).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
}

function keyInvalid(message: string, cause?: unknown): TidingsError {
  return new TidingsError('token_unsigned', message, { committed: false, cause });
}
