//! What the cases are written with: short ways to append and read, which fail loudly.
//!
//! Owns: one open log and its store. Does not know: what is being proved.
//! Flow: in ← names and bodies as text · out → outcomes, sequences and bodies to compare.

use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use tidings_core::{ChannelName, Seq};

use super::{Ending, New, Setup, Store};
use crate::log::{
    Append, Appended, Flags, Group, Idempotency, Log, Outcome, ReadLimit, ReadOutcome, Record, Refusal,
    Retention, Want, Window,
};

/// Monday, 23 November 2026: cases count their time from here.
pub(super) const START_MS: u64 = 1_795_392_000_000;
pub(super) const HOUR_MS: u64 = 60 * 60 * 1000;

pub(super) struct Bench {
    store: Box<dyn Store>,
    log: Option<Arc<dyn Log>>,
}

impl Bench {
    pub(super) fn new(new: New<'_>) -> Self {
        Self::with(new, Setup::default())
    }

    pub(super) fn retaining(new: New<'_>, retention: Retention) -> Self {
        Self::with(new, Setup { retention, ..Setup::default() })
    }

    pub(super) fn with(new: New<'_>, setup: Setup) -> Self {
        let mut store = new(setup);
        let log = Some(store.open());
        Self { store, log }
    }

    /// Ends the run and opens the next. False if the store keeps nothing, so that there is nothing to look at.
    pub(super) fn restart(&mut self, ending: Ending) -> bool {
        if let Some(log) = self.log.take() {
            self.store.end(log, ending);
        }
        self.log = Some(self.store.open());
        self.store.is_durable()
    }

    pub(super) fn is_durable(&self) -> bool {
        self.store.is_durable()
    }

    pub(super) fn fail_next_append(&mut self, seed: u64) -> bool {
        self.store.fail_next_append(seed)
    }

    pub(super) fn log(&self) -> Arc<dyn Log> {
        Arc::clone(self.log.as_ref().expect("open between restarts"))
    }

    /// Appends one group.
    pub(super) fn group(&self, group: Group) -> Outcome {
        let mut outcomes = self.append(&[group]).expect("a healthy log appends");
        assert_eq!(outcomes.len(), 1, "one outcome per group");
        outcomes.remove(0)
    }

    /// Appends one event that cannot be refused.
    pub(super) fn put(&self, channel: &str, body: &str) -> Appended {
        let places = appended(self.group(Group { events: vec![event(channel, body)], idempotency: None }));
        assert_eq!(places.len(), 1, "one place per event");
        places[0]
    }

    /// Appends so many events, one by one.
    pub(super) fn put_many(&self, channel: &str, events: usize) {
        for _ in 0..events {
            self.put(channel, "x");
        }
    }

    /// Reads everything that the channels hold behind their positions.
    pub(super) fn read_all(&self, wanted: &[(&str, Seq)]) -> ReadOutcome {
        self.read_some(wanted, self.everything())
    }

    pub(super) fn read_some(&self, wanted: &[(&str, Seq)], limit: ReadLimit) -> ReadOutcome {
        let names: Vec<ChannelName> = wanted.iter().map(|(name, _)| channel(name)).collect();
        let wanted: Vec<Want<'_>> =
            names.iter().zip(wanted).map(|(channel, &(_, after))| Want { channel, after }).collect();
        self.read(&wanted, limit).expect("a healthy log is readable")
    }

    /// The bodies of one channel behind its floor.
    pub(super) fn bodies(&self, channel: &str) -> Vec<String> {
        let floor = self.of(channel).map_or(Seq::ZERO, |window| window.floor);
        bodies(&records(self.read_all(&[(channel, floor)])))
    }

    pub(super) fn of(&self, name: &str) -> Option<Window> {
        self.window(&channel(name))
    }

    pub(super) fn everything(&self) -> ReadLimit {
        ReadLimit { upto: self.head(), events_max: usize::MAX, bytes_max: usize::MAX }
    }
}

impl Deref for Bench {
    type Target = dyn Log;

    fn deref(&self) -> &Self::Target {
        self.log.as_deref().expect("open between restarts")
    }
}

pub(super) fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).expect("cases use valid names")
}

pub(super) fn event(name: &str, body: &str) -> Append {
    Append {
        channel: channel(name),
        body: Bytes::copy_from_slice(body.as_bytes()),
        private: None,
        expected_prev: None,
        key: None,
        time_ms: START_MS,
        expires_at_ms: None,
        flags: Flags::default(),
    }
}

pub(super) fn event_at(name: &str, body: &str, time_ms: u64) -> Append {
    Append { time_ms, ..event(name, body) }
}

pub(super) fn final_event(name: &str, body: &str) -> Append {
    Append { flags: Flags { is_final: true, ..Flags::default() }, ..event(name, body) }
}

pub(super) fn pinned_event(name: &str, body: &str) -> Append {
    Append { flags: Flags { is_pinned: true, ..Flags::default() }, ..event(name, body) }
}

pub(super) fn expecting(name: &str, body: &str, prev: Seq) -> Append {
    Append { expected_prev: Some(prev), ..event(name, body) }
}

pub(super) fn plain(events: Vec<Append>) -> Group {
    Group { events, idempotency: None }
}

pub(super) fn keyed(events: Vec<Append>, key: u128, fingerprint: u128, time_ms: u64) -> Group {
    Group { events, idempotency: Some(Idempotency { key, fingerprint, time_ms }) }
}

pub(super) fn appended(outcome: Outcome) -> Vec<Appended> {
    match outcome {
        Outcome::Appended(places) => places,
        other => panic!("not appended: {other:?}"),
    }
}

pub(super) fn refusal(outcome: Outcome) -> Refusal {
    match outcome {
        Outcome::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

pub(super) fn events(outcome: ReadOutcome) -> (Vec<Record>, Seq) {
    match outcome {
        ReadOutcome::Events { records, to } => (records, to),
        other => panic!("no events: {other:?}"),
    }
}

pub(super) fn records(outcome: ReadOutcome) -> Vec<Record> {
    events(outcome).0
}

pub(super) fn truncated(outcome: ReadOutcome) -> Vec<(usize, Seq)> {
    match outcome {
        ReadOutcome::Truncated { channels } => channels,
        other => panic!("not truncated: {other:?}"),
    }
}

pub(super) fn bodies(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8_lossy(&record.body).into_owned()).collect()
}

pub(super) fn seqs(records: &[Record]) -> Vec<Seq> {
    records.iter().map(|record| record.seq).collect()
}
