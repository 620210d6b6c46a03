//! The only way into the log.
//!
//! Owns: the order of a commit (judge, write, fsync, show, answer), poison, and the reserve. Does not know: readers.
//! Flow: in ← groups · out → outcomes, once their frame is durable.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tidings_core::{Epoch, Seq, limits};

use super::commit::Commit;
use super::format::{self, FRAME_BYTES_MAX, FRAME_HEADER, SEGMENT_HEADER, SegmentHeader, len64};
use super::io::{Disk, is_full};
use super::segment::{Index, Life, MemoryIndex, Segment, SegmentFile, segment_name};
use super::spare::{SPARE, Spare};
use super::{DiskLog, Options};
use crate::log::keys::Keys;
use crate::log::{AppendError, Group, Outcome};

/// Where the next frame goes.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) segment: Arc<SegmentFile>,
    pub(super) offset: u64,
    pub(super) capacity: u64,
    pub(super) head: Seq,
    pub(super) keys: Keys,
    pub(super) commit: Commit,
    /// The next segment, if it is ready.
    pub(super) spare: Option<Spare>,
    pub(super) epoch: Epoch,
}

impl DiskLog {
    pub(super) fn append_groups(&self, groups: &[Group]) -> Result<Vec<Outcome>, AppendError> {
        if groups.iter().any(|group| group.events.len() > limits::BATCH_EVENTS_MAX) {
            return Err(AppendError::TooLarge);
        }
        let bytes: usize = groups.iter().flat_map(|group| &group.events).map(format::record_bytes_max).sum();
        if bytes > FRAME_BYTES_MAX {
            return Err(AppendError::TooLarge);
        }
        let mut writer = self.writer();
        self.check_poison()?;
        self.check_reserve()?;
        self.make_room(&mut writer, bytes)?;
        let writer = &mut *writer;
        writer.commit.start(writer.head);
        let outcomes = writer.commit.add(groups, &self.state(), &mut writer.keys);
        self.commit(writer)?;
        Ok(outcomes)
    }

    /// Makes what was judged durable, then visible. There must be room.
    pub(super) fn commit(&self, writer: &mut Writer) -> Result<(), AppendError> {
        if writer.commit.is_empty() {
            return Ok(());
        }
        writer.commit.finish(writer.epoch, writer.segment.header.salt);
        let begun = Instant::now();
        let file = &writer.segment.file;
        let written = file.write_at(&writer.commit.buf, writer.offset).and_then(|()| file.sync_data());
        self.figures.fsync_ns.fetch_add(nanos(begun), Ordering::Relaxed);
        if let Err(error) = written {
            // Never retried: the kernel may have marked the pages clean.
            self.poison(&format!("{}: {error}", writer.segment.name));
            return Err(AppendError::OutcomeUnknown(error));
        }
        // Segments are far below 4 GiB (`FRAME_BYTES_MAX`, `segment_bytes`).
        let offset = u32::try_from(writer.offset).unwrap_or(u32::MAX);
        writer.head = writer.commit.head();
        writer.commit.apply(&mut self.state_mut(), offset);
        writer.offset += len64(writer.commit.buf.len());
        self.figures.commits.fetch_add(1, Ordering::Relaxed);
        self.figures.keys.store(len64(writer.keys.len()), Ordering::Relaxed);
        // Invariant: the head moves after everything up to it can be read.
        self.head.store(writer.head.0, Ordering::Release);
        Ok(())
    }

    /// Sees to it that a frame with records of so many bytes fits the newest segment, or begins another one.
    pub(super) fn make_room(&self, writer: &mut Writer, bytes: usize) -> Result<(), AppendError> {
        let frame = len64(format::padded(FRAME_HEADER + bytes));
        if writer.offset + frame <= writer.capacity {
            return Ok(());
        }
        let capacity = self.options.segment_bytes.max(len64(SEGMENT_HEADER) + frame);
        if writer.segment.header.first == writer.head.next() {
            // A segment without events has the name that its successor would have: it grows instead of being replaced,
            // with the deletions and floors that stand in it.
            return self.grow(writer, writer.offset + capacity);
        }
        match begin_segment(&*self.disk, writer.spare.take(), writer.head, writer.epoch, capacity) {
            Ok((segment, capacity)) => {
                self.state_mut().segments.push(new_segment(&segment, capacity));
                writer.offset = len64(SEGMENT_HEADER);
                writer.capacity = capacity;
                writer.segment = segment;
                Ok(())
            }
            Err(error) => Err(self.no_room(&error)),
        }
    }

    fn grow(&self, writer: &mut Writer, capacity: u64) -> Result<(), AppendError> {
        let file = &writer.segment.file;
        file.allocate(capacity).and_then(|()| file.sync_all()).map_err(|error| self.no_room(&error))?;
        writer.capacity = capacity;
        if let Some(segment) = self.state_mut().segments.last_mut() {
            segment.file_bytes = capacity;
        }
        Ok(())
    }

    fn no_room(&self, error: &io::Error) -> AppendError {
        if is_full(error) {
            self.figures.is_full.store(true, Ordering::Relaxed);
            return AppendError::Full { reserve_bytes: self.options.reserve_bytes };
        }
        self.poison(&format!("making room: {error}"));
        AppendError::Poisoned(self.poisoned.get().cloned().unwrap_or_default())
    }

    fn check_poison(&self) -> Result<(), AppendError> {
        self.poisoned.get().map_or(Ok(()), |why| Err(AppendError::Poisoned(why.clone())))
    }

    fn check_reserve(&self) -> Result<(), AppendError> {
        let reserve_bytes = self.options.reserve_bytes;
        if self.has_room() { Ok(()) } else { Err(AppendError::Full { reserve_bytes }) }
    }

    /// Looks, and notes it.
    pub(super) fn has_room(&self) -> bool {
        // A disk that cannot say how full it is will say so when a segment is allocated.
        let is_full = self.disk.free_bytes().is_ok_and(|free| free < self.options.reserve_bytes);
        self.figures.is_full.store(is_full, Ordering::Relaxed);
        !is_full
    }
}

fn nanos(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Makes the segment whose first event follows `head`. When it has its name, it is durable and whole.
pub(super) fn begin_segment(
    disk: &dyn Disk,
    spare: Option<Spare>,
    head: Seq,
    epoch: Epoch,
    capacity: u64,
) -> io::Result<(Arc<SegmentFile>, u64)> {
    let Spare { file, len: capacity } = match spare.filter(|spare| spare.len >= capacity) {
        Some(spare) => spare,
        None => Spare::allocate(disk, SPARE, capacity)?,
    };
    let header = SegmentHeader { first: head.next(), covers: None, salt: random_salt()?, epoch };
    file.write_at(&header.encode(), 0)?;
    file.sync_all()?;
    let name = segment_name(header.first);
    disk.rename(SPARE, &name)?;
    disk.sync_folder()?;
    Ok((Arc::new(SegmentFile { name, file, header }), capacity))
}

pub(super) fn random_salt() -> io::Result<u32> {
    getrandom::u32().map_err(|error| io::Error::other(error.to_string()))
}

/// An empty segment, as readers see it.
pub(super) fn new_segment(shared: &Arc<SegmentFile>, capacity: u64) -> Segment {
    let first = shared.header.first;
    Segment {
        shared: shared.clone(),
        last: Seq(first.0.saturating_sub(1)),
        data_end: len64(SEGMENT_HEADER),
        file_bytes: capacity,
        index: Index::Memory(Arc::new(MemoryIndex::default())),
        life: Life::default(),
    }
}

impl Options {
    pub(super) fn random_epoch() -> io::Result<Epoch> {
        getrandom::u64().map(Epoch::from_random).map_err(|error| io::Error::other(error.to_string()))
    }
}
