//! Opening a folder.
//!
//! Owns: telling a commit that was not completed from damage, and refusing what would be a silent gap. Does not know:
//! appending.
//! Flow: in ← the files of a folder · out → the state they stand for, or a refusal that names file and offset.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tidings_core::{ChannelName, Epochs, Seq};

use super::format::{BadStart, Kind, RawRecord, SEGMENT_HEADER, SegmentHeader, VERSION, len32, len64};
use super::io::{Access, Disk, read_exact};
use super::scan::{self, Frame, Rest};
use super::segment::{Index, MemoryIndex, Segment, SegmentFile, segment_first};
use super::state::{NameHash, Placed, State};
use super::writer::Writer;
use super::{Options, epochs};
use crate::log::OpenError;
use crate::log::keys::Keys;

/// A folder that was read.
pub(super) struct Recovered {
    pub(super) state: State,
    pub(super) writer: Writer,
    pub(super) epochs: Epochs,
}

/// Reads a folder and opens a new run in it. The folder must be locked.
pub(super) fn recover(disk: &dyn Disk, options: &Options) -> Result<Recovered, OpenError> {
    let mut recovery = Recovery::begin(disk, options)?;
    let names = recovery.segment_names()?;
    for (index, &first) in names.iter().enumerate() {
        recovery.read_segment(first, index + 1 == names.len())?;
    }
    recovery.check_promises()?;
    recovery.open_run()
}

pub(super) struct Recovery<'a> {
    disk: &'a dyn Disk,
    options: &'a Options,
    epochs: Option<Epochs>,
    state: State,
    keys: Keys,
    head: Seq,
    /// Capacity and file of the newest segment.
    newest: Option<(Arc<SegmentFile>, u64)>,
}

impl<'a> Recovery<'a> {
    fn begin(disk: &'a dyn Disk, options: &'a Options) -> Result<Self, OpenError> {
        let epochs = match epochs::read(disk).map_err(|e| io_error(disk, epochs::NAME, e))? {
            None => None,
            Some(Ok(epochs)) => Some(epochs),
            Some(Err(bad)) => return Err(bad_start(disk, epochs::NAME, &bad)),
        };
        let seed = getrandom::u64().map_err(|e| io_error(disk, "", io::Error::other(e.to_string())))?;
        Ok(Self {
            disk,
            options,
            epochs,
            state: State::new(options.retention, NameHash(seed)),
            keys: Keys::new(options.keys_max),
            head: Seq::ZERO,
            newest: None,
        })
    }

    /// The segments in order; what an interrupted replacement left behind is removed.
    fn segment_names(&self) -> Result<Vec<Seq>, OpenError> {
        let mut firsts = Vec::new();
        for name in self.disk.list().map_err(|e| io_error(self.disk, "", e))? {
            if let Some(first) = segment_first(&name) {
                firsts.push(first);
            } else if name.ends_with(".tmp") {
                self.disk.remove(&name).map_err(|e| io_error(self.disk, &name, e))?;
            }
        }
        firsts.sort_unstable();
        Ok(firsts)
    }

    fn read_segment(&mut self, first: Seq, is_newest: bool) -> Result<(), OpenError> {
        let name = super::segment::segment_name(first);
        let expected = self.head.next();
        if self.newest.is_some() && first != expected {
            return Err(damaged(
                self.disk,
                &name,
                0,
                &format!("a segment that starts with {expected} is missing"),
            ));
        }
        let access = if is_newest { Access::Write } else { Access::Read };
        let file = self.disk.open(&name, access).map_err(|e| io_error(self.disk, &name, e))?;
        let len = file.len().map_err(|e| io_error(self.disk, &name, e))?;
        let size = usize::try_from(len).map_err(|e| io_error(self.disk, &name, io::Error::other(e)))?;
        let bytes = read_exact(&*file, 0, size).map_err(|e| io_error(self.disk, &name, e))?;
        let header = SegmentHeader::decode(&bytes).map_err(|bad| bad_start(self.disk, &name, &bad))?;
        if header.first != first {
            return Err(damaged(
                self.disk,
                &name,
                0,
                &format!("it is the segment that starts with {}", header.first),
            ));
        }
        if self.newest.is_none() {
            self.head = Seq(first.0.saturating_sub(1));
        }
        let shared = Arc::new(SegmentFile { name, file, header });
        self.state.segments.push(Segment {
            shared: shared.clone(),
            last: self.head,
            data_end: len64(SEGMENT_HEADER),
            file_bytes: len,
            index: Index::Memory(MemoryIndex::default()),
        });
        let (mut last, mut end) = (SEGMENT_HEADER, SEGMENT_HEADER);
        for frame in scan::frames(&bytes, header.salt) {
            self.read_frame(&shared, &frame)?;
            (last, end) = (frame.offset, frame.end());
        }
        self.check_rest(&shared, &bytes, end, is_newest)?;
        if is_newest {
            // The last frame may be that of an append which failed or was killed before its sync. From now on it is
            // shown, so it has to stay; written again, because after a failed sync its pages count as clean.
            let again = bytes.get(last..end).unwrap_or_default();
            let kept = shared.file.write_at(again, len64(last)).and_then(|()| shared.file.sync_data());
            kept.map_err(|e| io_error(self.disk, &shared.name, e))?;
        }
        self.newest = Some((shared, len));
        Ok(())
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

    fn read_frame(&mut self, segment: &SegmentFile, frame: &Frame<'_>) -> Result<(), OpenError> {
        let refuse =
            |disk: &dyn Disk, what: &str| Err(damaged(disk, &segment.name, len64(frame.offset), what));
        let expected = self.head.next();
        if frame.header.first != expected {
            return refuse(self.disk, &format!("expected sequence {expected}, found {}", frame.header.first));
        }
        let epoch =
            self.epochs.as_ref().filter(|e| e.list().first().is_some_and(|&(_, first)| first <= expected));
        if frame.header.count > 0 && epoch.is_some_and(|e| e.id(expected).epoch != frame.header.epoch) {
            return refuse(
                self.disk,
                &format!("its run {} is not the one in the file epochs", frame.header.epoch),
            );
        }
        let mut count = 0;
        for record in frame.records() {
            let Some((offset, record)) = record else { return refuse(self.disk, "a record is not readable") };
            if record.kind == Kind::Event {
                count += 1;
            }
            if let Err(what) = self.read_record(offset, &record) {
                return refuse(self.disk, &what);
            }
        }
        if count != frame.header.count {
            return refuse(self.disk, "it does not hold as many events as it says");
        }
        self.state.extend_newest(frame.header.first, len32(frame.offset), self.head, len32(frame.end()));
        Ok(())
    }

    fn read_record(&mut self, offset: usize, record: &RawRecord<'_>) -> Result<(), String> {
        match record.kind {
            Kind::Event => self.read_event(offset, record),
            Kind::LogFloor => {
                self.state.move_log_floor(record.seq);
                Ok(())
            }
            Kind::Floor { deleted } => {
                if let Some(slot) = self.state.slot(record.channel) {
                    self.state.move_floor(slot, record.seq, deleted, (record.prev.0, record.time_ms));
                }
                Ok(())
            }
            Kind::Forgotten => {
                if let Some(slot) = self.state.slot(record.channel) {
                    self.state.forget(slot);
                }
                self.state.horizon = self.state.horizon.max(record.seq);
                Ok(())
            }
        }
    }

    fn read_event(&mut self, offset: usize, record: &RawRecord<'_>) -> Result<(), String> {
        let expected = self.head.next();
        if record.seq != expected {
            return Err(format!("expected sequence {expected}, found {}", record.seq));
        }
        self.head = record.seq;
        if let Some((idempotency, count)) = record.idempotency {
            self.keys.remember(idempotency, record.seq, count);
        }
        let slot = match self.state.slot(record.channel) {
            Some(slot) => slot,
            None => {
                let name = ChannelName::parse(record.channel).map_err(|error| error.to_string())?;
                self.state.insert(&name, record.seq)
            }
        };
        let head = self.state.channel(slot).map_or(Seq::ZERO, |channel| channel.head);
        if head != record.prev {
            let what = format!("events of {} between {head} and {} are missing", record.channel, record.seq);
            return Err(what);
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
        self.state.apply(&placed);
        self.state.place(&placed, self.state.segments.len().saturating_sub(1));
        Ok(())
    }

    /// Compares what the segments hold with what other files say they must.
    fn check_promises(&self) -> Result<(), OpenError> {
        let Some(epochs) = &self.epochs else {
            return match &self.newest {
                Some(_) => Err(damaged(self.disk, epochs::NAME, 0, "the file is missing")),
                None => Ok(()),
            };
        };
        let promised = epochs.list().last().map_or(Seq::ZERO, |&(_, first)| Seq(first.0.saturating_sub(1)));
        if promised > self.head {
            let name = self.newest.as_ref().map_or(String::new(), |(segment, _)| segment.name.clone());
            let end = self.state.segments.last().map_or(0, |segment| segment.data_end);
            let what =
                format!("the file epochs promises sequence {promised}, but the log ends with {}", self.head);
            return Err(damaged(self.disk, &name, end, &what));
        }
        Ok(())
    }

    /// Opens a new run, before anything can be appended.
    fn open_run(mut self) -> Result<Recovered, OpenError> {
        let disk = self.disk;
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
                let (segment, capacity) = super::writer::begin_segment(disk, None, self.head, epoch, bytes)
                    .map_err(|e| io_error(disk, super::writer::SPARE, e))?;
                self.state.segments.push(super::writer::new_segment(&segment, capacity));
                (segment, capacity)
            }
        };
        let offset = self.state.segments.last().map_or(0, |segment| segment.data_end);
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
        Ok(Recovered { state: self.state, writer, epochs })
    }
}

fn path_of(disk: &dyn Disk, name: &str) -> PathBuf {
    if name.is_empty() { disk.path().to_owned() } else { disk.path().join(name) }
}

pub(super) fn io_error(disk: &dyn Disk, name: &str, source: io::Error) -> OpenError {
    OpenError::Io { path: path_of(disk, name), source }
}

pub(super) fn damaged(disk: &dyn Disk, name: &str, offset: u64, what: &str) -> OpenError {
    OpenError::Damaged { path: path_of(disk, name), offset, what: what.to_owned() }
}

pub(super) fn bad_start(disk: &dyn Disk, name: &str, bad: &BadStart) -> OpenError {
    match bad {
        BadStart::Damaged => damaged(disk, name, 0, "it is not a whole file of a tidings log"),
        BadStart::Version(found) => {
            OpenError::Version { path: path_of(disk, name), found: *found, known: VERSION }
        }
    }
}
