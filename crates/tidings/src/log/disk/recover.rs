//! Opening a folder.
//!
//! Owns: telling a commit that was not completed from damage, and refusing what would be a silent gap. Does not know:
//! appending.
//! Flow: in ← the files of a folder · out → the state they stand for, or a refusal that names file and offset.
//!
//! Three kinds of files watch over each other: the runs in `epochs` say how far the log reached when they began, the
//! checkpoint says which segments there must be and how far the newest one reached, and every frame names its run. So
//! an older copy of one of them does not pass; an older copy of all of them does, and its new run resets who saw more.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tidings_core::{ChannelName, Epochs, Seq};

use super::checkpoint::{self, Checkpoint};
use super::format::{BadStart, Kind, RawRecord, SEGMENT_HEADER, SegmentHeader, VERSION, len32, len64};
use super::index::{self, index_name};
use super::io::{Access, Disk, read_exact};
use super::retain::Maintenance;
use super::scan::{self, Frame, Rest};
use super::segment::{Index, Life, MemoryIndex, Segment, SegmentFile, segment_first, segment_name};
use super::state::{NameHash, Placed, State};
use super::writer::{SPARE, Writer, begin_segment, new_segment};
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
    let mut recovery = Recovery::begin(disk, options)?;
    let segments = recovery.present_segments()?;
    let newest = segments.last().map(|segment| segment.header.first);
    for segment in segments {
        let is_newest = Some(segment.header.first) == newest;
        recovery.read_segment(segment, is_newest)?;
    }
    recovery.check_promises()?;
    recovery.open_run()
}

struct Recovery<'a> {
    disk: &'a dyn Disk,
    options: &'a Options,
    epochs: Option<Epochs>,
    checkpoint: Option<Checkpoint>,
    state: State,
    keys: Keys,
    head: Seq,
    /// The newest segment and its capacity.
    newest: Option<(Arc<SegmentFile>, u64)>,
    /// Files that an interruption left behind.
    leftovers: Vec<String>,
}

impl<'a> Recovery<'a> {
    fn begin(disk: &'a dyn Disk, options: &'a Options) -> Result<Self, OpenError> {
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
            epochs,
            checkpoint,
            state: State::new(options.retention, NameHash(seed)),
            keys: Keys::new(options.keys_max),
            head: Seq::ZERO,
            newest: None,
            leftovers: Vec::new(),
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
        for channel in std::mem::take(&mut checkpoint.channels) {
            self.state.restore(channel);
        }
        for (idempotency, first, count) in std::mem::take(&mut checkpoint.keys) {
            self.keys.remember(idempotency, first, count);
        }
    }

    /// The segments that count, in order, once it is clear that none is missing.
    fn present_segments(&mut self) -> Result<Vec<SegmentFile>, OpenError> {
        let mut firsts = Vec::new();
        for name in self.disk.list().map_err(|e| io_error(self.disk, "", e))? {
            match segment_first(&name) {
                Some(first) => firsts.push(first),
                None if name.ends_with(".tmp") => self.leftovers.push(name),
                None => {}
            }
        }
        firsts.sort_unstable();
        let mut segments: Vec<SegmentFile> = Vec::new();
        for first in firsts {
            let is_listed = self.checkpoint.as_ref().is_none_or(|checkpoint| {
                first >= checkpoint.position.segment || checkpoint.segments.iter().any(|&(f, _)| f == first)
            });
            // Rewritten into its neighbour, or freed: an interruption kept it from being removed.
            let is_replaced =
                segments.last().is_some_and(|s| s.header.covers.is_some_and(|last| first <= last));
            let name = segment_name(first);
            if is_replaced || !is_listed {
                self.leftovers.extend([index_name(&name), name]);
                continue;
            }
            segments.push(self.open_segment(name, first)?);
        }
        self.check_missing(&segments)?;
        Ok(segments)
    }

    fn open_segment(&self, name: String, first: Seq) -> Result<SegmentFile, OpenError> {
        let failed = |e| io_error(self.disk, &name, e);
        let file = self.disk.open(&name, Access::Write).map_err(failed)?;
        let mut start = vec![0; SEGMENT_HEADER];
        let len = file.read_at(&mut start, 0).map_err(failed)?;
        let header = SegmentHeader::decode(start.get(..len).unwrap_or_default())
            .map_err(|bad| bad_start(self.disk, &name, &bad))?;
        if header.first != first {
            let what = format!("it is the segment that starts with {}", header.first);
            return Err(damaged(self.disk, &name, 0, &what));
        }
        Ok(SegmentFile { name, file, header })
    }

    fn check_missing(&self, segments: &[SegmentFile]) -> Result<(), OpenError> {
        let missing = |first: Seq, why: &str| Err(damaged(self.disk, &segment_name(first), 0, why));
        let Some(checkpoint) = &self.checkpoint else {
            return match segments.iter().find(|segment| segment.header.covers.is_some()) {
                None if segments.first().is_none_or(|segment| segment.header.first == Seq(1)) => Ok(()),
                _ => Err(damaged(
                    self.disk,
                    checkpoint::NAME,
                    0,
                    "the file is missing, and segments rely on it",
                )),
            };
        };
        for &(first, last) in &checkpoint.segments {
            let covers = |segment: &SegmentFile| {
                let header = segment.header;
                header.first == first || (header.first < first && header.covers.is_some_and(|to| to >= last))
            };
            if !segments.iter().any(covers) {
                return missing(first, "the segment is missing");
            }
        }
        let position = checkpoint.position.segment;
        if !segments.iter().any(|segment| segment.header.first == position) {
            return missing(position, "the segment is missing");
        }
        let is_early =
            |segment: &&SegmentFile| segment.header.covers.is_some() && segment.header.first >= position;
        match segments.iter().find(is_early) {
            Some(segment) => {
                let what =
                    format!("it is older than {}, which was rewritten after a later one", segment.name);
                Err(damaged(self.disk, checkpoint::NAME, 0, &what))
            }
            None => Ok(()),
        }
    }

    /// Whether everything in the segment is known from the checkpoint; then, its last sequence.
    fn known_last(&self, header: &SegmentHeader) -> Option<Seq> {
        let checkpoint = self.checkpoint.as_ref()?;
        let listed = checkpoint.segments.iter().find(|(first, _)| *first == header.first)?;
        Some(header.covers.unwrap_or(listed.1))
    }

    fn read_segment(&mut self, segment: SegmentFile, is_newest: bool) -> Result<(), OpenError> {
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
        let name = segment.name.clone();
        let failed = |e| io_error(self.disk, &name, e);
        let len = segment.file.len().map_err(failed)?;
        let shared = Arc::new(segment);
        if let Some(last) = known_last
            && let Some((sealed, found, data_end)) = index::open_extent(self.disk, &shared).map_err(failed)?
            && found == last
        {
            if len < data_end {
                return Err(damaged(self.disk, &name, len, "the file ends early"));
            }
            let index = Index::Sealed(Arc::new(sealed));
            self.push(&shared, last, data_end, len, index);
            return Ok(());
        }
        self.head = Seq(first.0.saturating_sub(1));
        let start = len64(SEGMENT_HEADER);
        self.push(&shared, self.head, start, len, Index::Memory(Arc::new(MemoryIndex::default())));
        let size = usize::try_from(len).map_err(|e| failed(io::Error::other(e)))?;
        let bytes = read_exact(&*shared.file, 0, size).map_err(failed)?;
        let end = self.read_frames(&shared, &bytes, known_last.is_some())?;
        self.check_rest(&shared, &bytes, end, is_newest)?;
        if is_newest {
            self.keep_last(&shared, &bytes, end)?;
        }
        if let Some(last) = known_last {
            self.close_known(&shared, last, len64(end))?;
        }
        self.newest = Some((shared, len));
        Ok(())
    }

    /// The last frame may be that of an append which failed or was killed before its sync. From now on it is shown, so it
    /// has to stay; written again, because after a failed sync its pages count as clean.
    fn keep_last(&self, segment: &SegmentFile, bytes: &[u8], end: usize) -> Result<(), OpenError> {
        let last =
            scan::frames(bytes, segment.header.salt).last().map_or(SEGMENT_HEADER, |frame| frame.offset);
        let again = bytes.get(last..end).unwrap_or_default();
        let kept = segment.file.write_at(again, len64(last)).and_then(|()| segment.file.sync_data());
        kept.map_err(|e| io_error(self.disk, &segment.name, e))
    }

    fn push(&mut self, shared: &Arc<SegmentFile>, last: Seq, data_end: u64, file_bytes: u64, index: Index) {
        let life = Life::default();
        let segment = Segment { shared: shared.clone(), last, data_end, file_bytes, index, life };
        self.state.segments.push(segment);
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

    fn read_frames(
        &mut self,
        shared: &SegmentFile,
        bytes: &[u8],
        is_known: bool,
    ) -> Result<usize, OpenError> {
        let position =
            self.checkpoint.as_ref().map(|c| c.position).filter(|p| p.segment == shared.header.first);
        let mut end = SEGMENT_HEADER;
        for frame in scan::frames(bytes, shared.header.salt) {
            let is_known = is_known || position.is_some_and(|p| len64(frame.offset) < p.offset);
            self.read_frame(shared, &frame, is_known)?;
            end = frame.end();
            if let Some(position) = position.filter(|p| p.offset == len64(end))
                && position.head != self.head
            {
                let what = format!("expected sequence {} here, found {}", position.head, self.head);
                return Err(damaged(self.disk, &shared.name, len64(frame.offset), &what));
            }
        }
        if let Some(position) = position.filter(|p| p.offset > len64(end)) {
            let what = format!("it must reach to offset {}, as the checkpoint says", position.offset);
            return Err(damaged(self.disk, &shared.name, len64(end), &what));
        }
        Ok(end)
    }

    fn check_rest(
        &self,
        segment: &SegmentFile,
        bytes: &[u8],
        end: usize,
        is_newest: bool,
    ) -> Result<(), OpenError> {
        let what = match scan::rest(bytes, end, segment.header.salt) {
            Rest::Zero => return Ok(()),
            Rest::Torn(upto) if is_newest => {
                tracing::warn!(
                    file = %segment.name, offset = end, bytes = upto - end,
                    "cut a commit that was not completed; nothing of it was acknowledged"
                );
                let zero = vec![0; upto - end];
                let cut = segment.file.write_at(&zero, len64(end)).and_then(|()| segment.file.sync_data());
                return cut.map_err(|e| io_error(self.disk, &segment.name, e));
            }
            Rest::Torn(_) => "expected a frame, as a later segment follows".to_owned(),
            Rest::Damaged(next) => format!("expected a frame, as one follows at offset {next}"),
        };
        Err(damaged(self.disk, &segment.name, len64(end), &what))
    }

    fn read_frame(
        &mut self,
        segment: &SegmentFile,
        frame: &Frame<'_>,
        is_known: bool,
    ) -> Result<(), OpenError> {
        let refuse =
            |disk: &dyn Disk, what: &str| Err(damaged(disk, &segment.name, len64(frame.offset), what));
        let is_whole = segment.header.covers.is_none();
        let (expected, first) = (self.head.next(), frame.header.first);
        if (is_whole && first != expected) || first < expected {
            return refuse(self.disk, &format!("expected sequence {expected}, found {first}"));
        }
        let epochs =
            self.epochs.as_ref().filter(|e| e.list().first().is_some_and(|&(_, oldest)| oldest <= first));
        let is_foreign = epochs.is_some_and(|e| e.id(first).epoch != frame.header.epoch);
        if is_whole && frame.header.count > 0 && is_foreign {
            return refuse(
                self.disk,
                &format!("its run {} is not the one in the file epochs", frame.header.epoch),
            );
        }
        let mut count = 0;
        for record in frame.records() {
            let Some((offset, record)) = record else { return refuse(self.disk, "a record is not readable") };
            count += u32::from(record.kind == Kind::Event);
            let read = match record.kind {
                Kind::Event => self.read_event(offset, &record, is_known, is_whole),
                _ if is_known => Ok(()),
                _ => {
                    self.read_control(&record);
                    Ok(())
                }
            };
            if let Err(what) = read {
                return refuse(self.disk, &what);
            }
        }
        if count != frame.header.count {
            return refuse(self.disk, "it does not hold as many events as it says");
        }
        self.state.extend_newest(first, len32(frame.offset), self.head, len32(frame.end()));
        Ok(())
    }

    fn read_control(&mut self, record: &RawRecord<'_>) {
        let slot = self.state.slot(record.channel);
        match record.kind {
            Kind::Event => {}
            Kind::LogFloor => self.state.move_log_floor(record.seq),
            Kind::Deleted => slot.into_iter().for_each(|slot| self.state.delete(slot, record.seq)),
            Kind::Forgotten => {
                slot.into_iter().for_each(|slot| self.state.forget(slot));
                self.state.horizon = self.state.horizon.max(record.seq);
            }
        }
    }

    fn read_event(
        &mut self,
        offset: usize,
        record: &RawRecord<'_>,
        is_known: bool,
        is_whole: bool,
    ) -> Result<(), String> {
        let expected = self.head.next();
        if record.seq < expected || (is_whole && record.seq != expected) {
            return Err(format!("expected sequence {expected}, found {}", record.seq));
        }
        self.head = record.seq;
        if let Some((idempotency, count)) = record.idempotency.filter(|_| !is_known) {
            self.keys.remember(idempotency, record.seq, count);
        }
        let slot = match self.state.slot(record.channel) {
            Some(slot) => slot,
            // Of a channel that was forgotten.
            None if is_known => return Ok(()),
            None => {
                let name = ChannelName::parse(record.channel).map_err(|error| error.to_string())?;
                self.state.insert(&name, record.seq)
            }
        };
        let Some((born, head)) = self.state.channel(slot).map(|channel| (channel.born, channel.head)) else {
            return Ok(());
        };
        if record.seq < born {
            return Ok(());
        }
        let placed = Placed {
            slot,
            seq: record.seq,
            prev: record.prev,
            time_ms: record.time_ms,
            is_final: record.flags.is_final,
            offset: len32(offset),
            len: len32(record.len),
            body: len32(record.body.len()),
        };
        // A channel's record in the checkpoint may be newer than the checkpoint's position.
        if head < record.seq {
            if is_known || head != record.prev {
                return Err(format!(
                    "events of {} between {head} and {} are missing",
                    record.channel, record.seq
                ));
            }
            self.state.apply(&placed);
        }
        self.state.place(&placed, self.state.segments.len().saturating_sub(1));
        Ok(())
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
