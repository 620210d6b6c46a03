//! A shard's thread: its loop, its commands, its timers.
//!
//! Owns: the connections, what they are told. Does not know: what frames hold.
//! Flow: events of sockets · commands · passes, some visits at a time · connections behind, a slice each · timers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use tidings_core::connection::{Due, Place, Retry, Seed, Timers, Timing};
use tidings_core::wire::sse::encode;
use tidings_core::{ChannelName, Seq, limits};

use super::ShardParts;
use super::cohort::{Cohort, CohortIndex, Cohorts};
use super::connection::Conn;
use super::ephemeral::Going;
use super::inbox::{Command, Inbox, Key, NewSink, Opening};
use super::sink::{Feed, Sink};
use super::until::NEVER;
use super::wheel::Wheel;

/// Sends between two looks at sockets and commands. In debug builds so few that tests meet what can happen in the middle
/// of a pass.
const VISITS_PER_TURN: usize = if cfg!(debug_assertions) { 8 } else { 256 };
/// Slices between two looks at sockets and commands.
const SLICES_PER_TURN: usize = if cfg!(debug_assertions) { 8 } else { 64 };
/// Events of sockets in one look.
const EVENTS_PER_TURN: usize = 1_024;
/// How long a peer may take to close after we did, or to take what is pending of a stream that is to be closed.
pub(super) const LINGER_MS: u64 = 2_000;
/// What a socket is watched for.
const ROOM: Interest = Interest::READABLE.add(Interest::WRITABLE);
const WAKER: Token = Token(usize::MAX);

/// A delivery thread and the connections that it owns.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) index: usize,
    pub(super) parts: ShardParts,
    pub(super) conns: Slab<Conn>,
    pub(super) cohorts: Cohorts,
    pub(super) passes: u64,
    /// Connections behind that want their next slice.
    pub(super) wanting: VecDeque<Key>,
    pub(super) wheel: Wheel,
    /// The ephemeral event that is being sent.
    pub(super) going: Option<Going>,
    timing: Timing,
    pub(super) now_ms: u64,
    /// The time of day, read behind the head that this turn goes to: what is over by then gets nothing of it.
    pub(super) unix_ms: u64,
    pub(super) delivered: u64,
    pub(super) delivered_bytes: u64,
    /// Set once the server stops: over how long connections are closed.
    pub(super) spread_ms: Option<u32>,
    serials: u32,
    poll: Poll,
    inbox: Arc<Inbox>,
    stopping: bool,
}

impl Shard {
    pub(super) fn new(index: usize, parts: ShardParts) -> std::io::Result<Self> {
        let poll = Poll::new()?;
        let inbox = Inbox::new(mio::Waker::new(poll.registry(), WAKER)?);
        let now_ms = crate::clock::now_ms();
        let ms = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX).max(1);
        let timing = Timing {
            keepalive_ms: ms(parts.keepalive),
            stall_ms: ms(parts.stall),
            life_ms: ms(parts.life),
            ..Timing::default()
        };
        Ok(Self {
            index,
            cohorts: Cohorts::new(parts.tail.head()),
            parts,
            conns: Slab::new(),
            passes: 0,
            wanting: VecDeque::new(),
            wheel: Wheel::new(now_ms),
            going: None,
            timing,
            now_ms,
            unix_ms: crate::clock::unix_ms(),
            delivered: 0,
            delivered_bytes: 0,
            spread_ms: None,
            serials: 0,
            poll,
            inbox,
            stopping: false,
        })
    }

    pub(super) fn inbox(&self) -> Arc<Inbox> {
        Arc::clone(&self.inbox)
    }

    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let mut more_ephemeral = false;
        while !self.stopping {
            // A pass may stop short of the head, and nobody wakes the shard for the rest.
            let moved = self.parts.tail.head() > self.cohorts.position();
            let busy = moved || self.cohorts.is_in_pass() || !self.wanting.is_empty() || more_ephemeral;
            let wait = if busy { 0 } else { self.wheel.wait_ms(crate::clock::now_ms()) };
            if let Err(error) = self.poll.poll(&mut events, Some(Duration::from_millis(wait)))
                && error.kind() != std::io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "a shard cannot wait for its sockets");
                std::thread::sleep(Duration::from_millis(100));
            }
            self.now_ms = crate::clock::now_ms();
            // The head first, then the time and the commands: who was told to go, and whose time was over, before an event
            // was published does not get it.
            let head = self.parts.tail.head();
            self.unix_ms = crate::clock::unix_ms();
            for event in &events {
                self.handle_socket(event);
            }
            for command in self.inbox.take() {
                self.handle(command);
            }
            more_ephemeral = self.deliver(head);
            for key in self.wheel.due(self.now_ms) {
                self.handle_timer(key);
            }
            self.count();
        }
    }

    /// Some of what there is to send, up to the head, so that sockets and commands are looked at again soon. `true` if ephemeral
    /// events are left: what is stored goes first.
    fn deliver(&mut self, head: Seq) -> bool {
        self.drive_passes(head, VISITS_PER_TURN);
        self.drive_behind(SLICES_PER_TURN);
        !self.cohorts.is_in_pass() && self.drive_ephemeral(VISITS_PER_TURN)
    }

    /// Adds what was delivered to the metrics: once a turn, not once a send.
    pub(super) fn count(&mut self) {
        if self.delivered > 0 {
            self.parts.metrics.delivered.inc_by(std::mem::take(&mut self.delivered));
            self.parts.metrics.delivered_bytes.inc_by(std::mem::take(&mut self.delivered_bytes));
        }
    }

    fn handle_socket(&mut self, event: &mio::event::Event) {
        if event.token() == WAKER {
            return;
        }
        let Some(conn) = self.conns.get_mut(event.token().0) else { return };
        let key = Key { place: place(event.token().0), serial: conn.serial };
        if event.is_error() || event.is_read_closed() || (event.is_write_closed() && !conn.ended) {
            return self.remove(key);
        }
        if event.is_readable() {
            match conn.sink.discard() {
                None => return self.remove(key),
                Some(0) => {}
                Some(bytes) => {
                    let rare = conn.rare();
                    rare.discarded = rare.discarded.saturating_add(bytes);
                    if rare.discarded > limits::PIPELINED_BYTES_MAX {
                        return self.remove(key);
                    }
                }
            }
        }
        if event.is_writable() && conn.blocked {
            self.writable(key);
        }
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Open(opening) => self.open(*opening),
            Command::Slice(key, slice) => self.found(key, slice.found),
            Command::Writable(key) => self.writable(key),
            Command::Gone(key) => self.remove(key),
            Command::Close(key) => self.close(key),
            Command::Refuse(key, refusal) => self.refuse(key, &refusal),
            Command::Until(key, until_ms) => self.set_until(key, until_ms),
            Command::Join(key, joining) => self.join(key, *joining),
            Command::Deleted(channel, upto) => self.handle_deleted(&channel, upto),
            Command::Shed => self.shed(),
            Command::Drain(spread_ms) => self.drain(spread_ms),
            Command::Stop => self.stopping = true,
        }
    }

    /// Registers a connection as behind, then writes its preamble. Register, then read: nothing can fall between.
    fn open(&mut self, opening: Opening) {
        let Opening { sink, ticket, preamble, cursor, grace, end_after, until_ms, wait_ms } = opening;
        self.serials = self.serials.wrapping_add(1);
        let entry = self.conns.vacant_entry();
        let key = Key { place: place(entry.key()), serial: self.serials };
        let sink = match sink {
            NewSink::Body(pipe) => Sink::Body(Feed::new(pipe, Arc::clone(&self.inbox), key)),
            NewSink::Socket(socket) => {
                let mut socket = mio::net::TcpStream::from_std(socket);
                let interest = if wait_ms == 0 { ROOM } else { Interest::READABLE };
                if let Err(error) = self.poll.registry().register(&mut socket, Token(entry.key()), interest) {
                    tracing::warn!(%error, "cannot watch a socket");
                    return;
                }
                Sink::Socket(socket)
            }
        };
        let channels = &ticket.subscription.channels;
        let cohort = self.cohorts.for_channels(channels);
        channels.iter().for_each(|channel| self.cohorts.of_mut(cohort).list(channel, key.place));
        ticket.serve_at(Arc::clone(&self.inbox), key);
        let seed = Seed(ticket.subscription.id);
        entry.insert(Conn {
            serial: key.serial,
            cohort,
            place: Place::open(cursor),
            timers: Timers::new(self.now_ms, seed, &self.timing),
            closing: false,
            blocked: false,
            waiting: false,
            reading: false,
            has_read: false,
            queued: false,
            ended: false,
            many: ticket.subscription.channels.len() > 1,
            encoding: ticket.subscription.encoding,
            listed: 0,
            sink,
            ticket,
            pending: bytes::Bytes::new(),
            told: cursor,
            look_ms: NEVER,
            until_ms: NEVER,
            end_after,
            rare: None,
        });
        self.parts.metrics.behind.inc();
        if !grace.is_empty()
            && let Some(conn) = self.conns.get_mut(key.place as usize)
        {
            conn.rare().grace = grace;
        }
        // Somebody may have said so before this shard knew of it.
        if let Some(refusal) = self.conn(key).and_then(|conn| conn.subscription().refused()) {
            self.say(key, preamble);
            return self.refuse(key, &refusal);
        }
        self.set_until(key, until_ms);
        if wait_ms == 0 {
            self.say(key, preamble);
        } else {
            self.wait(key, preamble, wait_ms);
        }
        // It was admitted before a deletion that its cohort has told already.
        for (channel, upto) in self.deletions_for(key, cursor) {
            self.delete_for(key, &channel, upto);
        }
        self.enqueue(key);
        if let Some(spread_ms) = self.spread_ms {
            self.drain_one(key, spread_ms);
        }
        self.set_timer(key);
    }

    fn deletions_for(&self, key: Key, cursor: Seq) -> Vec<(ChannelName, Seq)> {
        let Some(conn) = self.look(key) else { return Vec::new() };
        let mine = |channel: &ChannelName| conn.subscription().channels.contains(channel);
        let deleted = self.cohorts.of(conn.cohort).deleted.iter();
        let all = deleted.filter(|(channel, upto)| **upto > cursor && mine(channel));
        all.map(|(channel, upto)| (channel.clone(), *upto)).collect()
    }

    /// A channel was deleted up to a position.
    pub(super) fn handle_deleted(&mut self, channel: &ChannelName, upto: Seq) {
        self.cohorts.all().for_each(|at| self.delete_in(at, channel.clone(), upto));
    }

    /// Streams are told between two passes: what a pass has begun to send is sent to all of them, so that behind the reset
    /// nothing of what is gone comes, and everything else does.
    pub(super) fn delete_in(&mut self, at: CohortIndex, channel: ChannelName, upto: Seq) {
        let cohort = self.cohorts.of_mut(at);
        if cohort.pass.is_some() {
            return cohort.deletions.push((channel, upto));
        }
        for place in cohort.listeners(&channel) {
            let Some(conn) = self.conns.get(place as usize) else { continue };
            let key = Key { place, serial: conn.serial };
            self.delete_for(key, &channel, upto);
        }
        let cohort = self.cohorts.of_mut(at);
        if upto > cohort.position {
            cohort.deleted.insert(channel, upto);
        }
    }

    fn delete_for(&mut self, key: Key, channel: &ChannelName, upto: Seq) {
        let stands_at = self.stands_at(key);
        let Some(conn) = self.conns.get_mut(key.place as usize) else { return };
        let count = conn.subscription().channels.len();
        let index = conn.subscription().channels.iter().position(|c| c == channel);
        let reading = conn.reading;
        let rare = conn.rare();
        rare.deleted.push(channel.clone());
        rare.stale |= reading;
        if upto > stands_at {
            // What is gone is told here; the reader of the log need not tell it again, and the tail may still hold it.
            let mut grace = std::mem::take(&mut rare.grace).into_vec();
            grace.resize(count, Seq::ZERO);
            if let Some(slot) = index.and_then(|i| grace.get_mut(i)) {
                *slot = upto.max(*slot);
            }
            rare.grace = grace.into();
        }
        self.tell_deleted(key);
    }

    fn drain(&mut self, spread_ms: u32) {
        let keys: Vec<Key> =
            self.conns.iter().map(|(at, c)| Key { place: place(at), serial: c.serial }).collect();
        self.spread_ms = Some(spread_ms);
        keys.into_iter().for_each(|key| self.drain_one(key, spread_ms));
    }

    fn drain_one(&mut self, key: Key, spread_ms: u32) {
        // It has to have begun to be told when to come back.
        self.begin(key);
        let now = self.now_ms;
        if let Some(conn) = self.conns.get_mut(key.place as usize) {
            let seed = Seed(conn.subscription().id);
            conn.timers.handle_drain(now, spread_ms, seed);
        }
        self.set_timer(key);
    }

    /// Looks at a connection at that time, unless it is looked at before: then again.
    pub(super) fn look_at(&mut self, key: Key, due_ms: u64) {
        let Some(conn) = self.conn(key).filter(|conn| due_ms < conn.look_ms) else { return };
        conn.look_ms = due_ms;
        self.wheel.set(key, due_ms);
    }

    /// Looks at a connection again when something of it is due.
    pub(super) fn set_timer(&mut self, key: Key) {
        let Some(conn) = self.conns.get(key.place as usize).filter(|c| c.serial == key.serial) else {
            return;
        };
        // The wheel turns with the clock that never jumps; the time of day may have been set meanwhile.
        let warn_at_ms = conn.rare.as_ref().and_then(|r| r.warn_at_ms);
        let warn_at_ms = warn_at_ms.filter(|_| conn.is_free()).unwrap_or(NEVER);
        let left = conn.until_ms.min(warn_at_ms).saturating_sub(self.unix_ms);
        let due = conn.timers.poll_timeout(self.now_ms, &self.timing).min(self.now_ms.saturating_add(left));
        let due = due.max(self.now_ms + 1);
        self.look_at(key, due);
    }

    fn handle_timer(&mut self, key: Key) {
        let (now, timing) = (self.now_ms, self.timing);
        let Some(conn) = self.conn(key).filter(|conn| conn.look_ms <= now) else { return };
        conn.look_ms = NEVER;
        let linger_until_ms = conn.rare.as_ref().map_or(0, |r| r.linger_until_ms);
        if conn.ended || (conn.closing && linger_until_ms > 0) {
            // It had time to take what was pending, or to close as well.
            match linger_until_ms <= now {
                true => self.remove(key),
                false => self.look_at(key, linger_until_ms),
            }
            return;
        }
        self.begin(key);
        if self.look_at_end(key) {
            return;
        }
        let Some(cohort) = self.cohort_of(key) else { return };
        let (position, in_pass) = (cohort.position, cohort.pass.is_some());
        let Some(conn) = self.conn(key) else { return };
        let quiet = conn.place.is_in_step() && conn.is_free() && !conn.closing;
        let moved = position > conn.told && !in_pass;
        match conn.timers.poll(now, &timing, moved) {
            Some(Due::Stalled) => {
                self.parts.metrics.stalled.inc();
                return self.remove(key);
            }
            Some(due @ (Due::Drained | Due::Aged)) => return self.close_in_time(key, due),
            Some(Due::Cursor) if quiet => self.say_cursor(key, position, &[]),
            Some(Due::KeepAlive) if quiet => self.say(key, bytes::Bytes::from_static(encode::KEEPALIVE)),
            Some(Due::Cursor | Due::KeepAlive) | None => {}
        }
        self.set_timer(key);
    }

    /// Closes a connection whose time is over, with a last word that says when to come back.
    fn close_in_time(&mut self, key: Key, due: Due) {
        let spread_ms = self.spread_ms.unwrap_or_default();
        let Some(conn) = self.conns.get_mut(key.place as usize) else { return };
        if conn.closing {
            return self.remove(key);
        }
        let seed = Seed(conn.subscription().id);
        let words = match due {
            Due::Aged => {
                self.parts.metrics.aged.inc();
                crate::control::come_back(seed.retry_ms(Retry::Soon))
            }
            _ => crate::control::drain(spread_ms, seed.retry_ms(Retry::Stream)),
        };
        self.say_next(key, words);
        self.close(key);
        self.linger(key);
    }

    /// Watches a socket for room too. It says at once that there is some.
    pub(super) fn watch_for_room(&mut self, key: Key) -> std::io::Result<()> {
        let (at, registry) = (key.place as usize, self.poll.registry());
        match self.conns.get_mut(at).map(|conn| &mut conn.sink) {
            Some(Sink::Socket(socket)) => registry.reregister(socket, Token(at), ROOM),
            Some(Sink::Body(_)) | None => Ok(()),
        }
    }

    /// Takes a connection off its channels, so that no pass lists it again.
    pub(super) fn unlist(&mut self, key: Key) {
        let Some(conn) = self.conns.get(key.place as usize).filter(|c| c.serial == key.serial) else {
            return;
        };
        let cohort = self.cohorts.of_mut(conn.cohort);
        conn.ticket.subscription.channels.iter().for_each(|channel| cohort.unlist(channel, key.place));
    }

    fn look(&self, key: Key) -> Option<&Conn> {
        self.conns.get(key.place as usize).filter(|conn| conn.serial == key.serial)
    }

    pub(super) fn cohort_of(&self, key: Key) -> Option<&Cohort> {
        Some(self.cohorts.of(self.look(key)?.cohort))
    }

    /// A connection's position, whether it is in step or not.
    pub(super) fn stands_at(&self, key: Key) -> Seq {
        let at = self.look(key).map(|conn| conn.stands_at(self.cohorts.of(conn.cohort).position));
        at.unwrap_or_default()
    }

    /// Drops a connection and its socket.
    pub(super) fn remove(&mut self, key: Key) {
        let Some(conn) = self.look(key) else { return };
        if !conn.place.is_in_step() {
            self.parts.metrics.behind.dec();
        }
        self.unlist(key);
        let mut conn = self.conns.remove(key.place as usize);
        if let Sink::Socket(socket) = &mut conn.sink {
            // Closing the descriptor takes it off the poll anyway.
            self.poll.registry().deregister(socket).unwrap_or_default();
        }
    }
}

pub(super) fn place(at: usize) -> u32 {
    // Invariant: streams are bounded far below u32.
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::BodyExt;

    use super::super::cohort::LISTENERS;
    use super::super::inbox::Ephemeral;
    use super::*;
    use crate::frame::{Encoding, Frame, test_frame};
    use crate::log::memory::MemoryLog;
    use crate::log::{Append, Flags, Group, Retention};
    use crate::metrics::Metrics;
    use crate::shard::{BodyPipe, Readers, StreamBody};
    use crate::subscribe::{Registry, Subscription};
    use crate::tail::Tail;

    fn shard() -> (Shard, Arc<Registry>) {
        let log = Arc::new(MemoryLog::new(Retention::default()));
        let metrics = Arc::new(Metrics::new());
        let (readers, _) = Readers::start(log.clone(), Arc::clone(&metrics), 0).unwrap();
        let tail = Arc::new(Tail::new(Seq::ZERO, 1, 1 << 20));
        let (keepalive, stall) = (Duration::from_secs(15), Duration::from_secs(300));
        let streams = 3 * LISTENERS;
        let bounds = crate::subscribe::Bounds { streams, per_address: 10_000, per_subject: None };
        let registry = Registry::new(bounds, Arc::clone(&metrics));
        let life = Duration::from_secs(3_600);
        let parts = ShardParts { tail, log, readers, metrics, keepalive, stall, life };
        (Shard::new(0, parts).unwrap(), registry)
    }

    fn channel() -> ChannelName {
        ChannelName::parse("a").unwrap()
    }

    fn frame(seq: u64) -> Arc<Frame> {
        test_frame(seq, "a")
    }

    fn open(shard: &mut Shard, registry: &Arc<Registry>) -> StreamBody {
        listen(shard, registry, channel())
    }

    fn listen(shard: &mut Shard, registry: &Arc<Registry>, channel: ChannelName) -> StreamBody {
        let pipe = BodyPipe::new();
        let subscription = Subscription::new("dev", vec![channel], Encoding::Plain);
        shard.open(Opening {
            until_ms: None,
            wait_ms: 0,
            sink: NewSink::Body(Arc::clone(&pipe)),
            ticket: registry.admit(subscription).unwrap(),
            preamble: Bytes::from_static(b":\n\n"),
            cursor: Seq::ZERO,
            grace: Box::default(),
            end_after: None,
        });
        StreamBody(pipe)
    }

    /// Sends an ephemeral event.
    fn say(shard: &mut Shard, event: Ephemeral) {
        assert!(shard.inbox.push_ephemeral(event));
        assert!(!shard.drive_ephemeral(100));
    }

    /// Takes what has come.
    fn read(bodies: &mut [StreamBody], out: &mut [Vec<u8>]) {
        for (body, out) in bodies.iter_mut().zip(out.iter_mut()) {
            let context = &mut std::task::Context::from_waker(std::task::Waker::noop());
            while let std::task::Poll::Ready(Some(Ok(part))) =
                std::pin::pin!(body.frame()).as_mut().poll(context)
            {
                out.extend_from_slice(part.data_ref().unwrap());
            }
        }
    }

    /// The events' data, in order.
    fn numbers(out: &[u8]) -> String {
        let text = std::str::from_utf8(out).unwrap();
        text.lines().filter_map(|l| l.strip_prefix("data: ")).filter(|d| d.len() == 1).collect()
    }

    /// Turns of the loop without sockets, reading all bodies, until nothing is left to do.
    fn settle(shard: &mut Shard, bodies: &mut [StreamBody], out: &mut [Vec<u8>]) {
        for _ in 0..20 {
            read(bodies, out);
            for command in shard.inbox.take() {
                shard.handle(command);
            }
            shard.deliver(shard.parts.tail.head());
        }
    }

    #[test]
    fn what_is_refused_in_the_middle_of_a_pass_repeats_nothing_of_the_pass() {
        let (mut shard, registry) = shard();
        let mut bodies = [open(&mut shard, &registry), open(&mut shard, &registry)];
        let mut out = [Vec::new(), Vec::new()];
        settle(&mut shard, &mut bodies, &mut out);
        assert!(shard.conns.iter().all(|(_, conn)| conn.place.is_in_step()));

        shard.parts.tail.push(vec![frame(1), frame(2)]);
        shard.drive_passes(shard.parts.tail.head(), 1);
        assert!(shard.cohorts.is_in_pass(), "one of the two was visited");
        // Larger than what a body takes beside anything else: the visited one is refused.
        let typing = Bytes::from(format!("event: typing\ndata: {}\n\n", "x".repeat(100_000)));
        let event = Ephemeral { channel: channel(), plain: typing.clone(), envelope: typing };
        say(&mut shard, event);
        shard.handle_deleted(&channel(), Seq(2));
        assert!(shard.conns.iter().any(|(_, conn)| !conn.place.is_in_step()));
        shard.parts.tail.push(vec![frame(3)]);
        settle(&mut shard, &mut bodies, &mut out);

        for out in out {
            assert_eq!(numbers(&out), "123");
            let text = String::from_utf8(out).unwrap();
            assert!(text.ends_with("\n\n"));
            let told: Vec<usize> = text.match_indices("tidings.reset").map(|(at, _)| at).collect();
            assert_eq!(told.len(), 1);
            assert!(told.first() > text.find("data: 2\n").as_ref(), "the deletion is told behind the pass");
        }
    }

    #[test]
    fn an_event_goes_to_those_who_still_wait_for_the_last_one_before_those_who_have_it() {
        let (mut shard, registry) = shard();
        // What no cohort needs any more is dropped at once.
        shard.parts.tail = Arc::new(Tail::new(Seq::ZERO, 1, 1));
        let mut bodies: Vec<StreamBody> = (0..3 * LISTENERS).map(|_| open(&mut shard, &registry)).collect();
        let mut out = vec![Vec::new(); bodies.len()];
        settle(&mut shard, &mut bodies, &mut out);
        for seq in 1..=3 {
            shard.parts.tail.push(vec![frame(seq)]);
            shard.drive_passes(shard.parts.tail.head(), LISTENERS);
        }
        read(&mut bodies, &mut out);
        let mut have: Vec<String> = out.iter().map(|out| numbers(out)).collect();
        have.sort();
        let each = |numbers: &str| vec![numbers.to_owned(); LISTENERS];
        assert_eq!(have, [each("1"), each("12"), each("123")].concat());
        settle(&mut shard, &mut bodies, &mut out);
        assert!(out.iter().all(|out| numbers(out) == "123"));
    }

    #[test]
    fn who_takes_the_place_of_another_cohorts_connection_gets_nothing_of_its_pass() {
        let (mut shard, registry) = shard();
        let mut bodies: Vec<StreamBody> = (0..=LISTENERS).map(|_| open(&mut shard, &registry)).collect();
        let mut out = vec![Vec::new(); bodies.len()];
        settle(&mut shard, &mut bodies, &mut out);
        // The second cohort is in the middle of its pass: its only connection is yet to be visited.
        let (at, conn) = shard.conns.iter().last().unwrap();
        let gone = Key { place: place(at), serial: conn.serial };
        let second = conn.cohort;
        shard.parts.tail.push(vec![frame(1)]);
        let head = shard.parts.tail.head();
        assert_eq!(shard.cohorts.next(head), Some(second));
        let pass = shard.begin_pass(second, head);
        shard.cohorts.of_mut(second).pass = pass;
        shard.remove(gone);
        let other = ChannelName::parse("b").unwrap();
        let mut new = [listen(&mut shard, &registry, other)];
        assert!(shard.conns.contains(gone.place as usize), "it has the same place");
        shard.drive_behind(SLICES_PER_TURN);
        assert!(shard.conns.get(gone.place as usize).unwrap().place.is_in_step());
        let mut got = [Vec::new()];
        settle(&mut shard, &mut new, &mut got);
        assert_eq!(numbers(&got[0]), "", "an event of a channel that it does not listen to");
    }

    #[test]
    fn what_is_stored_does_not_wait_for_ephemeral_events_however_many_there_are() {
        let (mut shard, registry) = shard();
        let mut bodies: Vec<StreamBody> = (0..3 * LISTENERS).map(|_| open(&mut shard, &registry)).collect();
        let mut out = vec![Vec::new(); bodies.len()];
        settle(&mut shard, &mut bodies, &mut out);
        let typing = Bytes::from("event: typing\ndata: {}\n\n");
        for _ in 0..10 {
            let event = Ephemeral { channel: channel(), plain: typing.clone(), envelope: typing.clone() };
            assert!(shard.inbox.push_ephemeral(event));
        }
        assert!(shard.deliver(shard.parts.tail.head()), "one turn is not enough for them");
        shard.parts.tail.push(vec![frame(1)]);
        for _ in 0..3 {
            shard.deliver(shard.parts.tail.head());
        }
        read(&mut bodies, &mut out);
        let typed = |out: &Vec<Vec<u8>>| {
            out.iter().map(|out| std::str::from_utf8(out).unwrap().matches("typing").count()).sum::<usize>()
        };
        assert!(out.iter().all(|out| numbers(out) == "1"));
        assert!(typed(&out) < 4 * VISITS_PER_TURN, "they hold up nothing");
        settle(&mut shard, &mut bodies, &mut out);
        assert_eq!(typed(&out), 10 * bodies.len(), "and come when there is time");
    }

    #[test]
    fn what_was_refused_and_is_owed_no_longer_makes_no_connection_stalled() {
        let (mut shard, registry) = shard();
        let mut bodies = [open(&mut shard, &registry)];
        settle(&mut shard, &mut bodies, &mut [Vec::new()]);
        let (at, conn) = shard.conns.iter().next().unwrap();
        let key = Key { place: place(at), serial: conn.serial };
        let conn = shard.conn(key).unwrap();
        // As a slice that was refused whole, of an event whose time was over when there was room again.
        conn.blocked = true;
        conn.timers.handle_refused(0);
        shard.writable(key);
        let (timing, later) = (shard.timing, shard.now_ms + u64::from(shard.timing.stall_ms));
        assert_eq!(shard.conn(key).unwrap().timers.poll(later, &timing, false), Some(Due::KeepAlive));
    }

    #[test]
    fn nothing_is_written_behind_a_refusal_of_what_was_not_taken() {
        let (mut shard, registry) = shard();
        let mut bodies: Vec<StreamBody> = (0..3).map(|_| open(&mut shard, &registry)).collect();
        let mut out = vec![Vec::new(); bodies.len()];
        settle(&mut shard, &mut bodies, &mut out);
        let keys: Vec<Key> =
            shard.conns.iter().map(|(at, conn)| Key { place: place(at), serial: conn.serial }).collect();
        // The first has taken everything, the second nothing of an event, the third ends behind the rest of one.
        shard.parts.tail.push(vec![frame(1)]);
        shard.deliver(shard.parts.tail.head());
        read(&mut bodies[..1], &mut out[..1]);
        let third = shard.conn(keys[2]).unwrap();
        (third.pending, third.blocked) = (Bytes::from_static(b"data: 2\n\n"), true);
        shard.close(keys[2]);
        keys.iter().for_each(|key| shard.refuse(*key, &super::super::until::Refusal::new("token_revoked")));
        keys.iter().for_each(|key| shard.writable(*key));
        read(&mut bodies, &mut out);
        let told: Vec<(String, bool)> = out
            .iter()
            .map(|out| (numbers(out), String::from_utf8_lossy(out).contains("tidings.unauthorized")))
            .collect();
        // Whoever did not take the event is not told a position behind it.
        assert_eq!(told, [("1".to_owned(), true), (String::new(), false), (String::new(), false)]);
        assert!(shard.conns.is_empty());
    }

    /// A final event of the channel: appended, and what goes to its listeners.
    fn finish(shard: &Shard) -> Arc<Frame> {
        let event = Append {
            channel: channel(),
            body: "channel: a\ntime: 1\ndata: 9\n".into(),
            private: None,
            expected_prev: None,
            key: None,
            time_ms: 1,
            expires_at_ms: None,
            flags: Flags { is_final: true, ..Flags::default() },
        };
        let log = &shard.parts.log;
        log.append(&[Group { events: vec![event.clone()], idempotency: None }]).unwrap();
        Arc::new(Frame::appended(&event, log.head(), log.epochs().id(log.head())))
    }

    #[test]
    fn a_final_event_that_is_deleted_before_it_is_sent_ends_every_stream_and_does_not_come() {
        // The command comes before any cohort's pass, and when some have theirs behind them.
        for passed in [0, LISTENERS, 2 * LISTENERS - 1] {
            let (mut shard, registry) = shard();
            let mut bodies: Vec<StreamBody> =
                (0..3 * LISTENERS).map(|_| open(&mut shard, &registry)).collect();
            let mut out = vec![Vec::new(); bodies.len()];
            settle(&mut shard, &mut bodies, &mut out);
            let last = finish(&shard);
            shard.parts.tail.push(vec![Arc::clone(&last)]);
            shard.drive_passes(shard.parts.tail.head(), passed);
            shard.parts.log.delete(&channel()).unwrap();
            shard.handle_deleted(&channel(), last.seq);
            // Those that are behind may have their turn before the cohorts do.
            shard.drive_behind(SLICES_PER_TURN);
            settle(&mut shard, &mut bodies, &mut out);
            for out in out {
                let text = String::from_utf8(out).unwrap();
                let behind_it = text.split_once("tidings.reset").map_or("", |(_, rest)| rest);
                assert!(!behind_it.contains("data: 9"), "passed {passed}: {text}");
            }
            assert_eq!(shard.conns.len(), 0, "passed {passed}: a stream goes on");
        }
    }

    #[test]
    fn however_often_its_end_is_moved_a_connection_is_looked_at_once_at_a_time() {
        let (mut shard, registry) = shard();
        let _body = open(&mut shard, &registry);
        let (at, conn) = shard.conns.iter().next().unwrap();
        let key = Key { place: place(at), serial: conn.serial };
        let mut looks = 0;
        for minute in 0..40 {
            (shard.now_ms, shard.unix_ms) = (shard.now_ms + 60_000, shard.unix_ms + 60_000);
            for _ in 0..100 {
                shard.set_until(key, Some(shard.unix_ms + 86_400_000 + minute));
            }
            let due = shard.wheel.due(shard.now_ms);
            looks += due.len();
            due.into_iter().for_each(|key| shard.handle_timer(key));
        }
        assert!((40..=80).contains(&looks), "{looks}");
        // Nor does what it was to be looked at for outlive it by more than a silence.
        shard.remove(key);
        shard.wheel.due(shard.now_ms + 60_000);
        assert!(shard.wheel.is_empty());
    }

    #[test]
    fn when_memory_runs_out_those_go_that_take_nothing_of_what_waits_for_them() {
        let (mut shard, registry) = shard();
        let mut bodies: Vec<StreamBody> = (0..5).map(|_| open(&mut shard, &registry)).collect();
        let mut out = vec![Vec::new(); 5];
        settle(&mut shard, &mut bodies, &mut out);
        shard.shed();
        assert_eq!(shard.conns.len(), 5, "nobody is slow");
        // Larger than a body takes: it waits, for all but the one that reads.
        let typing = Bytes::from(format!("event: typing\ndata: {}\n\n", "x".repeat(100_000)));
        say(&mut shard, Ephemeral { channel: channel(), plain: typing.clone(), envelope: typing });
        shard.parts.tail.push(vec![frame(1)]);
        settle(&mut shard, &mut bodies[..1], &mut out[..1]);
        for left in [4, 3, 2, 1, 1] {
            shard.now_ms += 10;
            shard.shed();
            assert_eq!(shard.conns.len(), left);
        }
        assert_eq!(registry.streams(), 1);
    }

    #[test]
    fn a_connection_that_refuses_something_after_its_visit_gets_no_event_twice() {
        let (mut shard, registry) = shard();
        let mut bodies = [open(&mut shard, &registry), open(&mut shard, &registry)];
        let mut out = [Vec::new(), Vec::new()];
        settle(&mut shard, &mut bodies, &mut out);
        shard.parts.tail.push(vec![frame(1), frame(2)]);
        shard.drive_passes(shard.parts.tail.head(), 1);
        let typing = Bytes::from(format!("event: typing\ndata: {}\n\n", "x".repeat(100_000)));
        say(&mut shard, Ephemeral { channel: channel(), plain: typing.clone(), envelope: typing });
        assert!(shard.conns.iter().any(|(_, conn)| !conn.place.is_in_step()));
        settle(&mut shard, &mut bodies, &mut out);
        for out in out {
            assert_eq!(numbers(&out), "12");
        }
    }

    #[test]
    fn what_a_reader_found_before_a_deletion_was_told_does_not_come_behind_it() {
        let (mut shard, registry) = shard();
        // The tail is so small that these are not there: whoever is behind has to ask the log.
        shard.parts.tail = Arc::new(Tail::new(Seq::ZERO, 1, 1));
        shard.parts.tail.push(vec![frame(1), frame(2)]);
        shard.drive_passes(shard.parts.tail.head(), VISITS_PER_TURN);
        shard.parts.tail.push(vec![frame(3)]);
        let mut bodies = [open(&mut shard, &registry)];
        let mut out = [Vec::new()];
        shard.drive_passes(shard.parts.tail.head(), VISITS_PER_TURN);
        shard.drive_behind(SLICES_PER_TURN);
        let (at, conn) = shard.conns.iter().next().unwrap();
        let key = Key { place: place(at), serial: conn.serial };
        assert!(conn.reading);
        shard.handle_deleted(&channel(), Seq(3));
        let frames = [frame(1), frame(2)];
        let chunk = crate::shard::chunk::Chunk::new(frames.iter(), Encoding::Plain);
        shard.found(key, crate::shard::catchup::Found::Frames { chunk, to: Seq(2) });
        settle(&mut shard, &mut bodies, &mut out);
        let text = String::from_utf8(out[0].clone()).unwrap();
        assert!(text.contains("tidings.reset") && !text.contains("channel: a"), "{text}");
        assert!(shard.conns.iter().all(|(_, conn)| conn.reading), "it asks again");
    }
}
