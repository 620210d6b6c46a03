// What a client can be told.
//
// Owns: the options and their defaults. Does not know: who acts on them.

import type { TidingsError } from './error.js';

/** Why a token is asked for: there is none yet, the one in use ends soon, or the server refused it. */
export type TokenReason = 'first' | 'expiring' | 'rejected';

export interface TokenAuth {
  token(why: TokenReason): string | Promise<string>;
  /**
   * `header` (default) sends `Authorization: Bearer`. `query` is for transports that cannot: the token is exchanged for a
   * ticket that works once, and never stands in a URL itself.
   */
  send?: 'header' | 'query' | undefined;
}

export interface RetryOptions {
  /** The longest first wait; default 500 ms. */
  base?: number | undefined;
  /** The longest wait; default 30 s. */
  max?: number | undefined;
  /** How long a stream must have been open for the waits to begin anew; default 10 s. */
  resetAfter?: number | undefined;
  /** How many tries in a row may fail before the client closes; default none. */
  limit?: number | undefined;
}

export interface ClientOptions {
  /** The stream; default `/events` on the page's origin. Its query is kept. */
  url?: string | URL | undefined;
  /** Where `/v1/…` is found; default: `url` without `events` or `v1/events` at its end. */
  api?: string | URL | undefined;
  /** Default `cookie`. */
  auth?: 'cookie' | TokenAuth | undefined;
  /** `auto` (default) is `fetch` where its bodies can be read as they come, else `eventsource`. */
  transport?: 'auto' | 'fetch' | 'eventsource' | undefined;
  /**
   * One connection for all tabs: `auto` (default) and `locks` elect a tab, `sharedworker` gives it to a SharedWorker where the
   * browser has them, `false` gives each tab its own.
   */
  share?: 'auto' | 'locks' | 'sharedworker' | false | undefined;
  /** The script of that worker, on the page's origin; default `tidings/worker.js` beside `v1`, as the server has it. */
  workerUrl?: string | URL | undefined;
  /** Who may share; default: a hash of `url` and the subject. It must change with the user. */
  shareKey?: string | undefined;
  retry?: RetryOptions | undefined;
  /** How long silence may last, in ms; default 2.5 × what the server announces. */
  stallTimeout?: number | 'auto' | undefined;
  /** What a hidden page does; default: its stream is closed after 5 minutes, and resumed when it is visible. */
  hidden?: { pauseAfter: number } | 'keep' | undefined;
  fetch?: typeof fetch | undefined;
  /** What went wrong and was survived: data that is not JSON, a handler that threw, an answer that was not a stream. */
  onError?: ((error: TidingsError) => void) | undefined;
}
