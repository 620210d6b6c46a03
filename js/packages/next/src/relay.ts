// Owns: the bytes of an event stream on their way, and when they end. Does not know: events, who reads them.
// Flow: in ← the server's body · out → the same bytes, comments in its silence, `retry:` at the end.

import { HELLO_CHARS_MAX, KEEPALIVE_MS, PING_MS, STALL_PERIODS } from './limits.js';
import { retrySoon } from './refusal.js';

export interface RelayOptions {
  body: ReadableStream<Uint8Array>;
  /** The client is gone. Not every `fetch` ends a body that is being read when its signal is aborted. */
  signal: AbortSignal;
  /** Lets go of the server. Called once, however the stream ends. */
  onEnd(): void;
  /** The stream ends by itself after this. */
  endMs: number;
  pingMs?: number | undefined;
}

const encoder = new TextEncoder();
/** A comment is no event, and nothing that is visible to a page. */
const PING: Uint8Array = encoder.encode(':\n\n');
const LINE_FEED = 10;

/** The stream of a response. It reads no faster than its client does. */
export function relay(options: RelayOptions): ReadableStream<Uint8Array> {
  const reader = options.body.getReader();
  const { pingMs = PING_MS } = options;
  const endsAt = performance.now() + options.endMs;
  let stallMs = KEEPALIVE_MS * STALL_PERIODS;
  let hello = '';
  /** The last bytes ended an event, so that something of ours can stand behind them. */
  let isBetween = true;
  let last = LINE_FEED;
  let heardAt = performance.now();
  let timer: ReturnType<typeof setTimeout> | undefined;
  let isOver = false;
  let controller: ReadableStreamDefaultController<Uint8Array>;

  return new ReadableStream<Uint8Array>({
    start(given) {
      controller = given;
      options.signal.addEventListener('abort', () => end(false), { once: true });
      if (options.signal.aborted) end(false);
      else watch();
    },
    // One piece for each pull: what the client does not take stays with the server.
    async pull() {
      try {
        const { done, value } = await reader.read();
        if (isOver) return;
        if (done) end(false);
        else take(value);
      } catch {
        // A cut. The client resumes behind the last event that it has whole.
        end(false);
      }
    },
    // The other way to learn that the client is gone is the request's signal; on each platform one of them is broken.
    cancel() {
      isOver = true;
      letGo();
    },
  });

  function take(piece: Uint8Array): void {
    if (piece.byteLength === 0) return;
    heardAt = performance.now();
    if (hello.length < HELLO_CHARS_MAX) listen(piece);
    const final = piece[piece.byteLength - 1];
    const before = piece.byteLength > 1 ? piece[piece.byteLength - 2] : last;
    isBetween = final === LINE_FEED && before === LINE_FEED;
    last = final ?? last;
    controller.enqueue(piece);
    watch();
  }

  /** Learns how long the server may be silent. */
  function listen(piece: Uint8Array): void {
    hello += new TextDecoder().decode(piece.subarray(0, HELLO_CHARS_MAX));
    const keepalive = Number(/"keepalive_ms":(\d{1,7})/.exec(hello)?.[1]);
    if (keepalive > 0) {
      stallMs = keepalive * STALL_PERIODS;
      hello = ' '.repeat(HELLO_CHARS_MAX);
    }
  }

  /** Waits for whatever comes first: the end, the next comment, the server's being gone. */
  function watch(): void {
    clearTimeout(timer);
    const now = performance.now();
    const next = Math.min(endsAt, heardAt + stallMs, now + pingMs);
    timer = setTimeout(due, Math.max(next - now, 0));
  }

  function due(): void {
    const now = performance.now();
    if (now >= endsAt || now >= heardAt + stallMs) {
      // In mid-event the client throws away what it has of it, and gets it whole when it is back.
      end(isBetween);
      return;
    }
    // A client that does not read gets no comments either: nothing piles up.
    if (isBetween && (controller.desiredSize ?? 0) > 0) controller.enqueue(PING);
    watch();
  }

  function end(isSoon: boolean): void {
    if (isOver) return;
    isOver = true;
    if (isSoon) controller.enqueue(encoder.encode(retrySoon()));
    controller.close();
    letGo();
  }

  function letGo(): void {
    clearTimeout(timer);
    reader.cancel().catch(() => {});
    options.onEnd();
  }
}
