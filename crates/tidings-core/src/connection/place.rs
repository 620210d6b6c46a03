//! Where a connection stands: at the position of its cohort (those that are visited with it), or at its own.
//!
//! Owns: when a connection falls behind and when it is back in step. Does not know: what is read or written.
//! Flow: opened behind → slices → in step → (a write that did not fit) → behind → slices → in step.

use crate::Seq;

/// A connection's position. One that is in step stores none, so it costs nothing when the log moves.
///
/// Invariant: everything up to the cursor, on all its channels, was handed to the socket, and nothing above it.
///
/// ```
/// use tidings_core::{Seq, connection::Place};
/// let mut place = Place::open(Seq(10));
/// place.handle_sent(Seq(14), Seq(20));
/// assert_eq!(place, Place::Behind(Seq(14)));
/// place.handle_sent(Seq(20), Seq(20));
/// assert_eq!(place, Place::InStep);
/// assert_eq!(place.cursor(Seq(25)), Seq(25));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At its cohort's position, wherever that moves.
    InStep,
    /// At its own position. It may also lie before the cohort: then the cohort's passes are not for it.
    Behind(Seq),
}

impl Place {
    /// A new connection, registered behind: it catches up like any other.
    #[must_use]
    pub fn open(cursor: Seq) -> Self {
        Self::Behind(cursor)
    }

    /// Whether a pass of the cohort is for this connection.
    #[must_use]
    pub fn is_in_step(self) -> bool {
        self == Self::InStep
    }

    /// The position, with the cohort at `cohort`.
    #[must_use]
    pub fn cursor(self, cohort: Seq) -> Seq {
        match self {
            Self::InStep => cohort,
            Self::Behind(cursor) => cursor,
        }
    }

    /// Everything up to `upto` was handed to the socket, with the cohort at `cohort` now. Only a cursor that *equals* the
    /// cohort's position is in step: one beside it would get events twice or not at all.
    pub fn handle_sent(&mut self, upto: Seq, cohort: Seq) {
        // Ids on a stream never go down.
        let cursor = match *self {
            Self::InStep => upto,
            Self::Behind(cursor) => cursor.max(upto),
        };
        *self = if cursor == cohort { Self::InStep } else { Self::Behind(cursor) };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::vec::Vec;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        /// Appends an event to channel 0, 1 or 2; the connection listens to 0 and 1.
        Publish(u8),
        /// The shard moves to the head; a connection in step takes at most so many of its events.
        Pass(usize),
        /// A connection behind takes a slice of at most so many events.
        Slice(usize),
        /// Something without a position is written, such as hello.
        Say,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (0_u8..3).prop_map(Step::Publish),
            2 => (0_usize..4).prop_map(Step::Pass),
            2 => (1_usize..4).prop_map(Step::Slice),
            1 => Just(Step::Say),
        ];
        proptest::collection::vec(step, 0..120)
    }

    /// The events of (after, upto] that the connection is owed.
    fn owed(log: &[u8], after: Seq, upto: Seq) -> Vec<Seq> {
        let seqs =
            (1..).map(Seq).zip(log).filter(|(seq, channel)| **channel < 2 && *seq > after && *seq <= upto);
        seqs.map(|(seq, _)| seq).collect()
    }

    /// Takes some of what is owed; the cursor is the bound if all was taken, else the last event that was.
    fn take(owed: &[Seq], most: usize, after: Seq, upto: Seq, got: &mut Vec<Seq>) -> Seq {
        let taken = &owed[..most.min(owed.len())];
        got.extend(taken);
        if taken.len() == owed.len() { upto } else { taken.last().copied().unwrap_or(after) }
    }

    #[test]
    fn a_position_never_goes_down() {
        let mut place = Place::open(Seq(10));
        place.handle_sent(Seq(3), Seq(20));
        assert_eq!(place, Place::Behind(Seq(10)));
    }

    proptest! {
        #[test]
        fn every_event_comes_once_and_in_order(steps in steps(), start in 0_u64..30, late in 0_u64..30) {
            let mut log = Vec::new();
            let (start, mut shard, mut got) = (Seq(start), Seq(late), Vec::new());
            // A connection may be admitted at a head that its shard has not reached yet, and the other way round.
            log.resize(usize::try_from(start.max(shard).0).unwrap(), 0);
            let mut place = Place::open(start);
            let tail = [Step::Pass(9), Step::Slice(999), Step::Pass(9), Step::Slice(999)];
            for step in steps.into_iter().chain(tail) {
                let head = Seq(log.len() as u64);
                match step {
                    Step::Publish(channel) => log.push(channel),
                    Step::Pass(most) => {
                        let from = core::mem::replace(&mut shard, head);
                        if place.is_in_step() {
                            let owed = owed(&log, from, head);
                            let upto = take(&owed, most, from, head, &mut got);
                            place.handle_sent(upto, shard);
                        }
                    }
                    Step::Slice(most) => {
                        let cursor = place.cursor(shard);
                        if !place.is_in_step() && cursor <= shard {
                            let owed = owed(&log, cursor, shard);
                            let upto = take(&owed, most, cursor, shard, &mut got);
                            place.handle_sent(upto, shard);
                        }
                    }
                    Step::Say => place.handle_sent(place.cursor(shard), shard),
                }
                prop_assert_eq!(&got, &owed(&log, start, place.cursor(shard)));
            }
            prop_assert_eq!(place, Place::InStep);
        }
    }
}
