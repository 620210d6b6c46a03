// The life of the grant of an open stream.
//
// Owns: when new credentials are brought, and how; what follows when a grant has ended. Does not know: what a token is.
// It is fetched when a stream says of its grant that it ends; where that fails, the stream ends with its grant, and the next one
// is asked for as after any other end.

import type { TidingsError } from './error.js';
import type { Context, Said } from './link.js';
import { sleep } from './pause.js';
import { call } from './request.js';
import type { Outcome } from './transport.js';

/** A stream whose grant ends, or has ended. */
export interface Granted {
  /** The server's name of the stream. */
  readonly connection: string | null;
  /** Another token has already been asked for, for this stream. */
  readonly renewed: boolean;
  /** Aborted with the stream, or when there is more to say. */
  readonly signal: AbortSignal;
  /** Opens the next one. */
  reconnect(): void;
  end(outcome: Outcome): void;
}

/** Heeds what the stream has said in an event of the server. */
export function heed(context: Context, stream: Granted, word: string, { expires_at: expiresAt, code = word, channels }: Said): void | Promise<void> {
  if (word === 'unauthorized') return unauthorized(context, stream, code, channels);
  void renew(context, stream, expiresAt, word === 'auth_expiring');
}

/** Brings new credentials at 80 % of the life of the grant, or when the server says that it is urgent, again and again. */
async function renew(context: Context, stream: Granted, expiresAt: unknown, urgent: boolean): Promise<void> {
  const { auth, env, report } = context;
  const { connection, signal } = stream;
  const leftMs = (): number => Number(expiresAt) - env.now();
  // When cookies are renewed is not for this client to say.
  if (auth.cookie && !urgent) return;
  let waitMs = urgent ? 0 : 0.8 * leftMs();
  for (;;) {
    if (waitMs > 0) await sleep(env, waitMs, signal);
    if (signal.aborted) return;
    let token: string | null;
    try {
      token = await auth.renew();
    } catch (cause) {
      report(cause as TidingsError);
      // Again when half of what is left has passed; the server's own word is `tidings.unauthorized`.
      waitMs = leftMs() / 2;
      if (waitMs > 1_000) continue;
      return;
    }
    if (signal.aborted) return;
    try {
      const answer = (await call(context, 'POST', `connections/${connection}/auth`, { body: {}, token })) as { expires_at?: unknown } | null;
      expiresAt = answer?.expires_at;
    } catch {
      // Not on the open stream, so on the next one, with the new token.
      if (!signal.aborted && !auth.cookie) stream.reconnect();
      return;
    }
    if (auth.cookie || typeof expiresAt !== 'number') return;
    waitMs = 0.8 * leftMs();
  }
}

/** The grant ended in mid-stream: perhaps there is another token. If it covers all but these, the others go on with it. */
async function unauthorized({ auth }: Context, stream: Granted, code: string, channels: readonly string[] | undefined): Promise<void> {
  const outcome: Outcome = { reason: { code: code === 'forbidden' ? code : 'unauthorized', message: `the stream was refused: ${code}` }, channels };
  try {
    if (channels) outcome.final = code;
    else if (!stream.renewed && (await auth.rejected(await auth.token()))) outcome.now = true;
    else outcome.final = 'unauthorized';
  } catch (cause) {
    // That there is no token just now says nothing about the next one.
    outcome.error = cause as TidingsError;
  }
  if (!stream.signal.aborted) stream.end(outcome);
}
