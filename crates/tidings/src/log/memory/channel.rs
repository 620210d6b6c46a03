//! What the log holds of one channel.
//!
//! Owns: which positions belong to it, its floor and its end. Does not know: the records themselves.
//! Flow: in ← positions as they are appended, trimmed and deleted · out → its window.

use std::collections::VecDeque;

use tidings_core::Seq;

use crate::log::Window;

#[derive(Debug, Default)]
pub(super) struct Channel {
    // Invariant: rising, and all above the floor.
    pub(super) seqs: VecDeque<Seq>,
    pub(super) bytes: u64,
    pub(super) head: Seq,
    pub(super) floor: Seq,
    pub(super) finished: Option<Seq>,
    pub(super) deleted: Option<Seq>,
    /// Since when maintenance has found nothing here but, perhaps, a final event past its age.
    pub(super) idle_since_ms: Option<u64>,
}

impl Channel {
    pub(super) fn push(&mut self, seq: Seq, bytes: u64, is_final: bool) {
        self.seqs.push_back(seq);
        self.bytes += bytes;
        self.head = seq;
        self.idle_since_ms = None;
        if is_final {
            self.finished = Some(seq);
        }
    }

    /// The position that retention may trim next: never the final event, which lives as long as the channel's record.
    pub(super) fn oldest(&self) -> Option<Seq> {
        self.seqs.front().copied().filter(|&seq| self.finished != Some(seq))
    }

    /// Takes note that retention trimmed the oldest position.
    pub(super) fn trimmed(&mut self, seq: Seq, bytes: u64) {
        self.seqs.pop_front();
        self.bytes = self.bytes.saturating_sub(bytes);
        self.floor = seq;
        self.deleted = None;
    }

    /// Takes note that everything is deleted, and hands out the positions.
    pub(super) fn delete(&mut self) -> VecDeque<Seq> {
        if self.floor < self.head {
            self.floor = self.head;
            self.deleted = Some(self.head);
            // The record outlives the deletion, not only the events before it.
            self.idle_since_ms = None;
        }
        self.bytes = 0;
        std::mem::take(&mut self.seqs)
    }

    /// The positions behind `after` up to `upto`.
    pub(super) fn between(&self, after: Seq, upto: Seq) -> impl DoubleEndedIterator<Item = Seq> + '_ {
        let from = self.seqs.partition_point(|&seq| seq <= after);
        let to = self.seqs.partition_point(|&seq| seq <= upto);
        self.seqs.range(from.min(to)..to).copied()
    }

    pub(super) fn window(&self) -> Window {
        Window {
            pinned: None,
            first: self.seqs.front().copied(),
            head: self.head,
            floor: self.floor,
            finished: self.finished,
            events: u64::try_from(self.seqs.len()).unwrap_or(u64::MAX),
            deleted: self.deleted,
        }
    }
}
