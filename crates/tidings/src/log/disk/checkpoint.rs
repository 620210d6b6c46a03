//! What makes a start fast, and what the segments no longer say.
//!
//! Owns: the file `checkpoint` and when it is written. Does not know: how segments are read.
//! Flow: the state → a small file, replaced as a whole → the state that the next start begins from.
//!
//! A checkpoint is a position and everything known at it: channel records, floors, idempotency keys, and which segments
//! there must be. Records may be newer than the position; whoever replays the segments behind it skips what a record
//! already knows. Nothing is freed before the checkpoint that no longer needs it is durable.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidings_core::{ChannelName, Epoch, Seq};

use super::DiskLog;
use super::format::{self, BadStart, FileKind, Take, len32, len64, to_usize};
use super::index::{self, SealInput};
use super::io::{Disk, is_full, read_file, replace_file};
use super::retain::Maintenance;
use super::segment::{Index, Segment};
use super::state::{Channel, Pin, Step, Steps};
use super::times;
use crate::log::{Idempotency, LogError};

pub(super) const NAME: &str = "checkpoint";

/// Bytes of a channel's record, at the least.
const CHANNEL_BYTES_MIN: usize = 1 + 1 + 1 + 10 * 8 + 4;

/// Records that are copied under one lock.
const CHUNK: usize = 4_096;

/// A place in the log, right behind a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) head: Seq,
    /// The run that wrote the head.
    pub(super) epoch: Epoch,
    /// The segment that was the newest.
    pub(super) segment: Seq,
    pub(super) offset: u64,
}

/// What a checkpoint says.
#[derive(Debug)]
pub(super) struct Checkpoint {
    pub(super) position: Position,
    pub(super) log_floor: Seq,
    pub(super) horizon: Seq,
    pub(super) gone: Seq,
    /// First and last sequence of each segment before the position's.
    pub(super) segments: Vec<(Seq, Seq)>,
    pub(super) times: Vec<times::Step>,
    pub(super) channels: Vec<Channel>,
    pub(super) keys: Vec<(Idempotency, Seq, u32)>,
    pub(super) file_bytes: u64,
}

impl DiskLog {
    /// Writes a checkpoint once enough was appended that it pays, or when space is needed and there is some to free.
    pub(super) fn checkpoint_if_due(&self, maintenance: &mut Maintenance) -> Result<(), LogError> {
        let behind = self.bytes_behind(maintenance);
        let due = self.options.segment_bytes.max(maintenance.checkpoint_bytes.saturating_mul(2));
        let is_full = self.figures.is_full.load(Ordering::Relaxed);
        if behind >= due || (is_full && self.frees_some(maintenance)) {
            return self.write_checkpoint(maintenance);
        }
        Ok(())
    }

    /// Whether a checkpoint may let something go: segments of which nothing is wanted, or what moved floors left in others.
    fn frees_some(&self, maintenance: &Maintenance) -> bool {
        let state = self.state();
        state.moves > maintenance.checkpoint_moves
            || state.segments.iter().any(|segment| segment.life.is_over)
    }

    /// Bytes of frames behind the last checkpoint.
    fn bytes_behind(&self, maintenance: &Maintenance) -> u64 {
        let state = self.state();
        let newest = state.segments.iter().rev();
        match maintenance.checkpoint {
            None => newest.map(|segment| segment.data_end).sum(),
            Some(position) => newest
                .take_while(|segment| segment.first() >= position.segment)
                .map(|s| {
                    if s.first() == position.segment {
                        s.data_end - position.offset.min(s.data_end)
                    } else {
                        s.data_end
                    }
                })
                .sum(),
        }
    }

    pub(super) fn write_checkpoint(&self, maintenance: &mut Maintenance) -> Result<(), LogError> {
        maintenance.is_behind_its_floors = true;
        // Before it is made: what moves meanwhile may not be in it.
        let moves = self.state().moves;
        let (position, bytes) = self.encode_checkpoint();
        match replace_file(&*self.disk, NAME, &bytes) {
            Ok(()) => {}
            Err(error) => return Err(self.checkpoint_failed(error)),
        }
        maintenance.is_behind_its_floors = false;
        maintenance.checkpoint = Some(position);
        maintenance.checkpoint_moves = moves;
        maintenance.checkpoint_bytes = len64(bytes.len());
        self.free_dead(position)
    }

    fn checkpoint_failed(&self, error: io::Error) -> LogError {
        if is_full(&error) {
            // The old one is untouched. What was written of the new one is in the way of what frees space.
            self.disk.remove(&format!("{NAME}.tmp")).unwrap_or_default();
        } else {
            self.poison(&format!("{NAME}: {error}"));
        }
        LogError::Io { context: format!("writing {NAME}"), source: error }
    }

    fn encode_checkpoint(&self) -> (Position, Vec<u8>) {
        let (position, keys) = {
            let writer = self.writer();
            let position = Position {
                head: writer.head,
                epoch: self.epochs.id(writer.head).epoch,
                segment: writer.segment.header.first,
                offset: writer.offset,
            };
            (position, writer.keys.iter().collect::<Vec<_>>())
        };
        let mut out = Vec::new();
        let slots = {
            let state = self.state();
            let older = state.segments.iter().filter(|s| s.first() < position.segment && !s.life.is_over);
            put_head(
                &mut out,
                &Head {
                    position,
                    floors: [state.log_floor, state.horizon, state.gone],
                    segments: older.map(|segment| (segment.first(), segment.last)).collect(),
                    times: state.times.steps().collect(),
                },
            );
            state.slots_len()
        };
        put32(&mut out, keys.len());
        keys.iter().for_each(|key| put_key(&mut out, key));
        drop(keys);
        // Without a count: channels that come meanwhile are behind the position.
        for from in (0..slots).step_by(CHUNK) {
            let mut state = self.state_mut();
            let mut is_raised = false;
            for slot in from..slots.min(from + CHUNK) {
                let Some(channel) = state.channel_mut(len32(slot)) else { continue };
                put_channel(&mut out, channel);
                is_raised |= channel.saved_floor < channel.floor;
                channel.saved_floor = channel.floor;
            }
            // Segments may now be rewritten with less.
            state.moves += u64::from(is_raised);
        }
        (position, format::sealed_file(FileKind::Checkpoint, &out))
    }

    /// Puts the indexes of full segments on disk, and gives back the space behind their last frames. One that cannot be
    /// written stays in memory: nothing is lost, and what frees space goes on.
    pub(super) fn seal_full(&self) {
        let full: Vec<_> = {
            let state = self.state();
            let older = state.segments.split_last().map(|(_, older)| older).unwrap_or_default();
            let to_seal = |segment: &Segment| {
                let index = match &segment.index {
                    Index::Memory(index) => index.clone(),
                    Index::Sealed(index) => index.to_write_again()?,
                };
                Some((segment.shared.clone(), segment.last, segment.data_end, index))
            };
            older.iter().filter_map(to_seal).collect()
        };
        for (shared, last, data_end, index) in full {
            let input = SealInput { shared: &shared, last, data_end, index: &index };
            if let Err(error) = self.seal(&input) {
                tracing::warn!(file = %shared.name, %error, "the index of a segment was not written; trying again later");
            }
        }
    }

    fn seal(&self, input: &SealInput<'_>) -> io::Result<()> {
        let seed = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
        let sealed = index::seal(&*self.disk, input, seed)?;
        input.shared.file.set_len(input.data_end)?;
        let mut state = self.state_mut();
        let first = input.shared.header.first;
        if let Some(segment) = state.segments.iter_mut().find(|segment| segment.first() == first) {
            segment.index = Index::Sealed(Arc::new(sealed));
            segment.file_bytes = input.data_end;
        }
        Ok(())
    }
}

fn put32(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(&len32(number).to_le_bytes());
}

fn put64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

/// Everything but keys and channels.
struct Head {
    position: Position,
    /// Of the log: its floor, its horizon, and what is gone.
    floors: [Seq; 3],
    segments: Vec<(Seq, Seq)>,
    times: Vec<times::Step>,
}

fn put_head(out: &mut Vec<u8>, head: &Head) {
    put_position(out, &head.position);
    head.floors.iter().for_each(|seq| put64(out, seq.0));
    put32(out, head.segments.len());
    for (first, last) in &head.segments {
        [first, last].iter().for_each(|seq| put64(out, seq.0));
    }
    put32(out, head.times.len());
    for step in &head.times {
        [step.last.0, step.from_ms, step.to_ms].iter().for_each(|&number| put64(out, number));
    }
}

/// Writes a checkpoint that was not taken from a running log.
pub(super) fn write(disk: &dyn Disk, checkpoint: &Checkpoint) -> io::Result<()> {
    let Checkpoint { position, log_floor, horizon, gone, .. } = *checkpoint;
    let (segments, times) = (checkpoint.segments.clone(), checkpoint.times.clone());
    let mut out = Vec::new();
    put_head(&mut out, &Head { position, floors: [log_floor, horizon, gone], segments, times });
    put32(&mut out, checkpoint.keys.len());
    checkpoint.keys.iter().for_each(|key| put_key(&mut out, key));
    checkpoint.channels.iter().for_each(|channel| put_channel(&mut out, channel));
    replace_file(disk, NAME, &format::sealed_file(FileKind::Checkpoint, &out))
}

fn put_position(out: &mut Vec<u8>, position: &Position) {
    put64(out, position.head.0);
    format::put_epoch(out, position.epoch);
    put64(out, position.segment.0);
    put64(out, position.offset);
}

fn put_key(out: &mut Vec<u8>, (idempotency, first, count): &(Idempotency, Seq, u32)) {
    out.extend_from_slice(&idempotency.key.to_le_bytes());
    out.extend_from_slice(&idempotency.fingerprint.to_le_bytes());
    put64(out, idempotency.time_ms);
    put64(out, first.0);
    out.extend_from_slice(&count.to_le_bytes());
}

fn put_channel(out: &mut Vec<u8>, channel: &Channel) {
    let Channel { id: _, name, born, head, floor, deleted, is_finished, before_head, .. } = channel;
    out.push(u8::try_from(name.as_str().len()).unwrap_or(u8::MAX));
    out.extend_from_slice(name.as_str().as_bytes());
    out.push(
        u8::from(*is_finished)
            | u8::from(deleted.is_some()) << 1
            | u8::from(channel.idle_since_ms.is_some()) << 2
            | u8::from(channel.pin.is_some()) << 3,
    );
    let times = [channel.time_ms, channel.idle_since_ms.unwrap_or(0)];
    let seqs = [born.0, head.0, floor.0, before_head.0];
    let counts = [channel.events, channel.bytes, channel.steps.open.events, channel.steps.open.bytes];
    seqs.iter().chain(&times).chain(&counts).for_each(|&number| put64(out, number));
    put32(out, channel.steps.done.len());
    for step in &channel.steps.done {
        [step.last.0, step.events, step.bytes].iter().for_each(|&number| put64(out, number));
    }
    if let Some(pin) = &channel.pin {
        [pin.seq, pin.prev, pin.next.unwrap_or(Seq::ZERO)].iter().for_each(|seq| put64(out, seq.0));
        out.extend_from_slice(&pin.len.to_le_bytes());
    }
}

fn take_channel(take: &mut Take<'_>) -> Option<Channel> {
    let len = take.u8()?;
    let name = std::str::from_utf8(take.bytes(usize::from(len))?).ok()?;
    let name = ChannelName::parse(name).ok()?;
    let bits = take.u8()?;
    let (born, head, floor, before_head) = (take.seq()?, take.seq()?, take.seq()?, take.seq()?);
    let (time_ms, idle_since_ms) = (take.u64()?, take.u64()?);
    let (events, bytes) = (take.u64()?, take.u64()?);
    let open = Step { last: Seq::ZERO, events: take.u64()?, bytes: take.u64()? };
    let done = (0..take.u32()?)
        .map(|_| Some(Step { last: take.seq()?, events: take.u64()?, bytes: take.u64()? }))
        .collect::<Option<_>>()?;
    let pin = if bits & 8 != 0 {
        let (seq, prev, next) = (take.seq()?, take.seq()?, take.seq()?);
        Some(Box::new(Pin { seq, prev, next: Some(next).filter(|&next| next > Seq::ZERO), len: take.u32()? }))
    } else {
        None
    };
    Some(Channel {
        id: 0,
        name,
        born,
        head,
        floor,
        saved_floor: floor,
        deleted: (bits & 2 != 0).then_some(floor),
        is_finished: bits & 1 != 0,
        before_head,
        pin,
        time_ms,
        events,
        bytes,
        idle_since_ms: (bits & 4 != 0).then_some(idle_since_ms),
        steps: Steps { done, open },
    })
}

/// The checkpoint; `Ok(None)` if there is no such file.
pub(super) fn read(disk: &dyn Disk) -> io::Result<Option<Result<Checkpoint, BadStart>>> {
    match read_file(disk, NAME) {
        Ok(bytes) => Ok(Some(decode(&bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn decode(bytes: &[u8]) -> Result<Checkpoint, BadStart> {
    let mut take = Take(format::open_sealed(bytes, FileKind::Checkpoint)?);
    let mut checkpoint = take_checkpoint(&mut take).ok_or(BadStart::Damaged)?;
    // Too much rather than too little: what is not used costs nothing, and growing would copy all of them.
    checkpoint.channels.reserve(take.0.len() / CHANNEL_BYTES_MIN);
    while !take.0.is_empty() {
        checkpoint.channels.push(take_channel(&mut take).ok_or(BadStart::Damaged)?);
    }
    checkpoint.file_bytes = len64(bytes.len());
    Ok(checkpoint)
}

/// Everything but the channels, which reach to the end.
fn take_checkpoint(take: &mut Take<'_>) -> Option<Checkpoint> {
    let head = take.seq()?;
    let epoch = take.epoch()?;
    let position = Position { head, epoch, segment: take.seq()?, offset: take.u64()? };
    let (log_floor, horizon, gone) = (take.seq()?, take.seq()?, take.seq()?);
    let segments =
        (0..to_usize(take.u32()?)).map(|_| Some((take.seq()?, take.seq()?))).collect::<Option<Vec<_>>>()?;
    let times = (0..to_usize(take.u32()?))
        .map(|_| Some(times::Step { last: take.seq()?, from_ms: take.u64()?, to_ms: take.u64()? }))
        .collect::<Option<Vec<_>>>()?;
    let keys = (0..to_usize(take.u32()?))
        .map(|_| {
            let (key, fingerprint, time_ms) = (take.u128()?, take.u128()?, take.u64()?);
            Some((Idempotency { key, fingerprint, time_ms }, take.seq()?, take.u32()?))
        })
        .collect::<Option<Vec<_>>>()?;
    Some(Checkpoint {
        position,
        log_floor,
        horizon,
        gone,
        segments,
        times,
        channels: Vec::new(),
        keys,
        file_bytes: 0,
    })
}
