// Every bound of this package, and why it is this one.

/** Text of one event, in UTF-16 units. The server takes 256 KiB; an envelope may escape each byte of it to six. */
export const EVENT_CHARS_MAX: number = 2 ** 21;

/** Channels of one stream, as the server has it. */
export const STREAM_CHANNELS_MAX: number = 100;

/** Events that wait for one subscription. Beyond, it reads them from history when it gets there. */
export const QUEUE_EVENTS_MAX: number = 1_000;

/** Events of one page of history: a compromise between requests and the memory that a page takes. */
export const HISTORY_PAGE_EVENTS: number = 500;

/** What the server asks to wait is kept within these, so that neither zero nor a year comes true. */
export const RETRY_MIN_MS: number = 500;
export const RETRY_MAX_MS: number = 60_000;
export const RETRY_AFTER_MAX_MS: number = 300_000;

/** The wait that is assumed until the server says one, as its own are 2–4 s. */
export const RETRY_DEFAULT_MS: number = 2_000;

/** How often the server promises a byte, until hello says so. */
export const KEEPALIVE_DEFAULT_MS: number = 15_000;

/** Tabs that wake together do not connect in the same moment. */
export const WAKE_SPREAD_MS: number = 500;

/** A subscription that comes back within this time (a route change, React's strict mode) finds its stream. */
export const LINGER_MS: number = 500;

/** Timers hold at most 2^31 ms; what is later is looked at again then. */
export const TIMER_MAX_MS: number = 2 ** 31 - 1;

/** How long a job that the server does not know may take to appear: its queue may not have reported it yet. */
export const JOB_GRACE_MS: number = 10_000;

/** How often the tab that leads says so. */
export const SHARE_ALIVE_MS: number = 3_000;

/** A tab that is looked at takes over when it has heard nothing for this long: two signs of life may be late. */
export const SHARE_SILENCE_MS: number = 8_000;

/** A tab that has said nothing for this long is gone. Timers of hidden tabs run once a minute. */
export const SHARE_TAB_MS: number = 150_000;

/** Users whose tabs share streams in one browser at the same time; further ones have a stream for each tab. */
export const SHARE_GROUPS_MAX: number = 4;

/** How long a leader may take to answer a tab that becomes visible. */
export const SHARE_ANSWER_MS: number = 1_000;

/** The server's first bytes come with its head. Where they do not, something on the way holds them back. */
export const FIRST_BYTES_MS: number = 5_000;

/** Tabs that a SharedWorker asks for a token: the newest ones, as it does not always learn that one is gone. */
export const WORKER_TABS_MAX: number = 64;

/**
 * How long a tab may take for a token before a SharedWorker asks the next one: a log-in server may be slow, but a tab that is frozen
 * or was killed may not hold up the others for as long as a stream may be silent.
 */
export const WORKER_TOKEN_MS: number = 30_000;
