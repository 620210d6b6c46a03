//! What all subscribers together got.
//!
//! Owns: counts, losses, repeats, and when the last subscriber of a channel had an event. Does not know: sockets.
//! Flow: in ← one event at one subscriber · out → counts and latencies.

use std::collections::VecDeque;

use crate::quantiles::Quantiles;

/// One channel's open events: those that some subscriber still waits for.
#[derive(Debug, Default)]
struct Channel {
    subscribers: u32,
    /// The number of the event that `waiting` begins with.
    first: u64,
    waiting: VecDeque<u32>,
}

/// The sums.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    channels: Vec<Channel>,
    pub(crate) deliveries: u64,
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    pub(crate) resets: u64,
    /// Events that every subscriber of their channel has.
    pub(crate) completed: u64,
    latencies: Vec<u64>,
}

impl Tally {
    pub(crate) fn new(channels: usize) -> Self {
        let channel = || Channel { first: 1, ..Channel::default() };
        Self { channels: (0..channels).map(|_| channel()).collect(), ..Self::default() }
    }

    /// One more subscriber's receipts count for "the last subscriber".
    pub(crate) fn handle_subscribed(&mut self, channel: usize) {
        if let Some(channel) = self.channels.get_mut(channel) {
            channel.subscribers += 1;
        }
    }

    /// A subscriber that expected `expected` got event `n`; returns what it expects next.
    pub(crate) fn handle_event(&mut self, expected: u64, n: u64) -> u64 {
        self.deliveries += 1;
        if n < expected {
            self.repeated += 1;
            return expected;
        }
        self.lost += n - expected;
        n + 1
    }

    /// A subscriber that counts got event `n`, which was published at `t`; it is `now`.
    pub(crate) fn handle_receipt(&mut self, channel: usize, n: u64, t: u64, now: u64) {
        let Some(channel) = self.channels.get_mut(channel) else { return };
        let Some(index) = n.checked_sub(channel.first).and_then(|index| usize::try_from(index).ok()) else {
            return;
        };
        if channel.waiting.len() <= index {
            channel.waiting.resize(index + 1, 0);
        }
        let Some(receipts) = channel.waiting.get_mut(index) else { return };
        *receipts += 1;
        if *receipts == channel.subscribers {
            self.completed += 1;
            self.latencies.push(now.saturating_sub(t));
        }
        while channel.waiting.front().is_some_and(|&receipts| receipts >= channel.subscribers) {
            channel.waiting.pop_front();
            channel.first += 1;
        }
    }

    /// The latencies to the last subscriber since the last call.
    pub(crate) fn take_latencies(&mut self) -> Quantiles {
        Quantiles::of(std::mem::take(&mut self.latencies))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_complete_when_its_last_subscriber_has_it() {
        let mut tally = Tally::new(1);
        (0..3).for_each(|_| tally.handle_subscribed(0));
        for (n, now) in [(1, 110), (2, 111), (1, 120), (2, 121), (2, 130), (1, 150)] {
            tally.handle_receipt(0, n, 100, now);
        }
        assert_eq!(tally.completed, 2);
        assert_eq!((tally.take_latencies().p50, tally.take_latencies().p50), (30, 0));
    }

    #[test]
    fn gaps_and_repeats_are_counted() {
        let mut tally = Tally::new(1);
        assert_eq!(tally.handle_event(1, 1), 2);
        assert_eq!(tally.handle_event(2, 5), 6);
        assert_eq!(tally.handle_event(6, 3), 6);
        assert_eq!((tally.deliveries, tally.lost, tally.repeated), (3, 3, 1));
    }
}
