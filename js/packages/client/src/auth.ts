// The token of a client.
//
// Owns: the one token that counts, and that it is asked for once at a time. Does not know: who sends it.

import { TidingsError } from './error.js';
import type { ClientOptions, TokenReason } from './options.js';

export interface Auth {
  /** Credentials are cookies. */
  readonly cookie: boolean;
  /** A ticket stands for the token also where a header could. */
  readonly query: boolean;
  /** The token to send, or `null` if cookies do; throws `token_failed`. */
  token(): Promise<string | null>;
  /** The server refused `token`; whether there is another one now. */
  rejected(token: string | null): Promise<boolean>;
  /** The token ends soon: a new one. */
  renew(): Promise<string | null>;
}

export function createAuth(option: ClientOptions['auth']): Auth {
  const source = typeof option === 'object' ? option : undefined;
  let current: Promise<string> | undefined;
  let held: string | undefined;

  const ask = (why: TokenReason): Promise<string> => {
    const asked = (async () => (held = await source!.token(why)))();
    current = asked;
    // What failed is asked for again the next time.
    asked.catch(() => {
      if (current === asked) current = undefined;
    });
    return asked.catch((cause: unknown) => {
      throw new TidingsError('token_failed', `no token: ${String(cause)}`, { cause });
    });
  };

  return {
    cookie: source === undefined,
    query: source?.send === 'query',
    async token() {
      if (source === undefined) return null;
      return current ?? ask(held === undefined ? 'first' : 'expiring');
    },
    async rejected(token) {
      if (source === undefined) return false;
      const before = await current?.catch(() => undefined);
      // Another request may have got the new one meanwhile.
      if (before !== undefined && before !== token) return true;
      return (await ask('rejected')) !== '';
    },
    async renew() {
      return source === undefined ? null : ask('expiring');
    },
  };
}
