//! One connection of a shard.
//!
//! Owns: its position and what it still owes to its socket. Does not know: other connections.
//! Flow: opened behind → catches up → in step → (a write that does not fit) → behind → … → closing → ended.

use bytes::Bytes;
use tidings_core::connection::{self as core_connection, Place, Timers};
use tidings_core::{ChannelName, Seq};

use super::cohort::CohortIndex;
use super::sink::Sink;
use crate::frame::Encoding;
use crate::subscribe::{Subscription, Ticket};

/// A connection. Kept small: ten thousand quiet ones cost a few megabytes.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) serial: u32,
    /// With whom it is visited.
    pub(super) cohort: CohortIndex,
    /// Where it stands. Ids on a stream never go down.
    pub(super) place: Place,
    /// When it is due for a comment, stalled or drained.
    pub(super) timers: Timers,
    /// Nothing more is sent once `pending` is gone.
    pub(super) closing: bool,
    /// A write was refused: the sink says when there is room.
    pub(super) blocked: bool,
    /// Its turn has not come: nothing of it was written yet.
    pub(super) waiting: bool,
    /// A reader thread has its errand.
    pub(super) reading: bool,
    /// The log was read for it before.
    pub(super) has_read: bool,
    /// It stands in the list of those that want their next slice.
    pub(super) queued: bool,
    /// `shutdown` was done; only the peer's end is awaited, until the wheel says that it took too long.
    pub(super) ended: bool,
    /// It listens to several channels. Kept here, with the encoding, so that a pass does not touch the subscription.
    pub(super) many: bool,
    pub(super) encoding: Encoding,
    /// The pass that has already listed it, if it listens to several channels.
    pub(super) listed: u64,
    pub(super) sink: Sink,
    pub(super) ticket: Ticket,
    /// The rest of a frame that was cut: nothing else may be written before it.
    pub(super) pending: Bytes,
    /// The newest id that was sent.
    pub(super) told: Seq,
    /// When it is looked at again; what the wheel has for later counts no more.
    pub(super) look_ms: u64,
    /// Past this, Unix milliseconds, nothing may be written.
    pub(super) until_ms: u64,
    /// All its channels are finished: it ends once everything up to here was sent.
    pub(super) end_after: Option<Seq>,
    /// Rare state, so that quiet connections stay small.
    pub(super) rare: Option<Box<Rare>>,
}

/// What few connections have.
#[derive(Debug, Default)]
pub(super) struct Rare {
    /// Per channel: what is gone up to here is no news. Empty if nothing is.
    pub(super) grace: Box<[Seq]>,
    /// Channels whose deletion has to be told.
    pub(super) deleted: Vec<ChannelName>,
    /// A deletion was told while a reader thread had its errand: what that finds may be a part of what is gone.
    pub(super) stale: bool,
    /// What the peer sent though nothing more was expected.
    pub(super) discarded: usize,
    /// Once it has ended, or was refused: how long the peer is awaited.
    pub(super) linger_until_ms: u64,
    /// When its end is announced, if that was not done, Unix milliseconds.
    pub(super) warn_at_ms: Option<u64>,
}

impl Rare {
    /// Whether nothing is left to be remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.grace.is_empty() && self.deleted.is_empty() && self.discarded == 0 && self.warn_at_ms.is_none()
    }
}

impl Conn {
    pub(super) fn subscription(&self) -> &Subscription {
        &self.ticket.subscription
    }

    pub(super) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    pub(super) fn grace(&self) -> Box<[Seq]> {
        self.rare.as_ref().map(|r| r.grace.clone()).unwrap_or_default()
    }

    /// Forgets what is graced once the cursor has passed it.
    pub(super) fn settle_grace(&mut self, cursor: Seq) {
        if let Some(rare) = &mut self.rare
            && rare.grace.iter().all(|g| *g <= cursor)
        {
            rare.grace = Box::default();
        }
    }

    /// Whether it is open, with a cursor of its own, and nothing hinders its next slice.
    pub(super) fn wants(&self) -> bool {
        !self.place.is_in_step() && !self.closing && self.is_free() && !self.reading
    }

    /// The sink took bytes.
    pub(super) fn took(&mut self, now_ms: u64, id: bool) {
        self.timers.handle_taken(now_ms, core_connection::Taken { owed: self.blocked, id });
    }

    /// Its position, with its cohort at `cohort`. While a pass runs, one in step that was already visited stands at the last
    /// event that it got, not where the pass began: else it would get the pass's events twice.
    pub(super) fn stands_at(&self, cohort: Seq) -> Seq {
        self.place.cursor(cohort).max(self.told)
    }

    /// Whether nothing hinders the next write.
    pub(super) fn is_free(&self) -> bool {
        self.pending.is_empty() && !self.blocked
    }
}
