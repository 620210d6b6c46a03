//! What readers see: channel records, segments and floors.
//!
//! Owns: the fold of everything that was committed. Does not know: files, how it came to be durable.
//! Flow: in ← commits, after their fsync and in their order · out → where a channel's events stand.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use tidings_core::{ChannelName, Seq};

use super::segment::{Entry, Index, Segment};
use super::times::Times;
use crate::log::{Flags, Retention};

/// What the log knows of a channel. It outlives the channel's events.
#[derive(Debug, Clone)]
pub(super) struct Channel {
    /// Never used again for another one; the indexes in memory go by it.
    pub(super) id: u64,
    pub(super) name: ChannelName,
    /// Its first event. What stands before it under this name belongs to a channel that was forgotten.
    pub(super) born: Seq,
    pub(super) head: Seq,
    /// Moved by deletions and by the channel's own bounds; the floor of the log counts as well.
    pub(super) floor: Seq,
    /// Its floor as the next start finds it, whatever bounds that has: of the last checkpoint, or of a deletion.
    // Invariant: at most `floor`; segments are rewritten without what is at or below this, never by `floor`.
    pub(super) saved_floor: Seq,
    pub(super) deleted: Option<Seq>,
    pub(super) is_finished: bool,
    /// The event before the head.
    pub(super) before_head: Seq,
    /// The newest pinned event, while the channel is not finished.
    pub(super) pin: Option<Box<Pin>>,
    /// The newest event's time.
    pub(super) time_ms: u64,
    /// Events above `floor`; the floor of the log does not count.
    pub(super) events: u64,
    /// Their bytes on disk.
    pub(super) bytes: u64,
    /// Since when maintenance has found nothing in it but, perhaps, a final event past its age.
    pub(super) idle_since_ms: Option<u64>,
    /// Where the floor may go next.
    pub(super) steps: Steps,
}

/// An event that stays readable below every floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pin {
    pub(super) seq: Seq,
    /// The channel's events before and behind it. While the one behind is there, the pinned one is an event like any
    /// other, and only what is before it is gone.
    pub(super) prev: Seq,
    pub(super) next: Option<Seq>,
    /// Bytes of its record.
    pub(super) len: u32,
}

impl Pin {
    /// The position right before it.
    pub(super) fn before(&self) -> Seq {
        Seq(self.seq.0.saturating_sub(1))
    }
}

/// What can still be read of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reach {
    /// Events at or below this are gone, those above it are there.
    pub(super) after: Seq,
    /// The channel's floor: its newest event that is gone. `None` if that takes a look at the oldest event that is left.
    pub(super) floor: Option<Seq>,
    /// Whether the floor of the log is what cuts it.
    pub(super) is_cut: bool,
}

impl Channel {
    pub(super) fn finished(&self) -> Option<Seq> {
        self.is_finished.then_some(self.head)
    }

    /// What can be read of it in a log whose own floor is `log_floor`.
    pub(super) fn reach(&self, log_floor: Seq) -> Reach {
        self.reach_above(self.floor, log_floor)
    }

    /// What may have to be readable after the next start.
    pub(super) fn saved_reach(&self, log_floor: Seq) -> Reach {
        self.reach_above(self.saved_floor, log_floor)
    }

    fn reach_above(&self, own_floor: Seq, log_floor: Seq) -> Reach {
        let below = Seq(self.born.0.saturating_sub(1)).max(own_floor);
        if own_floor >= self.head || log_floor <= below {
            return Reach { after: below, floor: Some(own_floor), is_cut: false };
        }
        let is_next_to_the_rest = |pin: &&Pin| {
            pin.seq > below && pin.seq <= log_floor && pin.next.is_none_or(|next| next > log_floor)
        };
        if let Some(pin) = self.pin.as_deref().filter(is_next_to_the_rest) {
            let floor = pin.prev.max(own_floor);
            return Reach { after: pin.before(), floor: Some(floor), is_cut: true };
        }
        if log_floor < self.head {
            return Reach { after: log_floor, floor: None, is_cut: true };
        }
        if self.is_finished {
            // A final event is not trimmed while its channel's record lives.
            let floor = self.before_head.max(own_floor);
            return Reach { after: Seq(self.head.0.saturating_sub(1)), floor: Some(floor), is_cut: true };
        }
        Reach { after: self.head, floor: Some(self.head), is_cut: true }
    }

    /// The pinned event, where it stands alone below what can be read of the channel.
    pub(super) fn lone_pin(&self, reach: &Reach) -> Option<&Pin> {
        self.pin.as_deref().filter(|pin| pin.seq <= reach.after)
    }

    /// Takes note of what an event does to the pinned one. Returns the one that is no longer pinned.
    pub(super) fn repin(&mut self, seq: Seq, prev: Seq, len: u32, flags: Flags) -> Option<Seq> {
        if flags.is_final || flags.is_pinned {
            let pin = (!flags.is_final).then(|| Box::new(Pin { seq, prev, next: None, len }));
            return std::mem::replace(&mut self.pin, pin).map(|pin| pin.seq);
        }
        if let Some(pin) = &mut self.pin {
            pin.next = pin.next.or(Some(seq));
        }
        None
    }

    /// Takes note of an event, and moves the floor if there are too many of them now. Returns the floor if it moved.
    fn push(&mut self, placed: &Placed, retention: &Retention) -> Option<Seq> {
        let len = u64::from(placed.len);
        self.steps.push(self.head, len, retention);
        self.before_head = placed.prev;
        self.head = placed.seq;
        self.is_finished = placed.flags.is_final;
        self.time_ms = self.time_ms.max(placed.time_ms);
        self.events += 1;
        self.bytes += len;
        self.idle_since_ms = None;
        let mut moved = None;
        while self.events > with_slack(retention.events_max)
            || self.bytes > with_slack(retention.channel_bytes_max)
        {
            let Some(step) = self.pop_step() else { break };
            self.events = self.events.saturating_sub(step.events);
            self.bytes = self.bytes.saturating_sub(step.bytes);
            if step.last > self.floor {
                self.floor = step.last;
                self.deleted = None;
                moved = Some(step.last);
            }
        }
        moved
    }

    /// The next run to go. A pinned event at its end is left to the run behind it: with that one, it is below the floor.
    // Invariant: the floor is never at the pinned event itself.
    fn pop_step(&mut self) -> Option<Step> {
        let step = self.steps.done.pop_front()?;
        let Some(pin) = self.pin.as_deref().filter(|pin| pin.seq == step.last) else { return Some(step) };
        let len = u64::from(pin.len);
        let behind = self.steps.done.front_mut().unwrap_or(&mut self.steps.open);
        behind.events += 1;
        behind.bytes += len;
        Some(Step { last: pin.prev, events: step.events - 1, bytes: step.bytes.saturating_sub(len) })
    }
}

/// A run of a channel's events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) last: Seq,
    pub(super) events: u64,
    pub(super) bytes: u64,
}

/// A channel's events above its floor in runs of about an eighth of its bounds: the floor moves from end to end, and
/// nothing has to be looked up for it. A channel far below its bounds has none.
#[derive(Debug, Clone, Default)]
pub(super) struct Steps {
    pub(super) done: VecDeque<Step>,
    /// The run that is growing; its `last` is not filled in.
    pub(super) open: Step,
}

impl Steps {
    /// Takes note of an event of `len` bytes behind `head`.
    pub(super) fn push(&mut self, head: Seq, len: u64, retention: &Retention) {
        let events_max = (retention.events_max / 8).max(1);
        let bytes_max = retention.channel_bytes_max / 8;
        if self.open.events > 0 && (self.open.events >= events_max || self.open.bytes + len > bytes_max) {
            self.done.push_back(Step { last: head, ..self.open });
            self.open = Step::default();
        }
        self.open.events += 1;
        self.open.bytes += len;
    }
}

/// How far below the floor of the log the newest position that is gone is looked for, among final and pinned events: there
/// may be a million of them. Beyond, a follower of the whole log starts anew that would not have to.
const KEPT_MAX: u64 = 64 * 1024;

/// A bound with the slack of one eighth, so that floors move in steps.
pub(super) fn with_slack(max: u64) -> u64 {
    max.saturating_add(max / 8)
}

/// An event of a commit, and where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    /// The channel's slot.
    pub(super) slot: u32,
    pub(super) seq: Seq,
    pub(super) prev: Seq,
    pub(super) time_ms: u64,
    pub(super) flags: Flags,
    pub(super) offset: u32,
    pub(super) len: u32,
    pub(super) body: u32,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) retention: Retention,
    slots: Vec<Option<Channel>>,
    free: Vec<u32>,
    by_name: HashMap<ChannelName, u32, NameHash>,
    next_id: u64,
    /// In order of sequence, without a hole but for what retention removed.
    pub(super) segments: Vec<Segment>,
    /// Everything up to here is gone, but for final and pinned events.
    pub(super) log_floor: Seq,
    pub(super) horizon: Seq,
    /// The newest position that was ever trimmed or deleted: the feed is whole only behind it.
    pub(super) gone: Seq,
    pub(super) times: Times,
    /// Counts what may have made events dead, so that maintenance knows when to look again.
    pub(super) moves: u64,
}

impl State {
    pub(super) fn new(retention: Retention, hash: NameHash) -> Self {
        Self {
            retention,
            slots: Vec::new(),
            free: Vec::new(),
            by_name: HashMap::with_hasher(hash),
            next_id: 0,
            segments: Vec::new(),
            log_floor: Seq::ZERO,
            horizon: Seq::ZERO,
            gone: Seq::ZERO,
            times: Times::new(retention.age_ms_max),
            moves: 0,
        }
    }

    /// A new record under this name, in place of one that was there.
    pub(super) fn insert(&mut self, name: &ChannelName, born: Seq) -> u32 {
        if let Some(&slot) = self.by_name.get(name) {
            self.remove(slot);
        }
        self.next_id += 1;
        let channel = Channel {
            id: self.next_id,
            name: name.clone(),
            born,
            head: Seq::ZERO,
            floor: Seq::ZERO,
            saved_floor: Seq::ZERO,
            deleted: None,
            is_finished: false,
            before_head: Seq::ZERO,
            pin: None,
            time_ms: 0,
            events: 0,
            bytes: 0,
            idle_since_ms: None,
            steps: Steps::default(),
        };
        self.put(channel)
    }

    /// All records as a checkpoint had them; there are none yet.
    // With a million of them, growing step by step would be the larger part of a start.
    pub(super) fn restore(&mut self, mut channels: Vec<Channel>) {
        self.by_name.reserve(channels.len());
        for (slot, channel) in channels.iter_mut().enumerate() {
            self.next_id += 1;
            channel.id = self.next_id;
            self.by_name.insert(channel.name.clone(), super::format::len32(slot));
        }
        self.slots = channels.into_iter().map(Some).collect();
    }

    fn put(&mut self, channel: Channel) -> u32 {
        let name = channel.name.clone();
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                super::format::len32(self.slots.len() - 1)
            }
        };
        if let Some(place) = self.slots.get_mut(super::format::to_usize(slot)) {
            *place = Some(channel);
        }
        self.by_name.insert(name, slot);
        slot
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<Channel> {
        let channel = self.slots.get_mut(super::format::to_usize(slot))?.take()?;
        self.by_name.remove(&channel.name);
        self.free.push(slot);
        Some(channel)
    }

    pub(super) fn slot(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    pub(super) fn channel(&self, slot: u32) -> Option<&Channel> {
        self.slots.get(super::format::to_usize(slot))?.as_ref()
    }

    pub(super) fn channel_mut(&mut self, slot: u32) -> Option<&mut Channel> {
        self.slots.get_mut(super::format::to_usize(slot))?.as_mut()
    }

    pub(super) fn named(&self, name: &ChannelName) -> Option<&Channel> {
        self.channel(self.slot(name.as_str())?)
    }

    pub(super) fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.slots.iter().flatten()
    }

    /// The names of some channels, in their order.
    pub(super) fn names(&self, prefix: &str, is_meant: impl Fn(&Channel) -> bool) -> Vec<ChannelName> {
        let named = self.channels().filter(|c| is_meant(c) && c.name.as_str().starts_with(prefix));
        let mut names: Vec<ChannelName> = named.map(|channel| channel.name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// The names of at most `max` channels, in the order of their slots.
    pub(super) fn names_behind(
        &self,
        prefix: &str,
        after: Option<&ChannelName>,
        max: usize,
    ) -> Vec<ChannelName> {
        let after = after.and_then(|after| self.slot(after.as_str()));
        let from = after.map_or(0, |slot| super::format::to_usize(slot).saturating_add(1));
        let behind = self.slots.get(from..).unwrap_or_default().iter().flatten();
        let named = behind.filter(|channel| channel.name.as_str().starts_with(prefix));
        named.take(max).map(|channel| channel.name.clone()).collect()
    }

    /// The head of every channel that may be forgotten, with its slot.
    pub(super) fn heads(&self) -> impl Iterator<Item = (Seq, u32)> + '_ {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(slot, channel)| {
            let channel = channel.as_ref().filter(|channel| channel.pin.is_none())?;
            Some((channel.head, super::format::len32(slot)))
        })
    }

    pub(super) fn slots_len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn channels_len(&self) -> usize {
        self.by_name.len()
    }

    /// Takes note of an event in its channel's record.
    pub(super) fn apply(&mut self, placed: &Placed) {
        let retention = self.retention;
        let log_floor = self.log_floor;
        let Some(channel) = self.channel_mut(placed.slot) else { return };
        let unpinned = channel
            .repin(placed.seq, placed.prev, placed.len, placed.flags)
            .filter(|&seq| seq <= channel.floor.max(log_floor));
        if let Some(gone) = channel.push(placed, &retention).max(unpinned) {
            self.gone = self.gone.max(gone);
            self.moves += 1;
        }
        self.times.push(placed.seq, placed.time_ms);
    }

    /// Takes note of where an event stands, in the newest segment or, at the start, in the one being read.
    pub(super) fn place(&mut self, placed: &Placed, segment: usize) {
        let Some(channel) = self.slots.get(super::format::to_usize(placed.slot)).and_then(Option::as_ref)
        else {
            return;
        };
        let Some(segment) = self.segments.get_mut(segment) else { return };
        put(segment, channel.id, &channel.name, placed);
    }

    /// The same for an event of a channel that was forgotten: no reader finds it, but the index of a segment names
    /// everything that stands in it.
    pub(super) fn place_forgotten(&mut self, id: u64, name: &ChannelName, placed: &Placed) {
        if let Some(segment) = self.segments.last_mut() {
            put(segment, id, name, placed);
        }
    }

    /// An id that no channel has.
    pub(super) fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Takes note of a frame at the end of the newest segment.
    pub(super) fn extend_newest(&mut self, first: Seq, offset: u32, last: Seq, end: u32) {
        if let Some(segment) = self.segments.last_mut() {
            if let Index::Memory(index) = &mut segment.index
                && let Some(index) = Arc::get_mut(index)
            {
                index.mark(first, offset);
            }
            segment.last = segment.last.max(last);
            segment.data_end = u64::from(end);
        }
    }

    /// Moves a channel's floor to its head.
    pub(super) fn delete(&mut self, slot: u32, head: Seq) {
        let Some(channel) = self.channel_mut(slot) else { return };
        if channel.floor >= head {
            return;
        }
        channel.floor = head;
        channel.saved_floor = head;
        channel.deleted = Some(head);
        channel.idle_since_ms = None;
        channel.pin = None;
        (channel.events, channel.bytes, channel.steps) = (0, 0, Steps::default());
        self.gone = self.gone.max(head);
        self.moves += 1;
    }

    pub(super) fn move_log_floor(&mut self, floor: Seq) {
        self.log_floor = self.log_floor.max(floor);
        self.moves += 1;
        // A final or pinned event stays below the floor, so the newest position that is gone may lie before it.
        let kept = |channel: &Channel| {
            let is_kept = channel.is_finished && channel.floor < channel.head;
            channel.pin.as_deref().map(|pin| pin.seq).or(is_kept.then_some(channel.head))
        };
        let is_near = |seq: &Seq| *seq <= floor && floor.0 - seq.0 < KEPT_MAX;
        let mut kept: Vec<Seq> = self.channels().filter_map(kept).filter(is_near).collect();
        kept.sort_unstable();
        let mut gone = floor;
        while kept.pop() == Some(gone) && gone > Seq::ZERO {
            gone = Seq(gone.0 - 1);
        }
        self.gone = self.gone.max(gone);
    }

    pub(super) fn forget(&mut self, slot: u32) {
        if let Some(channel) = self.remove(slot) {
            self.horizon = self.horizon.max(channel.head);
            self.gone = self.gone.max(channel.head);
            self.moves += 1;
        }
    }
}

fn put(segment: &mut Segment, id: u64, name: &ChannelName, placed: &Placed) {
    let delta = u32::try_from(placed.seq.0.saturating_sub(segment.first().0)).unwrap_or(u32::MAX);
    let entry = Entry { delta, offset: placed.offset, len: placed.len, body: placed.body };
    if let Index::Memory(index) = &mut segment.index
        && let Some(index) = Arc::get_mut(index)
    {
        index.push(id, name, entry);
    }
}

/// Hashes channel names with a seed of this process: users choose the names.
#[derive(Debug, Clone, Copy)]
pub(super) struct NameHash(pub(super) u64);

impl BuildHasher for NameHash {
    type Hasher = NameHasher;

    fn build_hasher(&self) -> NameHasher {
        NameHasher(self.0)
    }
}

#[derive(Debug)]
pub(super) struct NameHasher(u64);

impl Hasher for NameHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxhash_rust::xxh3::xxh3_64_with_seed(bytes, self.0);
    }

    // The end mark of a text; the length is in the hash already.
    fn write_u8(&mut self, _: u8) {}
}
