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
  let why: TokenReason = 'first';

  async function ask(reason: TokenReason): Promise<string | null> {
    if (!source) return null;
    const asked = (current = (async () => source.token(reason))());
    try {
      const token = await asked;
      why = 'expiring';
      return token;
    } catch (cause) {
      // What failed is asked for again the next time.
      if (current === asked) current = undefined;
      throw new TidingsError('token_failed', `no token: ${String(cause)}`, { cause });
    }
  }

  return {
    cookie: !source,
    query: source?.send === 'query',
    token: async () => current ?? ask(why),
    async rejected(token) {
      const before = await current?.catch(() => undefined);
      // Another request may have got the new one meanwhile.
      return (before !== undefined && before !== token) || !!(await ask('rejected'));
    },
    renew: () => ask('expiring'),
  };
}
