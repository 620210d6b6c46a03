//! The feed: the whole log in order, for those who follow all of it.
//!
//! Owns: cases. Does not know: the engine.
//! Flow: in ← a way to make a store · out → a panic if the engine is wrong.

use std::collections::HashMap;

use tidings_core::Seq;

use super::New;
use super::bench::{Bench, START_MS, appended, channel, event, plain, records, seqs};
use crate::log::{Feed, ReadLimit, Record, Retention};

fn of(feed: Feed) -> (Vec<Record>, Seq) {
    match feed {
        Feed::Events { records, to } => (records, to),
        Feed::Lagged { floor } => panic!("lagged behind {floor}"),
    }
}

fn fill(bench: &Bench, groups: usize) -> Vec<Seq> {
    let names = ["a", "b", "c", "d", "e"];
    let group = |g: usize| plain((0..=g % 4).map(|i| event(names[(g * 7 + i) % 5], "xxxx")).collect());
    (0..groups).flat_map(|g| appended(bench.group(group(g)))).map(|place| place.seq).collect()
}

/// Every event of every channel, in order of sequence, from behind the position up to `upto`, as it is read otherwise.
pub fn the_feed_is_the_whole_log_in_order(new: New<'_>) {
    let bench = Bench::new(new);
    assert_eq!(of(bench.feed(Seq::ZERO, bench.everything()).unwrap()), (vec![], Seq::ZERO));
    let all = fill(&bench, 20);
    let (fed, to) = of(bench.feed(Seq::ZERO, bench.everything()).unwrap());
    assert_eq!((seqs(&fed), to), (all.clone(), bench.head()));
    assert_eq!(fed, records(bench.read_all(&["a", "b", "c", "d", "e"].map(|name| (name, Seq::ZERO)))));
    for i in [0, 7, all.len() - 1] {
        let limit = ReadLimit { upto: all[all.len() - 1], ..bench.everything() };
        assert_eq!(seqs(&of(bench.feed(all[i], limit).unwrap()).0), all[i + 1..]);
    }
    let upto = ReadLimit { upto: all[9], ..bench.everything() };
    assert_eq!(seqs(&of(bench.feed(all[4], upto).unwrap()).0), all[5..=9]);
}

/// Events and bytes are limited as in a read, at least one event comes, and `to` says where to go on.
pub fn the_feed_is_limited_like_a_read(new: New<'_>) {
    let bench = Bench::new(new);
    let all = fill(&bench, 30);
    for (events_max, bytes_max, most) in [(3, 1_000, 3), (100, 9, 2), (100, 0, 1)] {
        let mut after = Seq::ZERO;
        let mut pieces = Vec::new();
        while after < bench.head() {
            let (fed, to) =
                of(bench.feed(after, ReadLimit { upto: bench.head(), events_max, bytes_max }).unwrap());
            assert!((1..=most).contains(&fed.len()), "{} events of at most {most}", fed.len());
            assert!(to > after, "no progress behind {after}");
            pieces.extend(seqs(&fed));
            after = to;
        }
        assert_eq!(pieces, all);
    }
}

/// From any position the feed is either whole or says that it lags; the floor that it names is a place to start from.
pub fn the_feed_never_passes_over_what_is_gone(new: New<'_>) {
    let bench = Bench::retaining(new, Retention::default().events_max(8));
    let mut all = fill(&bench, 60);
    bench.delete(&channel("b")).unwrap();
    bench.maintain(START_MS + 1_000).unwrap();
    all.extend(fill(&bench, 2));
    let mut lagged = 0;
    for (i, &after) in all.iter().enumerate() {
        match bench.feed(after, bench.everything()).unwrap() {
            Feed::Events { records, to } => {
                assert_eq!((seqs(&records).as_slice(), to), (&all[i + 1..], bench.head()), "behind {after}");
            }
            Feed::Lagged { floor } => {
                lagged += 1;
                assert!(floor > after && floor <= bench.head(), "{floor} behind {after}");
                of(bench.feed(floor, bench.everything()).unwrap());
            }
        }
    }
    assert!(lagged < all.len(), "the newest positions are whole");
    assert_eq!(of(bench.feed(bench.head(), bench.everything()).unwrap()).0, []);
}

/// Along the feed, `prev` of every event is the last one that came of its channel: a hole would show.
pub fn prev_links_every_event_of_a_channel(new: New<'_>) {
    let bench = Bench::new(new);
    fill(&bench, 40);
    let mut heads = HashMap::new();
    for record in of(bench.feed(Seq::ZERO, bench.everything()).unwrap()).0 {
        let head = heads.insert(record.channel.clone(), record.seq).unwrap_or(Seq::ZERO);
        assert_eq!(record.prev, head, "{record:?}");
    }
    for (name, window) in bench.channels("") {
        assert_eq!(heads.get(&name), Some(&window.head));
    }
}
