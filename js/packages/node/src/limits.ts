// Owns: every bound of this package, and why it is that number. Does not know: who keeps it.
// Flow: in ← the server's own limits (spec/wire.md) · out → constants.

/** How long one attempt may take; the server itself gives up waiting for a commit after 5 s. */
export const ATTEMPT_MS: number = 30_000;

/** Attempts at a request that may be repeated. */
export const ATTEMPTS_MAX: number = 5;

/** The random part of the first wait is below this; it doubles with every attempt. */
export const RETRY_BASE_MS: number = 500;

/** The random part of a wait never exceeds this. */
export const RETRY_MAX_MS: number = 30_000;

/** A caller waits for the answer, so `Retry-After` counts up to this for a request. */
export const RETRY_AFTER_MAX_MS: number = 10_000;

/** What a server or proxy asks a stream or a worker to wait counts up to this. */
export const RETRY_FLOOR_MAX_MS: number = 600_000;

/** An answer that is read whole: a result line for each of 1,000 lines of a batch, or a document. */
export const ANSWER_BYTES_MAX: number = 1024 * 1024;

/** A page of a list: 1,000 documents that are nearly all empty, or a few at their largest. */
export const PAGE_BYTES_MAX: number = 16 * 1024 * 1024;

/** What one leased job takes in an answer: its input, and what is around it. */
export const LEASED_BYTES_MAX: number = 272 * 1024;

/** Text of an answer that is repeated in an error. */
export const SHOWN_CHARS_MAX: number = 200;

/** How long one request waits for the end of a job, or for jobs to lease: what the server allows. */
export const WAIT_MS: number = 25_000;

/** An answer that was to wait and came earlier than this came too early, and the next one is asked for later. */
export const EARLY_MS: number = 1_000;

/** How much later, at most: a worker that was told to be quiet hears within this time that it may go on. */
export const EARLY_WAIT_MAX_MS: number = 5_000;

/** Jobs that a worker runs at once: one renewal has room for all. */
export const CONCURRENCY_MAX: number = 1_000;

/** Jobs that one request for jobs may bring. */
export const LEASE_JOBS_MAX: number = 100;

/** Types that one request for jobs may name. */
export const LEASE_TYPES_MAX: number = 100;

/** How long a report of a worker is repeated while the server does not answer. A server that comes back gives every
 * lease a whole period again, so a run outlives its restart; after this, a server is not restarting but gone. */
export const PATIENCE_MS: number = 600_000;

/** How long a renewal may take before the next is tried: well below the shortest usual lease. */
export const RENEW_ATTEMPT_MS: number = 5_000;

/** Renewals are not made more often than this, whatever an answer says. */
export const RENEW_MIN_MS: number = 200;

/** Running jobs may take this long to end when the worker stops. */
export const STOP_GRACE_MS: number = 30_000;

/** A handler that was told to stop for good may take this long to notice, before its slot goes to another job. */
export const ABANDON_MS: number = 5_000;

/** When the grace of a stopping worker is over, handlers may take this long yet to notice and clean up. */
export const GIVE_BACK_MS: number = 2_000;

/** How long giving a job back may take. After that its lease has to expire. */
export const RELEASE_MS: number = 5_000;

/** Progress is sent at most this often; the server stores no more than 10 reports a second. */
export const PROGRESS_EVERY_MS: number = 100;

/** Log lines, or pieces of output, in one report. */
export const ENTRIES_MAX: number = 100;

/** A report is closed when its entries have this many characters: of the server's 1 MiB for a body, in the worst of
 * encodings (3 bytes a character). */
export const ENTRIES_CHARS_MAX: number = 300_000;

/** Reports that wait to be sent for one job. Who awaits each report never comes near it. */
export const REPORTS_WAITING_MAX: number = 10_000;

/** Attempts at an upload that can be read again. One that is refused before its last byte was sent looks like a lost
 * connection, so there are few; together they outlast a restart of the server. */
export const UPLOADS_MAX: number = 8;

/** When nothing of an upload was taken for this long, the server or the way to it is gone. It has to write the last
 * piece durably too. */
export const UPLOAD_STALL_MS: number = 90_000;

/** One event of a job's stream: its document with a result and data at their largest, escaped. */
export const EVENT_CHARS_MAX: number = 2 * 1024 * 1024;

/** No byte of a stream for this many of the server's keep-alive periods: the connection is dead. */
export const STALL_PERIODS: number = 2.5;

/** The keep-alive period until the server has said what it is. */
export const KEEPALIVE_MS: number = 15_000;

/** A stream that was open for this long begins again with the shortest wait. */
export const RETRY_RESET_MS: number = 10_000;

/** A shorter secret of HS256 can be guessed offline from one token. */
export const SECRET_BYTES_MIN: number = 32;

/** A shorter RSA key is not worth signing with. */
export const RSA_BITS_MIN: number = 2_048;
