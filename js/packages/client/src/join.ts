// Adding channels to a stream that is open.
//
// Owns: the request, and what its refusals mean. Does not know: which channels are wanted, or how a new stream is opened.
// It is fetched when it is needed; where that fails, a lane opens its stream anew, as where the server cannot add channels.

import type { TidingsError } from './error.js';
import type { Context, Link } from './link.js';
import { sleep } from './pause.js';
import { isOfAChannel } from './refused.js';
import { call } from './request.js';

/** What a lane is told. */
export interface Joining {
  /** How often in a row the server did not know the stream that it has open. */
  misses: number;
  /** They are about to be told as joined, by the stream. */
  widen(channels: readonly string[]): void;
  refused(channels: readonly string[], error: TidingsError): void;
}

/** One try; whether there is no use in another one. */
export async function join(context: Context, link: Link, lane: Joining, channels: readonly string[]): Promise<boolean> {
  const { connection, signal } = link;
  // It has ended while this code was fetched.
  if (connection === null) return false;
  try {
    await addChannels(context, connection, channels);
    // What was added to a stream that is gone has to be added to the next one.
    if (signal.aborted) return false;
    lane.misses = 0;
    lane.widen(channels);
    return false;
  } catch (cause) {
    if (signal.aborted) return false;
    const error = cause as TidingsError;
    if (!isOfAChannel(error.code)) return cannot(context, link, lane, error);
    if (channels.length > 1) return each(context, link, lane, channels);
    lane.refused(channels, error);
    return false;
  }
}

/** Which of them it is that is refused, each has to be asked for alone. */
async function each(context: Context, link: Link, lane: Joining, channels: readonly string[]): Promise<boolean> {
  const { signal } = link;
  for (const channel of channels) {
    if (await join(context, link, lane, [channel])) return true;
    if (signal.aborted) break;
  }
  return false;
}

async function cannot({ api, env, errors }: Context, link: Link, lane: Joining, { code, status = 0 }: TidingsError): Promise<boolean> {
  if (code === 'connection_not_found') {
    if ((lane.misses += 1) > 1) return true;
    link.reconnect();
    return false;
  }
  // A preflight that is refused looks like a network that is down.
  const later = (errors.isPassing(status) && status !== 501) || (code === 'network' && api.ownOrigin(api.stream));
  // Who brought no credentials may name channels, but not change a stream. What else is wrong, the next stream is told.
  if (!later) return true;
  await sleep(env, 1_000 + env.random() * 1_000, link.signal);
  return false;
}

/** Adds channels; the stream itself says from where on their events come. */
export async function addChannels(context: Context, connection: string, channels: readonly string[]): Promise<void> {
  const { position } = ((await call(context, 'POST', `connections/${connection}/channels`, { body: { channels } })) || {}) as { position?: string };
  // Whoever answered is not the server: it cannot add channels.
  if (typeof position !== 'string') throw new context.errors.TidingsError('http', 'the answer names no position', { status: 501 });
}
