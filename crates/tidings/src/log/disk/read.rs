//! Reading: several channels merged, the whole log, and the newest few.
//!
//! Owns: which records a reader gets, and the proof that none between them is missing. Does not know: how they came in.
//! Flow: in ← channels with positions · out → places from the indexes, merged → only those are read from the disk.
//!
//! The state is locked only while places are looked up in memory; nothing is read from the disk under the lock.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tidings_core::{ChannelName, Seq};

use super::DiskLog;
use super::format::{FRAME_HEADER, FrameHeader, Kind, RawRecord, SEGMENT_HEADER, len32, len64, to_usize};
use super::index::{SealedIndex, index_name};
use super::io::read_exact;
use super::scan::Frame;
use super::segment::{Entry, Index, SegmentFile, Span, len_of, mark_before, offset_of};
use super::state::{Pin, Reach, State};
use crate::log::{Feed, LogError, ReadLimit, ReadOutcome, Record, Want, Window};

/// Gaps up to this are read over rather than read around.
const GAP_BYTES: u64 = 1024;
/// One read of the disk is not longer than this, unless a single record is.
const READ_BYTES: u64 = 256 * 1024;

/// One channel of a read.
#[derive(Debug, Clone, Copy)]
struct Source<'a> {
    channel: &'a ChannelName,
    id: u64,
    /// Where reading starts: the position, or what is gone, if that reaches further.
    after: Seq,
    /// Whether only the oldest event that is left can say if something behind the position is gone.
    is_cut: bool,
    /// Whether this is about the pinned event alone, which stands below what else is read.
    is_pin: bool,
    head: Seq,
}

/// A segment as a reader sees it.
struct View {
    shared: Arc<SegmentFile>,
    last: Seq,
    places: Places,
}

enum Places {
    /// By the source's place in the list of sources.
    Memory(Vec<Vec<Entry>>),
    Sealed(Arc<SealedIndex>),
}

impl View {
    fn first(&self) -> Seq {
        self.shared.header.first
    }

    fn entries(&self, at: usize, source: &Source<'_>, span: Span) -> Vec<Entry> {
        match &self.places {
            Places::Memory(lists) => {
                lists.get(at).map(|list| span.cut(list, self.first()).to_vec()).unwrap_or_default()
            }
            Places::Sealed(index) => index.find(source.channel.as_str(), self.first(), span),
        }
    }

    /// How many events of the source it holds.
    fn count(&self, source: &Source<'_>) -> u64 {
        match &self.places {
            Places::Memory(lists) => lists.first().map_or(0, |list| len64(list.len())),
            Places::Sealed(index) => index.count(source.channel.as_str(), self.first(), source.after),
        }
    }

    /// What the index is known not to name in `(after, upto]`.
    fn hole(&self, after: Seq, upto: Seq) -> Option<(Seq, Seq)> {
        match &self.places {
            Places::Memory(_) => None,
            Places::Sealed(index) => index.hole(after, upto),
        }
    }

    /// The record at a place, if it is the one that was written there. `buffer` starts at `start` of the segment; where
    /// it does not hold the record, that is read alone.
    fn record(
        &self,
        buffer: &Bytes,
        start: u64,
        place: &Chosen,
        source: Option<&Source<'_>>,
    ) -> Option<Record> {
        let from = usize::try_from(offset_of(&place.entry).checked_sub(start)?).ok()?;
        let to = from.checked_add(len_of(&place.entry))?;
        let bytes = match buffer.get(from..to) {
            Some(_) => buffer.slice(from..to),
            None => {
                read_exact(&*self.shared.file, offset_of(&place.entry), len_of(&place.entry)).ok()?.into()
            }
        };
        let raw = RawRecord::decode(&bytes, self.shared.header.salt)?;
        let source = source?;
        let is_meant =
            raw.kind == Kind::Event && raw.seq == place.seq && raw.channel == source.channel.as_str();
        if is_meant { raw.to_record(&bytes, Some(source.channel)) } else { None }
    }
}

/// A place that a read has chosen.
#[derive(Debug, Clone, Copy)]
struct Chosen {
    source: usize,
    entry: Entry,
    seq: Seq,
}

/// Where reading stopped making sense.
enum Bad {
    /// This record is not what was written.
    Record(Seq),
    /// Events of a channel are missing up to this position, right before a record that is there.
    Hole(Seq),
}

/// Everything a read needs, taken under the lock at one moment.
struct Plan<'a> {
    sources: Vec<Source<'a>>,
    views: Vec<View>,
    truncated: Vec<(usize, Seq)>,
    /// Wants whose channel the floor of the log cuts: their place, their position, their source.
    cut: Vec<(usize, Seq, usize)>,
}

impl DiskLog {
    pub(super) fn read_channels(
        &self,
        wanted: &[Want<'_>],
        limit: ReadLimit,
    ) -> Result<ReadOutcome, LogError> {
        let limit = ReadLimit { upto: limit.upto.min(self.head_now()), ..limit };
        let Plan { sources, views, mut truncated, cut } = {
            let state = self.state();
            plan(
                &state,
                wanted,
                Span {
                    after: Seq::ZERO,
                    upto: limit.upto,
                    max: limit.events_max.max(1).saturating_add(1),
                    newest: false,
                },
            )
        };
        for (index, wanted, at) in cut {
            let Some(source) = sources.get(at) else { continue };
            if let Some(floor) = floor_behind(&views, at, source).filter(|&floor| floor > wanted) {
                truncated.push((index, floor));
            }
        }
        if !truncated.is_empty() {
            truncated.sort_unstable();
            return Ok(ReadOutcome::Truncated { channels: truncated });
        }
        let mut slice = Slice::new(limit);
        // The last position of each source that was read: what follows must name it as its previous one.
        let mut chain: Vec<Seq> = sources.iter().map(|source| source.after).collect();
        for view in &views {
            let chosen = match self.choose(view, &sources, &mut slice) {
                Ok(chosen) => chosen,
                Err(bad) => return Ok(slice.before(bad)),
            };
            if let Some(bad) = self.fetch(view, &sources, &chosen, &mut chain, &mut slice.records) {
                return Ok(slice.before(bad));
            }
            if slice.cut {
                break;
            }
        }
        if !slice.cut {
            // Nothing was left out, so every channel must have been read to its end.
            let missing =
                |(source, last): (&Source<'_>, &Seq)| source.head <= limit.upto && *last < source.head;
            if let Some((source, _)) = sources.iter().zip(&chain).find(|&(s, l)| missing((s, l))) {
                self.note_damage(&format!("the index of channel {}", source.channel), source.head.0);
                return Ok(slice.before(Bad::Hole(source.head)));
            }
        }
        Ok(slice.finish())
    }

    /// The places of one segment that the slice has room for, in order.
    fn choose(&self, view: &View, sources: &[Source<'_>], slice: &mut Slice) -> Result<Vec<Chosen>, Bad> {
        let limit = slice.limit;
        let mut chosen = Vec::new();
        let span = |source: &Source<'_>| Span {
            after: source.after,
            upto: limit.upto,
            max: limit.events_max.max(1).saturating_add(1),
            newest: false,
        };
        for (at, source) in sources.iter().enumerate() {
            let entries = view.entries(at, source, span(source));
            if !is_plausible(&entries, view.first(), source.after) {
                self.note_damage(&index_name(&view.shared.name), 0);
                return Err(Bad::Hole(view.last));
            }
            chosen.extend(entries.into_iter().map(|entry| Chosen {
                source: at,
                entry,
                seq: entry.seq(view.first()),
            }));
        }
        chosen.sort_unstable_by_key(|place| place.seq);
        let fits = chosen.iter().take_while(|place| slice.takes(place.entry.body)).count();
        chosen.truncate(fits);
        let lowest = sources.iter().map(|source| source.after).min().unwrap_or(limit.upto);
        let reached = chosen.last().map_or(lowest, |place| place.seq);
        let upto = if slice.cut { reached } else { view.last.min(limit.upto) };
        if let Some((last, next)) = view.hole(lowest, upto) {
            chosen.retain(|place| place.seq <= last);
            if chosen.is_empty() {
                self.note_damage(&index_name(&view.shared.name), 0);
                return Err(Bad::Hole(Seq(next.0.saturating_sub(1)).min(view.last)));
            }
            // What is before the hole is read first, and then the hole is met again.
            slice.cut = true;
        }
        Ok(chosen)
    }

    /// Reads chosen places of one segment; stops at the first that is not what it should be.
    fn fetch(
        &self,
        view: &View,
        sources: &[Source<'_>],
        chosen: &[Chosen],
        chain: &mut [Seq],
        records: &mut Vec<Record>,
    ) -> Option<Bad> {
        let mut rest = chosen;
        while let Some((run, behind)) =
            rest.split_at_checked(run_len(rest)).filter(|(run, _)| !run.is_empty())
        {
            let start = run.first().map_or(0, |place| offset_of(&place.entry));
            let end = run.last().map_or(start, |place| offset_of(&place.entry) + u64::from(place.entry.len));
            let len = usize::try_from(end.saturating_sub(start)).unwrap_or(0);
            // What cannot be read is damage like any other: the reader is told, and goes on behind it.
            let buffer = Bytes::from(read_exact(&*view.shared.file, start, len).unwrap_or_default());
            for (done, place) in run.iter().enumerate() {
                let source = sources.get(place.source);
                let Some(record) = view.record(&buffer, start, place, source) else {
                    self.note_damage(&view.shared.name, offset_of(&place.entry));
                    let upto =
                        self.last_bad(view, sources, run.get(done..).unwrap_or_default(), &buffer, start);
                    return Some(Bad::Record(upto));
                };
                let Some(last) = chain.get_mut(place.source) else { continue };
                // The index may be wrong as well: the chain of previous positions shows a hole on every path.
                if record.prev > *last {
                    self.note_damage(&view.shared.name, offset_of(&place.entry));
                    return Some(Bad::Hole(record.prev));
                }
                *last = record.seq;
                records.push(record);
            }
            rest = behind;
        }
        None
    }

    /// The last of the bad records that stand in a row: a reader is told of a damaged block once, not once per event.
    fn last_bad(
        &self,
        view: &View,
        sources: &[Source<'_>],
        run: &[Chosen],
        buffer: &Bytes,
        start: u64,
    ) -> Seq {
        let bad = run.iter().take_while(|p| view.record(buffer, start, p, sources.get(p.source)).is_none());
        bad.last().map_or(Seq::ZERO, |place| place.seq)
    }

    pub(super) fn newest_places(&self, channels: &[ChannelName], n: usize, upto: Seq) -> Option<Seq> {
        let wanted: Vec<Want<'_>> =
            channels.iter().map(|channel| Want { channel, after: Seq::ZERO }).collect();
        let span = Span { after: Seq::ZERO, upto, max: n, newest: true };
        if n == 0 {
            return None;
        }
        let Plan { sources, views, .. } = plan(&self.state(), &wanted, span);
        let mut newest = BTreeSet::new();
        for view in views.iter().rev() {
            for (at, source) in sources.iter().enumerate() {
                let span = Span { after: source.after, upto, max: n, newest: true };
                let entries = view.entries(at, source, span);
                newest.extend(entries.iter().map(|entry| entry.seq(view.first())));
            }
            while newest.len() > n {
                newest.pop_first();
            }
            if newest.len() >= n {
                break;
            }
        }
        newest.first().copied()
    }

    pub(super) fn read_feed(&self, after: Seq, limit: ReadLimit) -> Result<Feed, LogError> {
        let upto = limit.upto.min(self.head_now());
        let mut slice = Slice::new(ReadLimit { upto, ..limit });
        let (gone, segments) = {
            let state = self.state();
            let of = |segment: &super::segment::Segment| {
                let mark = match &segment.index {
                    Index::Memory(index) => mark_before(&index.marks, after),
                    Index::Sealed(index) => mark_before(index.marks(), after),
                };
                (segment.shared.clone(), mark.map_or(0, |mark| u64::from(mark.offset)), segment.data_end)
            };
            let overlapping = state.segments.iter().filter(|s| after < upto && s.overlaps(after, upto));
            (state.gone, overlapping.map(of).collect::<Vec<_>>())
        };
        if after < gone {
            return Ok(Feed::Lagged { floor: gone });
        }
        for (shared, from, end) in segments {
            if !self.feed_segment(&shared, from, end, after, &mut slice)? || slice.cut {
                break;
            }
        }
        match slice.finish() {
            ReadOutcome::Events { records, to } => Ok(Feed::Events { records, to }),
            _ => Ok(Feed::Lagged { floor: gone }),
        }
    }

    fn feed_segment(
        &self,
        shared: &SegmentFile,
        from: u64,
        end: u64,
        after: Seq,
        slice: &mut Slice,
    ) -> Result<bool, LogError> {
        let mut at = from.max(len64(SEGMENT_HEADER));
        let salt = shared.header.salt;
        while at < end && !slice.cut {
            let bytes = Bytes::from(read_frame(shared, at, end).map_err(|e| failed(&shared.name, e))?);
            let Some(frame) = Frame::at(&bytes, 0, salt) else {
                self.note_damage(&shared.name, at);
                let what = io::Error::new(io::ErrorKind::InvalidData, format!("damaged at offset {at}"));
                return Err(failed(&shared.name, what));
            };
            for (_, raw) in frame.records().flatten().filter(|(_, raw)| raw.kind == Kind::Event) {
                if raw.seq <= after {
                    continue;
                }
                if raw.seq > slice.limit.upto {
                    return Ok(false);
                }
                if !slice.takes(len32(raw.body.len())) {
                    return Ok(false);
                }
                slice.records.extend(raw.to_record(&bytes, None));
            }
            at += len64(frame.header.extent());
        }
        Ok(true)
    }

    pub(super) fn window_of(&self, name: &ChannelName) -> Option<Window> {
        let (mut window, plan, has_to_count) = {
            let state = self.state();
            let channel = state.named(name)?;
            let reach = channel.reach(state.log_floor);
            let window = Window {
                first: None,
                head: channel.head,
                floor: reach.floor.unwrap_or(channel.floor),
                finished: channel.finished(),
                pinned: channel.pin.as_deref().map(|pin| pin.seq),
                events: if reach.is_cut { 1 } else { channel.events },
                deleted: channel.deleted,
            };
            if reach.after >= channel.head {
                let deleted = window.deleted.filter(|&deleted| deleted == window.floor);
                return Some(Window { events: 0, deleted, ..window });
            }
            let max = if reach.is_cut { usize::MAX } else { 1 };
            let span = Span { after: Seq::ZERO, upto: channel.head, max, newest: false };
            let has_to_count = reach.is_cut && (reach.floor.is_none() || reach.after.next() < channel.head);
            (window, plan(&state, &[Want { channel: name, after: Seq::ZERO }], span), has_to_count)
        };
        complete_window(&mut window, &plan, has_to_count);
        // Retention may have taken more since.
        window.deleted = window.deleted.filter(|&deleted| deleted == window.floor);
        Some(window)
    }
}

/// A channel's floor, where the floor of the log cut it: what its oldest event that is left names as its previous.
fn floor_behind(views: &[View], at: usize, source: &Source<'_>) -> Option<Seq> {
    let span = Span { after: source.after, upto: source.head, max: 1, newest: false };
    let oldest = |view: &View| view.entries(at, source, span).first().copied();
    let (view, entry) = views.iter().find_map(|view| Some((view, oldest(view)?)))?;
    let place = Chosen { source: at, entry, seq: entry.seq(view.first()) };
    let start = offset_of(&entry);
    let bytes = read_exact(&*view.shared.file, start, len_of(&entry)).unwrap_or_default();
    // If it cannot be read, the read itself will say so.
    view.record(&bytes.into(), start, &place, Some(source)).map(|record| record.prev)
}

/// Fills in what only the indexes know.
fn complete_window(window: &mut Window, plan: &Plan<'_>, has_to_count: bool) {
    let Some(source) = plan.sources.first() else { return };
    let span = Span { after: source.after, upto: window.head, max: 1, newest: false };
    let mut events = 0;
    for view in &plan.views {
        if window.first.is_none() {
            window.first = view.entries(0, source, span).first().map(|entry| entry.seq(view.first()));
        }
        if !has_to_count && window.first.is_some() {
            return;
        }
        events += view.count(source);
    }
    window.events = events;
    if let Some(floor) = floor_behind(&plan.views, 0, source) {
        window.floor = window.floor.max(floor);
    }
}

/// Looks up, in memory and under the lock, where to read what is wanted.
fn plan<'a>(state: &State, wanted: &[Want<'a>], span: Span) -> Plan<'a> {
    let mut plan = Plan { sources: Vec::new(), views: Vec::new(), truncated: Vec::new(), cut: Vec::new() };
    for (index, want) in wanted.iter().enumerate() {
        let Some(channel) = state.named(want.channel) else { continue };
        let reach = channel.reach(state.log_floor);
        // What is gone before and behind the pinned event is not what this want is about.
        let is_about = |pin: &&Pin| !span.newest && pin.prev <= want.after && span.upto <= pin.seq;
        let pin = channel.lone_pin(&reach).filter(is_about);
        let is_pin = pin.is_some();
        let reach =
            pin.map_or(reach, |pin| Reach { after: pin.before(), floor: Some(Seq::ZERO), is_cut: false });
        if let Some(floor) = reach.floor.filter(|&floor| want.after < floor) {
            plan.truncated.push((index, floor));
        }
        let after = want.after.max(reach.after);
        let is_cut = reach.floor.is_none() && want.after < reach.after;
        // A channel that is wanted twice is read once, from the earlier position.
        let known = plan
            .sources
            .iter_mut()
            .enumerate()
            .find(|(_, source)| (source.id, source.is_pin) == (channel.id, is_pin));
        let at = if let Some((at, source)) = known {
            source.after = source.after.min(after);
            source.is_cut |= is_cut;
            at
        } else if after < channel.head && (after < span.upto || is_cut) {
            let (channel, id, head) = (want.channel, channel.id, channel.head);
            plan.sources.push(Source { channel, id, after, is_cut, is_pin, head });
            plan.sources.len() - 1
        } else {
            continue;
        };
        if is_cut {
            plan.cut.push((index, want.after, at));
        }
    }
    let Some(lowest) = plan.sources.iter().map(|source| source.after).min() else { return plan };
    // Where the floor cuts, the oldest event that is left is looked at, even if it stands above what is wanted.
    let cut = plan.sources.iter().filter(|source| source.is_cut && !span.newest);
    let upto = cut.map(|source| source.head).fold(span.upto, Seq::max);
    for segment in state.segments.iter().filter(|segment| segment.overlaps(lowest, upto)) {
        let places = match &segment.index {
            Index::Sealed(index) => Places::Sealed(index.clone()),
            Index::Memory(index) => Places::Memory(
                plan.sources
                    .iter()
                    .map(|source| {
                        let entries =
                            index.channels.get(&source.id).map(|channel| channel.entries.as_slice());
                        let span = Span { after: source.after, upto, ..span };
                        span.cut(entries.unwrap_or_default(), segment.first()).to_vec()
                    })
                    .collect(),
            ),
        };
        plan.views.push(View { shared: segment.shared.clone(), last: segment.last, places });
    }
    plan
}

/// Records as they are collected, until the limit cuts.
struct Slice {
    limit: ReadLimit,
    records: Vec<Record>,
    chosen: usize,
    bytes: usize,
    cut: bool,
}

impl Slice {
    fn new(limit: ReadLimit) -> Self {
        Self { limit, records: Vec::new(), chosen: 0, bytes: 0, cut: false }
    }

    /// Whether there is room for one more event; once there is not, the slice is complete.
    fn takes(&mut self, body: u32) -> bool {
        let bytes = self.bytes.saturating_add(to_usize(body));
        if self.chosen > 0 && (self.chosen >= self.limit.events_max || bytes > self.limit.bytes_max) {
            self.cut = true;
            return false;
        }
        self.chosen += 1;
        self.bytes = bytes;
        true
    }

    fn finish(self) -> ReadOutcome {
        let last = self.records.last().map(|record| record.seq);
        let to = last.filter(|_| self.cut).unwrap_or(self.limit.upto);
        ReadOutcome::Events { records: self.records, to }
    }

    /// What is good before the bad place, or, if nothing is, that it is bad.
    fn before(mut self, bad: Bad) -> ReadOutcome {
        if !self.records.is_empty() {
            self.cut = true;
            return self.finish();
        }
        match bad {
            Bad::Record(seq) | Bad::Hole(seq) => {
                ReadOutcome::Corrupt { resume_after: seq.min(self.limit.upto) }
            }
        }
    }
}

/// Whether these can be places of one channel behind a position: an index may be damaged while it is in use.
fn is_plausible(entries: &[Entry], first: Seq, after: Seq) -> bool {
    let rises = |pair: &[Entry]| match pair {
        [one, next] => one.delta < next.delta && offset_of(one) + u64::from(one.len) <= offset_of(next),
        _ => true,
    };
    entries.first().is_none_or(|entry| entry.seq(first) > after) && entries.windows(2).all(rises)
}

/// How many of the places, from the first on, one read of the disk should take.
fn run_len(places: &[Chosen]) -> usize {
    let Some(first) = places.first() else { return 0 };
    let start = offset_of(&first.entry);
    let apart = |pair: &[Chosen]| match pair {
        [one, next] => {
            let end = offset_of(&one.entry) + u64::from(one.entry.len);
            let next_end = offset_of(&next.entry) + u64::from(next.entry.len);
            offset_of(&next.entry) > end + GAP_BYTES || next_end > start + READ_BYTES
        }
        _ => true,
    };
    places.windows(2).position(apart).map_or(places.len(), |index| index + 1)
}

/// The frame at `at`, as long as its head says; anything shorter does not pass for a frame.
pub(super) fn read_frame(shared: &SegmentFile, at: u64, end: u64) -> io::Result<Vec<u8>> {
    let left = usize::try_from(end.saturating_sub(at)).unwrap_or(0);
    let head = read_exact(&*shared.file, at, FRAME_HEADER.min(left))?;
    let Some(header) = FrameHeader::decode(&head, shared.header.salt) else { return Ok(head) };
    read_exact(&*shared.file, at, header.extent().min(left))
}

fn failed(name: &str, source: io::Error) -> LogError {
    LogError::Io { context: format!("reading {name}"), source }
}
