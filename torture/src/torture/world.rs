//! What the actors of a run share: the trace in the making, the phase, names.
//!
//! Owns: the record of what happened. Does not know: sockets, the server.
//! Flow: in ← publishers, readers, faults · out → a `Trace` for the checker.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use tidings_client::Client;
use tidings_core::EventId;
use tokio::sync::watch;

use crate::checker::{Client as Reader, Fact, Grants, Id, Item, Logged, Outcome, Publish, Trace};

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Everything is broken all the time.
    Faults,
    /// Nothing is broken any more; publishers finish, clients catch up.
    Healing,
    /// Everybody stops.
    Over,
}

/// The shared state of a run: one thread, so plain cells.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) address: SocketAddr,
    pub(crate) phase: watch::Sender<Phase>,
    /// Channels that live through the run.
    pub(crate) regular: Vec<u16>,
    pub(crate) publishes: RefCell<Vec<Publish>>,
    pub(crate) clients: RefCell<Vec<Reader>>,
    /// The last event of each regular channel, published when the faults are over.
    pub(crate) markers: RefCell<HashSet<u64>>,
    /// Clients that have everything they wait for.
    pub(crate) done: Cell<usize>,
    names: RefCell<Names>,
    clock: Cell<u64>,
    next_value: Cell<u64>,
    counts: RefCell<BTreeMap<&'static str, u64>>,
    pub(crate) complaints: RefCell<Vec<String>>,
    /// Tokens and revocations, where the server asks for them.
    pub(crate) grants: RefCell<Grants>,
    /// The API key of back ends, where the server asks for one.
    key: Option<String>,
}

#[derive(Debug, Default)]
struct Names {
    channels: Vec<Rc<str>>,
    by_channel: HashMap<Rc<str>, u16>,
    epochs: HashMap<String, u16>,
}

impl World {
    pub(crate) fn new(seed: u64, address: SocketAddr, channels: u16) -> Rc<Self> {
        let names: Vec<String> = (0..channels).map(|n| format!("torture:{n}")).collect();
        Self::of(seed, address, &names, None)
    }

    /// A world whose regular channels have these names, and whose back ends have this API key.
    pub(crate) fn of(seed: u64, address: SocketAddr, channels: &[String], key: Option<String>) -> Rc<Self> {
        let mut world = Self {
            seed,
            address,
            phase: watch::Sender::new(Phase::Faults),
            regular: Vec::new(),
            publishes: RefCell::default(),
            clients: RefCell::default(),
            markers: RefCell::default(),
            done: Cell::default(),
            names: RefCell::default(),
            clock: Cell::default(),
            next_value: Cell::new(1),
            counts: RefCell::default(),
            complaints: RefCell::default(),
            grants: RefCell::default(),
            key,
        };
        world.regular = channels.iter().map(|name| world.channel(name)).collect();
        Rc::new(world)
    }

    /// A client for a back end.
    pub(crate) fn client(&self) -> Option<Client> {
        let client = Client::new(&format!("http://{}", self.address)).ok()?;
        Some(match &self.key {
            Some(key) => client.bearer(key),
            None => client,
        })
    }

    /// What a back end puts into the head of a request.
    pub(crate) fn authorization(&self) -> String {
        self.key.as_ref().map_or_else(String::new, |key| format!("authorization: Bearer {key}\r\n"))
    }

    /// The number of a channel.
    pub(crate) fn channel(&self, name: &str) -> u16 {
        let mut names = self.names.borrow_mut();
        if let Some(&number) = names.by_channel.get(name) {
            return number;
        }
        let number = u16::try_from(names.channels.len()).unwrap_or(u16::MAX);
        let name: Rc<str> = name.into();
        names.channels.push(Rc::clone(&name));
        names.by_channel.insert(name, number);
        number
    }

    pub(crate) fn channel_name(&self, number: u16) -> Rc<str> {
        self.names.borrow().channels.get(usize::from(number)).cloned().unwrap_or_else(|| "?".into())
    }

    /// Reads an id; `None` if it is none.
    pub(crate) fn id(&self, text: &str) -> Option<Id> {
        let id = EventId::parse(text)?;
        let mut names = self.names.borrow_mut();
        let count = u16::try_from(names.epochs.len()).unwrap_or(u16::MAX);
        let epoch = *names.epochs.entry(id.epoch.to_string()).or_insert(count);
        Some(Id { epoch, seq: id.seq.0 })
    }

    /// A clock that only grows: no two moments of a run are the same. As far as that allows, it shows the microseconds of
    /// the machine's clock, which the server reads too.
    pub(crate) fn tick(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        self.clock.set(now.max(self.clock.get() + 1));
        self.clock.get()
    }

    pub(crate) fn value(&self) -> u64 {
        let value = self.next_value.get();
        self.next_value.set(value + 1);
        value
    }

    pub(crate) fn count(&self, what: &'static str) {
        *self.counts.borrow_mut().entry(what).or_default() += 1;
    }

    pub(crate) fn at_least(&self, what: &'static str, figure: u64) {
        let mut counts = self.counts.borrow_mut();
        let count = counts.entry(what).or_default();
        *count = figure.max(*count);
    }

    pub(crate) fn counted(&self, what: &str) -> u64 {
        self.counts.borrow().get(what).copied().unwrap_or_default()
    }

    pub(crate) fn counts(&self) -> String {
        let mut out = String::new();
        for (what, count) in &*self.counts.borrow() {
            let separator = if out.is_empty() { "" } else { ", " };
            write!(out, "{separator}{count} {what}").unwrap_or_default();
        }
        out
    }

    pub(crate) fn complain(&self, complaint: String) {
        let mut complaints = self.complaints.borrow_mut();
        if complaints.len() < 20 {
            complaints.push(complaint);
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Enters a publish that is about to be sent; returns its number.
    pub(crate) fn begin(&self, items: Vec<Item>) -> usize {
        let sent = self.tick();
        let mut publishes = self.publishes.borrow_mut();
        publishes.push(Publish { items, outcome: Outcome::Unknown, sent, answered: u64::MAX });
        publishes.len() - 1
    }

    pub(crate) fn finish(&self, number: usize, outcome: Outcome) {
        let answered = self.tick();
        if let Some(publish) = self.publishes.borrow_mut().get_mut(number) {
            (publish.outcome, publish.answered) = (outcome, answered);
        }
    }

    /// The trace, once everybody has stopped.
    pub(crate) fn trace(&self, log: Vec<Logged>, planned: &[(&'static str, u64)]) -> Trace {
        let fact = |&(name, planned): &(&'static str, u64)| Fact { name, planned, done: self.counted(name) };
        Trace {
            publishes: self.publishes.take(),
            clients: self.clients.take(),
            log,
            facts: planned.iter().map(fact).collect(),
            may_reset: false,
            grants: self.grants.take(),
        }
    }
}

/// How the data of an ephemeral event begins.
pub(crate) const EPHEMERAL: &str = "{\"e\":";

/// The data of an event: its value and a filling that follows from it, so that altered data shows.
pub(crate) fn data(value: u64) -> String {
    let mixed = value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    // Most are small, some are as large as a slice of catching up is long.
    let filling = match mixed % 64 {
        0 => 8_000,
        1..=8 => 1_500,
        _ => mixed % 200,
    };
    let letter = char::from(b'a' + u8::try_from(mixed % 26).unwrap_or(0));
    let mut out = format!("{{\"v\":{value},\"f\":\"");
    out.extend(std::iter::repeat_n(letter, usize::try_from(filling).unwrap_or(0)));
    out.push_str("\"}");
    out
}

/// The value of some data; `None` if a byte of it is not as it was published.
pub(crate) fn value_of(text: &str) -> Option<u64> {
    let value = text.strip_prefix("{\"v\":")?.split(',').next()?.parse().ok()?;
    (data(value) == text).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_that_was_altered_has_no_value() {
        for value in 1..200 {
            let text = data(value);
            assert_eq!(value_of(&text), Some(value));
            let mut other = text.clone();
            other.pop();
            assert_eq!(value_of(&other), None);
            assert_eq!(value_of(&text.replacen(&format!(":{value},"), ":7777777,", 1)), None);
        }
    }
}
