//! The tail: the newest frames, in memory, in commit order, bounded in bytes.
//!
//! Owns: the frames between the oldest position that somebody may still need and the head; the head that readers see.
//! Does not know: connections, the log engine.
//! Flow: in ← frames of a commit, then the head · out → frames behind a position, for shards and for catching up.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tidings_core::{ChannelName, Seq};

use crate::frame::Frame;

/// The newest frames and the head.
#[derive(Debug)]
pub(crate) struct Tail {
    frames: RwLock<Frames>,
    head: AtomicU64,
    /// Kept for readers that are slightly behind, beyond what shards still need.
    soft_bytes: usize,
    /// Where each shard stands: nothing above the lowest may be dropped.
    shards: Vec<AtomicU64>,
    room: Condvar,
    room_lock: Mutex<()>,
    /// The writer waits for room.
    waiting: AtomicBool,
}

#[derive(Debug)]
struct Frames {
    /// Without holes: the frame of sequence `s` is at `s - floor - 1`.
    all: VecDeque<Arc<Frame>>,
    by_channel: HashMap<ChannelName, VecDeque<Arc<Frame>>>,
    /// Everything above is here.
    floor: Seq,
    bytes: usize,
}

/// Bytes a frame costs beside its text: two queue entries and the allocation.
const FRAME_OVERHEAD: usize = 256;

/// The tail may hold this many times its soft bound before the writer has to wait for shards.
const HARD_FACTOR: usize = 4;

impl Tail {
    pub(crate) fn new(head: Seq, shards: usize, soft_bytes: usize) -> Self {
        let frames = Frames { all: VecDeque::new(), by_channel: HashMap::new(), floor: head, bytes: 0 };
        Self {
            frames: RwLock::new(frames),
            head: AtomicU64::new(head.0),
            soft_bytes,
            shards: (0..shards).map(|_| AtomicU64::new(head.0)).collect(),
            room: Condvar::new(),
            room_lock: Mutex::new(()),
            waiting: AtomicBool::new(false),
        }
    }

    /// The newest sequence that anybody may be shown.
    pub(crate) fn head(&self) -> Seq {
        Seq(self.head.load(Ordering::Acquire))
    }

    /// Adds the frames of a commit and then moves the head.
    ///
    /// Invariant: frames before head, so no reader ever misses a frame below the head that it loaded.
    pub(crate) fn push(&self, new: Vec<Arc<Frame>>) {
        let Some(head) = new.last().map(|f| f.seq) else { return };
        let needed = self.lowest_shard();
        let mut frames = self.frames.write().unwrap_or_else(PoisonError::into_inner);
        for frame in new {
            frames.push(frame);
        }
        while frames.bytes > self.soft_bytes && frames.all.front().is_some_and(|f| f.seq <= needed) {
            frames.drop_oldest();
        }
        drop(frames);
        self.head.store(head.0, Ordering::Release);
    }

    /// Waits until the tail is below its hard bound; `false` if it still is not after `patience`.
    pub(crate) fn wait_for_room(&self, patience: Duration) -> bool {
        let has_room = || self.bytes_held() <= self.soft_bytes.saturating_mul(HARD_FACTOR);
        self.wait(patience, has_room, || {
            self.trim();
            has_room()
        })
    }

    /// Waits until the shards have passed the head, or for as long as `patience` lasts.
    pub(crate) fn wait_for_shards(&self, patience: Duration) {
        let have_passed = || self.lowest_shard() >= self.head();
        self.wait(patience, have_passed, have_passed);
    }

    /// Waits until something holds that only moves of the shards bring about. `first` is asked without a lock.
    fn wait(&self, patience: Duration, first: impl Fn() -> bool, holds: impl Fn() -> bool) -> bool {
        if first() {
            return true;
        }
        let guard = lock(&self.room_lock);
        // Invariant: said before the shards' positions are looked at. A shard moves first and looks at this then, so one
        // of the two sees the other.
        self.waiting.store(true, Ordering::SeqCst);
        let waited = self.room.wait_timeout_while(guard, patience, |()| !holds());
        self.waiting.store(false, Ordering::SeqCst);
        waited.is_ok_and(|(_, timeout)| !timeout.timed_out())
    }

    /// A shard has passed everything up to `position`.
    pub(crate) fn passed(&self, shard: usize, position: Seq) {
        if let Some(slot) = self.shards.get(shard) {
            slot.store(position.0, Ordering::SeqCst);
        }
        if self.waiting.load(Ordering::SeqCst) {
            let _guard = lock(&self.room_lock);
            self.room.notify_all();
        }
    }

    /// All frames in `(after, upto]`, at most about `bytes_max`; the second value is how far they are complete.
    /// `None` if some are no longer here.
    pub(crate) fn since(&self, after: Seq, upto: Seq, bytes_max: usize) -> Option<(Vec<Arc<Frame>>, Seq)> {
        let frames = self.frames.read().unwrap_or_else(PoisonError::into_inner);
        if after < frames.floor {
            return None;
        }
        let skip = usize::try_from(after.0 - frames.floor.0).ok()?;
        let mut out = Vec::new();
        let mut bytes = 0;
        for frame in frames.all.iter().skip(skip).take_while(|f| f.seq <= upto) {
            bytes += frame.bytes(crate::frame::Encoding::Plain).len();
            out.push(Arc::clone(frame));
            if bytes >= bytes_max {
                return Some((out, frame.seq));
            }
        }
        Some((out, upto))
    }

    /// The frames of some channels in `(after, upto]`, in order, cut to a slice. `None` if some are no longer here.
    pub(crate) fn slice(
        &self,
        channels: &[ChannelName],
        after: Seq,
        upto: Seq,
        bound: SliceBound,
    ) -> Option<(Vec<Arc<Frame>>, Seq)> {
        let frames = self.frames.read().unwrap_or_else(PoisonError::into_inner);
        if after < frames.floor {
            return None;
        }
        let mut found: Vec<Arc<Frame>> = Vec::new();
        for channel in channels {
            let Some(queue) = frames.by_channel.get(channel) else { continue };
            let start = queue.partition_point(|f| f.seq <= after);
            let owed = queue.iter().skip(start).take_while(|f| f.seq <= upto);
            found.extend(owed.take(bound.events_max.saturating_add(1)).cloned());
        }
        drop(frames);
        if channels.len() > 1 {
            found.sort_unstable_by_key(|f| f.seq);
        }
        Some(cut(found, upto, bound))
    }

    fn lowest_shard(&self) -> Seq {
        Seq(self.shards.iter().map(|s| s.load(Ordering::SeqCst)).min().unwrap_or(u64::MAX))
    }

    fn bytes_held(&self) -> usize {
        self.frames.read().unwrap_or_else(PoisonError::into_inner).bytes
    }

    fn trim(&self) {
        let needed = self.lowest_shard();
        let mut frames = self.frames.write().unwrap_or_else(PoisonError::into_inner);
        while frames.bytes > self.soft_bytes && frames.all.front().is_some_and(|f| f.seq <= needed) {
            frames.drop_oldest();
        }
    }
}

/// The bounds of one slice of catching up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SliceBound {
    pub(crate) events_max: usize,
    pub(crate) bytes_max: usize,
}

/// Cuts sorted frames to a slice of at least one event; says how far it is complete.
pub(crate) fn cut(mut frames: Vec<Arc<Frame>>, upto: Seq, bound: SliceBound) -> (Vec<Arc<Frame>>, Seq) {
    let mut bytes = 0;
    let mut keep = 0;
    for frame in frames.iter().take(bound.events_max) {
        bytes += frame.bytes(crate::frame::Encoding::Plain).len();
        if keep > 0 && bytes > bound.bytes_max {
            break;
        }
        keep += 1;
    }
    if keep == frames.len() {
        return (frames, upto);
    }
    frames.truncate(keep);
    let to = frames.last().map_or(upto, |f| f.seq);
    (frames, to)
}

impl Frames {
    fn push(&mut self, frame: Arc<Frame>) {
        self.bytes += cost(&frame);
        match self.by_channel.get_mut(&frame.channel) {
            Some(queue) => queue.push_back(Arc::clone(&frame)),
            None => {
                self.by_channel.insert(frame.channel.clone(), VecDeque::from([Arc::clone(&frame)]));
            }
        }
        self.all.push_back(frame);
    }

    fn drop_oldest(&mut self) {
        let Some(frame) = self.all.pop_front() else { return };
        self.floor = frame.seq;
        self.bytes = self.bytes.saturating_sub(cost(&frame));
        if let Some(queue) = self.by_channel.get_mut(&frame.channel) {
            queue.pop_front();
            if queue.is_empty() {
                self.by_channel.remove(&frame.channel);
            }
        }
    }
}

fn cost(frame: &Frame) -> usize {
    frame.bytes(crate::frame::Encoding::Plain).len() + FRAME_OVERHEAD
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::test_frame as frame;

    fn seqs(found: Option<(Vec<Arc<Frame>>, Seq)>) -> Option<(Vec<u64>, u64)> {
        found.map(|(frames, to)| (frames.iter().map(|f| f.seq.0).collect(), to.0))
    }

    #[test]
    fn a_frame_that_a_shard_has_not_passed_is_never_dropped() {
        let tail = Tail::new(Seq::ZERO, 2, 1);
        tail.push(vec![frame(1, "a"), frame(2, "b")]);
        tail.passed(0, Seq(2));
        tail.push(vec![frame(3, "a")]);
        assert_eq!(seqs(tail.since(Seq(0), Seq(3), 1 << 20)), Some((vec![1, 2, 3], 3)));
        tail.passed(1, Seq(1));
        tail.push(vec![frame(4, "a")]);
        assert_eq!(seqs(tail.since(Seq(0), Seq(4), 1 << 20)), None);
        assert_eq!(seqs(tail.since(Seq(1), Seq(4), 1 << 20)), Some((vec![2, 3, 4], 4)));
    }

    #[test]
    fn a_slice_merges_channels_and_says_how_far_it_is_complete() {
        let tail = Tail::new(Seq::ZERO, 1, 1 << 20);
        tail.push((1..=9).map(|s| frame(s, if s % 3 == 0 { "a" } else { "b" })).collect());
        let channels = ["a", "c", "b"].map(|c| ChannelName::parse(c).unwrap());
        let bound = SliceBound { events_max: 4, bytes_max: 1 << 20 };
        assert_eq!(seqs(tail.slice(&channels, Seq(1), Seq(9), bound)), Some((vec![2, 3, 4, 5], 5)));
        assert_eq!(seqs(tail.slice(&channels, Seq(6), Seq(8), bound)), Some((vec![7, 8], 8)));
        assert_eq!(seqs(tail.slice(&channels[..1], Seq(6), Seq(8), bound)), Some((vec![], 8)));
        let tiny = SliceBound { events_max: 4, bytes_max: 1 };
        assert_eq!(seqs(tail.slice(&channels, Seq(1), Seq(9), tiny)), Some((vec![2], 2)));
    }

    #[test]
    fn the_writer_goes_on_as_soon_as_a_shard_has_passed() {
        let (done, waited) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let tail = Arc::new(Tail::new(Seq::ZERO, 1, 1));
            let shard = Arc::clone(&tail);
            std::thread::spawn(move || {
                let mut position = Seq::ZERO;
                while position < Seq(3_000) {
                    let head = shard.head();
                    if head > position {
                        position = head;
                        shard.passed(0, position);
                    }
                }
            });
            for seq in 1..=3_000 {
                tail.push(vec![frame(seq, "a")]);
                tail.wait_for_room(Duration::from_secs(3_600));
            }
            done.send(()).unwrap();
        });
        waited.recv_timeout(Duration::from_secs(20)).expect("somebody wakes the writer");
    }
}
