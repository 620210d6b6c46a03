//! Reading the frames of one segment into the state.
//!
//! Owns: what a record means, and that none is missing. Does not know: which segments there must be.
//! Flow: in ← frames, in order · out → the state behind them, or a refusal that names the frame.

use tidings_core::{ChannelName, Seq};

use super::{Recovery, damaged};
use crate::log::OpenError;
use crate::log::disk::format::{Kind, RawRecord, SEGMENT_HEADER, len32, len64};
use crate::log::disk::io::Disk;
use crate::log::disk::scan::{Frame, Scanned};
use crate::log::disk::segment::SegmentFile;
use crate::log::disk::state::Placed;

/// Where the valid frames of a segment are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    /// Where the last frame starts; the end, if there is none.
    pub(super) last: usize,
    /// Where the last frame ends.
    pub(super) end: usize,
}

impl Recovery<'_> {
    pub(super) fn read_frames(
        &mut self,
        shared: &SegmentFile,
        scanned: &Scanned,
        is_known: bool,
    ) -> Result<Extent, OpenError> {
        let position =
            self.checkpoint.as_ref().map(|c| c.position).filter(|p| p.segment == shared.header.first);
        let mut extent = Extent { last: SEGMENT_HEADER, end: SEGMENT_HEADER };
        for frame in scanned.frames() {
            let is_known = is_known || position.is_some_and(|p| len64(frame.offset) < p.offset);
            self.read_frame(shared, &frame, is_known)?;
            extent = Extent { last: frame.offset, end: frame.end() };
            if let Some(position) = position.filter(|p| p.offset == len64(extent.end))
                && position.head != self.head
            {
                let what = format!("expected sequence {} here, found {}", position.head, self.head);
                return Err(damaged(self.disk, &shared.name, len64(frame.offset), &what));
            }
        }
        if let Some(position) = position.filter(|p| p.offset > len64(extent.end)) {
            let what = format!("it must reach to offset {}, as the checkpoint says", position.offset);
            return Err(damaged(self.disk, &shared.name, len64(extent.end), &what));
        }
        Ok(extent)
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
        let name = || ChannelName::parse(record.channel).map_err(|error| error.to_string());
        let known = self.state.slot(record.channel);
        let slot = match known {
            None if !is_known => Some(self.state.insert(&name()?, record.seq)),
            // None of a channel that was forgotten, whoever has its name now.
            _ => known.filter(|&slot| self.state.channel(slot).is_some_and(|c| record.seq >= c.born)),
        };
        let placed = Placed {
            slot: slot.unwrap_or(u32::MAX),
            seq: record.seq,
            prev: record.prev,
            time_ms: record.time_ms,
            flags: record.flags,
            offset: len32(offset),
            len: len32(record.len),
            body: len32(record.body.len()),
        };
        let Some(slot) = slot else {
            let name = name()?;
            let id = *self.forgotten.entry(name.clone()).or_insert_with(|| self.state.fresh_id());
            self.state.place_forgotten(id, &name, &placed);
            return Ok(());
        };
        let head = self.state.channel(slot).map_or(Seq::ZERO, |channel| channel.head);
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
}
