//! A log in memory that takes nothing for as long as a test says.
//!
//! Owns: when appends are refused, and how many were. Does not know: who appends.
//! Flow: an append → refused as by a full disk, or on to the log.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tidings_core::{ChannelName, Epochs, Seq};

use crate::log::memory::MemoryLog;
use crate::log::{
    AppendError, Feed, Group, Log, LogError, Outcome, ReadLimit, ReadOutcome, Retention, Stats, Want, Window,
};

#[derive(Debug)]
pub(super) struct Refusing {
    log: MemoryLog,
    refuses: AtomicBool,
    refused: AtomicUsize,
}

impl Refusing {
    pub(super) fn new() -> Self {
        Self {
            log: MemoryLog::new(Retention::default()),
            refuses: AtomicBool::default(),
            refused: AtomicUsize::default(),
        }
    }

    pub(super) fn refuse(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::SeqCst);
    }

    /// Waits until so many appends were refused.
    pub(super) async fn refused(&self, appends: usize) {
        super::until(|| self.refused.load(Ordering::SeqCst) >= appends).await;
    }
}

impl Log for Refusing {
    fn append(&self, groups: &[Group]) -> Result<Vec<Outcome>, AppendError> {
        if self.refuses.load(Ordering::SeqCst) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Err(AppendError::Full { reserve_bytes: 0 });
        }
        self.log.append(groups)
    }

    fn read(&self, wanted: &[Want<'_>], limit: ReadLimit) -> Result<ReadOutcome, LogError> {
        self.log.read(wanted, limit)
    }

    fn window(&self, channel: &ChannelName) -> Option<Window> {
        self.log.window(channel)
    }

    fn channels(&self, prefix: &str) -> Vec<(ChannelName, Window)> {
        self.log.channels(prefix)
    }

    fn unfinished(&self, prefix: &str) -> Vec<(ChannelName, Window)> {
        self.log.unfinished(prefix)
    }

    fn channels_page(
        &self,
        prefix: &str,
        after: Option<&ChannelName>,
        max: usize,
    ) -> Vec<(ChannelName, Window)> {
        self.log.channels_page(prefix, after, max)
    }

    fn head(&self) -> Seq {
        self.log.head()
    }

    fn epochs(&self) -> &Epochs {
        self.log.epochs()
    }

    fn horizon(&self) -> Seq {
        self.log.horizon()
    }

    fn before_last(&self, channels: &[ChannelName], n: usize, upto: Seq) -> Result<Seq, LogError> {
        self.log.before_last(channels, n, upto)
    }

    fn feed(&self, after: Seq, limit: ReadLimit) -> Result<Feed, LogError> {
        self.log.feed(after, limit)
    }

    fn delete(&self, channel: &ChannelName) -> Result<Option<Window>, LogError> {
        self.log.delete(channel)
    }

    fn maintain(&self, now_ms: u64) -> Result<(), LogError> {
        self.log.maintain(now_ms)
    }

    fn stats(&self) -> Stats {
        self.log.stats()
    }

    fn close(&self) -> Result<(), LogError> {
        self.log.close()
    }
}
