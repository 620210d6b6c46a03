//! The model: all events ever acknowledged, in one list, and what was done to each channel.
//!
//! Owns: what an append should answer, and what may be gone. Does not know: how an engine stores anything.
//! Flow: in ← operations and what the engine answered · out → a panic where the answer is not allowed.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use tidings_core::{ChannelName, Key, Seq, limits};

use super::super::Setup;
use super::super::bench::{Bench, START_MS};
use super::operations::{EventSpec, Expect, GroupSpec, channel_of};
use crate::log::{Append, Appended, Flags, Group, Idempotency, Outcome, Record, Refusal, Retention};

/// A channel, as far as what happened to it decides what it may hold.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) head: Seq,
    pub(super) finished: Option<Seq>,
    pub(super) pinned: Option<Seq>,
    pub(super) deleted: Option<Seq>,
    /// As the engine last told it.
    pub(super) floor: Seq,
    /// The part of it that a crash must not take back: as of the last deletion, maintenance or clean end.
    pub(super) floor_durable: Seq,
    /// The newest event or deletion.
    pub(super) active_ms: u64,
    /// The first event since the log has a record of the channel.
    pub(super) since: Seq,
}

#[derive(Debug, Clone, Copy)]
struct Remembered {
    fingerprint: u128,
    time_ms: u64,
    first: Seq,
    count: u32,
}

#[derive(Debug)]
pub(super) struct List {
    pub(super) retention: Retention,
    pub(super) head: Seq,
    pub(super) now_ms: u64,
    /// When maintenance last ran: age is judged by this.
    pub(super) maintained_ms: u64,
    pub(super) horizon: Seq,
    pub(super) events: Vec<Record>,
    pub(super) channels: BTreeMap<ChannelName, Known>,
    keys: HashMap<u128, Remembered>,
    keys_max: usize,
    bodies: u32,
}

impl List {
    pub(super) fn new(setup: Setup) -> Self {
        Self {
            retention: setup.retention,
            head: Seq::ZERO,
            now_ms: START_MS,
            maintained_ms: 0,
            horizon: Seq::ZERO,
            events: Vec::new(),
            channels: BTreeMap::new(),
            keys: HashMap::new(),
            keys_max: setup.keys_max,
            bodies: 0,
        }
    }

    /// Makes a group to append; every body is different.
    pub(super) fn group(&mut self, spec: &GroupSpec) -> Group {
        let events = spec.events.iter().map(|event| self.event(event)).collect();
        let idempotency = spec.key.map(|(key, fingerprint)| Idempotency {
            key: u128::from(key),
            fingerprint: u128::from(fingerprint),
            time_ms: self.now_ms,
        });
        Group { events, idempotency }
    }

    fn event(&mut self, spec: &EventSpec) -> Append {
        self.bodies += 1;
        let channel = channel_of(spec.channel);
        let head = self.channels.get(&channel).map_or(Seq::ZERO, |known| known.head);
        let extras = spec.has_extras.then(|| self.bodies.to_string());
        Append {
            body: Bytes::from(format!("{} {}", self.bodies, "x".repeat(spec.body_bytes))),
            private: extras.clone().map(Bytes::from),
            expected_prev: match spec.expect {
                Expect::Anything => None,
                Expect::Head => Some(head),
                Expect::Nothing => Some(Seq::ZERO),
                Expect::At(place) => Some(place.of(self.head)),
            },
            key: extras.map(|text| Key::parse(&text).unwrap()),
            time_ms: self.now_ms,
            expires_at_ms: spec.has_extras.then_some(self.now_ms + 1),
            flags: Flags { is_final: spec.is_final, is_text: spec.has_extras, is_pinned: spec.is_pinned },
            channel,
        }
    }

    /// Compares what the engine answered with what it should have, and takes it in.
    pub(super) fn append(&mut self, group: &Group, outcome: &Outcome) {
        // An engine may leave sequences out between groups, never within one.
        let first = match outcome {
            Outcome::Appended(places) => places.first().map_or(self.head.next(), |place| place.seq),
            Outcome::Duplicate { .. } | Outcome::Refused(_) => self.head.next(),
        };
        assert!(first > self.head, "{first} was given out before, the head is {}", self.head);
        let key = group.idempotency;
        let is_over = |known: &Remembered, now_ms| known.time_ms + limits::IDEMPOTENCY_MS <= now_ms;
        let known = key.and_then(|key| self.keys.get(&key.key).filter(|known| !is_over(known, key.time_ms)));
        let remembered = |now_ms| self.keys.values().filter(|known| !is_over(known, now_ms)).count();
        let keys_full = known.is_none() && key.is_some_and(|key| remembered(key.time_ms) >= self.keys_max);
        let expected = match (known, key) {
            (Some(known), Some(key)) if known.fingerprint == key.fingerprint => {
                Outcome::Duplicate { first: known.first, count: known.count }
            }
            (Some(_), _) => Outcome::Refused(Refusal::KeyReused),
            (None, _) => match self.judge(group, first) {
                Err(refusal) => Outcome::Refused(refusal),
                Ok(_) if keys_full => Outcome::Refused(Refusal::KeysFull),
                Ok(places) => Outcome::Appended(places),
            },
        };
        // Of two reasons to refuse, an engine may name either.
        let names_the_other = keys_full && *outcome == Outcome::Refused(Refusal::KeysFull);
        assert!(names_the_other || *outcome == expected, "{outcome:?} instead of {expected:?}");
        if let Outcome::Appended(places) = outcome {
            self.take_in(group, places);
        }
    }

    fn judge(&self, group: &Group, first: Seq) -> Result<Vec<Appended>, Refusal> {
        let mut channels = self.channels.clone();
        let mut places = Vec::new();
        for (index, (event, seq)) in group.events.iter().zip(first.0..).enumerate() {
            let channel = event.channel.clone();
            let known = channels.entry(channel.clone()).or_default();
            if known.finished.is_some() {
                return Err(Refusal::Finished { index, channel });
            }
            if event.expected_prev.is_some_and(|expected| expected != known.head) {
                return Err(Refusal::PrevMismatch { index, channel, prev: known.head });
            }
            places.push(Appended { seq: Seq(seq), prev: known.head });
            known.head = Seq(seq);
            known.finished = event.flags.is_final.then_some(Seq(seq));
        }
        Ok(places)
    }

    fn take_in(&mut self, group: &Group, places: &[Appended]) {
        if let (Some(Idempotency { key, fingerprint, time_ms }), Some(first)) =
            (group.idempotency, places.first())
        {
            let count = u32::try_from(places.len()).unwrap();
            self.keys.insert(key, Remembered { fingerprint, time_ms, first: first.seq, count });
        }
        for (event, &Appended { seq, prev }) in group.events.iter().cloned().zip(places) {
            let known = self
                .channels
                .entry(event.channel.clone())
                .or_insert_with(|| Known { since: seq, ..Known::default() });
            known.head = seq;
            known.active_ms = event.time_ms;
            known.finished = event.flags.is_final.then_some(seq);
            if event.flags.is_final || event.flags.is_pinned {
                known.pinned = (!event.flags.is_final).then_some(seq);
            }
            self.head = seq;
            let Append { channel, body, private, expected_prev: _, key, time_ms, expires_at_ms, flags } =
                event;
            self.events.push(Record {
                seq,
                prev,
                channel,
                body,
                private,
                key,
                time_ms,
                expires_at_ms,
                flags,
            });
        }
    }

    pub(super) fn delete(&mut self, name: &ChannelName) {
        let now_ms = self.now_ms;
        if let Some(known) = self.channels.get_mut(name) {
            // Where there is nothing to delete, nothing changes, and the record does not live longer for it.
            if known.floor < known.head || known.pinned.is_some() {
                known.deleted = Some(known.head);
                known.active_ms = now_ms;
            }
            (known.floor, known.floor_durable, known.pinned) = (known.head, known.head, None);
        }
    }

    /// After a restart that was not clean, floors that were moved since the last maintenance may be found lower.
    pub(super) fn restarted(&mut self, was_clean: bool) {
        for known in self.channels.values_mut() {
            if was_clean {
                known.floor_durable = known.floor;
            } else {
                known.floor = known.floor_durable;
            }
        }
    }

    /// Whether the group of a failed append is there, which it may be, as a whole.
    pub(super) fn found_after_failure(&mut self, bench: &Bench, group: &Group) {
        let head = bench.head();
        if head > self.head {
            let count = u64::try_from(group.events.len()).unwrap();
            let first = Seq(head.0 + 1 - count);
            let places = self.judge(group, first).expect("nothing speaks against this group");
            self.append(group, &Outcome::Appended(places));
        }
    }

    /// The channel's events since the log has a record of it.
    pub(super) fn of<'a>(
        &'a self,
        name: &'a ChannelName,
    ) -> impl DoubleEndedIterator<Item = &'a Record> + 'a {
        let since = self.channels.get(name).map_or(Seq(u64::MAX), |known| known.since);
        self.events.iter().filter(move |record| record.channel == *name && record.seq >= since)
    }

    /// The pinned event of a channel, where only a read that ends with it can find it.
    pub(super) fn lone_pin<'a>(&'a self, name: &'a ChannelName) -> Option<&'a Record> {
        let known = self.channels.get(name)?;
        let pinned = known.pinned.filter(|&seq| seq <= known.floor)?;
        self.of(name).find(move |record| record.seq == pinned)
    }

    /// Whether the event can still be read: above its channel's floor, or final and not deleted.
    pub(super) fn is_retained(&self, record: &Record) -> bool {
        self.channels.get(&record.channel).is_some_and(|known| {
            let is_kept = record.flags.is_final && known.deleted < Some(record.seq);
            record.seq >= known.since && (record.seq > known.floor || is_kept)
        })
    }
}
