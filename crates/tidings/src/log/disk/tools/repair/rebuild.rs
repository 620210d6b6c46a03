//! What the segments of a cut log still say.
//!
//! Owns: the list of runs and the checkpoint that fit the frames that are left. Does not know: what was cut, and why.
//! Flow: in ← segments, and the checkpoint and the list of runs where they are whole · out → the same, up to the cut.
//!
//! What a whole checkpoint says of channels, floors and keys holds as far as it reaches back before the cut. Without
//! one, a channel's floor is what its oldest event names as its previous one.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use tidings_core::{ChannelName, Epoch, Epochs, Seq, limits};

use super::super::{Problem, start_text};
use crate::log::disk::checkpoint::{Checkpoint, Position};
use crate::log::disk::format::{Kind, RawRecord, SEGMENT_HEADER, SegmentHeader, len32, len64};
use crate::log::disk::io::{Access, Disk, read_file};
use crate::log::disk::scan::{self, Frame, Rest};
use crate::log::disk::segment::{SegmentFile, segment_first, segment_name};
use crate::log::disk::state::{Channel, Steps};
use crate::log::disk::times::Times;
use crate::log::disk::writer::begin_segment;
use crate::log::disk::{Options, checkpoint, epochs, index};
use crate::log::{Idempotency, Retention};

/// What the next segment takes at first; the disk may be almost full.
const SEGMENT_BYTES: u64 = 1 << 20;
/// Events and bytes of one step of a floor: fine enough for whatever bounds the next start has.
const STEP: (u64, u64) = (16, 64 << 10);

/// Writes `epochs`, `checkpoint` and an empty newest segment. Returns the newest event that is left, or the place where
/// the log has to be cut first.
pub(super) fn rebuild(disk: &dyn Disk) -> io::Result<Result<Seq, Problem>> {
    let recorded = checkpoint::read(disk)?.and_then(Result::ok);
    let segments = match present(disk, recorded.as_ref())? {
        Ok(segments) => segments,
        Err(problem) => return Ok(Err(problem)),
    };
    let cut = segments.last().map_or(Seq::ZERO, |segment| segment.last);
    let mut rebuilt = Rebuilt::new(recorded, cut);
    for segment in &segments {
        rebuilt.read(&read_file(disk, &segment.name)?, segment.first);
    }
    let epoch = Options::random_epoch()?;
    let listed = epochs::read(disk)?.and_then(Result::ok);
    let mut runs = listed.map_or_else(|| std::mem::take(&mut rebuilt.runs), |epochs| epochs.list().to_vec());
    // A run that began behind the cut would make ids of what is gone valid again.
    runs.retain(|&(_, first)| first <= cut);
    runs.push((epoch, cut.next()));
    let runs = runs.split_off(runs.len().saturating_sub(limits::EPOCHS_MAX));
    let Some(runs) = Epochs::from_list(runs) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the runs of the segments are not in order"));
    };
    let head = cut.next();
    let (newest, _) = begin_segment(disk, None, head, epoch, SEGMENT_BYTES)?;
    epochs::write(disk, &runs)?;
    let position = Position { head, epoch, segment: newest.header.first, offset: len64(SEGMENT_HEADER) };
    let segments = segments.iter().filter(|s| s.last >= s.first).map(|s| (s.first, s.last)).collect();
    checkpoint::write(disk, &rebuilt.checkpoint(position, segments))?;
    Ok(Ok(cut))
}

/// A segment that is kept.
struct Kept {
    name: String,
    first: Seq,
    /// The one before its first if it holds no event.
    last: Seq,
}

/// The segments that count, in order; those that retention has freed do not.
fn present(disk: &dyn Disk, recorded: Option<&Checkpoint>) -> io::Result<Result<Vec<Kept>, Problem>> {
    let mut firsts: Vec<Seq> = disk.list()?.iter().filter_map(|name| segment_first(name)).collect();
    firsts.sort_unstable();
    let mut kept: Vec<Kept> = Vec::new();
    let mut covered = Seq::ZERO;
    for first in firsts {
        let is_listed = recorded.is_none_or(|checkpoint| {
            first >= checkpoint.position.segment || checkpoint.segments.iter().any(|&(f, _)| f == first)
        });
        if !is_listed || first <= covered {
            continue;
        }
        let name = segment_name(first);
        let file = disk.open(&name, Access::Read)?;
        let bytes = read_file(disk, &name)?;
        let header = match SegmentHeader::decode(&bytes) {
            Ok(header) => header,
            Err(bad) => return Ok(Err(Problem { file: name, offset: 0, what: start_text(&bad) })),
        };
        covered = header.covers.unwrap_or(covered);
        let shared = Arc::new(SegmentFile { name, file, header });
        // The index knows the last sequence even where the last frame is damaged.
        let indexed = index::open_extent(disk, &shared).map(|(_, last, _)| last);
        let end = scan::frames(&bytes, header.salt).last().map_or(SEGMENT_HEADER, |frame| frame.end());
        if indexed.is_none() && scan::rest(&bytes, end, header.salt) != Rest::Zero {
            let what = "expected a frame".to_owned();
            return Ok(Err(Problem { file: shared.name.clone(), offset: len64(end), what }));
        }
        let last = header.covers.or(indexed).unwrap_or_else(|| {
            let events = frames(&bytes, header.salt).filter_map(|frame| super::newest(&frame));
            events.last().unwrap_or(Seq(first.0.saturating_sub(1)))
        });
        kept.push(Kept { name: shared.name.clone(), first, last });
    }
    Ok(Ok(kept))
}

/// The valid frames of a segment, those behind damage too.
fn frames(bytes: &[u8], salt: u32) -> impl Iterator<Item = Frame<'_>> {
    let mut offset = SEGMENT_HEADER;
    std::iter::from_fn(move || {
        let frame = Frame::at(bytes, offset, salt)
            .or_else(|| scan::next_frame(bytes, offset, scan::written(bytes), salt))?;
        offset = frame.end();
        Some(frame)
    })
}

/// What was found so far.
struct Rebuilt {
    cut: Seq,
    /// Up to where the checkpoint knows everything.
    known: Option<Position>,
    /// Channels as the checkpoint has them, by name.
    recorded: HashMap<String, Channel>,
    channels: HashMap<String, Channel>,
    keys: Vec<(Idempotency, Seq, u32)>,
    runs: Vec<(Epoch, Seq)>,
    times: Times,
    log_floor: Seq,
}

impl Rebuilt {
    fn new(recorded: Option<Checkpoint>, cut: Seq) -> Self {
        let mut rebuilt = Self {
            cut,
            known: None,
            recorded: HashMap::new(),
            channels: HashMap::new(),
            keys: Vec::new(),
            runs: Vec::new(),
            times: Times::new(Retention::default().age_ms_max),
            log_floor: Seq::ZERO,
        };
        let Some(recorded) = recorded else { return rebuilt };
        rebuilt.known = Some(recorded.position);
        rebuilt.log_floor = recorded.log_floor.min(cut);
        rebuilt.keys = recorded.keys;
        rebuilt.keys.retain(|&(_, first, _)| first <= cut);
        recorded
            .times
            .into_iter()
            .filter(|step| step.last <= cut)
            .for_each(|step| rebuilt.times.restore(step));
        for channel in recorded.channels {
            let name = channel.name.as_str().to_owned();
            if channel.head <= cut {
                rebuilt.channels.insert(name.clone(), channel.clone());
            }
            rebuilt.recorded.insert(name, channel);
        }
        rebuilt
    }

    fn read(&mut self, bytes: &[u8], segment: Seq) {
        let Ok(header) = SegmentHeader::decode(bytes) else { return };
        for frame in frames(bytes, header.salt) {
            let is_known = self.known.is_some_and(|position| {
                segment < position.segment
                    || (segment == position.segment && len64(frame.offset) < position.offset)
            });
            let run = frame.header.epoch;
            if header.covers.is_none() && self.runs.last().is_none_or(|&(newest, _)| newest != run) {
                self.runs.push((run, frame.header.first));
            }
            for (_, record) in frame.records().flatten() {
                match record.kind {
                    Kind::Event => self.read_event(&record, is_known),
                    _ if is_known => {}
                    _ => self.read_control(&record),
                }
            }
        }
    }

    fn read_control(&mut self, record: &RawRecord<'_>) {
        match record.kind {
            Kind::Event => {}
            Kind::LogFloor => self.log_floor = self.log_floor.max(record.seq),
            Kind::Forgotten => drop(self.channels.remove(record.channel)),
            Kind::Deleted => {
                if let Some(channel) = self.channels.get_mut(record.channel) {
                    channel.pin = channel.pin.take().filter(|pin| pin.seq > record.seq);
                    channel.floor = channel.floor.max(record.seq);
                    channel.deleted = Some(channel.floor);
                    (channel.events, channel.bytes, channel.steps) = (0, 0, Steps::default());
                }
            }
        }
    }

    fn read_event(&mut self, record: &RawRecord<'_>, is_known: bool) {
        self.times.push(record.seq, record.time_ms);
        if let Some((idempotency, count)) = record.idempotency.filter(|_| !is_known) {
            self.keys.push((idempotency, record.seq, count));
        }
        let recorded = self.recorded.get(record.channel);
        // Of a channel that was forgotten since.
        if is_known && recorded.is_none_or(|channel| record.seq < channel.born) {
            return;
        }
        let channel = match self.channels.get_mut(record.channel) {
            // A channel whose record is from before the cut is in it as it was.
            Some(channel) if record.seq <= channel.head => return,
            Some(channel) => channel,
            None => {
                let Ok(name) = ChannelName::parse(record.channel) else { return };
                let recorded = recorded.filter(|_| is_known);
                let channel = fresh(name, record, recorded);
                self.channels.entry(record.channel.to_owned()).or_insert(channel)
            }
        };
        let is_new = channel.head == Seq::ZERO;
        if !is_new && !is_known && record.prev == Seq::ZERO {
            // The channel was forgotten, and this is another one.
            let name = channel.name.clone();
            *channel = fresh(name, record, None);
        } else if !is_new && channel.head != record.prev && record.prev > channel.floor {
            // What is between is gone, as behind a pinned event.
            channel.floor = channel.floor.max(record.prev);
            (channel.deleted, channel.events, channel.bytes) = (None, 0, 0);
            channel.steps = Steps::default();
        }
        let len = len64(record.len);
        channel.repin(record.seq, record.prev, len32(record.len), record.flags);
        if record.seq > channel.floor {
            let (events_max, bytes_max) = STEP;
            let bounds = Retention::default().events_max(events_max * 8).channel_bytes_max(bytes_max * 8);
            channel.steps.push(channel.head, len, &bounds);
            channel.events += 1;
            channel.bytes += len;
        }
        channel.before_head = record.prev;
        channel.head = record.seq;
        channel.is_finished = record.flags.is_final;
        channel.time_ms = channel.time_ms.max(record.time_ms);
        channel.idle_since_ms = None;
    }

    fn checkpoint(self, position: Position, segments: Vec<(Seq, Seq)>) -> Checkpoint {
        let channels = self.channels.into_values().filter(|channel| channel.head <= self.cut);
        Checkpoint {
            position,
            log_floor: self.log_floor.min(self.cut),
            // Whoever holds an older id is told, and nobody follows the whole log across the cut.
            horizon: position.head,
            gone: position.head,
            segments,
            times: self.times.steps().collect(),
            channels: channels.map(settled).collect(),
            keys: self.keys,
            file_bytes: 0,
        }
    }
}

/// A channel right before its first event that is left.
fn fresh(name: ChannelName, record: &RawRecord<'_>, recorded: Option<&Channel>) -> Channel {
    Channel {
        id: 0,
        name,
        born: recorded.map_or(record.seq, |channel| channel.born),
        head: Seq::ZERO,
        floor: recorded.map_or(Seq::ZERO, |channel| channel.floor).max(record.prev),
        // Only a log that is open needs it.
        saved_floor: Seq::ZERO,
        deleted: recorded.and_then(|channel| channel.deleted),
        is_finished: false,
        before_head: record.prev,
        pin: None,
        time_ms: 0,
        events: 0,
        bytes: 0,
        idle_since_ms: None,
        steps: Steps::default(),
    }
}

/// A floor that was moved by what is gone now stands at the newest event that is left.
fn settled(mut channel: Channel) -> Channel {
    let pinned = channel.pin.as_deref().filter(|pin| pin.seq == channel.head);
    channel.floor = channel.floor.min(pinned.map_or(channel.head, |pin| pin.prev));
    channel.deleted = channel.deleted.map(|_| channel.floor);
    channel
}
