//! Delivery: threads that own connections and carry them from the log to their sockets.
//!
//! Owns: who waits where, bytes to sockets. Does not know: users, grants, job rules, log engines.
//! Flow: in ← a wake-up when the head moves (a number, not a payload), new connections, slices from readers · out →
//! frames to sockets and response bodies. Replay and live are one loop: every connection is a cursor.

mod inbox;

mod chunk;

mod sink;

mod connection;

mod pass;

mod cohort;

mod wheel;

mod catchup;

mod deliver;

mod ephemeral;

mod shed;

mod until;

mod turn;

mod run;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidings_core::{ChannelName, Seq};

pub(crate) use catchup::{Readers, retained, unknown};
pub(crate) use inbox::{Command, Ephemeral, Inbox, Key, NewSink, Opening};
pub(crate) use sink::{BodyPipe, StreamBody};
pub(crate) use until::{Joining, Refusal};

use crate::log::Log;
use crate::metrics::Metrics;
use crate::tail::Tail;

/// What every shard works with.
#[derive(Debug, Clone)]
pub(crate) struct ShardParts {
    pub(crate) tail: Arc<Tail>,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) readers: Arc<Readers>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) keepalive: Duration,
    pub(crate) stall: Duration,
    pub(crate) life: Duration,
}

/// The handles of all shards.
#[derive(Debug)]
pub(crate) struct Shards {
    inboxes: Vec<Arc<Inbox>>,
    turn: AtomicUsize,
}

impl Shards {
    /// Starts the threads.
    pub(crate) fn start(
        parts: &ShardParts,
        count: usize,
    ) -> std::io::Result<(Arc<Self>, Vec<std::thread::JoinHandle<()>>)> {
        let mut inboxes = Vec::new();
        let mut threads = Vec::new();
        for index in 0..count {
            let shard = run::Shard::new(index, parts.clone())?;
            inboxes.push(shard.inbox());
            let name = format!("tidings-shard-{index}");
            threads.push(std::thread::Builder::new().name(name).spawn(move || shard.run())?);
        }
        Ok((Arc::new(Self { inboxes, turn: AtomicUsize::new(0) }), threads))
    }

    /// The head has moved.
    pub(crate) fn wake(&self) {
        self.inboxes.iter().for_each(|inbox| inbox.wake());
    }

    /// Hands a connection to a shard, in turn.
    pub(crate) fn open(&self, opening: Opening) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        if let Some(inbox) = self.inboxes.get(turn % self.inboxes.len().max(1)) {
            inbox.push(Command::Open(Box::new(opening)));
        }
    }

    /// Hands an ephemeral event to everybody in step; says how many shards dropped it.
    pub(crate) fn ephemeral(&self, event: &Ephemeral) -> usize {
        self.inboxes.iter().filter(|inbox| !inbox.push_ephemeral(event.clone())).count()
    }

    /// A channel was deleted.
    pub(crate) fn deleted(&self, channel: &ChannelName, upto: Seq) {
        self.inboxes.iter().for_each(|inbox| {
            inbox.push(Command::Deleted(channel.clone(), upto));
        });
    }

    /// Closes every connection, spread over a time.
    pub(crate) fn drain(&self, spread: Duration) {
        let ms = u32::try_from(spread.as_millis()).unwrap_or(u32::MAX);
        self.inboxes.iter().for_each(|inbox| {
            inbox.push(Command::Drain(ms));
        });
    }

    /// Closes some of the slowest readers; they resume.
    pub(crate) fn shed(&self) {
        self.inboxes.iter().for_each(|inbox| {
            inbox.push(Command::Shed);
        });
    }

    /// Ends the threads; connections are dropped as they are.
    pub(crate) fn stop(&self) {
        self.inboxes.iter().for_each(|inbox| {
            inbox.push(Command::Stop);
        });
    }
}
