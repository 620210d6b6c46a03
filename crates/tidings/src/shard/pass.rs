//! A flush pass: what moved in (P, to], and the connections in step that are owed some of it.
//!
//! Owns: grouping frames by channel and listing visits. Does not know: sockets.
//! Flow: in ← frames from the tail · out → one chunk per visit.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::Arc;

use tidings_core::{ChannelName, Seq};

use super::chunk::Chunk;
use super::connection::Conn;
use super::inbox::Key;
use crate::frame::{Encoding, Frame};
use crate::subscribe::Subscription;

/// The channels that moved, each with its frames joined once for all its connections.
#[derive(Debug)]
pub(super) struct Pass {
    /// Where connections that are visited stand afterwards.
    pub(super) to: Seq,
    moved: Vec<Moved>,
    by_channel: HashMap<ChannelName, u32>,
    visits: Vec<Visit>,
    next: usize,
}

#[derive(Debug, Default)]
struct Moved {
    frames: Vec<Arc<Frame>>,
    plain: OnceCell<Chunk>,
    envelope: OnceCell<Chunk>,
}

/// A connection that is owed something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Visit {
    /// Not its place alone: before its turn comes, it may be gone, and another one be there.
    pub(super) key: Key,
    pub(super) what: What,
}

/// What it is owed.
#[derive(Debug, Clone, Copy)]
pub(super) enum What {
    /// What one channel moved: the bytes are shared.
    Channel(u32),
    /// It listens to several channels: find those that moved.
    Merge,
}

impl Pass {
    /// Groups what moved. Channels without listeners are left out by `listens`, events that were deleted by `is_deleted`.
    pub(super) fn new(
        frames: &[Arc<Frame>],
        to: Seq,
        listens: impl Fn(&ChannelName) -> bool,
        is_deleted: impl Fn(&Frame) -> bool,
    ) -> Self {
        let now = crate::clock::unix_ms();
        let mut pass =
            Self { to, moved: Vec::new(), by_channel: HashMap::new(), visits: Vec::new(), next: 0 };
        for frame in frames.iter().filter(|f| f.is_live(now) && !is_deleted(f)) {
            let index = match pass.by_channel.get(&frame.channel) {
                Some(index) => *index,
                None if !listens(&frame.channel) => continue,
                None => {
                    let index = u32::try_from(pass.moved.len()).unwrap_or(u32::MAX);
                    pass.by_channel.insert(frame.channel.clone(), index);
                    pass.moved.push(Moved::default());
                    index
                }
            };
            if let Some(moved) = pass.moved.get_mut(index as usize) {
                moved.frames.push(Arc::clone(frame));
            }
        }
        pass
    }

    /// The channels that moved and have listeners.
    pub(super) fn channels(&self) -> impl Iterator<Item = (&ChannelName, u32)> {
        self.by_channel.iter().map(|(channel, index)| (channel, *index))
    }

    pub(super) fn set_visits(&mut self, visits: Vec<Visit>) {
        self.visits = visits;
    }

    pub(super) fn next_visit(&mut self) -> Option<Visit> {
        let visit = self.visits.get(self.next).copied();
        self.next += 1;
        visit
    }

    /// At most `count` of those that come next.
    pub(super) fn coming(&self, count: usize) -> &[Visit] {
        let rest = self.visits.get(self.next..).unwrap_or_default();
        rest.get(..count).unwrap_or(rest)
    }

    /// What a visit sends. The second form is a chunk of its own, for connections whose channels moved together.
    pub(super) fn chunk(&self, visit: Visit, conn: &Conn) -> Owed<'_> {
        match visit.what {
            What::Channel(index) => self.shared(index, conn.encoding),
            What::Merge => self.merged(conn.subscription()),
        }
    }

    fn shared(&self, index: u32, encoding: Encoding) -> Owed<'_> {
        let Some(moved) = self.moved.get(index as usize) else { return Owed::Nothing };
        let cell = match encoding {
            Encoding::Plain => &moved.plain,
            Encoding::Envelope => &moved.envelope,
        };
        Owed::Shared(cell.get_or_init(|| Chunk::new(moved.frames.iter(), encoding)))
    }

    fn merged(&self, subscription: &Subscription) -> Owed<'_> {
        let moved = subscription.channels.iter().filter_map(|c| self.by_channel.get(c).copied());
        let indexes: Vec<u32> = moved.collect();
        if let [only] = indexes.as_slice() {
            return self.shared(*only, subscription.encoding);
        }
        let owed = indexes.iter().filter_map(|&i| self.moved.get(i as usize)).flat_map(|m| &m.frames);
        let mut frames: Vec<&Arc<Frame>> = owed.collect();
        frames.sort_unstable_by_key(|f| f.seq);
        Owed::Own(Chunk::new(frames.iter().copied(), subscription.encoding))
    }
}

/// What a connection is owed in a pass.
#[derive(Debug)]
pub(super) enum Owed<'a> {
    Nothing,
    Shared(&'a Chunk),
    Own(Chunk),
}
