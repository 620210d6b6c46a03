//! One commit: groups judged one after the other and encoded into one frame.
//!
//! Owns: whether a group may be appended, given the state and what this commit has added so far. Does not know: files.
//! Flow: in ← groups · out → outcomes, the frame's bytes, and what to apply once they are durable.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use tidings_core::{ChannelName, Epoch, Seq};

use super::format::{self, FRAME_HEADER, RawRecord, len32};
use super::segment::NumberHasher;
use super::state::{Placed, State};
use crate::log::keys::{Keys, Known};
use crate::log::{Append, Appended, Group, Outcome, Refusal};

/// Marks a slot that stands for a channel which this commit makes.
const FRESH: u32 = 1 << 31;

/// A channel as the events of this commit leave it.
#[derive(Debug, Clone, Copy, Default)]
struct Ahead {
    head: Seq,
    is_finished: bool,
}

/// A channel's slot, and how the state has it; `None` if there is no such channel.
type InState = Option<(u32, Ahead)>;

/// Finds the channels of all events before the first of them is judged.
// Each is somewhere else in memory. Here those reads go side by side; between judging and encoding, each is waited for.
fn look_up(groups: &[Group], state: &State) -> Vec<InState> {
    let in_state = |event: &Append| {
        let slot = state.slot(event.channel.as_str())?;
        let channel = state.channel(slot)?;
        Some((slot, Ahead { head: channel.head, is_finished: channel.is_finished }))
    };
    groups.iter().flat_map(|group| &group.events).map(in_state).collect()
}

/// A commit under construction; its buffers are used again for the next one.
#[derive(Debug, Default)]
pub(super) struct Commit {
    /// The frame.
    pub(super) buf: Vec<u8>,
    pub(super) placed: Vec<Placed>,
    /// Channels that this commit makes.
    fresh: Vec<ChannelName>,
    fresh_by_name: HashMap<ChannelName, u32>,
    ahead: HashMap<u32, Ahead, BuildHasherDefault<NumberHasher>>,
    /// What the group being judged changed in `ahead`.
    undo: Vec<(u32, Option<Ahead>)>,
    /// Slots and places of the group being judged.
    group: Vec<(u32, Appended)>,
    first: Seq,
    next: Seq,
}

impl Commit {
    /// Starts anew behind `head`.
    pub(super) fn start(&mut self, head: Seq) {
        self.buf.clear();
        self.buf.resize(FRAME_HEADER, 0);
        self.placed.clear();
        self.fresh.clear();
        self.fresh_by_name.clear();
        self.ahead.clear();
        self.first = head.next();
        self.next = head.next();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buf.len() <= FRAME_HEADER
    }

    /// The head once this is committed.
    pub(super) fn head(&self) -> Seq {
        Seq(self.next.0.saturating_sub(1))
    }

    /// Judges groups one after the other and encodes those that may be appended.
    pub(super) fn add(&mut self, groups: &[Group], state: &State, keys: &mut Keys) -> Vec<Outcome> {
        let known = look_up(groups, state);
        let mut events = 0;
        let add = |group: &Group| {
            let of_group = known.get(events..).unwrap_or_default();
            events += group.events.len();
            self.add_group(group, of_group, keys)
        };
        groups.iter().map(add).collect()
    }

    fn add_group(&mut self, group: &Group, known: &[InState], keys: &mut Keys) -> Outcome {
        // A repeat is recognised first: it may have finished its channel or moved the head that it expects.
        match group.idempotency.map_or(Known::New, |key| keys.known(key)) {
            Known::Repeat { first, count } => return Outcome::Duplicate { first, count },
            Known::Other => return Outcome::Refused(Refusal::KeyReused),
            Known::New => {}
        }
        let first = self.next;
        if let Err(refusal) = self.judge(&group.events, known) {
            self.revoke(first);
            return Outcome::Refused(refusal);
        }
        let mut idempotency = None;
        if let Some(key) = group.idempotency
            && !group.events.is_empty()
        {
            if keys.is_full(key.time_ms) {
                self.revoke(first);
                return Outcome::Refused(Refusal::KeysFull);
            }
            let count = len32(group.events.len());
            keys.remember(key, first, count);
            idempotency = Some((key, count));
        }
        let mut appended = Vec::with_capacity(self.group.len());
        for (event, (slot, at)) in group.events.iter().zip(self.group.drain(..)) {
            let offset = len32(self.buf.len());
            let len = RawRecord::event(event, at.seq, at.prev, idempotency.take()).encode(&mut self.buf);
            self.placed.push(Placed {
                slot,
                seq: at.seq,
                prev: at.prev,
                time_ms: event.time_ms,
                flags: event.flags,
                offset,
                len: len32(len),
                body: len32(event.body.len()),
            });
            appended.push(at);
        }
        Outcome::Appended(appended)
    }

    fn judge(&mut self, events: &[Append], known: &[InState]) -> Result<(), Refusal> {
        self.undo.clear();
        self.group.clear();
        for (index, (event, known)) in events.iter().zip(known).enumerate() {
            let (slot, before) = known.unwrap_or_else(|| (self.fresh_slot(&event.channel), Ahead::default()));
            let ahead = self.ahead.get(&slot).copied();
            let Ahead { head: prev, is_finished } = ahead.unwrap_or(before);
            let channel = || event.channel.clone();
            if is_finished {
                return Err(Refusal::Finished { index, channel: channel() });
            }
            if event.expected_prev.is_some_and(|expected| expected != prev) {
                return Err(Refusal::PrevMismatch { index, channel: channel(), prev });
            }
            let seq = self.next;
            self.next = seq.next();
            self.group.push((slot, Appended { seq, prev }));
            self.undo.push((slot, ahead));
            self.ahead.insert(slot, Ahead { head: seq, is_finished: event.flags.is_final });
        }
        Ok(())
    }

    /// Takes back what the refused group changed.
    fn revoke(&mut self, first: Seq) {
        self.next = first;
        while let Some((slot, known)) = self.undo.pop() {
            match known {
                Some(ahead) => self.ahead.insert(slot, ahead),
                None => self.ahead.remove(&slot),
            };
        }
    }

    /// The slot that stands for a channel which this commit makes.
    fn fresh_slot(&mut self, name: &ChannelName) -> u32 {
        if let Some(&slot) = self.fresh_by_name.get(name) {
            return slot;
        }
        let slot = FRESH | len32(self.fresh.len());
        self.fresh.push(name.clone());
        self.fresh_by_name.insert(name.clone(), slot);
        slot
    }

    /// Adds a record that is no event.
    pub(super) fn add_control(&mut self, record: &RawRecord<'_>) {
        record.encode(&mut self.buf);
    }

    /// Completes the frame for the segment that it will stand in.
    pub(super) fn finish(&mut self, epoch: Epoch, salt: u32) {
        let count = len32(self.placed.len());
        format::finish_frame(&mut self.buf, self.first, count, epoch, salt);
    }

    /// Shows readers what is now durable, at `offset` of the newest segment.
    pub(super) fn apply(&mut self, state: &mut State, offset: u32) {
        let Some(newest) = state.segments.len().checked_sub(1) else { return };
        let mut slots: Vec<Option<u32>> = vec![None; self.fresh.len()];
        for placed in &mut self.placed {
            if placed.slot & FRESH != 0 {
                let index = format::to_usize(placed.slot & !FRESH);
                if let (Some(slot), Some(name)) = (slots.get_mut(index), self.fresh.get(index)) {
                    placed.slot = *slot.get_or_insert_with(|| state.insert(name, placed.seq));
                }
            }
            placed.offset += offset;
            state.apply(placed);
            state.place(placed, newest);
        }
        let head = self.head();
        let end = offset + len32(self.buf.len());
        state.extend_newest(self.first, offset, head, end);
    }
}
