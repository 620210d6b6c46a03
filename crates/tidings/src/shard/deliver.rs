//! Handing bytes to connections: in a pass, while catching up, and between two frames.
//!
//! Owns: what happens after each write. Does not know: where slices come from.
//! Flow: a chunk → the sink → in step, behind, ended or gone.

use std::sync::Arc;

use bytes::Bytes;
use tidings_core::connection::Place;
use tidings_core::{ChannelName, Seq};

use super::catchup::{BOUND, Errand, FIRST, Found, end_of, sendable};
use super::chunk::Chunk;
use super::cohort::CohortIndex;
use super::connection::Conn;
use super::inbox::Key;
use super::pass::{Owed, Pass, Visit, What};
use super::run::{LINGER_MS, Shard};
use super::sink::Taken;
use crate::frame::Frame;
use crate::subscribe::Subscription;
use crate::tail::SliceBound;

/// Bytes of frames in one pass: more is another pass, so that nobody waits long.
const PASS_BYTES_MAX: usize = 256 * 1024;
/// The same where the frames of few channels are looked for.
const PASS_OF_FEW: SliceBound = SliceBound { events_max: 4_096, bytes_max: PASS_BYTES_MAX };
/// How many visits ahead connections are fetched from memory.
const AHEAD: usize = 16;

impl Shard {
    /// Goes on with the pass, and with those of other cohorts, until all were visited or `budget` is spent.
    pub(super) fn drive_passes(&mut self, head: Seq, mut budget: usize) {
        while budget > 0 {
            let Some(at) = self.cohorts.next(head) else { return };
            let pass = self.cohorts.of_mut(at).pass.take().or_else(|| self.begin_pass(at, head));
            let Some(pass) = pass else { return };
            budget = self.drive_pass(at, pass, budget);
        }
    }

    /// What a cohort is owed, up to the head. `None` if the tail does not have it.
    pub(super) fn begin_pass(&mut self, at: CohortIndex, head: Seq) -> Option<Pass> {
        let (cohort, tail) = (self.cohorts.of(at), &self.parts.tail);
        let found = match cohort.few_channels() {
            Some(channels) => tail.slice(&channels, cohort.position, head, PASS_OF_FEW),
            None => tail.since(cohort.position, head, PASS_BYTES_MAX),
        };
        let Some((frames, to)) = found else {
            // Invariant: the tail keeps what a shard has not passed.
            tracing::error!(position = %cohort.position, "the tail lost frames that a shard needs");
            return None;
        };
        let is_deleted = |f: &Frame| cohort.deleted.get(&f.channel).is_some_and(|upto| f.seq <= *upto);
        let mut pass = Pass::new(&frames, to, |channel| cohort.listeners.contains_key(channel), is_deleted);
        self.passes += 1;
        let mut visits = Vec::new();
        for (channel, index) in pass.channels() {
            for &place in cohort.listeners.get(channel).into_iter().flatten() {
                let Some(conn) = self.conns.get_mut(place as usize) else { continue };
                if !conn.place.is_in_step() {
                    continue;
                }
                let key = Key { place, serial: conn.serial };
                if !conn.many {
                    visits.push(Visit { key, what: What::Channel(index) });
                } else if conn.listed != self.passes {
                    conn.listed = self.passes;
                    visits.push(Visit { key, what: What::Merge });
                }
            }
        }
        pass.set_visits(visits);
        Some(pass)
    }

    /// Visits up to `budget` connections of a pass; ends it when all were visited. What is left of the budget.
    fn drive_pass(&mut self, at: CohortIndex, mut pass: Pass, budget: usize) -> usize {
        for nth in 0..budget {
            if nth % AHEAD == 0 {
                self.fetch(pass.coming(AHEAD));
            }
            let Some(visit) = pass.next_visit() else {
                self.end_pass(at, pass.to);
                return budget - nth;
            };
            self.visit(&pass, visit);
        }
        self.cohorts.of_mut(at).pass = Some(pass);
        0
    }

    fn end_pass(&mut self, at: CohortIndex, to: Seq) {
        let cohort = self.cohorts.of_mut(at);
        cohort.position = to;
        cohort.deleted.retain(|_, upto| *upto > to);
        let (ahead, told) = (std::mem::take(&mut cohort.ahead), std::mem::take(&mut cohort.deletions));
        let joining = std::mem::take(&mut cohort.joining);
        self.parts.tail.passed(self.index, self.cohorts.position());
        self.count();
        ahead.into_iter().for_each(|key| self.enqueue(key));
        told.into_iter().for_each(|(channel, upto)| self.delete_in(at, channel, upto));
        joining.into_iter().for_each(|(key, joining)| self.join(key, joining));
    }

    /// Touches connections that are to be visited. A send takes the processor's caches for the kernel, so that each of them
    /// would be waited for in its turn; here they come at once.
    fn fetch(&self, coming: &[Visit]) {
        let conns = coming.iter().filter_map(|visit| self.conns.get(visit.key.place as usize));
        std::hint::black_box(
            conns.filter(|conn| conn.place.is_in_step() && conn.is_over(self.unix_ms)).count(),
        );
    }

    fn visit(&mut self, pass: &Pass, visit: Visit) {
        let (key, unix) = (visit.key, self.unix_ms);
        let Some(conn) = self.conn(key) else { return };
        // A connection that fell behind since the pass began is served from its own cursor.
        if !conn.place.is_in_step() || conn.closing {
            return;
        }
        if conn.is_over(unix) {
            self.look_at_end(key);
            return;
        }
        let own;
        let chunk = match pass.chunk(visit, conn) {
            Owed::Nothing => return,
            Owed::Shared(chunk) => chunk,
            Owed::Own(chunk) => {
                own = chunk;
                &own
            }
        };
        if !self.send(key, chunk) {
            return;
        }
        if chunk.has_final() {
            self.set_end(key, pass.to);
        }
    }

    /// Sends a chunk. `true` if all of it was taken; else the connection is behind, or gone.
    fn send(&mut self, key: Key, chunk: &Chunk) -> bool {
        let now = self.now_ms;
        let Some(conn) = self.conn(key) else { return false };
        let mut finished = None;
        let all = match conn.sink.offer(&chunk.bytes) {
            Taken::All => {
                conn.took(now, chunk.len() > 0);
                conn.told = chunk.last().unwrap_or(conn.told);
                self.delivered += chunk.len() as u64;
                self.delivered_bytes += chunk.bytes.len() as u64;
                true
            }
            Taken::Part(bytes) => {
                let rest = chunk.rest(bytes);
                conn.told = rest.reached.unwrap_or(conn.told);
                conn.pending = rest.pending;
                conn.blocked = true;
                if bytes > 0 {
                    conn.took(now, rest.reached.is_some());
                } else {
                    conn.timers.handle_refused(now);
                }
                // While its rest is pending, a connection stands behind even where nothing else is owed.
                let cursor = rest.reached.unwrap_or_else(|| self.stands_at(key));
                finished = rest.reached.filter(|upto| chunk.has_final_upto(*upto));
                self.delivered += rest.frames as u64;
                self.delivered_bytes += bytes as u64;
                self.fall_behind(key, cursor);
                false
            }
            Taken::Gone => {
                self.remove(key);
                false
            }
        };
        // A final event that was taken in part is sent once its rest is.
        if let Some(reached) = finished {
            self.set_end(key, reached);
        }
        all
    }

    /// Sends something that is no frame, between two frames. In step, what does not fit makes the connection behind.
    pub(super) fn say(&mut self, key: Key, bytes: Bytes) {
        let now = self.now_ms;
        let Some(conn) = self.conn(key) else { return };
        // Invariant: nothing is ever written inside a frame.
        debug_assert!(conn.pending.is_empty(), "something is pending");
        match conn.sink.offer(&bytes) {
            Taken::All => conn.took(now, false),
            Taken::Part(taken) => {
                conn.pending = bytes.slice(taken..);
                conn.blocked = true;
                if taken > 0 {
                    conn.took(now, false);
                } else {
                    conn.timers.handle_refused(now);
                }
                let cursor = self.stands_at(key);
                self.fall_behind(key, cursor);
            }
            Taken::Gone => self.remove(key),
        }
    }

    fn fall_behind(&mut self, key: Key, cursor: Seq) {
        let Some(conn) = self.conn(key) else { return };
        let fell = conn.place.is_in_step();
        conn.place = Place::Behind(cursor);
        if fell {
            conn.subscription().set_behind(true);
            self.parts.metrics.behind.inc();
        }
    }

    /// The sink has room: what is pending goes first.
    pub(super) fn writable(&mut self, key: Key) {
        let now = self.now_ms;
        if self.look_at_end(key) {
            return;
        }
        let Some(conn) = self.conn(key) else { return };
        conn.blocked = false;
        if conn.pending.is_empty() {
            // What was refused may be owed no longer, as an event whose time is over.
            conn.took(now, false);
        } else {
            let pending = std::mem::take(&mut conn.pending);
            match conn.sink.offer(&pending) {
                Taken::All => conn.took(now, false),
                Taken::Part(taken) => {
                    conn.pending = pending.slice(taken..);
                    conn.blocked = true;
                    if taken > 0 {
                        conn.took(now, false);
                    }
                    return;
                }
                Taken::Gone => return self.remove(key),
            }
        }
        if conn.closing {
            return self.end(key);
        }
        self.enqueue(key);
    }

    /// Puts a connection that is behind on the list of those that want their next slice.
    pub(super) fn enqueue(&mut self, key: Key) {
        let Some(conn) = self.conn(key) else { return };
        if conn.wants() && !conn.queued {
            conn.queued = true;
            self.wanting.push_back(key);
        }
    }

    /// Serves up to `budget` connections that are behind, each one slice.
    pub(super) fn drive_behind(&mut self, budget: usize) {
        for _ in 0..budget {
            let Some(key) = self.wanting.pop_front() else { return };
            if let Some(conn) = self.conn(key) {
                conn.queued = false;
                if conn.wants() {
                    self.serve_behind(key);
                }
            }
        }
    }

    fn serve_behind(&mut self, key: Key) {
        if self.look_at_end(key) {
            return;
        }
        self.tell_deleted(key);
        let Some(cohort) = self.cohort_of(key) else { return };
        let (position, in_pass) = (cohort.position, cohort.pass.is_some());
        let Some(conn) = self.conn(key) else { return };
        if !conn.wants() {
            return;
        }
        let cursor = conn.place.cursor(position);
        if conn.end_after.is_some_and(|end| cursor >= end) {
            return self.close(key);
        }
        if cursor > position || (cursor == position && (in_pass || conn.end_after.is_some())) {
            // It stands where its cohort has yet to come; one that is to end somewhere is not put in step before.
            let cohort = conn.cohort;
            return self.cohorts.of_mut(cohort).ahead.push(key);
        }
        if cursor == position {
            conn.place.handle_sent(cursor, position);
            conn.subscription().set_behind(false);
            conn.settle_grace(position);
            conn.rare.take_if(|r| r.is_empty());
            self.parts.metrics.behind.dec();
            return;
        }
        let subscription = Arc::clone(&conn.ticket.subscription);
        let grace = conn.grace();
        let in_memory = self.parts.tail.slice(&subscription.channels, cursor, position, BOUND);
        match in_memory {
            Some((mut frames, to)) => {
                // The tail may still hold what retention has taken and the client was told about.
                if !grace.is_empty() {
                    frames.retain(|frame| !self.is_graced(frame, &subscription, &grace));
                }
                self.send_slice(key, &sendable(&frames, &subscription), to);
            }
            None => {
                let inbox = self.inbox();
                let Some(conn) = self.conn(key) else { return };
                conn.reading = true;
                let bound = if std::mem::replace(&mut conn.has_read, true) { BOUND } else { FIRST };
                let errand = Errand { inbox, key, subscription, cursor, upto: position, bound, grace };
                self.parts.readers.ask(errand);
            }
        }
    }

    /// A reader has found the next slice.
    pub(super) fn found(&mut self, key: Key, found: Found) {
        let Some(conn) = self.conn(key) else { return };
        conn.reading = false;
        if conn.rare.as_mut().is_some_and(|r| std::mem::take(&mut r.stale)) {
            return self.enqueue(key);
        }
        // What was said meanwhile may be pending: the slice is read again when there is room.
        if self.look_at_end(key) {
            return;
        }
        let Some(conn) = self.conn(key).filter(|conn| conn.wants()) else { return };
        match found {
            Found::Frames { chunk, to } => self.send_slice(key, &chunk, to),
            Found::Reset { control, cursor, grace } => {
                conn.place = Place::Behind(cursor);
                conn.rare().grace = grace;
                self.say(key, control);
                self.enqueue(key);
            }
            Found::Failed => self.remove(key),
        }
    }

    fn send_slice(&mut self, key: Key, chunk: &Chunk, to: Seq) {
        if chunk.len() > 0 && !self.send(key, chunk) {
            return;
        }
        if let Some(conn) = self.conn(key) {
            // Only between passes is a connection put in step, by `serve_behind`.
            conn.place = Place::Behind(to);
            conn.settle_grace(to);
        }
        if chunk.has_final() {
            self.set_end(key, to);
        }
        self.enqueue(key);
    }

    /// A final event was sent: the stream may have come to its end.
    fn set_end(&mut self, key: Key, reached: Seq) {
        let Some(conn) = self.conn(key) else { return };
        let subscription = Arc::clone(&conn.ticket.subscription);
        let Some(end) = end_of(&*self.parts.log, &subscription.channels) else { return };
        if let Some(conn) = self.conn(key) {
            conn.end_after = Some(end);
        }
        if reached >= end {
            self.close(key);
        }
    }

    /// Says which channels were deleted, once, between two frames.
    pub(super) fn tell_deleted(&mut self, key: Key) {
        let Some(conn) = self.conn(key) else { return };
        if !conn.is_free() || conn.rare.as_ref().is_none_or(|r| r.deleted.is_empty()) {
            return;
        }
        let deleted = std::mem::take(&mut conn.rare().deleted);
        let subscription = Arc::clone(&conn.ticket.subscription);
        let at = self.stands_at(key);
        let index = |c| subscription.channels.iter().position(|mine| mine == c);
        let channels: Vec<usize> = deleted.iter().filter_map(index).collect();
        let reason = tidings_core::resume::Reason::Deleted;
        let reset = tidings_core::resume::Reset { reason, channels, first: None, id: at };
        let mut out = Vec::new();
        crate::control::reset(&mut out, &reset, &subscription.channels, self.parts.log.epochs());
        self.parts.metrics.resets.inc();
        self.say(key, out.into());
        self.end_without_final(key, at);
    }

    /// A final event that was deleted before it was sent does not come and end the stream: its position does.
    fn end_without_final(&mut self, key: Key, reached: Seq) {
        self.set_end(key, reached);
        if self.conn(key).is_some_and(|conn| conn.end_after.is_some() && !conn.closing) {
            self.fall_behind(key, reached);
            self.enqueue(key);
        }
    }

    /// The stream's position, which is `at`: in place of a comment, where the log has moved and the stream has not, or
    /// because channels have joined there.
    pub(super) fn say_cursor(&mut self, key: Key, at: Seq, joined: &[ChannelName]) {
        let now = self.now_ms;
        let Some(conn) = self.conn(key) else { return };
        conn.told = at;
        if conn.is_free() {
            conn.took(now, true);
        }
        let id = self.parts.log.epochs().id(at);
        self.say_next(key, crate::control::cursor(joined, id));
    }

    /// Says it at once, or behind what is pending.
    pub(super) fn say_next(&mut self, key: Key, bytes: Bytes) {
        let Some(conn) = self.conn(key) else { return };
        if conn.is_free() {
            self.say(key, bytes);
        } else {
            conn.pending = [&*conn.pending, &*bytes].concat().into();
        }
    }

    /// Ends a connection once what is pending is gone.
    pub(super) fn close(&mut self, key: Key) {
        self.begin(key);
        self.unlist(key);
        let Some(conn) = self.conn(key) else { return };
        if conn.closing {
            return;
        }
        conn.closing = true;
        if conn.pending.is_empty() {
            self.end(key);
        }
    }

    /// Says that nothing follows, and waits a moment for the peer to say so too.
    fn end(&mut self, key: Key) {
        let Some(conn) = self.conn(key) else { return };
        if conn.ended {
            return;
        }
        conn.ended = true;
        conn.sink.end();
        if matches!(conn.sink, super::sink::Sink::Body(_)) {
            return self.remove(key);
        }
        self.linger(key);
    }

    /// Gives the peer a moment, and then drops the connection.
    pub(super) fn linger(&mut self, key: Key) {
        let due = self.now_ms + LINGER_MS;
        let Some(conn) = self.conn(key) else { return };
        conn.rare().linger_until_ms = due;
        self.look_at(key, due);
    }

    pub(super) fn conn(&mut self, key: Key) -> Option<&mut Conn> {
        self.conns.get_mut(key.place as usize).filter(|c| c.serial == key.serial)
    }

    /// Whether an event is gone as far as the client knows. A final event is not trimmed, only deleted.
    fn is_graced(&self, frame: &Frame, subscription: &Subscription, grace: &[Seq]) -> bool {
        let index = subscription.channels.iter().position(|channel| *channel == frame.channel);
        let deleted = || self.parts.log.window(&frame.channel).and_then(|w| w.deleted);
        index.and_then(|i| grace.get(i)).is_some_and(|upto| frame.seq <= *upto)
            && (!frame.flags.is_final || deleted().is_some_and(|upto| frame.seq <= upto))
    }
}
