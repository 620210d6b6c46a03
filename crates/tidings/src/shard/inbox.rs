//! What others tell a shard.
//!
//! Owns: the commands and the wake-up. Does not know: what a shard does with them.
//! Flow: in ← commands from HTTP, the readers and the writer · out → the shard's loop.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tidings_core::{ChannelName, Seq};

use super::catchup::Slice;
use super::sink::BodyPipe;
use super::until::{Joining, Refusal};
use crate::subscribe::Ticket;

/// Which connection of a shard: its place, and a serial number so that a place may be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) place: u32,
    pub(crate) serial: u32,
}

/// A connection that is to be served from a position on.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) sink: NewSink,
    pub(crate) ticket: Ticket,
    /// The response head (on a socket), the greeting and whatever the decision put before the first event.
    pub(crate) preamble: Bytes,
    /// Everything up to here has been seen by the client.
    pub(crate) cursor: Seq,
    /// Per channel: what is gone up to here is no news to the client. Empty if nothing is.
    pub(crate) grace: Box<[Seq]>,
    /// All channels are finished: the stream ends once everything up to here was sent.
    pub(crate) end_after: Option<Seq>,
    /// It may be written to until then, Unix milliseconds.
    pub(crate) until_ms: Option<u64>,
    /// How long its first bytes wait, milliseconds: only a socket has to.
    pub(crate) wait_ms: u64,
}

/// A way out that the shard has yet to register.
#[derive(Debug)]
pub(crate) enum NewSink {
    Socket(std::net::TcpStream),
    Body(Arc<BodyPipe>),
}

/// An event for connections in step only: no id, not stored.
#[derive(Debug, Clone)]
pub(crate) struct Ephemeral {
    pub(crate) channel: ChannelName,
    pub(crate) plain: Bytes,
    pub(crate) envelope: Bytes,
}

/// What a shard can be told.
#[derive(Debug)]
pub(crate) enum Command {
    Open(Box<Opening>),
    Slice(Key, Slice),
    /// A response body has room again.
    Writable(Key),
    /// A response body was dropped.
    Gone(Key),
    /// Close this connection; its client will come back.
    Close(Key),
    /// Close it, and say why: its client has to bring something else.
    Refuse(Key, Refusal),
    /// It may be written to until then, Unix milliseconds.
    Until(Key, Option<u64>),
    /// Channels join it.
    Join(Key, Box<Joining>),
    /// What the channel held up to the position was deleted.
    Deleted(ChannelName, Seq),
    /// Memory runs out: close some of the slowest.
    Shed,
    /// Close everything, spread over this many milliseconds.
    Drain(u32),
    /// End the thread.
    Stop,
}

/// Ephemeral events that wait in one inbox: beyond, they are dropped first.
const EPHEMERAL_MAX: usize = 1_024;

/// The queue of one shard. Its length is bounded by what it carries: a connection is opened once (and all are bounded),
/// has one slice under way, and whatever else is told is answered before its teller goes on. Ephemeral events wait beside it,
/// for a moment in which nothing else is to be done.
#[derive(Debug)]
pub(crate) struct Inbox {
    queue: Mutex<Queue>,
    awake: AtomicBool,
    waker: mio::Waker,
}

#[derive(Debug, Default)]
struct Queue {
    commands: VecDeque<Command>,
    ephemeral: VecDeque<Ephemeral>,
}

impl Inbox {
    pub(crate) fn new(waker: mio::Waker) -> Arc<Self> {
        Arc::new(Self { queue: Mutex::default(), awake: AtomicBool::new(false), waker })
    }

    /// Leaves a command.
    pub(crate) fn push(&self, command: Command) {
        self.queue().commands.push_back(command);
        self.wake();
    }

    /// Leaves an ephemeral event; `false` if it was one too many.
    pub(crate) fn push_ephemeral(&self, event: Ephemeral) -> bool {
        let mut queue = self.queue();
        if queue.ephemeral.len() >= EPHEMERAL_MAX {
            return false;
        }
        queue.ephemeral.push_back(event);
        drop(queue);
        self.wake();
        true
    }

    /// Takes the oldest ephemeral event that waits.
    pub(crate) fn next_ephemeral(&self) -> Option<Ephemeral> {
        self.queue().ephemeral.pop_front()
    }

    /// Wakes the shard, once until it looks again.
    pub(crate) fn wake(&self) {
        if !self.awake.swap(true, Ordering::AcqRel)
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "cannot wake a shard");
        }
    }

    /// Takes what waits. Everything that is told after this call began wakes the shard again.
    pub(crate) fn take(&self) -> VecDeque<Command> {
        self.awake.store(false, Ordering::Release);
        std::mem::take(&mut self.queue().commands)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
