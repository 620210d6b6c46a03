//! Quantiles of a list of measurements.
//!
//! Owns: the nearest-rank definition. Does not know: units.

use serde::Serialize;

/// The middle, the tail and the worst.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) count: usize,
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) max: u64,
}

impl Quantiles {
    pub(crate) fn of(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        let at = |percent: usize| {
            let rank = (values.len() * percent).div_ceil(100).saturating_sub(1);
            values.get(rank).copied().unwrap_or(0)
        };
        Self { count: values.len(), p50: at(50), p99: at(99), max: at(100) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_measured_values() {
        let q = Quantiles::of((1..=100).rev().collect());
        assert_eq!((q.count, q.p50, q.p99, q.max), (100, 50, 99, 100));
        assert_eq!(Quantiles::of(vec![7]), Quantiles { count: 1, p50: 7, p99: 7, max: 7 });
        assert_eq!(Quantiles::of(vec![]), Quantiles::default());
    }
}
