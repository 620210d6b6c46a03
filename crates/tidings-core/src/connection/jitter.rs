//! Spreading: ten thousand clients must not do the same thing in the same millisecond.
//!
//! Owns: which part of a range a connection gets. Does not know: where its seed comes from.
//! Flow: a connection's seed → `retry:` times, keep-alive times, times of closing.

use crate::limits;

/// Random bits that were drawn for one connection. Everything random about it follows from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub u64);

/// Why a client is told how long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It has a stream, or the server is about to be replaced: 2–4 s.
    Stream,
    /// The server is overloaded: 5–15 s.
    Overload,
    /// Its stream ends only because it is old: 0.5–1.5 s.
    Soon,
}

impl Seed {
    /// What `retry:` says, in milliseconds.
    ///
    /// ```
    /// use tidings_core::connection::{Retry, Seed};
    /// let retry_ms = Seed(7).retry_ms(Retry::Stream);
    /// assert!((2_000..4_000).contains(&retry_ms));
    /// assert_eq!(Seed(7).retry_ms(Retry::Stream), retry_ms);
    /// ```
    #[must_use]
    pub fn retry_ms(self, retry: Retry) -> u32 {
        let range = match retry {
            Retry::Stream => limits::RETRY_STREAM_MS,
            Retry::Overload => limits::RETRY_OVERLOAD_MS,
            Retry::Soon => limits::RETRY_SOON_MS,
        };
        range.start + self.below(1, range.end - range.start)
    }

    /// How long after the start of a drain the connection is closed, in milliseconds.
    #[must_use]
    pub fn drain_ms(self, spread_ms: u32) -> u32 {
        self.below(2, spread_ms)
    }

    /// How old the connection becomes: the setting, and up to a fifth less or more, so that those who came together do not
    /// leave together.
    pub(super) fn life_ms(self, life_ms: u32) -> u32 {
        let fifth = life_ms / 5;
        life_ms - fifth + self.below(4, 2 * fifth + 1)
    }

    /// How long this connection may be silent: 80–100 % of the setting, so that `keepalive_ms` in hello is a promise.
    pub(super) fn keepalive_ms(self, keepalive_ms: u32) -> u32 {
        keepalive_ms - self.below(3, keepalive_ms / 5)
    }

    /// A number in `0..end`, or 0 if that is empty; each use has its own.
    fn below(self, usage: u64, end: u32) -> u32 {
        // SplitMix64's finisher: neighbouring seeds give unrelated numbers.
        let mut bits = self.0.wrapping_add(usage.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // A product of two 32-bit numbers, shifted by 32, is below the second.
        u32::try_from(((bits >> 32) * u64::from(end)) >> 32).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    /// Ten buckets of a range, filled by ten thousand neighbouring seeds.
    fn check(range: core::ops::Range<u32>, value: impl Fn(Seed) -> u32) {
        let mut buckets = [0_u32; 10];
        for seed in 0..10_000 {
            let value = value(Seed(seed));
            assert!(range.contains(&value), "{value} not in {range:?}");
            buckets[((value - range.start) * 10 / (range.end - range.start)) as usize] += 1;
        }
        assert!(buckets.iter().all(|&n| (800..1_200).contains(&n)), "{buckets:?}");
    }

    #[test]
    fn everything_is_spread_evenly_over_its_range() {
        check(2_000..4_000, |seed| seed.retry_ms(Retry::Stream));
        check(5_000..15_000, |seed| seed.retry_ms(Retry::Overload));
        check(0..10_000, |seed| seed.drain_ms(10_000));
        check(500..1_500, |seed| seed.retry_ms(Retry::Soon));
        check(2_880_000..4_320_000, |seed| seed.life_ms(3_600_000).min(4_319_999));
        check(12_001..15_001, |seed| seed.keepalive_ms(15_000));
    }

    #[test]
    fn the_uses_of_one_seed_are_unrelated() {
        let both = |seed: u64| {
            let seed = Seed(seed);
            (seed.drain_ms(1_000) < 500, seed.retry_ms(Retry::Stream) < 3_000)
        };
        let agree: Vec<u64> = (0..1_000).filter(|&seed| both(seed).0 == both(seed).1).collect();
        assert!((400..600).contains(&agree.len()));
    }

    #[test]
    fn an_empty_range_is_no_wait() {
        assert_eq!(Seed(u64::MAX).drain_ms(0), 0);
        assert_eq!(Seed(u64::MAX).keepalive_ms(0), 0);
        assert!(Seed(u64::MAX).drain_ms(u32::MAX) < u32::MAX);
    }
}
