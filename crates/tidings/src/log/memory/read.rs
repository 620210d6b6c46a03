//! Reading: several channels merged, the whole log, and the newest few.
//!
//! Owns: what a reader gets, and where its limit cuts. Does not know: how records came in or when they go.
//! Flow: in ← wanted channels, each with its position · out → records in order of sequence, complete up to `to`.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::ops::Bound::{Excluded, Included};

use tidings_core::{ChannelName, Seq};

use super::channel::Channel;
use super::state::State;
use crate::log::{Feed, ReadLimit, ReadOutcome, Record, Want};

/// Records as they are collected, until the limit cuts.
struct Slice {
    records: Vec<Record>,
    bytes: usize,
    limit: ReadLimit,
    /// The position of the last record, once the limit has cut the read short.
    cut: Option<Seq>,
}

impl Slice {
    fn new(limit: ReadLimit) -> Self {
        Self { records: Vec::new(), bytes: 0, limit, cut: None }
    }

    /// Takes a record, or notes that there was more than the limit allows.
    fn take(&mut self, record: &Record) -> bool {
        let bytes = self.bytes.saturating_add(record.body.len());
        if let Some(last) = self.records.last()
            && (self.records.len() >= self.limit.events_max || bytes > self.limit.bytes_max)
        {
            self.cut = Some(last.seq);
            return false;
        }
        self.bytes = bytes;
        self.records.push(record.clone());
        true
    }

    fn finish(self) -> (Vec<Record>, Seq) {
        let to = self.cut.unwrap_or(self.limit.upto);
        (self.records, to)
    }
}

impl State {
    pub(super) fn read(&self, wanted: &[Want<'_>], limit: ReadLimit) -> ReadOutcome {
        let wants: Vec<(Option<&Channel>, Seq)> =
            wanted.iter().map(|want| (self.channel(want.channel), want.after)).collect();
        let truncated: Vec<(usize, Seq)> = wants
            .iter()
            .enumerate()
            .filter_map(|(index, &(channel, after))| {
                let channel = channel.filter(|channel| channel.is_truncated(after, limit.upto))?;
                Some((index, channel.floor))
            })
            .collect();
        if !truncated.is_empty() {
            return ReadOutcome::Truncated { channels: truncated };
        }
        let limit = self.within_head(limit);
        let mut sources: Vec<_> = wants
            .into_iter()
            .filter_map(|(channel, after)| Some(channel?.readable(after, limit.upto)))
            .collect();
        // One position per channel is in the heap: the next of each.
        let mut heap: BinaryHeap<Reverse<(Seq, usize)>> = BinaryHeap::with_capacity(sources.len());
        heap.extend(sources.iter_mut().enumerate().filter_map(|(i, s)| Some(Reverse((s.next()?, i)))));
        let mut slice = Slice::new(limit);
        let mut newest = Seq::ZERO;
        while let Some(Reverse((seq, index))) = heap.pop() {
            // A channel that is wanted twice gives its events once.
            if seq > newest
                && let Some(record) = self.record(seq)
                && !slice.take(record)
            {
                break;
            }
            newest = seq;
            if let Some(next) = sources.get_mut(index).and_then(Iterator::next) {
                heap.push(Reverse((next, index)));
            }
        }
        let (records, to) = slice.finish();
        ReadOutcome::Events { records, to }
    }

    pub(super) fn feed(&self, after: Seq, limit: ReadLimit) -> Feed {
        if after < self.gone() {
            return Feed::Lagged { floor: self.gone() };
        }
        let limit = self.within_head(limit);
        let mut slice = Slice::new(limit);
        if after < limit.upto {
            for record in
                self.records().range((Excluded(after), Included(limit.upto))).map(|(_, record)| record)
            {
                if !slice.take(record) {
                    break;
                }
            }
        }
        let (records, to) = slice.finish();
        Feed::Events { records, to }
    }

    pub(super) fn before_last(&self, channels: &[ChannelName], n: usize, upto: Seq) -> Seq {
        // The newest n of each channel hold the newest n of all. A set, because a channel may be named twice.
        let mut newest: BTreeSet<Seq> = BTreeSet::new();
        for channel in channels.iter().filter_map(|name| self.channel(name)) {
            for seq in channel.between(Seq::ZERO, upto).rev().take(n) {
                newest.insert(seq);
                if newest.len() > n && newest.pop_first() == Some(seq) {
                    break;
                }
            }
        }
        newest.first().map_or(upto, |first| Seq(first.0.saturating_sub(1)))
    }

    /// A reader that asks beyond the head must not be told that it has what is yet to come.
    fn within_head(&self, limit: ReadLimit) -> ReadLimit {
        ReadLimit { upto: limit.upto.min(self.head()), ..limit }
    }
}
