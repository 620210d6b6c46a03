//! The log on disk: segments of frames, one frame per commit, one fsync per frame.
//!
//! Owns: a folder of files and what they promise. Does not know: connections, encoding, grants.
//! Flow: in ← groups from the writer · out → records by position; nothing is seen before it is durable.
//!
//! The folder (0700) holds `lock`, `epochs` (the runs), `checkpoint` (what makes a start fast, and which segments there
//! must be), segments named by their first sequence, and an index beside each segment that is full. Everything that may
//! be lost can be made again from the segments; whatever contradicts them is refused with file and offset.
//!
//! Lock order: maintenance, writer, state. The state is never held while the disk is waited for.

mod checkpoint;
mod commit;
mod compact;
mod epochs;
mod format;
mod index;
pub mod io;
mod read;
mod recover;
mod retain;
mod scan;
mod segment;
mod spare;
mod state;
mod times;
pub mod tools;
mod writer;

#[cfg(test)]
mod tests;

use std::any::Any;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tidings_core::{ChannelName, Epochs, Seq, limits};

use self::io::{Disk, RealDisk};
use self::retain::Maintenance;
use self::state::State;
use self::writer::Writer;
use super::{
    AppendError, Feed, Group, Log, LogError, OpenError, Outcome, ReadLimit, ReadOutcome, Retention, Stats,
    Want, Window,
};

/// Damaged places that are remembered for readiness; the first ones say enough.
const DAMAGED_MAX: usize = 64;

/// How a log on disk is kept.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    retention: Retention,
    segment_bytes: u64,
    reserve_bytes: u64,
    keys_max: usize,
    fill_time: Duration,
    disk: Option<Arc<dyn Disk>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retention: Retention::default(),
            segment_bytes: 64 << 20,
            reserve_bytes: 512 << 20,
            keys_max: limits::IDEMPOTENCY_KEYS_MAX,
            fill_time: spare::FILL_TIME,
            disk: None,
        }
    }
}

impl Options {
    /// What is kept. Default: [`Retention::default`].
    #[must_use]
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// Bytes that are allocated at once, 4 KiB to 1 GiB. Default 64 MiB.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes.clamp(4 << 10, 1 << 30);
        self
    }

    /// Free space below which nothing is appended. Default 512 MiB.
    #[must_use]
    pub fn reserve_bytes(mut self, bytes: u64) -> Self {
        self.reserve_bytes = bytes;
        self
    }

    /// Idempotency keys that are remembered at once. Default [`limits::IDEMPOTENCY_KEYS_MAX`].
    #[must_use]
    pub fn keys_max(mut self, keys: usize) -> Self {
        self.keys_max = keys;
        self
    }

    /// Another disk than the machine's, for tests.
    #[must_use]
    pub fn disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.disk = Some(disk);
        self
    }
}

/// A log in a folder.
pub struct DiskLog {
    disk: Arc<dyn Disk>,
    options: Options,
    epochs: Epochs,
    writer: Mutex<Writer>,
    state: RwLock<State>,
    head: AtomicU64,
    poisoned: OnceLock<String>,
    damaged: Mutex<Vec<String>>,
    maintenance: Mutex<Maintenance>,
    figures: Figures,
    /// The folder is ours; none once the log was closed.
    lock: Mutex<Option<Box<dyn Any + Send + Sync>>>,
}

#[derive(Debug, Default)]
struct Figures {
    commits: AtomicU64,
    fsync_ns: AtomicU64,
    keys: AtomicU64,
    is_full: AtomicBool,
}

impl DiskLog {
    /// Opens the log in a folder, or makes one, and opens a new run in it.
    ///
    /// # Errors
    /// [`OpenError`]; nothing is changed then, except that a commit which was not completed may have been cut.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        let disk = options.disk.clone().unwrap_or_else(|| Arc::new(RealDisk::new(path.as_ref())));
        let failed = |error| recover::io_error(&*disk, "", error);
        disk.create_folder().map_err(failed)?;
        let Some(lock) = disk.lock().map_err(failed)? else {
            return Err(OpenError::Locked(disk.path().to_owned()));
        };
        let recover::Recovered { state, writer, epochs, maintenance } = recover::recover(&*disk, &options)?;
        let figures =
            Figures { keys: AtomicU64::new(format::len64(writer.keys.len())), ..Figures::default() };
        Ok(Self {
            head: AtomicU64::new(writer.head.0),
            disk,
            options,
            epochs,
            writer: Mutex::new(writer),
            state: RwLock::new(state),
            poisoned: OnceLock::new(),
            damaged: Mutex::new(Vec::new()),
            maintenance: Mutex::new(maintenance),
            figures,
            lock: Mutex::new(Some(lock)),
        })
    }

    fn head_now(&self) -> Seq {
        Seq(self.head.load(Ordering::Acquire))
    }

    // A reader that panics changes nothing, so its panic says nothing about the state.
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A writer that panicked may have left half a commit in memory: nothing is acknowledged after that.
    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(|poisoned| {
            self.poison("a writer panicked");
            poisoned.into_inner()
        })
    }

    fn poison(&self, why: &str) {
        if self.poisoned.set(why.to_owned()).is_ok() {
            tracing::error!(why, "the log is poisoned: nothing is acknowledged until it is opened again");
        }
    }

    fn windows_of(&self, names: Vec<ChannelName>) -> Vec<(ChannelName, Window)> {
        names.into_iter().filter_map(|name| self.window_of(&name).map(|window| (name, window))).collect()
    }

    fn note_damage(&self, file: &str, offset: u64) {
        let place = format!("{}: offset {offset}", self.disk.path().join(file).display());
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        if damaged.len() < DAMAGED_MAX && !damaged.contains(&place) {
            tracing::error!(place, "the log is damaged here");
            damaged.push(place);
        }
    }
}

impl fmt::Debug for DiskLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskLog")
            .field("path", &self.disk.path())
            .field("epoch", &self.epochs.newest())
            .field("head", &self.head_now())
            .finish_non_exhaustive()
    }
}

impl Log for DiskLog {
    fn append(&self, groups: &[Group]) -> Result<Vec<Outcome>, AppendError> {
        self.append_groups(groups)
    }

    fn read(&self, wanted: &[Want<'_>], limit: ReadLimit) -> Result<ReadOutcome, LogError> {
        self.read_channels(wanted, limit)
    }

    fn window(&self, channel: &ChannelName) -> Option<Window> {
        self.window_of(channel)
    }

    fn channels(&self, prefix: &str) -> Vec<(ChannelName, Window)> {
        let names = self.state().names(prefix, |_| true);
        self.windows_of(names)
    }

    fn unfinished(&self, prefix: &str) -> Vec<(ChannelName, Window)> {
        let names = self.state().names(prefix, |channel| !channel.is_finished);
        // Meanwhile some may have finished.
        self.windows_of(names).into_iter().filter(|(_, window)| window.finished.is_none()).collect()
    }

    fn channels_page(
        &self,
        prefix: &str,
        after: Option<&ChannelName>,
        max: usize,
    ) -> Vec<(ChannelName, Window)> {
        let names = self.state().names_behind(prefix, after, max);
        self.windows_of(names)
    }

    fn head(&self) -> Seq {
        self.head_now()
    }

    fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    fn horizon(&self) -> Seq {
        self.state().horizon
    }

    fn before_last(&self, channels: &[ChannelName], n: usize, upto: Seq) -> Result<Seq, LogError> {
        let upto = upto.min(self.head_now());
        if n == 0 {
            return Ok(upto);
        }
        Ok(self.newest_places(channels, n, upto).map_or(upto, |seq| Seq(seq.0.saturating_sub(1))))
    }

    fn feed(&self, after: Seq, limit: ReadLimit) -> Result<Feed, LogError> {
        self.read_feed(after, limit)
    }

    fn delete(&self, channel: &ChannelName) -> Result<Option<Window>, LogError> {
        self.delete_channel(channel)
    }

    fn maintain(&self, now_ms: u64) -> Result<(), LogError> {
        self.maintain_now(now_ms)
    }

    fn stats(&self) -> Stats {
        let (channels, log_bytes) = {
            let state = self.state();
            let bytes = state.segments.iter().map(segment::Segment::bytes).sum();
            (format::len64(state.channels_len()), bytes)
        };
        let refusing = match self.poisoned.get() {
            Some(why) => Some(format!("poisoned: {why}")),
            None if self.figures.is_full.load(Ordering::Relaxed) => {
                Some(format!("disk full: less than {} bytes are free", self.options.reserve_bytes))
            }
            None => None,
        };
        Stats {
            log_bytes,
            channels,
            keys: self.figures.keys.load(Ordering::Relaxed),
            commits: self.figures.commits.load(Ordering::Relaxed),
            fsync_seconds: Duration::from_nanos(self.figures.fsync_ns.load(Ordering::Relaxed)).as_secs_f64(),
            refusing,
            damaged: self.damaged.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    fn close(&self) -> Result<(), LogError> {
        let closed = self.close_now();
        self.give_up_folder();
        closed
    }
}
