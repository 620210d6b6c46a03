//! Which segments count.
//!
//! Owns: telling a segment that is missing from one that was freed or rewritten. Does not know: what is in segments.
//! Flow: in ← the names in the folder, the checkpoint · out → the segments to read, in order, or a refusal.

use tidings_core::Seq;

use super::{Recovery, bad_start, damaged, io_error};
use crate::log::OpenError;
use crate::log::disk::checkpoint;
use crate::log::disk::format::{SEGMENT_HEADER, SegmentHeader};
use crate::log::disk::index::index_name;
use crate::log::disk::segment::{SegmentFile, segment_first, segment_name};

impl Recovery<'_> {
    /// The segments that count, in order, once it is clear that none is missing.
    pub(super) fn present_segments(&mut self) -> Result<Vec<SegmentFile>, OpenError> {
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
        let file = self.disk.open(&name, self.access).map_err(failed)?;
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
    pub(super) fn known_last(&self, header: &SegmentHeader) -> Option<Seq> {
        let checkpoint = self.checkpoint.as_ref()?;
        let listed = checkpoint.segments.iter().find(|(first, _)| *first == header.first)?;
        Some(header.covers.unwrap_or(listed.1))
    }
}
