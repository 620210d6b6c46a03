//! What the log holds of one channel.
//!
//! Owns: which positions belong to it, its floor and its end. Does not know: the records themselves.
//! Flow: in ← positions as they are appended, trimmed and deleted · out → its window.

use std::collections::VecDeque;

use tidings_core::Seq;

use crate::log::{Appended, Flags, Window};

#[derive(Debug, Default)]
pub(super) struct Channel {
    // Invariant: rising, and all above the floor.
    pub(super) seqs: VecDeque<Seq>,
    /// The newest pinned event, while the channel is not finished: the first of `seqs` at the least, and alone below the
    /// floor once an event behind it is gone.
    pub(super) pin: Option<Pin>,
    pub(super) bytes: u64,
    pub(super) head: Seq,
    pub(super) floor: Seq,
    pub(super) finished: Option<Seq>,
    pub(super) deleted: Option<Seq>,
    /// Since when maintenance has found nothing here but, perhaps, a final event past its age.
    pub(super) idle_since_ms: Option<u64>,
}

/// An event that stays readable below the floor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pin {
    pub(super) seq: Seq,
    /// The channel's event before it.
    prev: Seq,
    bytes: u64,
}

impl Channel {
    /// Takes note of an event. Returns the pinned one that stood alone and is not pinned any more.
    pub(super) fn push(&mut self, at: Appended, bytes: u64, flags: Flags) -> Option<Seq> {
        let unpinned = if flags.is_final || flags.is_pinned { self.take_lone_pin() } else { None };
        let Appended { seq, prev } = at;
        self.seqs.push_back(seq);
        self.bytes += bytes;
        self.head = seq;
        self.idle_since_ms = None;
        if flags.is_final {
            (self.finished, self.pin) = (Some(seq), None);
        } else if flags.is_pinned {
            self.pin = Some(Pin { seq, prev, bytes });
        }
        unpinned
    }

    /// The pinned event, where it stands alone below the floor.
    pub(super) fn lone_pin(&self) -> Option<Pin> {
        self.pin.filter(|pin| pin.seq <= self.floor)
    }

    fn take_lone_pin(&mut self) -> Option<Seq> {
        let pin = self.lone_pin()?;
        self.pin = None;
        Some(pin.seq)
    }

    /// Whether the first of the positions is that of the pinned event.
    fn begins_with_pin(&self) -> bool {
        self.pin.is_some_and(|pin| self.seqs.front() == Some(&pin.seq))
    }

    /// How many positions retention may trim, the newest included.
    pub(super) fn held(&self) -> usize {
        self.seqs.len() - usize::from(self.begins_with_pin())
    }

    /// The position that retention may trim next: never the final event, which lives as long as the channel's record,
    /// nor the pinned one.
    pub(super) fn oldest(&self) -> Option<Seq> {
        let oldest = self.seqs.get(usize::from(self.begins_with_pin()))?;
        Some(*oldest).filter(|&seq| self.finished != Some(seq))
    }

    /// Takes note that retention trimmed the oldest position.
    pub(super) fn trimmed(&mut self, seq: Seq, bytes: u64) {
        if let Some(pin) = self.pin.filter(|_| self.begins_with_pin()) {
            self.seqs.pop_front();
            self.bytes = self.bytes.saturating_sub(pin.bytes);
        }
        self.seqs.pop_front();
        self.bytes = self.bytes.saturating_sub(bytes);
        self.floor = seq;
        self.deleted = None;
    }

    /// Takes note that everything is deleted, and hands out the positions.
    pub(super) fn delete(&mut self) -> VecDeque<Seq> {
        let lone = self.take_lone_pin();
        if self.floor < self.head || lone.is_some() {
            self.floor = self.head;
            self.deleted = Some(self.head);
            // The record outlives the deletion, not only the events before it.
            self.idle_since_ms = None;
        }
        (self.bytes, self.pin) = (0, None);
        let mut all = std::mem::take(&mut self.seqs);
        all.extend(lone);
        all
    }

    /// Whether nothing in `(after, upto]` can be missing but what the floor says.
    fn is_of_pin(&self, after: Seq, upto: Seq) -> bool {
        self.lone_pin().is_some_and(|pin| pin.prev <= after && upto <= pin.seq)
    }

    /// Whether a read of `(after, upto]` has to say that something is gone.
    pub(super) fn is_truncated(&self, after: Seq, upto: Seq) -> bool {
        after < self.floor && !self.is_of_pin(after, upto)
    }

    /// As [`Channel::between`], with the pinned event where it stands alone.
    pub(super) fn readable(&self, after: Seq, upto: Seq) -> impl Iterator<Item = Seq> + '_ {
        let lone = self.lone_pin().map(|pin| pin.seq).filter(|&seq| after < seq && seq <= upto);
        lone.into_iter().chain(self.between(after, upto))
    }

    /// The positions behind `after` up to `upto`.
    pub(super) fn between(&self, after: Seq, upto: Seq) -> impl DoubleEndedIterator<Item = Seq> + '_ {
        let from = self.seqs.partition_point(|&seq| seq <= after);
        let to = self.seqs.partition_point(|&seq| seq <= upto);
        self.seqs.range(from.min(to)..to).copied()
    }

    pub(super) fn window(&self) -> Window {
        Window {
            first: self.seqs.front().copied(),
            head: self.head,
            floor: self.floor,
            finished: self.finished,
            pinned: self.pin.map(|pin| pin.seq),
            events: u64::try_from(self.seqs.len()).unwrap_or(u64::MAX),
            deleted: self.deleted,
        }
    }
}
