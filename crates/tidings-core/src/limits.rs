//! Every bound of tidings, in one place, with the reason for its number.
//!
//! Owns: numbers. Does not know: who checks them.
//! Flow: read by the parsers of this crate and by the settings of the outer ones.

/// A channel name, in bytes. It has to fit a query string a hundred times over.
pub const CHANNEL_BYTES_MAX: usize = 255;
/// An event type, in bytes.
pub const EVENT_NAME_BYTES_MAX: usize = 64;
/// A conflation key, in bytes.
pub const KEY_BYTES_MAX: usize = 128;
/// An idempotency key, in bytes, as in the IETF draft's examples with room for a prefix.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// An event id. Browsers echo it in a header; above 128 bytes the fetch standard would ask for a preflight.
pub const EVENT_ID_BYTES_MAX: usize = 40;
/// An epoch's name, in bytes.
pub const EPOCH_BYTES_MAX: usize = 12;
/// The data of one event, in bytes of JSON or text.
pub const DATA_BYTES_MAX: usize = 256 * 1024;
/// What a reader of streams allows an event to be: the envelope may spell each byte of text as `\u00XX`.
pub const EVENT_PARSE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The head of a request: what proxies allow by default.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The target of a request: a hundred channels of ordinary names fit.
pub const TARGET_BYTES_MAX: usize = 8 * 1024;
/// Header fields of a request; browsers send some 20.
pub const HEAD_FIELDS_MAX: usize = 64;
/// The body of an ordinary request.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// The body of an NDJSON batch.
pub const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Lines in an NDJSON batch; also the most events that one append may hold.
pub const BATCH_EVENTS_MAX: usize = 1_000;
/// Channels that one stream may name.
pub const STREAM_CHANNELS_MAX: usize = 100;
/// Channels that one publish may name.
pub const PUBLISH_CHANNELS_MAX: usize = 1_000;
/// The most that `from=last:N` may ask for: what retention keeps of one channel by default.
pub const FROM_LAST_MAX: usize = 10_000;
/// Events in one slice of catching up.
pub const SLICE_EVENTS_MAX: usize = 256;
/// Bytes in one slice of catching up; a single larger event is a slice of its own.
pub const SLICE_BYTES_MAX: usize = 64 * 1024;
/// Slices of all connections that are being read or wait for their socket.
pub const SLICES_BYTES_MAX: usize = 64 * 1024 * 1024;
/// `retry:` is never below this: Firefox clamps there, and others would hammer the server.
pub const RETRY_MS_MIN: u32 = 500;
/// `retry:` of a stream, in milliseconds: about what browsers do by themselves, but spread.
pub const RETRY_STREAM_MS: core::ops::Range<u32> = 2_000..4_000;
/// `retry:` of an answer to overload, in milliseconds.
pub const RETRY_OVERLOAD_MS: core::ops::Range<u32> = 5_000..15_000;
/// Patterns of a grant, and rights: as many as a stream has channels, so that a grant can name each of them.
pub const GRANT_PATTERNS_MAX: usize = 100;
/// A token id or the name of a session, in bytes.
pub const TOKEN_ID_BYTES_MAX: usize = 255;
/// How long a ticket waits for its stream, in milliseconds.
pub const TICKET_MS: u64 = 60_000;
/// Tickets that wait: a minute's worth at more than 1,600 a second.
pub const TICKETS_MAX: usize = 100_000;
/// Revocations that are kept: each takes some 300 bytes of memory, and a record of the log.
pub const REVOCATIONS_MAX: usize = 100_000;
/// How long a revocation is kept, in milliseconds, by default and at most: tokens that live longer are refused.
pub const REVOCATION_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1000;
/// Before its end, the holder of a grant hears of it, at most so early, in milliseconds.
pub const AUTH_EXPIRING_MS_MAX: u64 = 60_000;
/// `retry:` of a stream that ends because it is old, in milliseconds: it is missed by nobody.
pub const RETRY_SOON_MS: core::ops::Range<u32> = 500..1_500;
/// A job's id, in bytes: it has to fit a path, and ids of other queues have to fit it.
pub const JOB_ID_BYTES_MAX: usize = 128;
/// A text of a job's document (message, step, unit), in bytes; longer ones are cut.
pub const JOB_TEXT_BYTES_MAX: usize = 1_024;
/// `data` of a job's document, in bytes of JSON: it is sent again with every progress event.
pub const JOB_DATA_BYTES_MAX: usize = 16 * 1024;
/// `result` of a job's document, in bytes of JSON; larger ones belong into a file.
pub const JOB_RESULT_BYTES_MAX: usize = 64 * 1024;
/// Files of a job.
pub const JOB_ARTIFACTS_MAX: usize = 16;
/// The name of a file, in bytes: file systems allow 255, and programs that save it add an ending meanwhile.
pub const ARTIFACT_NAME_BYTES_MAX: usize = 250;
/// The content type of a file, in bytes: RFC 6838 allows 127 on both sides of the slash.
pub const ARTIFACT_CONTENT_TYPE_BYTES_MAX: usize = 255;
/// The address of a file that is elsewhere, in bytes: what browsers and proxies agree on.
pub const ARTIFACT_URL_BYTES_MAX: usize = 2_048;
/// Tags of a job.
pub const JOB_TAGS_MAX: usize = 16;
/// A tag of a job, in bytes.
pub const JOB_TAG_BYTES_MAX: usize = 128;
/// The name of a queue, a worker or a schedule, in bytes: it has to fit a path.
pub const JOB_NAME_BYTES_MAX: usize = 128;
/// A unique key, in bytes.
pub const JOB_UNIQUE_KEY_BYTES_MAX: usize = 128;
/// Jobs that have not ended: each takes some 3 KB of memory.
pub const JOBS_LIVE_MAX: usize = 500_000;
/// Runs of a managed job, if its maker says nothing else.
pub const JOB_ATTEMPTS_DEFAULT: u32 = 3;
/// Runs that a managed job may have.
pub const JOB_ATTEMPTS_MAX: u32 = 100;
/// Leases that a job may lose, if its maker says nothing else.
pub const JOB_STALLS_DEFAULT: u32 = 2;
/// Leases that a job may lose.
pub const JOB_STALLS_MAX: u32 = 100;
/// How far a priority may be from 0.
pub const JOB_PRIORITY_MAX: i32 = 100;
/// How far ahead a job may be scheduled, in milliseconds: a year.
pub const JOB_DELAY_MS_MAX: u64 = 366 * 24 * 60 * 60 * 1000;
/// How long a worker may be silent, in milliseconds, if nobody says otherwise: three heartbeats of 10 s.
pub const LEASE_MS_DEFAULT: u64 = 30_000;
/// How long a worker may be silent, in milliseconds.
pub const LEASE_MS: core::ops::RangeInclusive<u64> = 1_000..=3_600_000;
/// How long a lease request may wait, in milliseconds: proxies end silent requests after 30 s.
pub const LEASE_WAIT_MS_MAX: u64 = 25_000;
/// Jobs of one lease request.
pub const LEASE_JOBS_MAX: usize = 100;
/// Types that a lease request may name.
pub const LEASE_TYPES_MAX: usize = 100;
/// Leases that one request may renew.
pub const RENEW_LEASES_MAX: usize = 1_000;
/// How long a run may take, and how long an external queue may be silent, in milliseconds: up to 30 days.
pub const JOB_RUN_MS: core::ops::RangeInclusive<u64> = 1_000..=30 * 24 * 60 * 60 * 1000;
/// The wait between two attempts, in milliseconds: up to a day.
pub const BACKOFF_MS_MAX: u64 = 24 * 60 * 60 * 1000;
/// The first wait between two attempts, in milliseconds, if nobody says otherwise.
pub const BACKOFF_BASE_MS_DEFAULT: u64 = 1_000;
/// The longest wait between two attempts, in milliseconds, if nobody says otherwise.
pub const BACKOFF_MAX_MS_DEFAULT: u64 = 60_000;
/// How long a cancelled job may go on, in milliseconds, if nobody says otherwise.
pub const CANCEL_GRACE_MS_DEFAULT: u64 = 30_000;
/// How long a cancelled job may go on, in milliseconds.
pub const CANCEL_GRACE_MS_MAX: u64 = 3_600_000;
/// How long a finished job is kept, in milliseconds, if its maker says nothing else: 24 h, as events are.
pub const RESULT_MS_DEFAULT: u64 = 24 * 60 * 60 * 1000;
/// How long a finished job, or a unique key, is kept, in milliseconds: as long as a channel's record is, 7 days.
pub const RESULT_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1000;
/// Log lines or chunks of output in one report: with those of `publish_to` they are one append.
pub const JOB_ENTRIES_MAX: usize = 100;
/// A log line's message, in bytes; longer ones are cut.
pub const JOB_LOG_BYTES_MAX: usize = 16 * 1024;
/// Schedules of a server.
pub const SCHEDULES_MAX: usize = 10_000;
/// The job of a schedule, in bytes of JSON: it is stored again with each state of the schedule.
pub const SCHEDULE_JOB_BYTES_MAX: usize = 16 * 1024;
/// The interval of a schedule, in milliseconds.
pub const EVERY_MS: core::ops::RangeInclusive<u64> = 1_000..=366 * 24 * 60 * 60 * 1000;
/// How long the stream of an unknown job of another queue waits for it, in milliseconds.
pub const UNKNOWN_JOB_GRACE_MS: u64 = 10_000;
/// How long a worker is listed after it was last heard of, in milliseconds.
pub const WORKER_SEEN_MS: u64 = 120_000;
/// Workers that are remembered.
pub const WORKERS_MAX: usize = 10_000;
/// Channels that get a job's events along with its own.
pub const JOB_PUBLISH_TO_MAX: usize = 8;
/// Files that are being stored at once: each holds a descriptor and its piece of memory.
pub const UPLOADS_MAX: usize = 64;
/// The size of a stored file, in bytes.
pub const ARTIFACT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Milliseconds between two stored progress events of a job: 10 a second are more than an eye needs.
pub const JOB_PROGRESS_MS: u64 = 100;
/// How long an idempotency key is remembered, in milliseconds: 24 h.
pub const IDEMPOTENCY_MS: u64 = 24 * 60 * 60 * 1000;
/// How many idempotency keys are remembered at once; beyond, keyed publishes are refused rather than a key forgotten.
pub const IDEMPOTENCY_KEYS_MAX: usize = 2_000_000;
/// What a client may pipeline behind a stream request before its connection is closed.
pub const PIPELINED_BYTES_MAX: usize = 64 * 1024;
/// Runs (epochs) whose ids stay valid. The oldest is dropped first, and its ids then get a reset.
pub const EPOCHS_MAX: usize = 4_096;

const _: () = assert!(PUBLISH_CHANNELS_MAX <= BATCH_EVENTS_MAX);
const _: () = assert!(DATA_BYTES_MAX < BODY_BYTES_MAX && BODY_BYTES_MAX < BATCH_BYTES_MAX);
const _: () = assert!(6 * DATA_BYTES_MAX < EVENT_PARSE_BYTES_MAX);
const _: () = assert!(RETRY_MS_MIN <= RETRY_SOON_MS.start && RETRY_SOON_MS.end <= RETRY_STREAM_MS.start);
const _: () =
    assert!(RETRY_MS_MIN <= RETRY_STREAM_MS.start && RETRY_STREAM_MS.end <= RETRY_OVERLOAD_MS.start);
const _: () = assert!("job:".len() + JOB_ID_BYTES_MAX <= CHANNEL_BYTES_MAX);
const _: () = assert!("tidings:schedule:".len() + JOB_NAME_BYTES_MAX <= CHANNEL_BYTES_MAX);
// A report's entries go to the job's channel and to those that listen along, behind held progress, in one append.
const _: () = assert!((JOB_ENTRIES_MAX + 2) * (JOB_PUBLISH_TO_MAX + 1) <= BATCH_EVENTS_MAX);
const _: () = assert!(TARGET_BYTES_MAX < HEAD_BYTES_MAX);
const _: () = assert!(SLICE_BYTES_MAX <= SLICES_BYTES_MAX);
// `<epoch>-<seq>~s`: a u64 has at most 20 digits.
const _: () = assert!(EPOCH_BYTES_MAX + 1 + 20 + 2 <= EVENT_ID_BYTES_MAX);
