// Owns: every bound of this package, and why it is that number. Does not know: who keeps it.
// Flow: in ← the server's own limits (spec/wire.md), what platforms do · out → constants.

/** The body of a request: a batch at its largest. It is read whole, since not every platform sends a stream on. */
export const BODY_BYTES_MAX: number = 8 * 1024 * 1024;

/** How long the server may take to answer a request that is no stream; a document that waits for its end takes 25 s. */
export const ANSWER_MS: number = 60_000;

/** How long a response may last where nothing else is said. It is authorized anew with each reconnect. */
export const MAX_DURATION_S: number = 900;

/** A response ends this long before the platform would cut it: enough for the last bytes. */
export const END_EARLY_MS: number = 3_000;

/** A token outlives the response that it was made for by this much, so that it is the proxy that ends it, gently. */
export const TOKEN_MARGIN_S: number = 60;

/** After this much silence of the server a comment goes to the client: a write is what shows that it is gone. */
export const PING_MS: number = 15_000;

/** Without a byte for this many of its keep-alive periods, the server is gone. */
export const STALL_PERIODS: number = 2.5;

/** The keep-alive period until the server has said what it is. */
export const KEEPALIVE_MS: number = 15_000;

/** A stream's first bytes, in which the server says that. */
export const HELLO_CHARS_MAX: number = 4_096;

/** When a response ends as planned, clients come back at different times within this. */
export const RETRY_MS: readonly [number, number] = [500, 2_000];

/** When the server is away or overloaded they take longer, as with the server's own refusals. */
export const RETRY_REFUSED_MS: readonly [number, number] = [5_000, 15_000];

/** Browsers drop a larger cookie without a word. */
export const COOKIE_BYTES_MAX: number = 4_096;
