//! One connection of a shard.
//!
//! Owns: its position and what it still owes to its socket. Does not know: other connections.
//! Flow: opened behind → catches up → in step → (a write that does not fit) → behind → … → closing.

use bytes::Bytes;
use tidings_core::{ChannelName, Seq};

use super::sink::Sink;
use crate::subscribe::{Subscription, Ticket};

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// At the shard's position: it stores no cursor of its own.
    InStep,
    /// At its own cursor.
    Behind,
    /// Nothing more is sent once `pending` is gone; then the peer's end is awaited.
    Closing,
}

/// A connection. Kept small: ten thousand quiet ones cost a few megabytes.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) serial: u32,
    pub(super) phase: Phase,
    /// A write was refused: the sink says when there is room.
    pub(super) blocked: bool,
    /// A reader thread has its errand.
    pub(super) reading: bool,
    /// It stands in the list of those that want their next slice.
    pub(super) queued: bool,
    /// `shutdown` was done; only the peer's end is awaited.
    pub(super) ended: bool,
    /// The pass that has already listed it, if it listens to several channels.
    pub(super) listed: u32,
    pub(super) sink: Sink,
    pub(super) ticket: Ticket,
    /// The rest of a frame that was cut: nothing else may be written before it.
    pub(super) pending: Bytes,
    /// Everything up to here was handed to the sink. Only meaningful when not in step.
    pub(super) cursor: Seq,
    /// The newest id that was sent.
    pub(super) told: Seq,
    /// All its channels are finished: it ends once everything up to here was sent.
    pub(super) end_after: Option<Seq>,
    /// Rare state, so that quiet connections stay small.
    pub(super) rare: Option<Box<Rare>>,
    /// When the sink last took a byte, and when an id was last sent. Milliseconds.
    pub(super) wrote_ms: u64,
    pub(super) told_ms: u64,
}

/// What few connections have.
#[derive(Debug, Default)]
pub(super) struct Rare {
    /// Per channel: what is gone up to here is no news. Empty if nothing is.
    pub(super) grace: Box<[Seq]>,
    /// Channels whose deletion has to be told.
    pub(super) deleted: Vec<ChannelName>,
    /// What the peer sent though nothing more was expected.
    pub(super) discarded: usize,
    /// When it is closed because the server stops.
    pub(super) drain_ms: Option<u64>,
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
    pub(super) fn settle_grace(&mut self) {
        if let Some(rare) = &mut self.rare
            && rare.grace.iter().all(|g| *g <= self.cursor)
        {
            rare.grace = Box::default();
        }
    }

    /// Whether nothing hinders the next write.
    pub(super) fn is_free(&self) -> bool {
        self.pending.is_empty() && !self.blocked
    }
}
