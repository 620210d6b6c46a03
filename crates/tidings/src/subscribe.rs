//! Subscriptions: what a connection listens to, and the registry of all of them.
//!
//! Owns: connection ids, the registry, how many streams there may be. Does not know: sockets, positions.
//! Flow: in ← an admitted request · out → a `Ticket`, which undoes the registration when it is dropped.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidings_core::{ChannelName, Seq, address};
use tokio::sync::oneshot;

use crate::auth::Authorized;
use crate::frame::Encoding;
use crate::metrics::Metrics;
use crate::shard::{Command, Inbox, Joining, Key, Refusal};

/// What a connection listens to.
#[derive(Debug)]
pub(crate) struct Subscription {
    /// The connection's id.
    pub(crate) id: u64,
    /// Whose it is; empty if it is an API key's, or anonymous.
    pub(crate) subject: Arc<str>,
    pub(crate) channels: Box<[ChannelName]>,
    pub(crate) encoding: Encoding,
    /// When it was opened, Unix milliseconds.
    pub(crate) opened_ms: u64,
    /// Where the client is, if that is known and counted.
    address: Option<IpAddr>,
    behind: AtomicBool,
    /// Its grant was revoked, perhaps before a shard knew of it.
    revoked: AtomicBool,
    /// What it may do now. None if everything is allowed.
    authorized: Mutex<Option<Arc<Authorized>>>,
}

impl Subscription {
    pub(crate) fn new(subject: &str, channels: Vec<ChannelName>, encoding: Encoding) -> Self {
        Self {
            id: crate::clock::random(),
            subject: subject.into(),
            channels: channels.into(),
            encoding,
            opened_ms: crate::clock::unix_ms(),
            address: None,
            behind: AtomicBool::new(true),
            revoked: AtomicBool::new(false),
            authorized: Mutex::default(),
        }
    }

    /// What it may do.
    pub(crate) fn granted(self, authorized: Option<Arc<Authorized>>) -> Self {
        self.grant(authorized);
        self
    }

    /// What it may do from now on.
    pub(crate) fn grant(&self, authorized: Option<Arc<Authorized>>) {
        *lock(&self.authorized) = authorized;
    }

    /// What it may do. `None` if everything is allowed.
    pub(crate) fn authorized(&self) -> Option<Arc<Authorized>> {
        lock(&self.authorized).clone()
    }

    /// The same stream, listening to more.
    fn with(&self, more: Vec<ChannelName>) -> Self {
        let mut channels = self.channels.to_vec();
        channels.extend(more);
        Self {
            id: self.id,
            subject: Arc::clone(&self.subject),
            channels: channels.into(),
            encoding: self.encoding,
            opened_ms: self.opened_ms,
            address: self.address,
            behind: AtomicBool::new(self.is_behind()),
            revoked: AtomicBool::new(false),
            authorized: Mutex::new(self.authorized()),
        }
    }

    /// Why it is refused, if it is.
    pub(crate) fn refused(&self) -> Option<Refusal> {
        self.revoked.load(Ordering::Acquire).then(|| Refusal::new("token_revoked"))
    }

    /// Counts the stream for a client's address. Of IPv6, a client has a whole network of 64 bits.
    pub(crate) fn counted_for(mut self, address: Option<IpAddr>) -> Self {
        self.address = address.map(address::counted);
        self
    }

    /// Whether the stream has a cursor of its own.
    pub(crate) fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed)
    }

    pub(crate) fn set_behind(&self, behind: bool) {
        self.behind.store(behind, Ordering::Relaxed);
    }
}

/// All streams of a hub.
#[derive(Debug)]
pub(crate) struct Registry {
    /// Split by id, so that thousands of streams that open at once do not queue for one lock.
    parts: Vec<Mutex<HashMap<u64, Entry>>>,
    streams: AtomicU64,
    streams_max: u64,
    addresses: Counts<IpAddr>,
    subjects: Counts<Arc<str>>,
    metrics: Arc<Metrics>,
}

/// Channels have joined a stream.
#[derive(Debug)]
pub(crate) struct Joined {
    /// What it listens to now.
    pub(crate) subscription: Arc<Subscription>,
    /// From where on, once its shard has answered.
    pub(crate) at: oneshot::Receiver<Seq>,
}

/// Why a stream was not registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crowded {
    /// There are as many as the open-file limit allows.
    Server,
    /// The client's address has as many as it may.
    Address,
    /// The subject has as many as it may.
    Subject,
}

/// How many streams there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) streams: usize,
    pub(crate) per_address: u32,
    /// `None` where subjects are only names.
    pub(crate) per_subject: Option<u32>,
}

/// Streams of each of whatever is counted.
#[derive(Debug)]
struct Counts<K> {
    counts: Mutex<HashMap<K, u32>>,
    max: u32,
}

impl<K: Eq + std::hash::Hash> Counts<K> {
    fn new(max: u32) -> Self {
        Self { counts: Mutex::default(), max }
    }

    /// Counts one more, unless there are too many.
    fn enter(&self, key: K) -> bool {
        let mut counts = lock(&self.counts);
        let count = counts.entry(key).or_default();
        let enters = *count < self.max;
        *count += u32::from(enters);
        enters
    }

    fn is_full<Q: Eq + std::hash::Hash + ?Sized>(&self, key: &Q) -> bool
    where
        K: std::borrow::Borrow<Q>,
    {
        lock(&self.counts).get(key).copied().unwrap_or_default() >= self.max
    }

    fn leave<Q: Eq + std::hash::Hash + ?Sized>(&self, key: &Q)
    where
        K: std::borrow::Borrow<Q>,
    {
        let mut counts = lock(&self.counts);
        let Some(count) = counts.get_mut(key) else { return };
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[derive(Debug)]
struct Entry {
    subscription: Arc<Subscription>,
    /// Where it is served, once a shard has it.
    place: Option<(Arc<Inbox>, Key)>,
    /// It was closed before a shard had it.
    is_closed: bool,
}

const PARTS: usize = 16;

impl Registry {
    pub(crate) fn new(bounds: Bounds, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            streams: AtomicU64::new(0),
            streams_max: u64::try_from(bounds.streams).unwrap_or(u64::MAX),
            addresses: Counts::new(bounds.per_address),
            // A subject that is not counted has as many as there may be.
            subjects: Counts::new(bounds.per_subject.unwrap_or(u32::MAX)),
            metrics,
        })
    }

    /// Whether a stream would be one too many now.
    pub(crate) fn crowded(&self, subject: &str, address: Option<IpAddr>) -> Option<Crowded> {
        if self.streams() >= self.streams_max {
            return Some(Crowded::Server);
        }
        if address.map(address::counted).is_some_and(|address| self.addresses.is_full(&address)) {
            return Some(Crowded::Address);
        }
        (!subject.is_empty() && self.subjects.is_full(subject)).then_some(Crowded::Subject)
    }

    /// Registers a stream, unless there are too many.
    pub(crate) fn admit(self: &Arc<Self>, subscription: Subscription) -> Result<Ticket, Crowded> {
        let taken = self.streams.fetch_add(1, Ordering::AcqRel);
        let crowded = match taken >= self.streams_max {
            true => Some(Crowded::Server),
            false => self.enter(&subscription),
        };
        if let Some(crowded) = crowded {
            self.streams.fetch_sub(1, Ordering::AcqRel);
            return Err(crowded);
        }
        self.metrics.connections.inc();
        let subscription = Arc::new(subscription);
        let entry = Entry { subscription: Arc::clone(&subscription), place: None, is_closed: false };
        self.part(subscription.id).insert(subscription.id, entry);
        Ok(Ticket { subscription, registry: Arc::clone(self) })
    }

    fn enter(&self, subscription: &Subscription) -> Option<Crowded> {
        if subscription.address.is_some_and(|address| !self.addresses.enter(address)) {
            return Some(Crowded::Address);
        }
        if !subscription.subject.is_empty() && !self.subjects.enter(Arc::clone(&subscription.subject)) {
            self.leave_address(subscription);
            return Some(Crowded::Subject);
        }
        None
    }

    fn leave_address(&self, subscription: &Subscription) {
        if let Some(address) = subscription.address {
            self.addresses.leave(&address);
        }
    }

    pub(crate) fn streams(&self) -> u64 {
        self.streams.load(Ordering::Acquire)
    }

    /// Every stream, oldest first.
    pub(crate) fn list(&self) -> Vec<Arc<Subscription>> {
        let mut all: Vec<_> = self
            .parts
            .iter()
            .flat_map(|p| lock(p).values().map(|e| Arc::clone(&e.subscription)).collect::<Vec<_>>())
            .collect();
        all.sort_by_key(|s| (s.opened_ms, s.id));
        all
    }

    /// Streams that listen to a channel.
    pub(crate) fn listening(&self, channel: &ChannelName) -> usize {
        let count = |p: &Mutex<HashMap<u64, Entry>>| {
            lock(p).values().filter(|e| e.subscription.channels.contains(channel)).count()
        };
        self.parts.iter().map(count).sum()
    }

    /// A stream, by its connection's id.
    pub(crate) fn find(&self, id: u64) -> Option<Arc<Subscription>> {
        self.part(id).get(&id).map(|entry| Arc::clone(&entry.subscription))
    }

    /// Refuses streams whose grant was revoked; says how many. One that no shard knows yet is refused when it does.
    pub(crate) fn revoke(&self, which: impl Fn(&Subscription) -> bool) -> usize {
        let mut revoked = 0;
        for part in &self.parts {
            for entry in lock(part).values().filter(|entry| which(&entry.subscription)) {
                if entry.subscription.revoked.swap(true, Ordering::AcqRel) {
                    continue;
                }
                revoked += 1;
                if let Some((inbox, key)) = &entry.place {
                    inbox.push(Command::Refuse(*key, Refusal::new("token_revoked")));
                }
            }
        }
        revoked
    }

    /// Tells the shard of a stream something; `false` if there is no such stream, or no shard has it yet.
    pub(crate) fn tell(&self, id: u64, command: impl FnOnce(Key) -> Command) -> bool {
        let place = self.part(id).get(&id).and_then(|entry| entry.place.clone());
        place.map(|(inbox, key)| inbox.push(command(key))).is_some()
    }

    /// Lets a stream listen to more channels, up to `max`; says to what it then listens, and, once its shard has answered,
    /// from where on. `Ok(None)` if there is no such stream.
    pub(crate) fn join(&self, id: u64, more: &[ChannelName], max: usize) -> Result<Option<Joined>, usize> {
        let mut part = self.part(id);
        let Some(entry) = part.get_mut(&id) else { return Ok(None) };
        let Some((inbox, key)) = entry.place.clone() else { return Ok(None) };
        let mut new: Vec<ChannelName> = Vec::new();
        for channel in more {
            if !entry.subscription.channels.contains(channel) && !new.contains(channel) {
                new.push(channel.clone());
            }
        }
        let count = entry.subscription.channels.len() + new.len();
        if count > max {
            return Err(count);
        }
        let subscription = Arc::new(entry.subscription.with(new));
        entry.subscription = Arc::clone(&subscription);
        let (joined, at) = oneshot::channel();
        let joining = Joining { subscription: Arc::clone(&subscription), joined };
        // Under the lock, so that the shard hears of two joins in the order in which they were made.
        inbox.push(Command::Join(key, Box::new(joining)));
        Ok(Some(Joined { subscription, at }))
    }

    /// Asks the shards to close streams; says how many. One that no shard has yet is closed when it does.
    pub(crate) fn close(&self, which: impl Fn(&Subscription) -> bool) -> usize {
        let mut closed = 0;
        for part in &self.parts {
            for entry in lock(part).values_mut().filter(|entry| which(&entry.subscription)) {
                entry.is_closed = true;
                closed += 1;
                if let Some((inbox, key)) = &entry.place {
                    inbox.push(Command::Close(*key));
                }
            }
        }
        closed
    }

    fn part(&self, id: u64) -> MutexGuard<'_, HashMap<u64, Entry>> {
        let index = usize::try_from(id % (PARTS as u64)).unwrap_or(0);
        // Invariant: `parts` has PARTS entries.
        lock(self.parts.get(index).unwrap_or_else(|| unreachable!("index is below PARTS")))
    }
}

/// A registered stream. Dropping it undoes the registration.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) subscription: Arc<Subscription>,
    registry: Arc<Registry>,
}

impl Ticket {
    /// Says where the stream is served, so that it can be closed.
    pub(crate) fn serve_at(&self, inbox: Arc<Inbox>, key: Key) {
        if let Some(entry) = self.registry.part(self.subscription.id).get_mut(&self.subscription.id) {
            if entry.is_closed {
                inbox.push(Command::Close(key));
            }
            entry.place = Some((inbox, key));
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.registry.part(self.subscription.id).remove(&self.subscription.id);
        self.registry.leave_address(&self.subscription);
        self.registry.subjects.leave(&*self.subscription.subject);
        self.registry.streams.fetch_sub(1, Ordering::AcqRel);
        self.registry.metrics.connections.dec();
    }
}

/// The text of a connection id.
pub(crate) fn connection_text(id: u64) -> String {
    format!("c{id:016x}")
}

/// Reads a connection id.
pub(crate) fn parse_connection(text: &str) -> Option<u64> {
    let hex = text.strip_prefix('c').filter(|h| h.len() == 16)?;
    u64::from_str_radix(hex, 16).ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(bounds: Bounds) -> Arc<Registry> {
        Registry::new(bounds, Arc::new(Metrics::new()))
    }

    fn of(subject: &str, address: &str) -> Subscription {
        Subscription::new(subject, Vec::new(), Encoding::Plain).counted_for(address.parse().ok())
    }

    #[test]
    fn a_subject_and_an_address_have_so_many_streams_and_one_that_ends_makes_room() {
        let registry = registry(Bounds { streams: 100, per_address: 3, per_subject: Some(2) });
        let first = registry.admit(of("ada", "9.9.9.1")).unwrap();
        let second = registry.admit(of("ada", "9.9.9.2")).unwrap();
        let third = "9.9.9.3".parse().ok();
        assert_eq!(registry.crowded("ada", third), Some(Crowded::Subject));
        assert_eq!(registry.crowded("bob", third), None);
        assert_eq!(registry.admit(of("ada", "9.9.9.3")).unwrap_err(), Crowded::Subject);
        let others: Vec<Ticket> =
            (0..3).map(|n| registry.admit(of(&format!("user{n}"), "9.9.9.3")).unwrap()).collect();
        assert_eq!(registry.admit(of("eve", "9.9.9.3")).unwrap_err(), Crowded::Address);
        assert_eq!(registry.streams(), 5);
        drop(first);
        let third = registry.admit(of("ada", "9.9.9.1")).unwrap();
        assert_eq!(registry.admit(of("ada", "9.9.9.1")).unwrap_err(), Crowded::Subject);
        drop((second, third, others));
        assert!(lock(&registry.subjects.counts).is_empty() && lock(&registry.addresses.counts).is_empty());
    }

    #[test]
    fn a_stream_that_is_closed_before_a_shard_has_it_is_closed_then() {
        let registry = registry(Bounds { streams: 5, per_address: 5, per_subject: None });
        let eve = registry.admit(of("eve", "")).unwrap();
        let ada = registry.admit(of("ada", "")).unwrap();
        assert_eq!(registry.close(|s| *s.subject == *"eve"), 1);
        let poll = mio::Poll::new().unwrap();
        let inbox = Inbox::new(mio::Waker::new(poll.registry(), mio::Token(0)).unwrap());
        let key = |place| Key { place, serial: 1 };
        ada.serve_at(Arc::clone(&inbox), key(1));
        eve.serve_at(Arc::clone(&inbox), key(2));
        let told = inbox.take();
        assert!(matches!(told.as_slices().0, [Command::Close(who)] if *who == key(2)), "{told:?}");
    }

    #[test]
    fn who_has_no_subject_is_not_counted_by_it() {
        let registry = registry(Bounds { streams: 5, per_address: 1, per_subject: Some(1) });
        let streams: Vec<Ticket> = (0..5).map(|_| registry.admit(of("", "")).unwrap()).collect();
        assert_eq!(registry.admit(of("", "")).unwrap_err(), Crowded::Server);
        drop(streams);
    }
}
