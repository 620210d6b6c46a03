//! Connections that are no streams: how many there may be, and which one goes when there are too many.
//!
//! Owns: their count, also by client address, and who is idle. Does not know: sockets, protocols.
//! Flow: `enter` ← an accepted connection → a `Guest`, or that there is no room · a guest that waits for nothing is asked to
//! leave for a newer one.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use atomic_waker::AtomicWaker;
use tidings_core::address::counted;

/// How many are looked at to find one that may go.
const LOOKS_MAX: usize = 64;

/// All connections that are no streams.
#[derive(Debug)]
pub(super) struct Crowd {
    inner: Mutex<Inner>,
    max: usize,
    per_address: u32,
}

#[derive(Debug, Default)]
struct Inner {
    count: usize,
    addresses: HashMap<IpAddr, u32>,
    /// In the order in which they came, or were last seen to have asked something; some are gone.
    line: VecDeque<Weak<Seat>>,
}

/// What a connection does.
#[derive(Debug, Default)]
struct Seat {
    /// Requests that are being answered.
    busy: AtomicUsize,
    /// It has asked something since it was last looked at.
    asked: AtomicBool,
    /// When it came, or the last of its requests was answered.
    idle_since_ms: AtomicU64,
    /// It is to end once it is idle.
    leaves: AtomicBool,
    /// It is to end at once.
    closed: AtomicBool,
    /// Its task. Asked at every step of every request, which is why it is no `Notify`.
    task: AtomicWaker,
}

impl Seat {
    /// Asks it to leave, once what it has begun is answered.
    fn leave(&self) {
        self.leaves.store(true, Ordering::Release);
        self.task.wake();
    }

    fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire) > 0
    }
}

/// A connection that was let in. Dropping it makes room.
#[derive(Debug)]
pub(super) struct Guest {
    crowd: Arc<Crowd>,
    seat: Arc<Seat>,
    address: Option<IpAddr>,
}

impl Crowd {
    pub(super) fn new(max: usize, per_address: u32) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::default(), max, per_address })
    }

    /// Lets a connection in. If there are too many, the one that has been idle for longest leaves; `None` if none is.
    pub(super) fn enter(self: &Arc<Self>, address: Option<IpAddr>) -> Option<Guest> {
        let mut inner = self.lock();
        let address = address.map(counted);
        if address.is_some_and(|a| inner.addresses.get(&a).is_some_and(|count| *count >= self.per_address)) {
            return None;
        }
        if inner.count >= self.max && !inner.make_room() {
            return None;
        }
        inner.count += 1;
        if let Some(address) = address {
            *inner.addresses.entry(address).or_default() += 1;
        }
        let seat = Seat { idle_since_ms: crate::clock::now_ms().into(), ..Seat::default() };
        let seat = Arc::new(seat);
        inner.line.push_back(Arc::downgrade(&seat));
        if inner.line.len() > 2 * inner.count + LOOKS_MAX {
            inner.line.retain(|seat| seat.strong_count() > 0);
        }
        Some(Guest { crowd: Arc::clone(self), seat, address })
    }

    /// Asks all connections to leave, once what they have begun is answered.
    pub(super) fn dismiss(&self) {
        self.lock().seats().for_each(|seat| seat.leave());
    }

    /// Ends all connections.
    pub(super) fn close(&self) {
        for seat in self.lock().seats() {
            seat.closed.store(true, Ordering::Release);
            seat.task.wake();
        }
    }

    /// Whether any connection has a request.
    pub(super) fn is_busy(&self) -> bool {
        self.lock().seats().any(|seat| seat.is_busy())
    }

    /// Asks the connection that has been idle for longest to leave; says whether there was one.
    pub(super) fn make_room(&self) -> bool {
        self.lock().make_room()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn seats(&self) -> impl Iterator<Item = Arc<Seat>> {
        self.line.iter().filter_map(Weak::upgrade)
    }

    fn make_room(&mut self) -> bool {
        let mut looks = 0;
        while let Some(seat) = self.line.pop_front() {
            let Some(seat) = seat.upgrade() else { continue };
            // Whoever is told to end at once is found here, whatever it was asked before.
            self.line.push_back(Arc::downgrade(&seat));
            let stays = seat.is_busy() || seat.leaves.load(Ordering::Acquire);
            // One that has asked something since gets another round.
            if !stays && !seat.asked.swap(false, Ordering::AcqRel) {
                seat.leave();
                return true;
            }
            looks += 1;
            if looks > LOOKS_MAX {
                break;
            }
        }
        false
    }
}

impl Guest {
    /// Resolves when the connection is asked to leave.
    pub(super) async fn asked_to_leave(&self) {
        poll_fn(|cx| if self.is_asked_to_leave(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// Whether it is asked to leave. The task that asks is woken when it is.
    pub(super) fn is_asked_to_leave(&self, cx: &Context<'_>) -> bool {
        self.seat.task.register(cx.waker());
        self.seat.leaves.load(Ordering::Acquire)
    }

    /// Whether it is to end at once. The task that asks is woken when it is.
    pub(super) fn is_closed(&self, cx: &Context<'_>) -> bool {
        self.seat.task.register(cx.waker());
        self.seat.closed.load(Ordering::Acquire)
    }

    /// It has a request; until this is dropped, nobody asks it to leave.
    pub(super) fn busy(&self) -> Busy {
        self.seat.busy.fetch_add(1, Ordering::AcqRel);
        self.seat.asked.store(true, Ordering::Release);
        Busy(Arc::clone(&self.seat))
    }

    /// Whether it has a request.
    pub(super) fn is_busy(&self) -> bool {
        self.seat.is_busy()
    }

    /// How long it may stay idle from now on, of `limit` in all: nothing is taken of it while a request is answered.
    pub(super) fn idle_left(&self, now_ms: u64, limit: Duration) -> Duration {
        if self.is_busy() {
            return limit;
        }
        let since = self.seat.idle_since_ms.load(Ordering::Acquire);
        limit.saturating_sub(Duration::from_millis(now_ms.saturating_sub(since)))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut inner = self.crowd.lock();
        inner.count = inner.count.saturating_sub(1);
        let Some(address) = self.address else { return };
        if let Some(count) = inner.addresses.get_mut(&address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                inner.addresses.remove(&address);
            }
        }
    }
}

/// A request of a connection.
#[derive(Debug)]
pub(super) struct Busy(Arc<Seat>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.idle_since_ms.store(crate::clock::now_ms(), Ordering::Release);
        self.0.busy.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(guest: &Guest) -> bool {
        let context = &mut Context::from_waker(std::task::Waker::noop());
        std::pin::pin!(guest.asked_to_leave()).poll(context).is_ready()
    }

    #[test]
    fn the_one_that_is_idle_for_longest_leaves_for_a_newer_one() {
        let crowd = Crowd::new(3, 10);
        let guests: Vec<Guest> = (0..3).map(|_| crowd.enter(None).unwrap()).collect();
        drop(guests[0].busy());
        let busy = guests[1].busy();
        let fourth = crowd.enter(None).unwrap();
        assert_eq!(guests.iter().map(leaves).collect::<Vec<_>>(), [false, false, true]);
        // The first one had its round.
        let _fifth = crowd.enter(None).unwrap();
        assert!(leaves(&guests[0]) && !leaves(&guests[1]));
        drop((busy, fourth));
    }

    #[test]
    fn whoever_was_asked_to_leave_is_ended_with_the_others() {
        let crowd = Crowd::new(2, 10);
        let guests = [crowd.enter(None).unwrap(), crowd.enter(None).unwrap()];
        assert!(crowd.make_room() && leaves(&guests[0]));
        let context = Context::from_waker(std::task::Waker::noop());
        assert!(guests.iter().all(|guest| !guest.is_closed(&context)));
        crowd.close();
        assert!(guests.iter().all(|guest| guest.is_closed(&context)));
    }

    #[test]
    fn whoever_has_a_request_is_not_idle_and_has_the_whole_time_behind_it() {
        let (limit, then) = (Duration::from_millis(500), u64::MAX / 2);
        let guest = Crowd::new(1, 1).enter(None).unwrap();
        guest.seat.idle_since_ms.store(then, Ordering::Release);
        assert_eq!(guest.idle_left(then + 200, limit), Duration::from_millis(300));
        assert_eq!(guest.idle_left(then + 600, limit), Duration::ZERO);
        let busy = guest.busy();
        assert_eq!(guest.idle_left(then + 600, limit), limit);
        drop(busy);
        assert!(guest.seat.idle_since_ms.load(Ordering::Acquire) < then, "it is the end of the request");
    }

    #[test]
    fn when_all_are_busy_nobody_comes_in() {
        let crowd = Crowd::new(2, 10);
        let guests = [crowd.enter(None).unwrap(), crowd.enter(None).unwrap()];
        let busy: Vec<Busy> = guests.iter().map(Guest::busy).collect();
        assert!(crowd.enter(None).is_none());
        drop(busy);
        // They have asked something: the first look is their second chance.
        assert!(crowd.enter(None).is_some());
    }

    #[test]
    fn an_address_has_so_many_and_what_is_gone_leaves_no_trace() {
        let crowd = Crowd::new(1_000, 2);
        let address = |text: &str| text.parse().ok();
        let one = crowd.enter(address("9.9.9.9")).unwrap();
        let two = crowd.enter(address("::ffff:9.9.9.9")).unwrap();
        assert!(crowd.enter(address("9.9.9.9")).is_none());
        assert!(crowd.enter(address("9.9.9.8")).is_some());
        drop((one, two));
        for _ in 0..10_000 {
            drop(crowd.enter(address("9.9.9.9")).unwrap());
        }
        let inner = crowd.lock();
        assert!(inner.addresses.is_empty() && inner.count == 0 && inner.line.len() < 1_000);
    }
}
