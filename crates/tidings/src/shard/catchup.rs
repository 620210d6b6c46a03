//! Catching up: reading the log for connections that are behind the tail, slice by slice.
//!
//! Owns: the reader threads, their order (round-robin) and what all slices together may hold. Does not know: sockets.
//! Flow: in ← a connection's cursor · out → one slice to its shard, and nothing is kept.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use bytes::Bytes;
use tidings_core::conflate::{Entry, left_out};
use tidings_core::resume::{Reason, Reset, Retained, gone};
use tidings_core::{ChannelName, Seq, limits};

use super::chunk::Chunk;
use super::inbox::{Command, Inbox, Key};
use crate::frame::Frame;
use crate::log::{Log, ReadLimit, ReadOutcome, Want, Window};
use crate::metrics::Metrics;
use crate::subscribe::Subscription;
use crate::tail::SliceBound;

/// The bounds of one slice.
pub(crate) const BOUND: SliceBound =
    SliceBound { events_max: limits::SLICE_EVENTS_MAX, bytes_max: limits::SLICE_BYTES_MAX };

/// The bounds of a connection's first one: its first event waits for all that is read with it.
pub(crate) const FIRST: SliceBound = SliceBound { events_max: 16, ..BOUND };

/// A connection that wants its next slice. Each has one at most.
#[derive(Debug)]
pub(crate) struct Errand {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) key: Key,
    pub(crate) subscription: Arc<Subscription>,
    pub(crate) cursor: Seq,
    pub(crate) upto: Seq,
    pub(crate) bound: SliceBound,
    /// Per channel: what is gone up to here is no news. Empty if nothing is.
    pub(crate) grace: Box<[Seq]>,
}

/// What a reader found for a connection.
#[derive(Debug)]
pub(crate) struct Slice {
    pub(crate) found: Found,
    _room: Option<Room>,
}

/// The next thing to send.
#[derive(Debug)]
pub(crate) enum Found {
    /// Frames, complete up to `to`.
    Frames { chunk: Chunk, to: Seq },
    /// Something is gone: this control event, and how the connection goes on.
    Reset { control: Bytes, cursor: Seq, grace: Box<[Seq]> },
    /// The medium failed: the connection is closed, its client comes back.
    Failed,
}

/// The reader threads.
#[derive(Debug)]
pub(crate) struct Readers {
    queue: Mutex<Option<VecDeque<Errand>>>,
    changed: Condvar,
    held: Arc<AtomicUsize>,
    log: Arc<dyn Log>,
    metrics: Arc<Metrics>,
}

/// Bytes of a slice that has not been sent yet.
#[derive(Debug)]
struct Room(Arc<AtomicUsize>, usize);

impl Drop for Room {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::AcqRel);
    }
}

impl Readers {
    pub(crate) fn start(
        log: Arc<dyn Log>,
        metrics: Arc<Metrics>,
        threads: usize,
    ) -> std::io::Result<(Arc<Self>, Vec<std::thread::JoinHandle<()>>)> {
        let readers = Arc::new(Self {
            queue: Mutex::new(Some(VecDeque::new())),
            changed: Condvar::new(),
            held: Arc::default(),
            log,
            metrics,
        });
        let spawn = |n: usize| {
            let readers = Arc::clone(&readers);
            std::thread::Builder::new().name(format!("tidings-reader-{n}")).spawn(move || readers.run())
        };
        let handles = (0..threads).map(spawn).collect::<Result<_, _>>()?;
        Ok((readers, handles))
    }

    pub(crate) fn ask(&self, errand: Errand) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queue.as_mut() {
            queue.push_back(errand);
            self.changed.notify_one();
        }
    }

    pub(crate) fn stop(&self) {
        *self.queue.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.changed.notify_all();
    }

    fn run(&self) {
        while let Some(errand) = self.next() {
            let found = self.read(&errand);
            let bytes = match &found {
                Found::Frames { chunk, .. } => chunk.bytes.len(),
                Found::Reset { .. } | Found::Failed => 0,
            };
            self.held.fetch_add(bytes, Ordering::AcqRel);
            let slice = Slice { found, _room: Some(Room(Arc::clone(&self.held), bytes)) };
            errand.inbox.push(Command::Slice(errand.key, slice));
        }
    }

    fn next(&self) -> Option<Errand> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let room = self.held.load(Ordering::Acquire) < limits::SLICES_BYTES_MAX;
            if let Some(errand) = queue.as_mut()?.pop_front_if(|_| room) {
                return Some(errand);
            }
            // Shards give room back without a notification: look again soon.
            let wait = std::time::Duration::from_millis(if room { 1_000 } else { 5 });
            queue = self.changed.wait_timeout(queue, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn read(&self, errand: &Errand) -> Found {
        let channels = &errand.subscription.channels;
        let after = |i: usize| errand.cursor.max(errand.grace.get(i).copied().unwrap_or_default());
        let windows: Vec<Option<Window>> = channels.iter().map(|c| self.log.window(c)).collect();
        let owed = |i: &usize| windows.get(*i).copied().flatten().is_some_and(|w| w.head > after(*i));
        let meant: Vec<usize> = (0..channels.len()).filter(owed).collect();
        let wanted: Vec<Want<'_>> =
            meant.iter().filter_map(|&i| Some(Want { channel: channels.get(i)?, after: after(i) })).collect();
        let SliceBound { events_max, bytes_max } = errand.bound;
        let limit = ReadLimit { upto: errand.upto, events_max, bytes_max };
        let read = self.log.read(&wanted, limit);
        // Behind the read: what was forgotten until now may be missing in it, and what is forgotten later is not.
        if let Some(reset) = self.forgotten(errand) {
            return reset;
        }
        match read {
            Ok(ReadOutcome::Events { records, to }) => {
                let epochs = self.log.epochs();
                let frames: Vec<Arc<Frame>> =
                    records.iter().map(|r| Arc::new(Frame::new(r, epochs.id(r.seq)))).collect();
                let chunk = sendable(&frames, &errand.subscription);
                Found::Frames { chunk, to }
            }
            Ok(ReadOutcome::Truncated { .. }) => self.truncated(errand),
            Ok(ReadOutcome::Corrupt { resume_after }) => self.corrupt(errand, resume_after),
            Err(error) => {
                tracing::error!(%error, "cannot read the log for a connection");
                Found::Failed
            }
        }
    }

    /// What to say where a channel may have been forgotten with events behind the connection's position. A record that is
    /// gone says nothing of what it held, nor does a newer one of the same name.
    fn forgotten(&self, errand: &Errand) -> Option<Found> {
        let horizon = self.log.horizon();
        if horizon <= errand.cursor {
            return None;
        }
        let channels = &errand.subscription.channels;
        let grace = |i: usize| errand.grace.get(i).copied().unwrap_or_default();
        let unknown: Vec<Seq> =
            channels.iter().map(|c| unknown(&retained(self.log.window(c)), horizon)).collect();
        let is_news = |(i, upto): (usize, &Seq)| *upto > errand.cursor && *upto > grace(i);
        if !unknown.iter().enumerate().any(is_news) {
            return None;
        }
        let grace = unknown.iter().enumerate().map(|(i, &upto)| upto.max(grace(i))).collect();
        Some(self.reset(errand, &expired(errand.cursor), errand.cursor, grace))
    }

    fn truncated(&self, errand: &Errand) -> Found {
        let channels = &errand.subscription.channels;
        let mut retained: Vec<Retained> = channels.iter().map(|c| retained(self.log.window(c))).collect();
        let grace: Box<[Seq]> = retained
            .iter()
            .enumerate()
            .map(|(i, r)| r.floor.max(errand.grace.get(i).copied().unwrap_or_default()))
            .collect();
        for (i, r) in retained.iter_mut().enumerate() {
            if errand.grace.get(i).is_some_and(|g| *g >= r.floor) {
                r.floor = Seq::ZERO;
            }
        }
        // Without one, the channel was forgotten between the two looks.
        let reset = gone(errand.cursor, &retained).unwrap_or_else(|| expired(errand.cursor));
        self.reset(errand, &reset, errand.cursor, grace)
    }

    fn corrupt(&self, errand: &Errand, resume_after: Seq) -> Found {
        let reset = Reset { reason: Reason::Corrupt, channels: Vec::new(), first: None, id: resume_after };
        self.reset(errand, &reset, resume_after, errand.grace.clone())
    }

    fn reset(&self, errand: &Errand, reset: &Reset, cursor: Seq, grace: Box<[Seq]>) -> Found {
        self.metrics.resets.inc();
        let mut out = Vec::new();
        crate::control::reset(&mut out, reset, &errand.subscription.channels, self.log.epochs());
        Found::Reset { control: out.into(), cursor, grace }
    }
}

/// What a client at `own` is told where nothing can be said any more about what a channel held.
fn expired(own: Seq) -> Reset {
    Reset { reason: Reason::Expired, channels: Vec::new(), first: None, id: own }
}

/// Up to where nothing is known of a channel, because a record of it may have been forgotten: nothing that can be read
/// stands there. `horizon` is from before the channel was looked up.
pub(crate) fn unknown(channel: &Retained, horizon: Seq) -> Seq {
    match channel.first {
        // Its first event of all: before it may have been another channel of this name.
        Some(first) if channel.floor == Seq::ZERO => horizon.min(Seq(first.0.saturating_sub(1))),
        None if channel.head == Seq::ZERO => horizon,
        // Who stands before the floor is told of it anyway.
        _ => Seq::ZERO,
    }
}

/// What the resume decision needs to know of a channel.
pub(crate) fn retained(window: Option<Window>) -> Retained {
    window.map_or_else(Retained::default, |w| Retained {
        first: w.first,
        head: w.head,
        floor: w.floor,
        finished: w.finished,
        deleted: w.deleted,
    })
}

/// Leaves out what is past its time and what a newer event in the same slice replaces.
pub(crate) fn sendable(frames: &[Arc<Frame>], subscription: &Subscription) -> Chunk {
    let now = crate::clock::unix_ms();
    let live: Vec<&Arc<Frame>> = frames.iter().filter(|f| f.is_live(now)).collect();
    let entries: Vec<Entry<'_>> = live.iter().map(|f| entry(f)).collect();
    let kept = live.iter().zip(left_out(&entries)).filter(|(_, out)| !out).map(|(f, _)| *f);
    let sent: Vec<&Arc<Frame>> = kept.collect();
    Chunk::new(sent.iter().copied(), subscription.encoding)
}

fn entry(frame: &Frame) -> Entry<'_> {
    let key = frame.key.as_ref().map(tidings_core::Key::as_str);
    Entry { channel: frame.channel.as_str(), key, is_final: frame.flags.is_final }
}

/// The newest final event, if every channel is finished.
pub(crate) fn end_of(log: &dyn Log, channels: &[ChannelName]) -> Option<Seq> {
    let finals: Option<Vec<Seq>> = channels.iter().map(|c| log.window(c).and_then(|w| w.finished)).collect();
    finals?.into_iter().max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Encoding;
    use crate::log::memory::MemoryLog;
    use crate::log::{Append, Flags, Group, Retention};

    fn channel(name: &str) -> ChannelName {
        ChannelName::parse(name).unwrap()
    }

    fn append(log: &MemoryLog, name: &str) {
        let body = Bytes::from(format!("channel: {name}\ntime: 1\ndata: 1\n"));
        let (time_ms, flags) = (1, Flags::default());
        let event = Append {
            channel: channel(name),
            body,
            private: None,
            expected_prev: None,
            key: None,
            time_ms,
            expires_at_ms: None,
            flags,
        };
        log.append(&[Group { events: vec![event], idempotency: None }]).unwrap();
    }

    /// Reads on from `cursor` as a connection does, and says how: `R` is a reset, a digit the end of a slice.
    fn follow(log: &Arc<MemoryLog>, names: &[&str], cursor: u64) -> String {
        let log_of_all = Arc::clone(log) as Arc<dyn Log>;
        let (readers, _) = Readers::start(log_of_all, Arc::new(Metrics::new()), 0).unwrap();
        let poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
        let channels = names.iter().map(|name| channel(name)).collect();
        let mut errand = Errand {
            inbox: Inbox::new(waker),
            key: Key { place: 0, serial: 0 },
            subscription: Arc::new(Subscription::new("dev", channels, Encoding::Plain)),
            cursor: Seq(cursor),
            upto: log.head(),
            bound: BOUND,
            grace: Box::default(),
        };
        let mut heard = String::new();
        for _ in 0..10 {
            match readers.read(&errand) {
                Found::Frames { chunk, to } => {
                    let text = String::from_utf8(chunk.bytes.to_vec()).unwrap();
                    let frames = text.matches("data: ").count();
                    assert_eq!(to, log.head());
                    return format!("{heard}{frames}");
                }
                Found::Reset { cursor, grace, .. } => {
                    heard.push('R');
                    (errand.cursor, errand.grace) = (cursor, grace);
                }
                Found::Failed => panic!("memory does not fail"),
            }
        }
        panic!("it does not come to an end: {heard}");
    }

    #[test]
    fn who_catches_up_on_a_channel_that_was_forgotten_is_told_once_and_reads_on() {
        let log = Arc::new(MemoryLog::new(Retention::default().channels_max(1)));
        append(&log, "a");
        assert_eq!(follow(&log, &["a", "b"], 0), "1");
        // There is room for one record only.
        append(&log, "b");
        log.maintain(2).unwrap();
        assert_eq!((log.window(&channel("a")), log.horizon()), (None, Seq(1)));
        assert_eq!(follow(&log, &["a"], 0), "R0");
        assert_eq!(follow(&log, &["a", "b"], 0), "R1");
        // It has heard all that there was.
        assert_eq!(follow(&log, &["a", "b"], 1), "1");
        // The name comes again, and says nothing of what was before.
        append(&log, "a");
        assert_eq!(follow(&log, &["a"], 0), "R1");
        assert_eq!(follow(&log, &["a"], log.horizon().0), "1");
    }
}
