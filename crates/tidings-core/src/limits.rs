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
/// A tag or the queue of a job, in bytes.
pub const JOB_TAG_BYTES_MAX: usize = 128;
/// Runs of a job whose handler is interrupted by a crash, if its maker says nothing else.
pub const JOB_ATTEMPTS_DEFAULT: u32 = 3;
/// Runs that a job of a handler may have.
pub const JOB_ATTEMPTS_MAX: u32 = 3;
/// Channels that get a job's events along with its own.
pub const JOB_PUBLISH_TO_MAX: usize = 8;
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
const _: () =
    assert!(RETRY_MS_MIN <= RETRY_STREAM_MS.start && RETRY_STREAM_MS.end <= RETRY_OVERLOAD_MS.start);
const _: () = assert!("job:".len() + JOB_ID_BYTES_MAX <= CHANNEL_BYTES_MAX);
const _: () = assert!(SLICE_BYTES_MAX <= SLICES_BYTES_MAX);
// `<epoch>-<seq>~s`: a u64 has at most 20 digits.
const _: () = assert!(EPOCH_BYTES_MAX + 1 + 20 + 2 <= EVENT_ID_BYTES_MAX);
