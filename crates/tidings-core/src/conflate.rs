//! Conflation: which events of a slice a connection that is behind does not need.
//!
//! Owns: that rule. Does not know: how large a slice is, or which connections are behind.
//! Flow: the events of one slice of catching up, in order → those to send.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// What the rule has to know of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its channel.
    pub channel: &'a str,
    /// Its conflation key.
    pub key: Option<&'a str>,
    /// It finishes its channel.
    pub is_final: bool,
}

/// Says for each event, in order, whether it may be left out: its replacement (same channel and key) comes later in the
/// same slice. A final event never may, and neither may one without a key.
///
/// ```
/// use tidings_core::conflate::{Entry, left_out};
/// let price = Entry { channel: "btc", key: Some("price"), is_final: false };
/// let news = Entry { channel: "btc", key: None, is_final: false };
/// assert_eq!(left_out(&[price, news, price]), [true, false, false]);
/// ```
#[must_use]
pub fn left_out(slice: &[Entry<'_>]) -> Vec<bool> {
    let mut replaced = BTreeSet::new();
    let mut out: Vec<bool> = slice
        .iter()
        .rev()
        .map(|event| event.key.is_some_and(|key| !replaced.insert((event.channel, key)) && !event.is_final))
        .collect();
    out.reverse();
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What every checker demands, in words: keyless events exact; per key a subsequence that contains the newest.
    fn model(slice: &[Entry<'_>]) -> Vec<bool> {
        let replaced_later = |i: usize, event: &Entry<'_>| {
            slice[i + 1..].iter().any(|later| later.channel == event.channel && later.key == event.key)
        };
        slice
            .iter()
            .enumerate()
            .map(|(i, event)| event.key.is_some() && !event.is_final && replaced_later(i, event))
            .collect()
    }

    fn slices() -> impl Strategy<Value = Vec<(&'static str, Option<&'static str>, bool)>> {
        let channel = prop_oneof![Just("a"), Just("b")];
        let key = prop_oneof![Just(None), Just(Some("k")), Just(Some("l")), Just(Some("a"))];
        proptest::collection::vec((channel, key, prop::bool::weighted(0.1)), 0..40)
    }

    proptest! {
        #[test]
        fn only_replaced_events_are_left_out(slice in slices()) {
            let slice: Vec<Entry<'_>> =
                slice.iter().map(|&(channel, key, is_final)| Entry { channel, key, is_final }).collect();
            let out = left_out(&slice);
            prop_assert_eq!(&out, &model(&slice));
            for (event, left_out) in slice.iter().zip(&out) {
                prop_assert!(!left_out || (event.key.is_some() && !event.is_final));
                let same = |e: &Entry<'_>| e.channel == event.channel && e.key == event.key;
                let newest = slice.iter().rposition(same).unwrap();
                prop_assert!(!out[newest], "the newest of every key is kept");
            }
        }
    }
}
