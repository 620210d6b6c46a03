//! Comparing indexes with their segments.
//!
//! Owns: whether an index names exactly the events of its segment. Does not know: how a damaged one is made again.
//! Flow: in ← the records that a walk has met, the files beside the segments · out → problems.

use std::collections::{BTreeMap, HashMap};
use std::io;

use tidings_core::Seq;

use super::Report;
use crate::log::disk::format::{Kind, RawRecord, SEGMENT_HEADER, SegmentHeader, len32};
use crate::log::disk::index::{index_name, open_extent};
use crate::log::disk::io::{Access, Disk, read_exact};
use crate::log::disk::segment::{Entry, SegmentFile, Span, segment_first};

/// Where the events of each channel stand, by segment.
// Bounded by the log: 16 bytes for each event, while a verification runs.
#[derive(Default)]
pub(super) struct Lists(BTreeMap<String, HashMap<String, Vec<Entry>>>);

impl Lists {
    pub(super) fn take(&mut self, segment: &str, offset: usize, record: &RawRecord<'_>) {
        let Some(first) = segment_first(segment).filter(|_| record.kind == Kind::Event) else { return };
        let entry = Entry {
            delta: u32::try_from(record.seq.0.saturating_sub(first.0)).unwrap_or(u32::MAX),
            offset: len32(offset),
            len: len32(record.len),
            body: len32(record.body.len()),
        };
        if !self.0.contains_key(segment) {
            self.0.insert(segment.to_owned(), HashMap::new());
        }
        let Some(channels) = self.0.get_mut(segment) else { return };
        match channels.get_mut(record.channel) {
            Some(entries) => entries.push(entry),
            None => drop(channels.insert(record.channel.to_owned(), vec![entry])),
        }
    }
}

/// Compares every index with what its segment holds. An index is made again when it does not fit at a start.
pub(super) fn check(disk: &dyn Disk, lists: &Lists, report: &mut Report) -> io::Result<()> {
    let damaged: Vec<String> = report.problems.iter().map(|problem| problem.file.clone()).collect();
    for (name, channels) in lists.0.iter().filter(|(name, _)| !damaged.contains(name)) {
        let file = match disk.open(name, Access::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        let Ok(header) = SegmentHeader::decode(&read_exact(&*file, 0, SEGMENT_HEADER)?) else { continue };
        let index_name = index_name(name);
        if !disk.list()?.contains(&index_name) {
            continue;
        }
        let segment = SegmentFile { name: name.clone(), file, header };
        let Some((index, ..)) = open_extent(disk, &segment)? else {
            report.problem(
                &index_name,
                0,
                "it does not fit its segment; it is made again when that is needed",
            );
            continue;
        };
        let span = Span { after: Seq::ZERO, upto: Seq(u64::MAX), max: usize::MAX, newest: false };
        for (channel, entries) in channels {
            if index.find(channel, header.first, span)? != *entries {
                report.problem(&index_name, 0, &format!("it does not name the events of {channel}"));
            }
        }
        if index.holdings(header.first)?.len() != channels.len() {
            report.problem(&index_name, 0, "it names channels that its segment does not hold");
        }
    }
    Ok(())
}
