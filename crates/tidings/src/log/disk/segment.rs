//! One segment: a file of frames, and where its records stand.
//!
//! Owns: the index of a segment that is still being filled. Does not know: what is retained, other segments.
//! Flow: in ← records as they are committed · out → places of a channel's events, by position.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use tidings_core::{ChannelName, Seq};

use super::format::{SegmentHeader, to_usize};
use super::index::SealedIndex;
use super::io::DiskFile;

/// Where an event stands in its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its sequence, less the segment's first.
    pub(super) delta: u32,
    /// Where its record starts.
    pub(super) offset: u32,
    /// Bytes of its record.
    pub(super) len: u32,
    /// Bytes of its body, by which a read is limited.
    pub(super) body: u32,
}

impl Entry {
    pub(super) fn seq(&self, first: Seq) -> Seq {
        Seq(first.0 + u64::from(self.delta))
    }
}

/// A position from which the whole segment can be read on: the start of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// The first event at or behind `offset`.
    pub(super) seq: Seq,
    /// Where the frame starts.
    pub(super) offset: u32,
}

/// Bytes between two marks of a segment, at least.
const MARK_BYTES: u32 = 64 * 1024;

/// What readers of a segment share. They keep it while the segment is replaced or removed.
#[derive(Debug)]
pub(super) struct SegmentFile {
    pub(super) name: String,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) header: SegmentHeader,
}

/// One segment of the log.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) shared: Arc<SegmentFile>,
    /// The last sequence it stands for; the one before its first if it holds none.
    pub(super) last: Seq,
    /// Where its frames end.
    pub(super) data_end: u64,
    /// What it takes on disk.
    pub(super) file_bytes: u64,
    pub(super) index: Index,
    pub(super) life: Life,
}

/// How much of a segment is still wanted, as maintenance last found it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Life {
    /// The count of moves at that time.
    pub(super) looked_at: u64,
    /// About so many bytes are retained.
    pub(super) bytes: u64,
    /// Nothing of it is retained, and never will be.
    pub(super) is_over: bool,
    /// It holds damage, so it stays as it is.
    pub(super) is_damaged: bool,
}

/// Where a segment's records stand.
#[derive(Debug)]
pub(super) enum Index {
    /// Still being filled, or filled a moment ago.
    // Invariant: the newest segment's is not shared, so it can grow.
    Memory(Arc<MemoryIndex>),
    /// Full and never changed again; the index is on disk.
    Sealed(Arc<SealedIndex>),
}

impl Segment {
    pub(super) fn first(&self) -> Seq {
        self.shared.header.first
    }

    /// What it takes on disk, its index included.
    pub(super) fn bytes(&self) -> u64 {
        match &self.index {
            Index::Memory(_) => self.file_bytes,
            Index::Sealed(index) => self.file_bytes + index.file_bytes(),
        }
    }

    /// Whether it may hold something in `(after, upto]`.
    pub(super) fn overlaps(&self, after: Seq, upto: Seq) -> bool {
        self.last > after && self.first() <= upto
    }
}

/// The name of the segment that starts with `first`.
pub(super) fn segment_name(first: Seq) -> String {
    format!("{:020}.seg", first.0)
}

/// The first sequence of the segment with this name; `None` if it is no segment.
pub(super) fn segment_first(name: &str) -> Option<Seq> {
    let digits = name.strip_suffix(".seg").filter(|d| d.len() == 20)?;
    digits.parse().ok().map(Seq)
}

/// The index of one segment in memory.
#[derive(Debug, Default)]
pub(super) struct MemoryIndex {
    /// By the channel's id.
    pub(super) channels: HashMap<u64, MemoryChannel, BuildHasherDefault<NumberHasher>>,
    pub(super) marks: Vec<Mark>,
}

/// One channel's events in one segment.
#[derive(Debug)]
pub(super) struct MemoryChannel {
    pub(super) name: ChannelName,
    /// In order of sequence.
    pub(super) entries: Vec<Entry>,
}

impl MemoryIndex {
    pub(super) fn push(&mut self, id: u64, name: &ChannelName, entry: Entry) {
        let channel = self
            .channels
            .entry(id)
            .or_insert_with(|| MemoryChannel { name: name.clone(), entries: Vec::new() });
        channel.entries.push(entry);
    }

    /// Takes note of a frame, if the last mark is far enough behind.
    pub(super) fn mark(&mut self, seq: Seq, offset: u32) {
        if self.marks.last().is_none_or(|last| offset.saturating_sub(last.offset) >= MARK_BYTES) {
            self.marks.push(Mark { seq, offset });
        }
    }
}

/// A part of a channel's events in one segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    /// Only behind this.
    pub(super) after: Seq,
    /// Nothing above this.
    pub(super) upto: Seq,
    /// At most this many.
    pub(super) max: usize,
    /// The newest of them rather than the oldest.
    pub(super) newest: bool,
}

impl Span {
    /// Cuts the span out of a channel's entries.
    pub(super) fn cut<'a>(&self, entries: &'a [Entry], first: Seq) -> &'a [Entry] {
        let from = entries.partition_point(|entry| entry.seq(first) <= self.after);
        let to = entries.partition_point(|entry| entry.seq(first) <= self.upto).max(from);
        let (from, to) = self.bounded(from, to);
        entries.get(from..to).unwrap_or_default()
    }

    pub(super) fn bounded(&self, from: usize, to: usize) -> (usize, usize) {
        if self.newest {
            (from.max(to.saturating_sub(self.max)), to)
        } else {
            (from, to.min(from.saturating_add(self.max)))
        }
    }
}

/// The mark from which to read on for events behind `after`.
pub(super) fn mark_before(marks: &[Mark], after: Seq) -> Option<Mark> {
    let behind = marks.partition_point(|mark| mark.seq <= after.next());
    marks.get(behind.saturating_sub(1)).copied()
}

/// Spreads small numbers over a hash table; they come from this process and nobody can choose them.
#[derive(Debug, Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(u64::from(byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(26);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u32(super::format::len32(number));
    }
}

const _: () = assert!(size_of::<Entry>() == 16);

/// The offset of an entry's record.
pub(super) fn offset_of(entry: &Entry) -> u64 {
    u64::from(entry.offset)
}

/// The length of an entry's record.
pub(super) fn len_of(entry: &Entry) -> usize {
    to_usize(entry.len)
}
