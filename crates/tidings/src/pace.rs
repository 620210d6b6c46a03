//! How fast new streams are let in.
//!
//! Owns: a leaky bucket without a queue. Does not know: who comes.
//! Flow: in ← a new stream · out → how long it has to wait, or that it should come back later.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Who would have to wait longer is asked to come back.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// What may come at once after a quiet time.
const BURST: Duration = Duration::from_secs(1);

/// Lets so many through per second.
#[derive(Debug)]
pub(crate) struct Pace {
    interval_us: u64,
    /// When the next one is due, in microseconds of the monotonic clock.
    next_us: AtomicU64,
}

impl Pace {
    pub(crate) fn per_second(rate: u32) -> Self {
        Self { interval_us: 1_000_000 / u64::from(rate.max(1)), next_us: AtomicU64::new(0) }
    }

    /// Takes a turn: how long to wait for it; `None` if that is too long.
    pub(crate) fn turn(&self, now_us: u64) -> Option<Duration> {
        let burst_us = u64::try_from(BURST.as_micros()).unwrap_or(0);
        let max_us = u64::try_from(WAIT_MAX.as_micros()).unwrap_or(0);
        let take = |next: u64| {
            let turn = next.max(now_us);
            (turn <= now_us + burst_us + max_us).then_some(turn + self.interval_us)
        };
        let before = self.next_us.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).ok()?;
        let wait_us = before.saturating_sub(now_us + burst_us);
        Some(Duration::from_micros(wait_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_at_once_the_rest_is_spread_and_too_many_are_sent_away() {
        let pace = Pace::per_second(2_000);
        let waits: Vec<Option<Duration>> = (0..13_000).map(|_| pace.turn(1_000_000)).collect();
        assert!(waits[..2_000].iter().all(|w| *w == Some(Duration::ZERO)));
        assert_eq!(waits[4_000], Some(Duration::from_secs(1)));
        assert_eq!(waits[12_500], None);
        assert_eq!(pace.turn(60_000_000), Some(Duration::ZERO), "a quiet time lets a burst through again");
    }
}
