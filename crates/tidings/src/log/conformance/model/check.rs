//! Comparing an engine with the model.
//!
//! Owns: what a window, a read and the feed must show. Does not know: how the model came to be what it is.
//! Flow: in ← the engine and the list · out → a panic where they disagree.

use tidings_core::{ChannelName, EventId, Seq, Standing};

use super::super::bench::Bench;
use super::list::List;
use super::operations::{Place, ReadSpec, channel_of};
use crate::log::{Feed, ReadLimit, ReadOutcome, Record, Want, Window};

impl List {
    /// Every window, and the list of them, after any operation.
    pub(super) fn check_windows(&mut self, bench: &Bench) {
        assert_eq!(bench.head(), self.head);
        assert!(bench.horizon() >= self.horizon, "the horizon moved back");
        self.horizon = bench.horizon();
        let mut listed = bench.channels("");
        listed.sort_by(|(a, _), (b, _)| a.cmp(b));
        for name in self.channels.keys().cloned().collect::<Vec<_>>() {
            match listed.iter().find(|(listed, _)| *listed == name) {
                None => self.check_forgotten(bench, &name),
                Some((_, window)) => {
                    assert_eq!(bench.window(&name), Some(*window));
                    self.check_window(&name, *window);
                    self.check_pinned(bench, &name);
                }
            }
        }
        let names: Vec<_> = listed.iter().map(|(name, _)| name).collect();
        assert_eq!(names, self.channels.keys().collect::<Vec<_>>());
        let jobs = bench.channels("job:").len();
        assert_eq!(jobs, names.iter().filter(|name| name.is_job()).count());
    }

    fn check_window(&mut self, name: &ChannelName, window: Window) {
        let known = self.channels.get(name).expect("asked for a known one").clone();
        let expected = (known.head, known.finished, known.pinned);
        assert_eq!((window.head, window.finished, window.pinned), expected, "{name}");
        assert!((known.floor..=known.head).contains(&window.floor), "{name}: {window:?} after {known:?}");
        if window.floor > known.floor {
            self.check_trimmed(name, known.floor, window.floor);
        }
        if let Some(known) = self.channels.get_mut(name) {
            known.floor = window.floor;
        }
        if known.deleted == Some(window.floor) || window.deleted.is_some() {
            assert_eq!(window.deleted, known.deleted, "{name}: {window:?}");
        }
        let held: Vec<Seq> = self.of(name).filter(|record| self.is_retained(record)).map(|r| r.seq).collect();
        assert_eq!(
            (window.first, window.events),
            (held.first().copied(), held.len() as u64),
            "{name}: {window:?}"
        );
    }

    /// A pinned event is read where it stands, whatever is gone around it.
    fn check_pinned(&self, bench: &Bench, name: &ChannelName) {
        let Some(pinned) = self.channels.get(name).and_then(|known| known.pinned) else { return };
        let record = self.of(name).find(|record| record.seq == pinned).expect("it was appended").clone();
        let limit = ReadLimit { upto: pinned, events_max: 1, bytes_max: usize::MAX };
        for after in [record.prev, Seq(pinned.0 - 1)] {
            let found =
                bench.read(&[Want { channel: name, after }], limit).expect("a healthy log is readable");
            let expected = ReadOutcome::Events { records: vec![record.clone()], to: pinned };
            assert!(found == expected, "{name}: {pinned} behind {after}: {}", brief(&found));
        }
    }

    /// Only what is too old, or has enough newer ones behind it, may have been trimmed.
    fn check_trimmed(&self, name: &ChannelName, from: Seq, to: Seq) {
        let events_max = usize::try_from(self.retention.events_max).unwrap();
        let pinned = self.channels.get(name).and_then(|known| known.pinned);
        let gone = self.of(name).filter(|record| record.seq > from && record.seq <= to);
        for record in gone.filter(|record| pinned != Some(record.seq)) {
            let newer = self.of(name).filter(|other| other.seq > record.seq).count();
            assert!(
                self.is_aged(record) || newer >= events_max,
                "{name}: {} was trimmed too early",
                record.seq
            );
        }
    }

    /// What maintenance may leave: an event outlives its age a little where an engine keeps times coarsely.
    fn is_long_aged(&self, record: &Record) -> bool {
        let age_ms = self.retention.age_ms_max;
        record.time_ms + age_ms + age_ms / 100 < self.maintained_ms
    }

    fn is_aged(&self, record: &Record) -> bool {
        record.time_ms + self.retention.age_ms_max < self.maintained_ms
    }

    /// A channel may be forgotten once its events are gone and the horizon's time has passed.
    fn check_forgotten(&mut self, bench: &Bench, name: &ChannelName) {
        let known = self.channels.get(name).expect("asked for a known one");
        assert!(
            known.active_ms + self.retention.horizon_ms <= self.maintained_ms,
            "{name} was forgotten too early"
        );
        let in_use = self.of(name).any(|record| record.seq > known.floor && !self.is_aged(record));
        assert!(!in_use, "{name} was forgotten though it holds events");
        assert_eq!(known.pinned, None, "{name} was forgotten though it holds a pinned event");
        assert!(bench.horizon() >= known.head, "{name} was forgotten without moving the horizon");
        assert_eq!(bench.window(name), None);
        self.channels.remove(name);
    }

    /// Maintenance ran: what is too old or too much must be gone, and floors are durable.
    pub(super) fn maintained(&mut self, bench: &Bench) {
        self.maintained_ms = self.now_ms;
        self.check_windows(bench);
        let events_max = self.retention.events_max;
        for (name, known) in &self.channels {
            let held = self.of(name).filter(|record| self.is_retained(record)).count() as u64;
            // The pinned event may come on top of them.
            let most = events_max + events_max / 8 + u64::from(known.pinned.is_some());
            assert!(held <= most, "{name} holds {held} events");
            let is_kept = |record: &Record| record.flags.is_final || known.pinned == Some(record.seq);
            let left = self.of(name).find(|record| !is_kept(record) && self.is_retained(record));
            assert!(
                !left.is_some_and(|record| self.is_long_aged(record)),
                "{name}: {known:?} still holds {left:?}"
            );
        }
        self.channels.values_mut().for_each(|known| known.floor_durable = known.floor);
    }

    pub(super) fn check_read(&self, bench: &Bench, spec: &ReadSpec) {
        let wanted: Vec<(ChannelName, Seq)> =
            spec.wanted.iter().map(|&(index, after)| (channel_of(index), after.of(self.head))).collect();
        let limit = ReadLimit {
            upto: spec.upto.of(self.head),
            events_max: spec.events_max,
            bytes_max: spec.bytes_max,
        };
        let wants: Vec<Want<'_>> =
            wanted.iter().map(|(channel, after)| Want { channel, after: *after }).collect();
        let outcome = bench.read(&wants, limit).expect("a healthy log is readable");
        assert!(outcome == self.expected(&wanted, limit), "{wanted:?} {limit:?}: {}", brief(&outcome));
    }

    fn expected(&self, wanted: &[(ChannelName, Seq)], limit: ReadLimit) -> ReadOutcome {
        let is_of_pin = |(name, after): &(ChannelName, Seq)| {
            let pin = self.lone_pin(name).filter(|pin| pin.prev <= *after && limit.upto <= pin.seq)?;
            Some(pin.seq)
        };
        let lost = |want: &(ChannelName, Seq)| {
            let (name, after) = want;
            is_of_pin(want).is_none()
                && self.of(name).any(|record| record.seq > *after && !self.is_retained(record))
        };
        let floor = |name| self.channels.get(name).map_or(Seq::ZERO, |known| known.floor);
        let channels: Vec<(usize, Seq)> = wanted
            .iter()
            .enumerate()
            .filter(|(_, want)| lost(want))
            .map(|(index, (name, _))| (index, floor(name)))
            .collect();
        if !channels.is_empty() {
            return ReadOutcome::Truncated { channels };
        }
        let is_wanted = |record: &Record| {
            let of_one = |(name, after): &(ChannelName, Seq)| *name == record.channel && record.seq > *after;
            record.seq <= limit.upto && wanted.iter().any(of_one)
        };
        let pinned: Vec<Seq> = wanted.iter().filter_map(is_of_pin).collect();
        let can_be_read = |record: &Record| self.is_retained(record) || pinned.contains(&record.seq);
        let all = self.events.iter().filter(|record| is_wanted(record) && can_be_read(record));
        let (records, to) = cut(all, limit);
        ReadOutcome::Events { records, to }
    }

    pub(super) fn check_before_last(&self, bench: &Bench, channels: &[u8], n: usize, upto: Place) {
        let upto = upto.of(self.head);
        let names: Vec<ChannelName> = channels.iter().map(|&index| channel_of(index)).collect();
        let found = bench.before_last(&names, n, upto).expect("a healthy log is readable");
        let counted = |record: &&Record| {
            record.seq <= upto && names.contains(&record.channel) && self.is_retained(record)
        };
        let oldest = self.events.iter().rev().filter(counted).take(n).last();
        assert_eq!(found, oldest.map_or(upto, |record| Seq(record.seq.0 - 1)), "{names:?} {n} {upto}");
    }

    /// Whole, or lagged where something is gone.
    pub(super) fn check_feed(&self, bench: &Bench, after: Place, events_max: usize) {
        let after = after.of(self.head);
        let limit = ReadLimit { upto: self.head, events_max, bytes_max: usize::MAX };
        let behind = || self.events.iter().filter(|record| record.seq > after);
        match bench.feed(after, limit).expect("a healthy log is readable") {
            Feed::Events { records, to } => {
                assert!(
                    (&records, to) == (&cut(behind(), limit).0, cut(behind(), limit).1),
                    "behind {after}"
                );
            }
            Feed::Lagged { floor } => {
                // Old final and pinned events may stand alone below the floor of the log; the feed is not made whole for
                // them.
                let is_patchy = |record: &Record| {
                    record.flags.is_final || record.flags.is_pinned || !self.is_retained(record)
                };
                assert!(behind().any(is_patchy), "lagged behind {after} for no reason");
                assert!(floor > after && floor <= self.head, "{floor} behind {after}");
            }
        }
    }

    /// The ids of the run before are known, or foreign if the engine keeps nothing.
    pub(super) fn check_epochs(&self, bench: &Bench, id: EventId) {
        assert_ne!(bench.epochs().newest(), id.epoch, "no epoch was opened");
        let expected = if bench.is_durable() { Standing::Known(id.seq) } else { Standing::Foreign };
        assert_eq!(bench.epochs().standing(id, bench.head()), expected);
    }
}

/// The first of `all` that the limit allows, and up to where they are complete.
fn cut<'a>(all: impl Iterator<Item = &'a Record>, limit: ReadLimit) -> (Vec<Record>, Seq) {
    let (mut records, mut bytes) = (Vec::<Record>::new(), 0);
    for record in all {
        bytes += record.body.len();
        if let Some(last) = records.last()
            && (records.len() >= limit.events_max || bytes > limit.bytes_max)
        {
            let to = last.seq;
            return (records, to);
        }
        records.push(record.clone());
    }
    (records, limit.upto)
}

/// Bodies would hide what matters.
fn brief(outcome: &ReadOutcome) -> String {
    match outcome {
        ReadOutcome::Events { records, to } => {
            let seqs: Vec<u64> = records.iter().map(|record| record.seq.0).collect();
            format!("events {seqs:?} up to {to}")
        }
        ReadOutcome::Truncated { .. } | ReadOutcome::Corrupt { .. } => format!("{outcome:?}"),
    }
}
