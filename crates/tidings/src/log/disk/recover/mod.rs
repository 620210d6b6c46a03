//! Opening a folder.
//!
//! Owns: telling a commit that was not completed from damage, and refusing what would be a silent gap. Does not know:
//! appending.
//! Flow: in ← the files of a folder · out → the state they stand for, or a refusal that names file and offset.
//!
//! Three kinds of files watch over each other: the runs in `epochs` say how far the log reached when they began, the
//! checkpoint says which segments there must be and how far the newest one reached, and every frame names its run. So
//! an older copy of one of them does not pass; an older copy of all of them does, and its new run resets who saw more.

mod present;
mod replay;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tidings_core::{ChannelName, Epochs, Seq};

use self::replay::Extent;
use super::checkpoint::{self, Checkpoint};
use super::format::{BadStart, SEGMENT_HEADER, VERSION, len64};
use super::index;
use super::io::{Access, Disk, read_exact};
use super::retain::Maintenance;
use super::scan::{self, Rest, Scanned};
use super::segment::{Index, Life, MemoryIndex, Segment, SegmentFile, segment_name};
use super::spare::SPARE;
use super::state::{NameHash, State};
use super::writer::{Writer, begin_segment, new_segment};
use super::{Options, epochs};
use crate::log::OpenError;
use crate::log::keys::Keys;

/// A folder that was read.
pub(super) struct Recovered {
    pub(super) state: State,
    pub(super) writer: Writer,
    pub(super) epochs: Epochs,
    pub(super) maintenance: Maintenance,
}

/// Reads a folder and opens a new run in it. The folder must be locked.
pub(super) fn recover(disk: &dyn Disk, options: &Options) -> Result<Recovered, OpenError> {
    if is_there(disk, REPAIRING).map_err(|e| io_error(disk, REPAIRING, e))? {
        return Err(damaged(disk, REPAIRING, 0, "a repair was interrupted, and has to be run again"));
    }
    read(disk, options, Access::Write)?.open_run()
}

/// Reads a folder as [`recover`] does, and changes nothing.
pub(super) fn inspect(disk: &dyn Disk, options: &Options) -> Result<(), OpenError> {
    read(disk, options, Access::Read).map(drop)
}

/// Whether there is a file of this name.
pub(super) fn is_there(disk: &dyn Disk, name: &str) -> io::Result<bool> {
    match disk.open(name, Access::Read) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn read<'a>(disk: &'a dyn Disk, options: &'a Options, access: Access) -> Result<Recovery<'a>, OpenError> {
    let mut recovery = Recovery::begin(disk, options, access)?;
    let segments = recovery.present_segments()?;
    let segments: Vec<Arc<SegmentFile>> = segments.into_iter().map(Arc::new).collect();
    // While one segment goes into the state, the next one is read and its checksums are computed.
    std::thread::scope(|scope| {
        let unknown = segments.iter().filter(|segment| recovery.known_last(&segment.header).is_none());
        let mut unknown = unknown.cloned().collect::<Vec<_>>().into_iter();
        let mut load = || unknown.next().map(|segment| scope.spawn(move || load(&segment)));
        let mut ahead = load();
        for (index, segment) in segments.iter().enumerate() {
            let scanned = match recovery.known_last(&segment.header) {
                Some(_) => None,
                None => std::mem::replace(&mut ahead, load()).and_then(|loaded| loaded.join().ok()),
            };
            recovery.read_segment(segment, index + 1 == segments.len(), scanned)?;
        }
        Ok(())
    })?;
    recovery.check_promises()?;
    Ok(recovery)
}

fn load(segment: &SegmentFile) -> io::Result<Scanned> {
    let len = usize::try_from(segment.file.len()?).map_err(io::Error::other)?;
    Ok(Scanned::new(read_exact(&*segment.file, 0, len)?, segment.header.salt))
}

/// Stands in the folder while it is being repaired.
pub(super) const REPAIRING: &str = "repairing";

struct Recovery<'a> {
    disk: &'a dyn Disk,
    options: &'a Options,
    access: Access,
    epochs: Option<Epochs>,
    checkpoint: Option<Checkpoint>,
    state: State,
    keys: Keys,
    head: Seq,
    /// The newest segment and its capacity.
    newest: Option<(Arc<SegmentFile>, u64)>,
    /// Files that an interruption left behind.
    leftovers: Vec<String>,
    /// Ids of channels that are forgotten, but have events in the segment that is being read.
    forgotten: HashMap<ChannelName, u64>,
    /// What has to be written to the newest segment before anything is shown.
    kept: Option<Kept>,
}

/// The end of the newest segment, as it has to be from now on.
struct Kept {
    offset: u64,
    bytes: Vec<u8>,
}

impl<'a> Recovery<'a> {
    fn begin(disk: &'a dyn Disk, options: &'a Options, access: Access) -> Result<Self, OpenError> {
        let epochs = match epochs::read(disk).map_err(|e| io_error(disk, epochs::NAME, e))? {
            None => None,
            Some(Ok(epochs)) => Some(epochs),
            Some(Err(bad)) => return Err(bad_start(disk, epochs::NAME, &bad)),
        };
        let checkpoint = match checkpoint::read(disk).map_err(|e| io_error(disk, checkpoint::NAME, e))? {
            None => None,
            Some(Ok(checkpoint)) => Some(checkpoint),
            Some(Err(bad)) => return Err(bad_start(disk, checkpoint::NAME, &bad)),
        };
        let seed = getrandom::u64().map_err(|e| io_error(disk, "", io::Error::other(e.to_string())))?;
        let mut recovery = Self {
            disk,
            options,
            access,
            epochs,
            checkpoint,
            state: State::new(options.retention, NameHash(seed)),
            keys: Keys::new(options.keys_max),
            head: Seq::ZERO,
            newest: None,
            leftovers: Vec::new(),
            forgotten: HashMap::new(),
            kept: None,
        };
        recovery.restore();
        Ok(recovery)
    }

    /// Begins with what the checkpoint knows.
    fn restore(&mut self) {
        let Some(checkpoint) = &mut self.checkpoint else { return };
        self.state.log_floor = checkpoint.log_floor;
        self.state.horizon = checkpoint.horizon;
        self.state.gone = checkpoint.gone;
        std::mem::take(&mut checkpoint.times).into_iter().for_each(|step| self.state.times.restore(step));
        self.state.restore(std::mem::take(&mut checkpoint.channels));
        for (idempotency, first, count) in std::mem::take(&mut checkpoint.keys) {
            self.keys.remember(idempotency, first, count);
        }
    }

    /// Takes a segment into the state; it is read here unless that has been done.
    fn read_segment(
        &mut self,
        segment: &Arc<SegmentFile>,
        is_newest: bool,
        scanned: Option<io::Result<Scanned>>,
    ) -> Result<(), OpenError> {
        let known_last = self.known_last(&segment.header);
        let first = segment.header.first;
        if known_last.is_none() {
            let expected = self.head.next();
            let is_start = self.newest.is_none()
                || self.checkpoint.as_ref().is_some_and(|c| c.position.segment == first);
            if !is_start && first != expected {
                let what = format!("a segment that starts with {expected} is missing before it");
                return Err(damaged(self.disk, &segment.name, 0, &what));
            }
        }
        let (disk, name) = (self.disk, &segment.name);
        let failed = |e| io_error(disk, name, e);
        let len = segment.file.len().map_err(failed)?;
        if let Some(last) = known_last
            && let Some((sealed, found, data_end)) = index::open_extent(disk, segment)
            && found == last
        {
            if len < data_end {
                return Err(damaged(disk, name, len, "the file ends early"));
            }
            let index = Index::Sealed(Arc::new(sealed));
            self.push(segment, last, data_end, len, index);
            return Ok(());
        }
        self.head = Seq(first.0.saturating_sub(1));
        let start = len64(SEGMENT_HEADER);
        self.push(segment, self.head, start, len, Index::Memory(Arc::new(MemoryIndex::default())));
        let scanned = scanned.unwrap_or_else(|| load(segment)).map_err(failed)?;
        let extent = self.read_frames(segment, &scanned, known_last.is_some())?;
        self.check_rest(segment, &scanned.bytes, extent, is_newest)?;
        if let Some(last) = known_last {
            self.close_known(segment, last, len64(extent.end))?;
        }
        Ok(())
    }

    fn push(&mut self, shared: &Arc<SegmentFile>, last: Seq, data_end: u64, file_bytes: u64, index: Index) {
        let life = Life::default();
        let segment = Segment { shared: shared.clone(), last, data_end, file_bytes, index, life };
        self.state.segments.push(segment);
        self.forgotten.clear();
        self.newest = Some((shared.clone(), file_bytes));
        self.head = last;
    }

    /// A segment that the checkpoint knows must reach as far as it did.
    fn close_known(&mut self, shared: &SegmentFile, last: Seq, end: u64) -> Result<(), OpenError> {
        if self.head < last && shared.header.covers.is_none() {
            let what = format!("it ends with sequence {}, not {last}", self.head);
            return Err(damaged(self.disk, &shared.name, end, &what));
        }
        self.head = last;
        if let Some(segment) = self.state.segments.last_mut() {
            segment.last = last;
        }
        Ok(())
    }

    /// Judges what stands behind the last frame.
    ///
    /// The last frame of the newest segment may be that of an append which failed or was killed before its sync. From now
    /// on it is shown, so it has to stay; it is written again, because after a failed sync its pages count as clean.
    fn check_rest(
        &mut self,
        segment: &SegmentFile,
        bytes: &[u8],
        extent: Extent,
        is_newest: bool,
    ) -> Result<(), OpenError> {
        let Extent { last, end } = extent;
        let rest = scan::rest(bytes, end, segment.header.salt);
        let what = match rest {
            Rest::Zero | Rest::Torn(_) if is_newest => {
                let mut kept = bytes.get(last..end).unwrap_or_default().to_vec();
                if let Rest::Torn(upto) = rest {
                    tracing::warn!(
                        file = %segment.name, offset = end, bytes = upto - end,
                        "a commit was not completed and is cut; nothing of it was acknowledged"
                    );
                    kept.resize(upto - last, 0);
                }
                self.kept = Some(Kept { offset: len64(last), bytes: kept });
                return Ok(());
            }
            Rest::Zero => return Ok(()),
            Rest::Torn(_) => "expected a frame, as a later segment follows".to_owned(),
            Rest::Damaged(next) => format!("expected a frame, as one follows at offset {next}"),
        };
        Err(damaged(self.disk, &segment.name, len64(end), &what))
    }

    /// Compares what the segments hold with what other files say they must.
    fn check_promises(&self) -> Result<(), OpenError> {
        let Some(epochs) = &self.epochs else {
            return match (&self.newest, &self.checkpoint) {
                (None, None) => Ok(()),
                _ => Err(damaged(self.disk, epochs::NAME, 0, "the file is missing")),
            };
        };
        let promised = epochs.list().last().map_or(Seq::ZERO, |&(_, first)| Seq(first.0.saturating_sub(1)));
        if promised > self.head {
            let newest = self.newest.as_ref().map_or_else(|| segment_name(Seq(1)), |(s, _)| s.name.clone());
            let end = self.state.segments.last().map_or(0, |segment| segment.data_end);
            let what =
                format!("the file epochs promises sequence {promised}, but the log ends with {}", self.head);
            return Err(damaged(self.disk, &newest, end, &what));
        }
        if let Some(position) = self.checkpoint.as_ref().map(|checkpoint| checkpoint.position) {
            let oldest = epochs.list().first().map_or(Seq::ZERO, |&(_, first)| first);
            if position.head >= oldest && epochs.id(position.head).epoch != position.epoch {
                let what = format!("it does not list run {}, which the checkpoint names", position.epoch);
                return Err(damaged(self.disk, epochs::NAME, 0, &what));
            }
        }
        Ok(())
    }

    /// Opens a new run, before anything can be appended.
    fn open_run(mut self) -> Result<Recovered, OpenError> {
        let disk = self.disk;
        if let (Some(Kept { offset, bytes }), Some((segment, _))) = (&self.kept, &self.newest) {
            let kept = segment.file.write_at(bytes, *offset).and_then(|()| segment.file.sync_data());
            kept.map_err(|e| io_error(disk, &segment.name, e))?;
        }
        for name in &self.leftovers {
            match disk.remove(name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error(disk, name, error));
                }
                _ => tracing::debug!(name, "removed what an interruption left behind"),
            }
        }
        let epoch = Options::random_epoch().map_err(|e| io_error(disk, epochs::NAME, e))?;
        let epochs = match self.epochs.take() {
            Some(mut epochs) => {
                epochs.open(epoch, self.head);
                epochs
            }
            None => Epochs::first(epoch),
        };
        epochs::write(disk, &epochs).map_err(|e| io_error(disk, epochs::NAME, e))?;
        let (segment, capacity) = match self.newest.take() {
            Some(newest) => newest,
            None => {
                let bytes = self.options.segment_bytes;
                let (segment, capacity) = begin_segment(disk, None, self.head, epoch, bytes)
                    .map_err(|e| io_error(disk, SPARE, e))?;
                self.state.segments.push(new_segment(&segment, capacity));
                (segment, capacity)
            }
        };
        let offset = self.state.segments.last().map_or(0, |segment| segment.data_end);
        let maintenance = Maintenance {
            checkpoint: self.checkpoint.as_ref().map(|checkpoint| checkpoint.position),
            checkpoint_bytes: self.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.file_bytes),
            ..Maintenance::default()
        };
        let writer = Writer {
            segment,
            offset,
            capacity,
            head: self.head,
            keys: self.keys,
            commit: super::commit::Commit::default(),
            spare: None,
            epoch,
        };
        Ok(Recovered { state: self.state, writer, epochs, maintenance })
    }
}

fn path_of(disk: &dyn Disk, name: &str) -> PathBuf {
    if name.is_empty() { disk.path().to_owned() } else { disk.path().join(name) }
}

pub(super) fn io_error(disk: &dyn Disk, name: &str, source: io::Error) -> OpenError {
    OpenError::Io { path: path_of(disk, name), source }
}

fn damaged(disk: &dyn Disk, name: &str, offset: u64, what: &str) -> OpenError {
    OpenError::Damaged { path: path_of(disk, name), offset, what: what.to_owned() }
}

fn bad_start(disk: &dyn Disk, name: &str, bad: &BadStart) -> OpenError {
    match bad {
        BadStart::Damaged => damaged(disk, name, 0, "it is not a whole file of a tidings log"),
        BadStart::Version(found) => {
            OpenError::Version { path: path_of(disk, name), found: *found, known: VERSION }
        }
    }
}
