//! Comparing indexes with their segments.
//!
//! Owns: whether an index names exactly the events of its segment. Does not know: how a damaged one is made again.
//! Flow: in ← segments that a walk has gone through, the files beside them · out → problems.

use std::io;
use std::sync::Arc;

use tidings_core::Seq;

use super::{Placed, Report, Visit};
use crate::log::disk::index::{Rebuilt, index_name, open_extent};
use crate::log::disk::io::Disk;
use crate::log::disk::scan::Frame;
use crate::log::disk::segment::{SegmentFile, Span};

/// Compares the index of every segment with what the segment holds. One that does not fit is made again at a start.
pub(super) struct Checked<'a> {
    disk: &'a dyn Disk,
}

impl<'a> Checked<'a> {
    pub(super) fn new(disk: &'a dyn Disk) -> Self {
        Self { disk }
    }
}

impl Visit for Checked<'_> {
    fn record(&mut self, _: &str, _: &Frame<'_>, _: Placed<'_, '_>) -> io::Result<()> {
        Ok(())
    }

    fn segment(&mut self, segment: &Arc<SegmentFile>, bytes: &[u8], report: &mut Report) -> io::Result<()> {
        let (name, first) = (index_name(&segment.name), segment.header.first);
        if !self.disk.list()?.contains(&name) {
            return Ok(());
        }
        let Some((index, ..)) = open_extent(self.disk, segment) else {
            let what = "it cannot be read, or does not fit its segment; the next start makes it again";
            report.problem(&name, 0, what);
            return Ok(());
        };
        let held = Rebuilt::of_bytes(segment.header, bytes);
        let span = Span { after: Seq::ZERO, upto: Seq(u64::MAX), max: usize::MAX, newest: false };
        for channel in held.channels() {
            if index.find(channel.name.as_str(), first, span) != channel.entries {
                report.problem(&name, 0, &format!("it does not name the events of {}", channel.name));
            }
        }
        if index.holdings(first).len() != held.channels().len() {
            report.problem(&name, 0, "it names channels that its segment does not hold");
        }
        Ok(())
    }
}
