//! Giving space back.
//!
//! Owns: which segments nobody needs, and rewriting those that hardly anybody does. Does not know: why an event is gone.
//! Flow: in ← floors and forgotten records · out → fewer and smaller segments, with the same sequences.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use tidings_core::{ChannelName, Seq};

use super::DiskLog;
use super::checkpoint::Position;
use super::format::{
    FRAME_HEADER, Kind, RawRecord, SEGMENT_HEADER, SegmentHeader, finish_frame, len32, len64,
};
use super::index::{self, Holding, SealInput, index_name};
use super::io::{DiskFile, is_full};
use super::read::read_frame;
use super::retain::Maintenance;
use super::scan::Frame;
use super::segment::{Entry, Index, Life, MemoryIndex, Segment, SegmentFile, segment_name};
use super::state::{Channel, Pin, Reach, State};
use super::writer::random_salt;
use crate::log::LogError;

/// Segments that one maintenance looks through, or an eighth of all, so that a long log is gone through in eight.
const LOOKS_PER_ROUND: usize = 4;
/// Runs of segments that one maintenance rewrites. At full speed two segments fill up between one maintenance and the
/// next, so that with fewer those that hardly anybody needs would pile up.
const REWRITES_PER_ROUND: usize = 4;
/// Bytes of records in one frame of a rewritten segment.
const FRAME_BYTES: usize = 1 << 20;

impl DiskLog {
    /// Finds out how much of the full segments is still wanted.
    pub(super) fn look_for_dead(&self) {
        let (moves, due) = {
            let state = self.state();
            let mut due: Vec<_> = state
                .segments
                .iter()
                .filter(|s| !s.life.is_over && !s.life.is_damaged && s.life.looked_at < state.moves)
                .filter_map(|s| match &s.index {
                    Index::Sealed(index) => {
                        Some((s.life.looked_at, s.first(), s.shared.clone(), index.clone()))
                    }
                    Index::Memory(_) => None,
                })
                .collect();
            due.sort_unstable_by_key(|(looked_at, first, ..)| (*looked_at, *first));
            (state.moves, due)
        };
        let looks = LOOKS_PER_ROUND.max(due.len() / 8);
        for (_, first, shared, index) in due.into_iter().take(looks) {
            let holdings = index.holdings(first);
            if let Some(at) = index.segment_damaged() {
                // What the damage hides is not in the holdings: it is not for them to say that nothing is wanted.
                self.note_damage(&shared.name, at);
                if let Some(segment) = find(&mut self.state_mut(), first) {
                    segment.life.is_damaged = true;
                }
                continue;
            }
            let (bytes, is_over) = {
                let state = self.state();
                let bytes = |reach: fn(&Channel, Seq) -> Reach| -> u64 {
                    holdings.iter().map(|holding| live_bytes(&state, holding, reach)).sum()
                };
                // It goes only behind a checkpoint, so what is gone now counts; rewriting waits for none.
                (bytes(Channel::saved_reach), bytes(Channel::reach) == 0)
            };
            let mut state = self.state_mut();
            if let Some(segment) = find(&mut state, first) {
                segment.life = Life { looked_at: moves, bytes, is_over, is_damaged: false };
            }
        }
    }

    /// Removes the segments of which nothing is wanted. `covered` is the checkpoint that no longer names them.
    pub(super) fn free_dead(&self, covered: Position) -> Result<(), LogError> {
        let dead: Vec<Segment> = {
            let mut state = self.state_mut();
            state.segments.extract_if(.., |s| s.life.is_over && s.first() < covered.segment).collect()
        };
        for segment in dead {
            let name = &segment.shared.name;
            for name in [name.clone(), index_name(name)] {
                self.disk
                    .remove(&name)
                    .map_err(|source| LogError::Io { context: format!("removing {name}"), source })?;
            }
        }
        Ok(())
    }

    /// Rewrites neighbouring segments of which less than half is wanted into one.
    pub(super) fn rewrite_mostly_dead(&self, maintenance: &Maintenance) -> Result<(), LogError> {
        // Only what a checkpoint covers: control records and keys are not copied.
        let Some(covered) = maintenance.checkpoint.filter(|_| !maintenance.is_behind_its_floors) else {
            return Ok(());
        };
        for _ in 0..REWRITES_PER_ROUND {
            if !self.rewrite_a_run(covered)? {
                break;
            }
        }
        Ok(())
    }

    /// Returns whether there may be more to rewrite.
    fn rewrite_a_run(&self, covered: Position) -> Result<bool, LogError> {
        let run: Vec<Arc<SegmentFile>> = {
            let state = self.state();
            choose_run(&state, covered, self.options.segment_bytes)
        };
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(false) };
        match self.rewrite(&run) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                // Damaged segments stay as they are, so that readers are told and `tidings log` can look.
                let mut state = self.state_mut();
                for shared in &run {
                    if let Some(segment) = find(&mut state, shared.header.first) {
                        segment.life.is_damaged = true;
                    }
                }
                Ok(true)
            }
            Err(error) if is_full(&error) => {
                tracing::warn!(from = %first.name, to = %last.name, "no space to rewrite segments; trying again later");
                Ok(false)
            }
            Err(source) => {
                self.poison(&format!("rewriting {}: {source}", first.name));
                Err(LogError::Io { context: format!("rewriting {}", first.name), source })
            }
        }
    }

    fn rewrite(&self, run: &[Arc<SegmentFile>]) -> io::Result<()> {
        let (Some(oldest), Some(newest)) = (run.first(), run.last()) else { return Ok(()) };
        let first = oldest.header.first;
        let name = segment_name(first);
        let temporary = format!("{name}.tmp");
        let last = {
            let state = self.state();
            state
                .segments
                .iter()
                .find(|s| s.first() == newest.header.first)
                .map_or(first, |segment| segment.last)
        };
        let header =
            SegmentHeader { first, covers: Some(last), salt: random_salt()?, epoch: self.epochs.newest() };
        let file = self.disk.create(&temporary)?;
        let written = self.copy_live(run, &*file, header);
        if written.is_err() {
            self.disk.remove(&temporary).unwrap_or_default();
        }
        let (data_end, index) = written?;
        // An index that does not fit passes for damage where somebody looks at a log that is in use; one that is missing
        // does not.
        match self.disk.remove(&index_name(&name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.disk.rename(&temporary, &name)?;
        self.disk.sync_folder()?;
        let shared = Arc::new(SegmentFile { name, file, header });
        let input = SealInput { shared: &shared, last, data_end, index: &index };
        let seed = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
        let sealed = index::seal(&*self.disk, &input, seed)?;
        let removed = {
            let mut state = self.state_mut();
            let from = state.segments.partition_point(|segment| segment.first() < first);
            let to = state.segments.partition_point(|segment| segment.first() <= last);
            let index = Index::Sealed(Arc::new(sealed));
            let life = Life { bytes: data_end, looked_at: state.moves, ..Life::default() };
            let segment = Segment { shared, last, data_end, file_bytes: data_end, index, life };
            state.segments.splice(from..to, [segment]).skip(1).collect::<Vec<_>>()
        };
        for segment in removed {
            self.disk.remove(&segment.shared.name)?;
            self.disk.remove(&index_name(&segment.shared.name))?;
        }
        Ok(())
    }

    /// Copies what is wanted of the segments, as it is; only checksums are made anew.
    fn copy_live(
        &self,
        run: &[Arc<SegmentFile>],
        file: &dyn DiskFile,
        header: SegmentHeader,
    ) -> io::Result<(u64, MemoryIndex)> {
        let mut copy = Copy::new(file, header);
        file.write_at(&header.encode(), 0)?;
        for shared in run {
            // Not what the file takes: a power cut may have given back what a segment had been shortened by.
            let end = find(&mut self.state_mut(), shared.header.first).map(|segment| segment.data_end);
            let end = end.ok_or_else(|| io::Error::other("a segment went while it was rewritten"))?;
            let mut at = len64(SEGMENT_HEADER);
            while at < end {
                // What cannot be read is damage like any other.
                let bytes = read_frame(shared, at, end).unwrap_or_default();
                let Some(frame) = Frame::at(&bytes, 0, shared.header.salt) else {
                    self.note_damage(&shared.name, at);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is damaged"));
                };
                {
                    let state = self.state();
                    let live = frame.records().flatten().filter(|(_, record)| is_live(&state, record));
                    live.for_each(|(offset, record)| copy.take(&bytes, offset, &record));
                }
                copy.flush_if(FRAME_BYTES)?;
                at += len64(frame.header.extent());
            }
        }
        copy.flush_if(FRAME_HEADER + 1)?;
        file.sync_all()?;
        Ok((copy.offset, copy.index))
    }
}

/// A segment as it is rewritten.
struct Copy<'a> {
    file: &'a dyn DiskFile,
    header: SegmentHeader,
    offset: u64,
    buf: Vec<u8>,
    count: u32,
    first: Seq,
    index: MemoryIndex,
    ids: HashMap<ChannelName, u64>,
}

impl<'a> Copy<'a> {
    fn new(file: &'a dyn DiskFile, header: SegmentHeader) -> Self {
        Self {
            file,
            header,
            offset: len64(SEGMENT_HEADER),
            buf: vec![0; FRAME_HEADER],
            count: 0,
            first: Seq::ZERO,
            index: MemoryIndex::default(),
            ids: HashMap::new(),
        }
    }

    fn take(&mut self, bytes: &[u8], offset: usize, record: &RawRecord<'_>) {
        let (Ok(channel), Some(raw)) =
            (ChannelName::parse(record.channel), bytes.get(offset..offset + record.len))
        else {
            return;
        };
        if self.count == 0 {
            self.first = record.seq;
        }
        self.count += 1;
        let next = len64(self.ids.len());
        let id = *self.ids.entry(channel.clone()).or_insert(next);
        let entry = Entry {
            delta: u32::try_from(record.seq.0.saturating_sub(self.header.first.0)).unwrap_or(u32::MAX),
            offset: u32::try_from(self.offset).unwrap_or(u32::MAX).saturating_add(len32(self.buf.len())),
            len: len32(record.len),
            body: len32(record.body.len()),
        };
        self.index.push(id, &channel, entry);
        self.buf.extend_from_slice(raw);
    }

    fn flush_if(&mut self, bytes: usize) -> io::Result<()> {
        if self.buf.len() < bytes || self.count == 0 {
            return Ok(());
        }
        self.index.mark(self.first, u32::try_from(self.offset).unwrap_or(u32::MAX));
        finish_frame(&mut self.buf, self.first, self.count, self.header.epoch, self.header.salt);
        self.file.write_at(&self.buf, self.offset)?;
        self.offset += len64(self.buf.len());
        self.count = 0;
        self.buf.clear();
        self.buf.resize(FRAME_HEADER, 0);
        Ok(())
    }
}

fn find(state: &mut State, first: Seq) -> Option<&mut Segment> {
    state.segments.iter_mut().find(|segment| segment.first() == first)
}

/// Neighbours that together make one small segment: each hardly wanted, or small already. One that is only small is not
/// rewritten for itself.
fn choose_run(state: &State, covered: Position, segment_bytes: u64) -> Vec<Arc<SegmentFile>> {
    let mut run: Vec<Arc<SegmentFile>> = Vec::new();
    let (mut bytes, mut first) = (0, Seq::ZERO);
    for segment in &state.segments {
        let is_sealed = matches!(segment.index, Index::Sealed(_)) && segment.first() < covered.segment;
        let is_fit =
            is_sealed && !segment.life.is_over && !segment.life.is_damaged && segment.life.looked_at > 0;
        let is_worth = segment.life.bytes < segment.data_end / 2 || segment.data_end < segment_bytes / 4;
        let grown = bytes + segment.life.bytes;
        let fits = grown <= segment_bytes / 2 && segment.last.0.saturating_sub(first.0) < u64::from(u32::MAX);
        if is_fit && is_worth && (run.is_empty() || fits) {
            if run.is_empty() {
                first = segment.first();
            }
            bytes = grown;
            run.push(segment.shared.clone());
            continue;
        }
        if is_run_worth(state, &run) {
            return run;
        }
        run.clear();
        bytes = 0;
    }
    if is_run_worth(state, &run) { run } else { Vec::new() }
}

fn is_run_worth(state: &State, run: &[Arc<SegmentFile>]) -> bool {
    let dead =
        |first: Seq| state.segments.iter().any(|s| s.first() == first && s.life.bytes < s.data_end / 2);
    run.len() > 4 || run.iter().any(|shared| dead(shared.header.first))
}

/// About how many bytes of a channel's events in a segment are retained; 0 exactly if none is.
fn live_bytes(state: &State, holding: &Holding, reach: fn(&Channel, Seq) -> Reach) -> u64 {
    let Some(channel) = state.slot(&holding.name).and_then(|slot| state.channel(slot)) else { return 0 };
    let reach = reach(channel, state.log_floor);
    let after = reach.after;
    if holding.first > after {
        return holding.bytes;
    }
    let is_here = |pin: &&Pin| pin.seq >= holding.first && pin.seq <= holding.last;
    let pinned = channel.lone_pin(&reach).filter(is_here).map_or(0, |pin| u64::from(pin.len));
    if holding.last <= after {
        return pinned;
    }
    let all = u128::from(holding.last.0 - holding.first.0 + 1);
    let left = u128::from(holding.last.0 - after.0);
    u64::try_from(u128::from(holding.bytes) * left / all).unwrap_or(holding.bytes).max(1) + pinned
}

fn is_live(state: &State, record: &RawRecord<'_>) -> bool {
    let channel = || state.channel(state.slot(record.channel)?);
    record.kind == Kind::Event
        && channel().is_some_and(|channel| {
            let is_pinned = channel.pin.as_deref().is_some_and(|pin| pin.seq == record.seq);
            is_pinned || record.seq > channel.saved_reach(state.log_floor).after
        })
}
