// Which channels of a stream it is that are refused.
//
// Owns: asking for fewer and fewer of them. Does not know: why they are, or what is opened in place of the stream.
// It is fetched when a stream is refused for its channels; where that fails, it is refused as a whole.

import type { Context } from './link.js';
import type { Outcome } from './transport.js';

/** Whether a refusal is about a channel, not about the caller. */
export function isOfAChannel(code: string): boolean {
  return /^(forbidden$|channel)/.test(code);
}

/** Those in `url` that are refused with the status of the whole. `HEAD` is judged as the stream is, and opens none. */
export async function refusedOf({ api, errors }: Context, url: URL, { final = '', reason: { status } }: Outcome, signal: AbortSignal): Promise<string[]> {
  async function isRefused(channels: readonly string[]): Promise<boolean> {
    const asked = new URL(url);
    // It works once, so the token goes itself.
    asked.searchParams.delete('ticket');
    asked.searchParams.delete('channel');
    for (const channel of channels) asked.searchParams.append('channel', channel);
    const headers = { accept: 'text/event-stream, application/problem+json' };
    const answer = await api.fetch(asked, { method: 'HEAD', headers, cache: 'no-store', signal });
    // It says nothing about channels: the whole is tried again later.
    if (errors.isPassing(answer.status)) throw await errors.problem(answer);
    return answer.status === status;
  }

  async function among(refused: string[]): Promise<string[]> {
    if (refused.length < 2) return refused;
    const half = refused.length >> 1;
    const parts = [refused.slice(0, half), refused.slice(half)];
    // Together, or a hundred would take longer than a stream may be silent.
    const found = await Promise.all(parts.map(async (part) => ((await isRefused(part)) ? among(part) : [])));
    return found.flat();
  }

  return isOfAChannel(final) ? among(url.searchParams.getAll('channel')) : [];
}
