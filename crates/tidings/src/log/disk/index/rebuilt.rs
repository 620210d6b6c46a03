//! The index of a full segment, made from the segment itself.
//!
//! Owns: reading a segment for what its index would say, past what is damaged too. Does not know: who asks for it.
//! Flow: in ← a segment whose index cannot be read · out → the same index, in memory.

use std::collections::HashMap;
use std::sync::Arc;

use tidings_core::{ChannelName, Seq};

use super::super::format::{ALIGN, Kind, RawRecord, SEGMENT_HEADER, SegmentHeader, len32, len64};
use super::super::io::DiskFile;
use super::super::scan::{self, Frame};
use super::super::segment::{Entry, MemoryChannel, MemoryIndex, SegmentFile};
use super::Holding;

/// What is read at once: what cannot be read takes no more than this with it.
const BLOCK: usize = 4096;

/// An index in memory, by the names of the channels.
// Bounded by the segment: 16 bytes for each of its events, until maintenance has written the index again.
#[derive(Debug, Default)]
pub(in crate::log::disk) struct Rebuilt {
    pub(super) index: Arc<MemoryIndex>,
    ids: HashMap<ChannelName, u64>,
    /// The first place of the segment that is damaged as well.
    pub(super) damaged: Option<u64>,
    /// What is missing because of that: behind the first and before the second of each pair.
    holes: Vec<(Seq, Seq)>,
    last: Seq,
}

impl Rebuilt {
    pub(super) fn of(segment: &SegmentFile, data_end: u64) -> Self {
        Self::of_bytes(segment.header, &readable(&*segment.file, data_end))
    }

    pub(in crate::log::disk) fn of_bytes(header: SegmentHeader, bytes: &[u8]) -> Self {
        let SegmentHeader { first, salt, .. } = header;
        let last = Seq(first.0.saturating_sub(1));
        let (mut rebuilt, mut index) = (Self { last, ..Self::default() }, MemoryIndex::default());
        let mut at = SEGMENT_HEADER;
        loop {
            for frame in scan::frames_from(bytes, at, salt) {
                at = frame.end();
                rebuilt.take(&mut index, first, &frame);
            }
            if at >= bytes.len() {
                break;
            }
            let next = scan::next_frame(bytes, at + ALIGN, bytes.len(), salt);
            rebuilt.damaged.get_or_insert(len64(at));
            rebuilt.holes.push((rebuilt.last, next.map_or(Seq(u64::MAX), |frame| frame.header.first)));
            let Some(next) = next else { break };
            at = next.offset;
        }
        rebuilt.index = Arc::new(index);
        rebuilt
    }

    fn take(&mut self, index: &mut MemoryIndex, first: Seq, frame: &Frame<'_>) {
        index.mark(frame.header.first, len32(frame.offset));
        for (offset, record) in frame.records().flatten() {
            self.take_record(index, first, offset, &record);
        }
    }

    fn take_record(&mut self, index: &mut MemoryIndex, first: Seq, offset: usize, record: &RawRecord<'_>) {
        if record.kind != Kind::Event {
            return;
        }
        // A frame that passed its checksum holds names that were valid when it was written.
        let Ok(name) = ChannelName::parse(record.channel) else { return };
        self.last = record.seq;
        let next = len64(self.ids.len());
        let id = *self.ids.entry(name.clone()).or_insert(next);
        let delta = u32::try_from(record.seq.0.saturating_sub(first.0)).unwrap_or(u32::MAX);
        let (len, body) = (len32(record.len), len32(record.body.len()));
        index.push(id, &name, Entry { delta, offset: len32(offset), len, body });
    }

    /// The first hole that reaches into `(after, upto]`. Damage that took no event leaves none.
    pub(super) fn hole(&self, after: Seq, upto: Seq) -> Option<(Seq, Seq)> {
        let reaches = |&(last, next): &(Seq, Seq)| last < upto && next > last.max(after).next();
        self.holes.iter().copied().find(reaches)
    }

    pub(in crate::log::disk) fn channels(&self) -> impl ExactSizeIterator<Item = &MemoryChannel> {
        self.index.channels.values()
    }

    /// A channel's places in the segment.
    pub(super) fn entries(&self, name: &str) -> &[Entry] {
        let channel = self.ids.get(name).and_then(|id| self.index.channels.get(id));
        channel.map_or(&[], |channel| channel.entries.as_slice())
    }

    pub(super) fn holdings(&self, first: Seq) -> Vec<Holding> {
        let seq = |entry: Option<&Entry>| entry.map_or(Seq::ZERO, |entry| entry.seq(first));
        let holding = |channel: &MemoryChannel| Holding {
            name: channel.name.as_str().to_owned(),
            first: seq(channel.entries.first()),
            last: seq(channel.entries.last()),
            bytes: channel.entries.iter().map(|entry| u64::from(entry.len)).sum(),
        };
        self.channels().map(holding).collect()
    }
}

/// The bytes of a file; zeros stand for what cannot be read.
fn readable(file: &dyn DiskFile, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    for (block, at) in bytes.chunks_mut(BLOCK).zip((0..len).step_by(BLOCK)) {
        if file.read_at(block, at).is_err() {
            block.fill(0);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_is_met_by_who_reads_what_may_be_missing_and_by_nobody_else() {
        let holes = vec![(Seq(3), Seq(6)), (Seq(8), Seq(9)), (Seq(12), Seq(u64::MAX))];
        let rebuilt = Rebuilt { holes, ..Rebuilt::default() };
        let hole = |after, upto| rebuilt.hole(Seq(after), Seq(upto)).map(|(last, _)| last.0);
        for (after, upto, met) in
            [(0, 3, None), (0, 4, Some(3)), (4, 5, Some(3)), (5, 12, None), (7, 9, None), (5, 13, Some(12))]
        {
            assert_eq!(hole(after, upto), met, "behind {after} up to {upto}");
        }
    }
}
