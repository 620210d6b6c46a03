//! Reading: merged by sequence, from a position per channel, up to the reader's head, within its limit.
//!
//! Owns: cases. Does not know: the engine.
//! Flow: in ← a way to make a store · out → a panic if the engine is wrong.

use tidings_core::Seq;

use super::New;
use super::bench::{Bench, appended, bodies, event, events, plain, records, seqs};
use crate::log::{ReadLimit, ReadOutcome};

/// Twelve events over three channels, in an order that is no round robin; their sequences.
fn twelve(bench: &Bench) -> Vec<Seq> {
    let order = ["a", "b", "b", "a", "c", "c", "c", "a", "b", "a", "a", "c"];
    order.iter().enumerate().map(|(i, name)| bench.put(name, &i.to_string()).seq).collect()
}

/// A read of several channels has their events in the order in which they were appended, whatever order is asked for.
pub fn channels_are_merged_in_order_of_sequence(new: New<'_>) {
    let bench = Bench::new(new);
    let all = twelve(&bench);
    for wanted in [["a", "b", "c"], ["c", "b", "a"], ["b", "c", "a"]] {
        let read = records(bench.read_all(&wanted.map(|name| (name, Seq::ZERO))));
        assert_eq!(seqs(&read), all);
    }
    let two = records(bench.read_all(&[("c", Seq::ZERO), ("b", Seq::ZERO)]));
    assert_eq!(bodies(&two), ["1", "2", "4", "5", "6", "8", "11"]);
    assert_eq!(events(bench.read_all(&[])), (vec![], bench.head()), "nothing wanted, nothing read");
}

/// Each wanted channel is read from behind its own position.
pub fn every_channel_has_a_position_of_its_own(new: New<'_>) {
    let bench = Bench::new(new);
    let all = twelve(&bench);
    let read = records(bench.read_all(&[("a", all[9]), ("b", all[1]), ("c", all[5])]));
    assert_eq!(bodies(&read), ["2", "6", "8", "10", "11"]);
    // A position need not be one of the channel's own.
    let read = records(bench.read_all(&[("a", all[2]), ("b", all[11]), ("c", Seq::ZERO)]));
    assert_eq!(bodies(&read), ["3", "4", "5", "6", "7", "9", "10", "11"]);
}

/// The same channel twice: its events come once, from the lower position on.
pub fn a_channel_that_is_wanted_twice_gives_its_events_once(new: New<'_>) {
    let bench = Bench::new(new);
    let all = twelve(&bench);
    let read = records(bench.read_all(&[("a", all[3]), ("b", Seq::ZERO), ("a", Seq::ZERO)]));
    assert_eq!(bodies(&read), ["0", "1", "2", "3", "7", "8", "9", "10"]);
}

/// `upto` is the head that the reader loaded: what was appended since is not for this read.
pub fn nothing_above_upto_is_read(new: New<'_>) {
    let bench = Bench::new(new);
    let all = twelve(&bench);
    for (i, &upto) in all.iter().enumerate() {
        let limit = ReadLimit { upto, ..bench.everything() };
        let (read, to) = events(bench.read_some(&["a", "b", "c"].map(|name| (name, Seq::ZERO)), limit));
        assert_eq!((seqs(&read).as_slice(), to), (&all[..=i], upto));
    }
    let limit = ReadLimit { upto: Seq::ZERO, ..bench.everything() };
    assert_eq!(events(bench.read_some(&[("a", Seq::ZERO)], limit)), (vec![], Seq::ZERO));
}

/// Where the limit does not cut, the reader knows everything up to `upto`, though its channel's last event is older.
pub fn a_read_that_is_not_cut_is_complete_up_to_upto(new: New<'_>) {
    let bench = Bench::new(new);
    let all = twelve(&bench);
    let (read, to) = events(bench.read_all(&[("b", Seq::ZERO)]));
    assert_eq!((read.len(), to), (3, all[11]));
    assert_eq!(events(bench.read_all(&[("b", all[8])])), (vec![], all[11]), "caught up");
}

/// Where it cuts, the reader knows everything up to the last event that it got, and goes on there.
pub fn a_read_that_is_cut_is_complete_up_to_its_last_event(new: New<'_>) {
    let bench = Bench::new(new);
    let all = twelve(&bench);
    let limit = ReadLimit { events_max: 4, ..bench.everything() };
    let (read, to) = events(bench.read_some(&[("a", Seq::ZERO), ("c", Seq::ZERO)], limit));
    assert_eq!((bodies(&read), to), (["0", "3", "4", "5"].map(String::from).to_vec(), all[5]));
}

/// A limit that is met by the very last event cuts nothing: the read is complete up to `upto`.
pub fn a_limit_that_is_met_exactly_does_not_cut(new: New<'_>) {
    let bench = Bench::new(new);
    let all = twelve(&bench);
    let exact =
        [ReadLimit { events_max: 3, ..bench.everything() }, ReadLimit { bytes_max: 3, ..bench.everything() }];
    for limit in exact {
        let (read, to) = events(bench.read_some(&[("b", Seq::ZERO)], limit));
        assert_eq!((bodies(&read), to), (["1", "2", "8"].map(String::from).to_vec(), all[11]), "{limit:?}");
    }
}

/// Bodies are counted against `bytes_max`; the first event comes even if it alone is larger, and then alone.
pub fn bytes_are_limited_but_one_event_always_comes(new: New<'_>) {
    let bench = Bench::new(new);
    for size in [10, 10, 300_000, 10, 10] {
        bench.put("a", &"x".repeat(size));
    }
    let mut after = Seq::ZERO;
    let mut sizes = Vec::new();
    while after < bench.head() {
        let limit = ReadLimit { bytes_max: 25, ..bench.everything() };
        let (read, to) = events(bench.read_some(&[("a", after)], limit));
        sizes.push(read.iter().map(|record| record.body.len()).collect::<Vec<_>>());
        assert!(to > after, "no progress behind {after}");
        after = to;
    }
    assert_eq!(sizes, [vec![10, 10], vec![300_000], vec![10, 10]]);
    let (read, _) =
        events(bench.read_some(&[("a", Seq::ZERO)], ReadLimit { bytes_max: 0, ..bench.everything() }));
    assert_eq!(read.len(), 1);
}

/// Slice by slice, with every limit, a reader gets what one read without limit has.
pub fn slices_add_up_to_the_whole(new: New<'_>) {
    let bench = Bench::new(new);
    twelve(&bench);
    let group = (0..40).map(|i| event(["a", "b", "c", "d"][i % 4], &"y".repeat(i))).collect();
    appended(bench.group(plain(group)));
    let wanted = ["a", "c", "d", "none"];
    let whole = records(bench.read_all(&wanted.map(|name| (name, Seq::ZERO))));
    for (events_max, bytes_max) in [(1, 1_000), (2, 30), (7, 1_000), (100, 45), (100, 1)] {
        let mut after = Seq::ZERO;
        let mut pieces = Vec::new();
        while after < bench.head() {
            let limit = ReadLimit { upto: bench.head(), events_max, bytes_max };
            let (read, to) = events(bench.read_some(&wanted.map(|name| (name, after)), limit));
            assert!(read.len() <= events_max);
            assert!(to > after, "no progress behind {after}");
            pieces.extend(read);
            after = to;
        }
        assert_eq!(pieces, whole, "slices of {events_max} events and {bytes_max} bytes");
    }
}

/// A channel that never was is no error, and hides nothing of the others.
pub fn an_unknown_channel_is_read_as_empty(new: New<'_>) {
    let bench = Bench::new(new);
    let all = twelve(&bench);
    assert_eq!(events(bench.read_all(&[("none", Seq::ZERO)])), (vec![], all[11]));
    assert_eq!(events(bench.read_all(&[("none", all[3])])), (vec![], all[11]));
    let read = records(bench.read_all(&[("none", Seq::ZERO), ("b", Seq::ZERO)]));
    assert_eq!(bodies(&read), ["1", "2", "8"]);
}

/// Whoever asks beyond the head is not told that it has what is yet to come.
pub fn no_claim_is_made_beyond_the_head(new: New<'_>) {
    let bench = Bench::new(new);
    let all = twelve(&bench);
    let limit = ReadLimit { upto: Seq(all[11].0 + 1_000), ..bench.everything() };
    let outcome = bench.read_some(&[("a", all[10])], limit);
    assert_eq!(outcome, ReadOutcome::Events { records: vec![], to: all[11] });
}
