//! The log: the one durable, totally ordered sequence of events of a server.
//!
//! Owns: order, durability, retention, idempotency keys and finished channels. Does not know: connections, encoding,
//! grants, or what a payload means.
//! Flow: in ← groups of events from the writer · out → records by position, for the tail and for catching up.
//!
//! The seam is the [`Log`] trait. It is blocking: one writer thread appends, a few reader threads read. Engines that
//! live elsewhere (Redis Streams, NATS JetStream) wait on those threads, not on the delivery shards.

pub mod memory;

pub mod disk;

mod keys;

#[cfg(any(test, feature = "testing"))]
pub mod conformance;
#[cfg(any(test, feature = "testing"))]
pub use crate::__log_conformance as conformance;

use std::fmt;
use std::path::PathBuf;

use bytes::Bytes;
use tidings_core::{ChannelName, Epochs, Key, Seq};

/// One event to append.
#[derive(Debug, Clone)]
pub struct Append {
    /// Where it goes.
    pub channel: ChannelName,
    /// The frame without its last line (`id: …`), encoded before the commit.
    pub body: Bytes,
    /// Never sent to anybody: a job's lease, input and counters.
    pub private: Option<Bytes>,
    /// Append only if the channel's head is this (compare and set); `Seq::ZERO` means that it has none.
    pub expected_prev: Option<Seq>,
    /// The conflation key.
    pub key: Option<Key>,
    /// Unix milliseconds, as in the frame.
    pub time_ms: u64,
    /// Past this (Unix milliseconds) the event is neither delivered nor listed.
    pub expires_at_ms: Option<u64>,
    /// What kind of event it is.
    pub flags: Flags,
}

/// What kind of event a record is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    /// It finishes its channel.
    pub is_final: bool,
    /// Its data is text rather than JSON.
    pub is_text: bool,
    /// The newest pinned event of a channel that is not finished stays readable, whatever retention does to the events
    /// before and behind it, until a newer pinned one is appended, the channel is finished, or [`Log::delete`]. Nor is
    /// its channel's record forgotten: whoever pins has to bound how many channels that makes.
    pub is_pinned: bool,
}

/// Events that are appended adjacently, all or none.
#[derive(Debug, Clone, Default)]
pub struct Group {
    /// 1 to 1,000 events.
    pub events: Vec<Append>,
    /// Makes a repeat of this group take effect once.
    pub idempotency: Option<Idempotency>,
}

/// What makes a repeated group recognisable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Idempotency {
    /// A 128-bit hash of the principal and its key.
    pub key: u128,
    /// A 128-bit hash of what was published: another one under the same key is an error of the caller.
    pub fingerprint: u128,
    /// When the publish arrived, Unix milliseconds; the key is forgotten 24 h later, independent of retention.
    pub time_ms: u64,
}

/// What became of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is durable: one entry per event, in order.
    Appended(Vec<Appended>),
    /// The same group was appended before: its events stand at `first`, `first + 1`, ….
    Duplicate {
        /// The sequence of the first event of the first time.
        first: Seq,
        /// How many events it had.
        count: u32,
    },
    /// Nothing of it was appended.
    Refused(Refusal),
}

/// Where an event came to stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Its own sequence.
    pub seq: Seq,
    /// The channel's previous one, `Seq::ZERO` if it had none.
    pub prev: Seq,
}

/// Why a group was not appended, though the log works.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The key was used for something else.
    #[error("the idempotency key was used before with another body")]
    KeyReused,
    /// Too many keys are remembered; forgetting one could repeat an event.
    #[error("too many idempotency keys are remembered")]
    KeysFull,
    /// The channel is finished.
    #[error("channel {channel} is finished")]
    Finished {
        /// Which event of the group.
        index: usize,
        /// Its channel.
        channel: ChannelName,
    },
    /// The channel's head is not what the caller expected.
    #[error("the head of channel {channel} is {prev}, not what was expected")]
    PrevMismatch {
        /// Which event of the group.
        index: usize,
        /// Its channel.
        channel: ChannelName,
        /// The channel's head.
        prev: Seq,
    },
}

/// Why a whole append failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// No space, noticed before anything was written: nothing was committed, and appending works again when there is room.
    #[error("the disk has less free space than the reserve of {reserve_bytes} bytes")]
    Full {
        /// The reserve that is kept free.
        reserve_bytes: u64,
    },
    /// An earlier write or fsync failed: this log never acknowledges again until it is reopened.
    #[error("the log is poisoned by an earlier failure: {0}")]
    Poisoned(String),
    /// The write or fsync of this append failed: it may or may not be found after a restart.
    #[error("the append failed after it began")]
    OutcomeUnknown(#[source] std::io::Error),
    /// A bound was broken by the caller: more than 1,000 events in a group, or a record larger than a segment.
    #[error("the group is too large to append")]
    TooLarge,
}

/// A channel to read, from a position of its own.
#[derive(Debug, Clone, Copy)]
pub struct Want<'a> {
    /// Which channel.
    pub channel: &'a ChannelName,
    /// Only events behind this position.
    pub after: Seq,
}

/// The bounds of one read.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimit {
    /// Nothing above this: the head that the reader loaded before it began.
    pub upto: Seq,
    /// At most this many events.
    pub events_max: usize,
    /// At most this many bytes of bodies, but at least one event.
    pub bytes_max: usize,
}

/// One event as it was appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its position.
    pub seq: Seq,
    /// The channel's previous event, `Seq::ZERO` if there was none. It shows a hole on every engine.
    pub prev: Seq,
    /// Its channel.
    pub channel: ChannelName,
    /// The frame without its last line.
    pub body: Bytes,
    /// Never sent.
    pub private: Option<Bytes>,
    /// The conflation key.
    pub key: Option<Key>,
    /// Unix milliseconds.
    pub time_ms: u64,
    /// Past this it is neither delivered nor listed.
    pub expires_at_ms: Option<u64>,
    /// What kind of event it is.
    pub flags: Flags,
}

/// What a read found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadOutcome {
    /// Everything the channels hold up to `to`, in order of sequence. `to` is the limit's `upto`, unless the limit cut the
    /// read short: then it is the last event's sequence. No events means that the reader has caught up.
    Events {
        /// In order of sequence.
        records: Vec<Record>,
        /// Complete up to here.
        to: Seq,
    },
    /// Of some channels, events behind the wanted position are gone. Nothing was read.
    Truncated {
        /// Indexes into the wanted channels, with their floors.
        channels: Vec<(usize, Seq)>,
    },
    /// A part of the log turned out unreadable. Whatever these channels hold up to `resume_after` is lost to this reader.
    Corrupt {
        /// Go on behind this position.
        resume_after: Seq,
    },
}

/// What is retained of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The oldest event above the floor that can still be read, if any.
    pub first: Option<Seq>,
    /// The newest event ever appended.
    pub head: Seq,
    /// Everything up to here may be gone; `Seq::ZERO` if nothing is. Final events never are, and a pinned event stays
    /// readable below it.
    pub floor: Seq,
    /// The final event, if the channel is finished.
    pub finished: Option<Seq>,
    /// The newest pinned event, if the channel is not finished. It may stand below the floor, with events behind it that
    /// are gone; then only a read that ends with it finds it.
    pub pinned: Option<Seq>,
    /// Retained events above the floor.
    pub events: u64,
    /// Set when the floor was moved by [`Log::delete`] rather than by retention: the position of the deletion.
    pub deleted: Option<Seq>,
}

/// A piece of the whole log, for those who follow all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Feed {
    /// Records in order of sequence, complete up to `to`.
    Events {
        /// In order of sequence.
        records: Vec<Record>,
        /// Complete up to here.
        to: Seq,
    },
    /// Records behind the wanted position are gone: the follower has to start anew from here.
    Lagged {
        /// Everything up to here may be gone.
        floor: Seq,
    },
}

/// The event of a channel at a known place; none if it is gone or unreadable.
pub(crate) fn event_at(log: &dyn Log, channel: &ChannelName, at: Seq) -> Result<Option<Record>, LogError> {
    let wanted = [Want { channel, after: Seq(at.0.saturating_sub(1)) }];
    let limit = ReadLimit { upto: at, events_max: 1, bytes_max: usize::MAX };
    Ok(match log.read(&wanted, limit)? {
        ReadOutcome::Events { records, .. } => records.into_iter().next(),
        ReadOutcome::Truncated { .. } | ReadOutcome::Corrupt { .. } => None,
    })
}

/// What retention keeps. A channel's record outlives its events by `horizon_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// Newest events per channel. Default 10,000.
    pub events_max: u64,
    /// Age per event, milliseconds. Default 24 h.
    pub age_ms_max: u64,
    /// Bytes per channel. Default 64 MiB.
    pub channel_bytes_max: u64,
    /// Bytes of the whole log. Default 10 GiB, oldest first.
    pub log_bytes_max: u64,
    /// How long the record of a channel (head, floor, finished) outlives its last event, milliseconds. Default 7 days.
    pub horizon_ms: u64,
    /// Channel records kept at once; beyond, the longest idle ones are forgotten early and the horizon says so.
    /// One takes about 300 bytes of memory. Default 2,000,000: a million finished jobs, and as many other channels.
    pub channels_max: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            events_max: 10_000,
            age_ms_max: 24 * 60 * 60 * 1000,
            channel_bytes_max: 64 << 20,
            log_bytes_max: 10 << 30,
            horizon_ms: 7 * 24 * 60 * 60 * 1000,
            channels_max: 2_000_000,
        }
    }
}

impl Retention {
    /// Newest events per channel; a channel may hold up to an eighth more before it is trimmed.
    #[must_use]
    pub fn events_max(mut self, events: u64) -> Self {
        self.events_max = events.max(1);
        self
    }

    /// Age per event, in milliseconds.
    #[must_use]
    pub fn age_ms_max(mut self, ms: u64) -> Self {
        self.age_ms_max = ms;
        self
    }

    /// Bytes per channel.
    #[must_use]
    pub fn channel_bytes_max(mut self, bytes: u64) -> Self {
        self.channel_bytes_max = bytes;
        self
    }

    /// Bytes of the whole log on disk.
    #[must_use]
    pub fn log_bytes_max(mut self, bytes: u64) -> Self {
        self.log_bytes_max = bytes;
        self
    }

    /// How long a channel's record outlives its last event, in milliseconds.
    #[must_use]
    pub fn horizon_ms(mut self, ms: u64) -> Self {
        self.horizon_ms = ms;
        self
    }

    /// Channel records kept at once.
    #[must_use]
    pub fn channels_max(mut self, channels: usize) -> Self {
        self.channels_max = channels.max(1);
        self
    }
}

/// Figures for metrics and readiness.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes on disk, preallocated space included (memory engines: bytes held).
    pub log_bytes: u64,
    /// Channel records.
    pub channels: u64,
    /// Idempotency keys remembered.
    pub keys: u64,
    /// Commits so far.
    pub commits: u64,
    /// Seconds spent in all fsyncs so far.
    pub fsync_seconds: f64,
    /// Why appends are refused now, if they are (`poisoned: …`, `disk full: …`).
    pub refusing: Option<String>,
    /// Damaged places met while reading, each as file and offset.
    pub damaged: Vec<String>,
}

/// Why a read, a trim or a deletion failed for good.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The medium failed.
    #[error("the log could not be read or written: {context}")]
    Io {
        /// What was tried.
        context: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// An earlier write or fsync failed.
    #[error("the log is poisoned by an earlier failure: {0}")]
    Poisoned(String),
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it.
    #[error("data folder {0} is in use by another tidings process")]
    Locked(PathBuf),
    /// The folder or a file in it cannot be used.
    #[error("cannot use {path}")]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Written by a newer version.
    #[error("{path} has format version {found}; this tidings reads up to {known}")]
    Version {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version that this program reads.
        known: u32,
    },
    /// Damaged where it was durable. `tidings log verify` says more, `tidings log repair` cuts it.
    #[error(
        "{path} is damaged at offset {offset}: {what}; see `tidings log verify` and `tidings log repair`"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What was expected.
        what: String,
    },
}

/// An engine that stores events in one total order.
///
/// Every engine passes the same public conformance suite (`log::conformance`, with the feature `testing`).
pub trait Log: Send + Sync + fmt::Debug + 'static {
    /// Appends groups with one commit. When it returns, every `Appended` outcome is durable and visible to readers.
    ///
    /// Groups are judged one after the other, each seeing those before it. The total is at most 1,000 events per group.
    ///
    /// # Errors
    /// [`AppendError`]; then no group was acknowledged.
    fn append(&self, groups: &[Group]) -> Result<Vec<Outcome>, AppendError>;

    /// Reads what several channels hold behind a position, merged by sequence.
    ///
    /// A position below its channel's floor is [`ReadOutcome::Truncated`], but for a read that begins behind the event
    /// before the pinned one and does not go beyond that: nothing that it is about is gone.
    ///
    /// # Errors
    /// [`LogError`] when the medium fails; damage that can be stepped over is [`ReadOutcome::Corrupt`].
    fn read(&self, wanted: &[Want<'_>], limit: ReadLimit) -> Result<ReadOutcome, LogError>;

    /// What is retained of a channel; `None` if the log has no record of it.
    fn window(&self, channel: &ChannelName) -> Option<Window>;

    /// Every channel that the log has a record of and whose name starts with `prefix`.
    fn channels(&self, prefix: &str) -> Vec<(ChannelName, Window)>;

    /// As [`Log::channels`], without those that are finished.
    fn unfinished(&self, prefix: &str) -> Vec<(ChannelName, Window)>;

    /// At most `max` of [`Log::channels`], in an order of the engine's own, from behind `after` on; none behind the last
    /// one. If `after` was forgotten meanwhile, from the start again.
    fn channels_page(
        &self,
        prefix: &str,
        after: Option<&ChannelName>,
        max: usize,
    ) -> Vec<(ChannelName, Window)>;

    /// The newest committed sequence.
    fn head(&self) -> Seq;

    /// The runs of this log.
    fn epochs(&self) -> &Epochs;

    /// Channel records older than this position are forgotten: an id below it cannot be judged.
    fn horizon(&self) -> Seq;

    /// The position right before the `n`-th newest event over all of `channels` up to `upto`, or before their oldest if
    /// they hold fewer.
    ///
    /// # Errors
    /// [`LogError`].
    fn before_last(&self, channels: &[ChannelName], n: usize, upto: Seq) -> Result<Seq, LogError>;

    /// Reads the whole log in order of sequence.
    ///
    /// # Errors
    /// [`LogError`].
    fn feed(&self, after: Seq, limit: ReadLimit) -> Result<Feed, LogError>;

    /// Deletes what a channel holds now: its floor becomes its head, durably, before this returns. A finished channel
    /// stays finished but loses its final event's data from `read`; a pinned event is gone. `None` if there is no such
    /// channel.
    ///
    /// # Errors
    /// [`LogError`].
    fn delete(&self, channel: &ChannelName) -> Result<Option<Window>, LogError>;

    /// Applies retention, writes checkpoints and gives space back. Called from a maintenance thread about every second.
    ///
    /// Afterwards no channel is more than an eighth above its bounds, though its newest event always stays, and nothing
    /// is older than its age by more than a hundredth.
    ///
    /// # Errors
    /// [`LogError`].
    fn maintain(&self, now_ms: u64) -> Result<(), LogError>;

    /// Figures for metrics and readiness.
    fn stats(&self) -> Stats;

    /// Writes what makes the next start fast. Nothing is lost without it.
    ///
    /// # Errors
    /// [`LogError`].
    fn close(&self) -> Result<(), LogError>;
}
