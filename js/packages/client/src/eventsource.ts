// One attempt at a stream, over the browser's `EventSource`.
//
// Owns: which event types it listens for, and making blocks of them. Does not know: statuses, comments and `retry`, which it
// cannot see: a stream that is finished looks like one that failed, and one that is half-open like a quiet one.

import type { Api } from './api.js';
import { EVENT_CHARS_MAX } from './limits.js';
import type { Block } from './parse.js';
import type { Outcome, Transport } from './transport.js';

const CONTROL = ['hello', 'cursor', 'reset', 'drain', 'auth_expiring', 'unauthorized'].map((name) => `tidings.${name}`);
/** What `envelope=json` does not wrap. */
const JOB = ['progress', 'log', 'output', 'complete', 'failed'];

export function eventSourceTransport(Source: typeof EventSource, api: Api): Transport {
  return ({ url, signal }, sink) =>
    new Promise((resolve) => {
      url.searchParams.set('envelope', 'json');
      const source = new Source(url.href, { withCredentials: api.credentials(url) === 'include' });
      const queue: Block[] = [];
      let draining = false;
      let broken = false;

      const end = (outcome: Outcome): void => {
        source.close();
        signal.removeEventListener('abort', aborted);
        resolve(outcome);
      };
      const aborted = (): void => end({ reason: { code: 'aborted', message: 'it was closed' } });
      if (signal.aborted) return aborted();
      signal.addEventListener('abort', aborted);

      const drain = async (): Promise<void> => {
        if (draining) return;
        draining = true;
        for (let block = queue.shift(); block !== undefined && !signal.aborted; block = queue.shift()) {
          const held = sink.block(block);
          if (held !== undefined) await held;
        }
        draining = false;
        // What came before may say why it broke.
        if (broken) end({ reason: { code: 'network', message: 'the EventSource failed' } });
      };
      const take = ({ type, data, lastEventId }: MessageEvent<string>): void => {
        sink.alive();
        queue.push(blockOf(type, data, lastEventId, url));
        void drain();
      };

      source.onopen = () => sink.open();
      for (const type of ['message', ...CONTROL, ...JOB]) source.addEventListener(type, take as EventListener);
      source.addEventListener('error', (event) => {
        if (typeof (event as MessageEvent).data === 'string') return take(event as MessageEvent<string>);
        // It would connect again by itself.
        source.close();
        broken = true;
        void drain();
      });
    });
}

function blockOf(type: string, data: string, lastEventId: string, url: URL): Block {
  const block: Block = { event: type, data, id: lastEventId || undefined, tooLarge: data.length > EVENT_CHARS_MAX };
  if (type.startsWith('tidings.') || block.tooLarge) return block;
  try {
    const json = JSON.parse(data) as Record<string, unknown>;
    if (type !== 'message') {
      if (url.searchParams.has('channel')) block.channel = channelOf(type, `job:${String(json['jobId'])}`, url.searchParams.getAll('channel'));
    } else if (typeof json['channel'] === 'string' && 'data' in json) {
      block.event = String(json['event']);
      block.channel = json['channel'];
      block.time = Number(json['time']);
      block.from = typeof json['from'] === 'string' ? json['from'] : undefined;
      block.data = json['is_text'] === true ? String(json['data']) : JSON.stringify(json['data']);
      if (json['id'] === null) block.id = undefined;
    }
  } catch {
    // What is not JSON is reported where data is read.
  }
  return block;
}

/**
 * A job's event names no channel, but its job. Where the stream does not have that (it says so before it sends anything of one that
 * joins), the event is there for a channel of `publish_to`, and the first one that is no job's is the best guess. Only there is
 * a failure called `failed`.
 */
function channelOf(type: string, job: string, channels: readonly string[]): string {
  if (channels.includes(job) && type !== 'failed') return job;
  return channels.find((channel) => !channel.startsWith('job:')) ?? job;
}
