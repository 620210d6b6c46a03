//! The log itself: records, channels, keys, and what happens to them.
//!
//! Owns: judging groups, committing them, and retention. Does not know: locks.
//! Flow: in ← groups, deletions and the time · out → outcomes and windows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Included, Unbounded};

use tidings_core::{ChannelName, Seq};

use super::channel::Channel;
use crate::log::keys::{Keys, Known};
use crate::log::{Append, Appended, Group, Outcome, Record, Refusal, Retention, Stats, Window};

/// What a record costs beside its bodies and names: the record itself and its places in the maps.
const RECORD_OVERHEAD_BYTES: usize = size_of::<Record>() + 48;

#[derive(Debug)]
pub(super) struct State {
    retention: Retention,
    head: Seq,
    records: BTreeMap<Seq, Record>,
    channels: BTreeMap<ChannelName, Channel>,
    keys: Keys,
    bytes: u64,
    commits: u64,
    /// The newest position that was ever trimmed or deleted: the feed is whole only behind it.
    gone: Seq,
    horizon: Seq,
}

impl State {
    pub(super) fn new(retention: Retention, keys_max: usize) -> Self {
        Self {
            retention,
            head: Seq::ZERO,
            records: BTreeMap::new(),
            channels: BTreeMap::new(),
            keys: Keys::new(keys_max),
            bytes: 0,
            commits: 0,
            gone: Seq::ZERO,
            horizon: Seq::ZERO,
        }
    }

    pub(super) fn append(&mut self, groups: &[Group]) -> Vec<Outcome> {
        let before = self.head;
        let mut touched = BTreeSet::new();
        let outcomes = groups.iter().map(|group| self.append_group(group, &mut touched)).collect();
        if self.head > before {
            self.commits += 1;
        }
        for channel in &touched {
            self.trim_channel(channel, with_slack);
        }
        if self.bytes > with_slack(self.retention.log_bytes_max) {
            self.trim_log();
        }
        if self.channels.len() > with_slack_of_records(self.retention.channels_max) {
            self.forget_beyond_max();
        }
        outcomes
    }

    fn append_group(&mut self, group: &Group, touched: &mut BTreeSet<ChannelName>) -> Outcome {
        // A repeat is recognised first: it may have finished its channel or moved the head that it expects.
        let known = group.idempotency.map_or(Known::New, |key| self.keys.known(key));
        match known {
            Known::Repeat { first, count } => return Outcome::Duplicate { first, count },
            Known::Other => return Outcome::Refused(Refusal::KeyReused),
            Known::New => {}
        }
        let places = match self.judge(&group.events) {
            Ok(places) => places,
            Err(refusal) => return Outcome::Refused(refusal),
        };
        if let (Some(key), Some(first)) = (group.idempotency, places.first()) {
            if self.keys.is_full(key.time_ms) {
                return Outcome::Refused(Refusal::KeysFull);
            }
            self.keys.remember(key, first.seq, u32::try_from(places.len()).unwrap_or(u32::MAX));
        }
        for (event, place) in group.events.iter().zip(&places) {
            if !touched.contains(&event.channel) {
                touched.insert(event.channel.clone());
            }
            self.commit(event.clone(), *place);
        }
        Outcome::Appended(places)
    }

    /// Where the events would stand, or why the group is refused. Changes nothing.
    fn judge(&self, events: &[Append]) -> Result<Vec<Appended>, Refusal> {
        let mut places = Vec::with_capacity(events.len());
        // The channels as the events of this group before the one being judged leave them.
        let mut ahead: HashMap<&ChannelName, (Seq, bool)> = HashMap::new();
        let mut seq = self.head;
        for (index, event) in events.iter().enumerate() {
            let (prev, finished) = ahead.get(&event.channel).copied().unwrap_or_else(|| {
                self.channel(&event.channel).map_or((Seq::ZERO, false), |c| (c.head, c.finished.is_some()))
            });
            let channel = || event.channel.clone();
            if finished {
                return Err(Refusal::Finished { index, channel: channel() });
            }
            if event.expected_prev.is_some_and(|expected| expected != prev) {
                return Err(Refusal::PrevMismatch { index, channel: channel(), prev });
            }
            seq = seq.next();
            places.push(Appended { seq, prev });
            ahead.insert(&event.channel, (seq, event.flags.is_final));
        }
        Ok(places)
    }

    fn commit(&mut self, event: Append, Appended { seq, prev }: Appended) {
        let Append { channel, body, private, expected_prev: _, key, time_ms, expires_at_ms, flags } = event;
        let record = Record { seq, prev, channel, body, private, key, time_ms, expires_at_ms, flags };
        let bytes = bytes_of(&record);
        let at = Appended { seq, prev };
        let unpinned = if let Some(channel) = self.channels.get_mut(&record.channel) {
            channel.push(at, bytes, flags)
        } else {
            let mut channel = Channel::default();
            channel.push(at, bytes, flags);
            self.channels.insert(record.channel.clone(), channel);
            None
        };
        self.bytes += bytes;
        self.records.insert(seq, record);
        self.head = seq;
        unpinned.into_iter().for_each(|seq| self.drop_record(seq));
    }

    pub(super) fn delete(&mut self, name: &ChannelName) -> Option<Window> {
        let channel = self.channels.get_mut(name)?;
        let seqs = channel.delete();
        let window = channel.window();
        seqs.into_iter().for_each(|seq| self.drop_record(seq));
        Some(window)
    }

    pub(super) fn maintain(&mut self, now_ms: u64) {
        self.keys.forget(now_ms);
        let names: Vec<ChannelName> = self.channels.keys().cloned().collect();
        for name in &names {
            self.trim_channel(name, |max| max);
            self.trim_aged(name, now_ms);
            self.forget_if_idle(name, now_ms);
        }
        if self.bytes > self.retention.log_bytes_max {
            self.trim_log();
        }
        if self.channels.len() > self.retention.channels_max {
            self.forget_beyond_max();
        }
    }

    /// Trims a channel to its bounds once it is above what `tolerated` makes of them. The newest event always stays:
    /// a bound below one event must not lose what was acknowledged a moment ago.
    fn trim_channel(&mut self, name: &ChannelName, tolerated: impl Fn(u64) -> u64) {
        let Retention { events_max, channel_bytes_max, .. } = self.retention;
        let above = |channel: &Channel, events: u64, bytes: u64| {
            let held = u64::try_from(channel.held()).unwrap_or(u64::MAX);
            held > 1 && (held > events || channel.bytes > bytes)
        };
        if self.channel(name).is_some_and(|c| above(c, tolerated(events_max), tolerated(channel_bytes_max))) {
            while self.channel(name).is_some_and(|c| above(c, events_max, channel_bytes_max))
                && self.trim_oldest(name)
            {}
        }
    }

    fn trim_aged(&mut self, name: &ChannelName, now_ms: u64) {
        let is_aged = |state: &Self| {
            let oldest = state.channel(name).and_then(Channel::oldest);
            oldest.and_then(|seq| state.record(seq)).is_some_and(|record| state.is_past_age(record, now_ms))
        };
        while is_aged(self) && self.trim_oldest(name) {}
    }

    /// Trims the oldest events of the whole log until it fits. Where only final and pinned events are left, whole records
    /// are forgotten, because a final event lives as long as its channel's record; those with a pinned event stay.
    fn trim_log(&mut self) {
        let mut excess = self.bytes.saturating_sub(self.retention.log_bytes_max);
        let mut victims = Vec::new();
        for record in self.records.values().filter(|record| !record.flags.is_final && !self.is_pin(record)) {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(bytes_of(record));
            victims.push(record.channel.clone());
        }
        for channel in &victims {
            self.trim_oldest(channel);
        }
        if self.bytes > self.retention.log_bytes_max {
            for (_, name) in self.longest_idle_first() {
                if self.bytes <= self.retention.log_bytes_max {
                    break;
                }
                self.forget(&name);
            }
        }
    }

    /// Trims the channel's oldest event; false if there is none that may go.
    fn trim_oldest(&mut self, name: &ChannelName) -> bool {
        let Some(channel) = self.channels.get_mut(name) else { return false };
        let Some(seq) = channel.oldest() else { return false };
        channel.trimmed(seq, self.records.get(&seq).map_or(0, bytes_of));
        self.drop_record(seq);
        true
    }

    fn forget_if_idle(&mut self, name: &ChannelName, now_ms: u64) {
        let Some(channel) = self.channels.get(name) else { return };
        let newest = channel.seqs.back().and_then(|&seq| self.record(seq));
        let holds_nothing = channel.pin.is_none()
            && channel.oldest().is_none()
            && newest.is_none_or(|final_event| self.is_past_age(final_event, now_ms));
        let Some(channel) = self.channels.get_mut(name) else { return };
        if !holds_nothing {
            channel.idle_since_ms = None;
            return;
        }
        let since_ms = *channel.idle_since_ms.get_or_insert(now_ms);
        if now_ms >= since_ms.saturating_add(self.retention.horizon_ms) && now_ms > since_ms {
            self.forget(name);
        }
    }

    fn forget_beyond_max(&mut self) {
        let excess = self.channels.len().saturating_sub(self.retention.channels_max);
        for (_, name) in self.longest_idle_first().into_iter().take(excess) {
            self.forget(&name);
        }
    }

    /// The channels that may be forgotten.
    fn longest_idle_first(&self) -> Vec<(Seq, ChannelName)> {
        let may_go = self.channels.iter().filter(|(_, channel)| channel.pin.is_none());
        let mut all: Vec<_> = may_go.map(|(name, channel)| (channel.head, name.clone())).collect();
        all.sort_unstable();
        all
    }

    /// Forgets a channel's record, with what is left of its events. From now on ids up to its head cannot be judged.
    fn forget(&mut self, name: &ChannelName) {
        if let Some(mut channel) = self.channels.remove(name) {
            self.horizon = self.horizon.max(channel.head);
            channel.delete().into_iter().for_each(|seq| self.drop_record(seq));
        }
    }

    /// Whether it is the pinned event of its channel.
    fn is_pin(&self, record: &Record) -> bool {
        record.flags.is_pinned
            && self.channel(&record.channel).is_some_and(|c| c.pin.is_some_and(|pin| pin.seq == record.seq))
    }

    fn drop_record(&mut self, seq: Seq) {
        if let Some(record) = self.records.remove(&seq) {
            self.bytes = self.bytes.saturating_sub(bytes_of(&record));
            self.gone = self.gone.max(seq);
        }
    }

    fn is_past_age(&self, record: &Record, now_ms: u64) -> bool {
        record.time_ms.saturating_add(self.retention.age_ms_max) < now_ms
    }

    pub(super) fn channel(&self, name: &ChannelName) -> Option<&Channel> {
        self.channels.get(name)
    }

    pub(super) fn record(&self, seq: Seq) -> Option<&Record> {
        self.records.get(&seq)
    }

    pub(super) fn records(&self) -> &BTreeMap<Seq, Record> {
        &self.records
    }

    pub(super) fn window(&self, name: &ChannelName) -> Option<Window> {
        self.channel(name).map(Channel::window)
    }

    pub(super) fn channels<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a ChannelName>,
    ) -> impl Iterator<Item = (ChannelName, Window)> + 'a {
        let from = after.map_or(Included(prefix), |after| Excluded(after.as_str().max(prefix)));
        self.channels
            .range::<str, _>((from, Unbounded))
            .take_while(move |(name, _)| name.as_str().starts_with(prefix))
            .map(|(name, channel)| (name.clone(), channel.window()))
    }

    pub(super) fn head(&self) -> Seq {
        self.head
    }

    pub(super) fn gone(&self) -> Seq {
        self.gone
    }

    pub(super) fn horizon(&self) -> Seq {
        self.horizon
    }

    pub(super) fn stats(&self) -> Stats {
        Stats {
            log_bytes: self.bytes,
            channels: u64::try_from(self.channels.len()).unwrap_or(u64::MAX),
            keys: u64::try_from(self.keys.len()).unwrap_or(u64::MAX),
            commits: self.commits,
            ..Stats::default()
        }
    }
}

/// A bound with the slack of one eighth that saves trimming on every append.
fn with_slack(max: u64) -> u64 {
    max.saturating_add(max / 8)
}

fn with_slack_of_records(max: usize) -> usize {
    max.saturating_add(max / 8)
}

fn bytes_of(record: &Record) -> u64 {
    let private = record.private.as_ref().map_or(0, bytes::Bytes::len);
    let key = record.key.as_ref().map_or(0, |key| key.as_str().len());
    let bytes = record.body.len() + private + key + record.channel.as_str().len() + RECORD_OVERHEAD_BYTES;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
