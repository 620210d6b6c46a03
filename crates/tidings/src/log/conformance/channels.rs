//! Channels: windows, lists, the newest few, deletion.
//!
//! Owns: cases. Does not know: the engine.
//! Flow: in ← a way to make a store · out → a panic if the engine is wrong.

use tidings_core::{ChannelName, Seq};

use super::New;
use super::bench::{
    Bench, appended, bodies, channel, event, events, expecting, final_event, plain, records, refusal,
    truncated,
};
use crate::log::{Refusal, Window};

/// A channel that nothing was ever appended to has no record; asking does not make one.
pub fn an_unknown_channel_has_no_window(new: New<'_>) {
    let bench = Bench::new(new);
    bench.put("a", "1");
    assert_eq!(bench.of("b"), None);
    events(bench.read_all(&[("b", Seq::ZERO)]));
    assert_eq!((bench.of("b"), bench.stats().channels), (None, 1));
}

/// A window names the oldest and the newest event and counts what is retained; nothing is gone, nothing finished.
pub fn a_window_tells_first_head_and_count(new: New<'_>) {
    let bench = Bench::new(new);
    bench.put("b", "1");
    let first = bench.put("a", "1").seq;
    bench.put("b", "2");
    let head = bench.put("a", "2").seq;
    bench.put("b", "3");
    let expected = Window {
        first: Some(first),
        head,
        floor: Seq::ZERO,
        finished: None,
        pinned: None,
        events: 2,
        deleted: None,
    };
    assert_eq!(bench.of("a"), Some(expected));
}

/// The list holds every channel whose name starts with the prefix, each once, with its window.
pub fn channels_are_listed_by_prefix(new: New<'_>) {
    let bench = Bench::new(new);
    for name in ["job:2", "job:1", "jo", "job", "joc", "job:1", "job;", "k"] {
        bench.put(name, "x");
    }
    let of = |prefix: &str| {
        let mut listed = bench.channels(prefix);
        listed.sort_by(|(a, _), (b, _)| a.cmp(b));
        assert!(listed.iter().all(|(name, window)| bench.window(name) == Some(*window)));
        listed.iter().map(|(name, _)| name.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of("job:"), ["job:1", "job:2"]);
    assert_eq!(of("job"), ["job", "job:1", "job:2", "job;"]);
    assert_eq!(of(""), ["jo", "job", "job:1", "job:2", "job;", "joc", "k"]);
    assert_eq!(of("x"), Vec::<String>::new());
    assert_eq!(bench.stats().channels, 7);
}

/// The unfinished ones are the list without those that are finished, deleted or trimmed ones included.
pub fn unfinished_channels_are_listed_by_prefix(new: New<'_>) {
    let bench = Bench::new(new);
    for name in ["job:3", "job:1", "job:2", "jo", "k", "job:4"] {
        bench.put(name, "x");
    }
    for name in ["job:2", "k", "job:5"] {
        appended(bench.group(plain(vec![final_event(name, "end")])));
    }
    bench.delete(&channel("job:4")).unwrap();
    let of = |prefix: &str| {
        let mut listed = bench.unfinished(prefix);
        listed.sort_by(|(a, _), (b, _)| a.cmp(b));
        assert!(listed.iter().all(|(name, window)| bench.window(name) == Some(*window)));
        listed.iter().map(|(name, _)| name.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of("job:"), ["job:1", "job:3", "job:4"]);
    assert_eq!(of(""), ["jo", "job:1", "job:3", "job:4"]);
    assert_eq!((of("k"), of("x")), (vec![], vec![]));
}

/// Pages of any size add up to the list: every channel with the prefix once, and nothing behind the last one.
pub fn pages_of_channels_add_up_to_the_list(new: New<'_>) {
    let bench = Bench::new(new);
    for i in 0..50 {
        bench.put(&format!("job:{}", i * 7 % 50), "x");
        bench.put(&format!("other:{i}"), "x");
    }
    appended(bench.group(plain(vec![final_event("job:9", "end")])));
    for (prefix, max) in [("job:", 1), ("job:", 7), ("job:", 50), ("job:", 1_000), ("", 33), ("x", 5)] {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = bench.channels_page(prefix, after.as_ref(), max);
            assert!(page.len() <= max);
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            all.extend(page);
            assert!(all.len() <= 100, "pages of {max} do not end");
        }
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut listed = bench.channels(prefix);
        listed.sort_by(|(a, _), (b, _)| a.cmp(b));
        assert_eq!(all, listed, "{prefix} in pages of {max}");
    }
}

fn before_last(bench: &Bench, names: &[&str], n: usize, upto: Seq) -> Seq {
    let names: Vec<ChannelName> = names.iter().map(|name| channel(name)).collect();
    bench.before_last(&names, n, upto).unwrap()
}

/// The n newest are counted over all the channels together, each event once; reading from there gives exactly those.
pub fn before_last_counts_over_all_channels(new: New<'_>) {
    let bench = Bench::new(new);
    let order = ["a", "b", "x", "b", "a", "x", "a", "a", "x"];
    let all: Vec<Seq> = order.iter().map(|name| bench.put(name, "x").seq).collect();
    for n in 1..=6 {
        let position = before_last(&bench, &["a", "b", "none", "a"], n, bench.head());
        let read = records(bench.read_all(&[("a", position), ("b", position)]));
        assert_eq!(read.len(), n, "the {n} newest behind {position}");
        assert_eq!(position.next(), read[0].seq, "right before the {n}th");
    }
    assert_eq!(before_last(&bench, &["x"], 1, bench.head()).next(), all[8]);
}

/// Fewer than n: the position before the oldest. `upto` hides what is newer. Nothing to count: nothing lies behind.
pub fn before_last_ends_at_the_oldest_event_and_at_upto(new: New<'_>) {
    let bench = Bench::new(new);
    bench.put("x", "x");
    let a: Vec<Seq> = (0..4).map(|_| bench.put("a", "x").seq).collect();
    let b = bench.put("b", "x").seq;
    assert_eq!(before_last(&bench, &["a", "b"], 100, bench.head()).next(), a[0]);
    assert_eq!(before_last(&bench, &["a", "b"], usize::MAX, a[2]).next(), a[0]);
    assert_eq!(before_last(&bench, &["a", "b"], 1, a[2]).next(), a[2]);
    assert_eq!(before_last(&bench, &["a"], 0, b), b);
    assert_eq!(before_last(&bench, &["none"], 3, b), b);
    assert_eq!(before_last(&bench, &[], 3, b), b);
}

/// A deletion empties the channel, moves its floor to its head and says that it was a deletion. Other channels stay.
pub fn a_deletion_moves_the_floor_to_the_head(new: New<'_>) {
    let bench = Bench::new(new);
    let first = bench.put("a", "1").seq;
    bench.put("b", "1");
    let head = bench.put("a", "2").seq;
    bench.put("b", "2");
    let expected = Window {
        first: None,
        head,
        floor: head,
        finished: None,
        pinned: None,
        events: 0,
        deleted: Some(head),
    };
    assert_eq!(bench.delete(&channel("a")).unwrap(), Some(expected));
    assert_eq!(bench.of("a"), Some(expected));
    assert_eq!(truncated(bench.read_all(&[("b", Seq::ZERO), ("a", first)])), [(1, head)]);
    assert_eq!(events(bench.read_all(&[("a", head)])), (vec![], bench.head()));
    assert_eq!(bench.bodies("b"), ["1", "2"]);
}

/// After a deletion the channel goes on: the next event links to the last, and compare and set expects its old head.
pub fn a_deleted_channel_goes_on_where_it_stood(new: New<'_>) {
    let bench = Bench::new(new);
    bench.put("a", "1");
    let head = bench.put("a", "2").seq;
    bench.delete(&channel("a")).unwrap();
    let refused = refusal(bench.group(plain(vec![expecting("a", "x", Seq::ZERO)])));
    assert_eq!(refused, Refusal::PrevMismatch { index: 0, channel: channel("a"), prev: head });
    let next = appended(bench.group(plain(vec![expecting("a", "3", head)])))[0];
    let expected = Window {
        first: Some(next.seq),
        head: next.seq,
        floor: head,
        finished: None,
        pinned: None,
        events: 1,
        deleted: Some(head),
    };
    assert_eq!((next.prev, bench.of("a")), (head, Some(expected)));
    assert_eq!(bodies(&records(bench.read_all(&[("a", head)]))), ["3"]);
    assert_eq!(truncated(bench.read_all(&[("a", Seq::ZERO)])), [(0, head)]);
}

/// A finished channel that is deleted stays finished, but its final event's data is gone for readers.
pub fn a_deleted_channel_that_was_finished_stays_finished_without_its_final_event(new: New<'_>) {
    let bench = Bench::new(new);
    let prev = bench.put("a", "1").seq;
    let end = appended(bench.group(plain(vec![final_event("a", "end")])))[0].seq;
    let window = bench.delete(&channel("a")).unwrap().unwrap();
    assert_eq!((window.finished, window.first, window.events, window.floor), (Some(end), None, 0, end));
    assert_eq!(truncated(bench.read_all(&[("a", prev)])), [(0, end)]);
    assert_eq!(events(bench.read_all(&[("a", end)])), (vec![], end));
    let refused = refusal(bench.group(plain(vec![event("a", "x")])));
    assert_eq!(refused, Refusal::Finished { index: 0, channel: channel("a") });
}

/// `None`, and no record of it afterwards.
pub fn deleting_what_does_not_exist_finds_nothing(new: New<'_>) {
    let bench = Bench::new(new);
    bench.put("a", "1");
    assert_eq!(bench.delete(&channel("b")).unwrap(), None);
    assert_eq!((bench.of("b"), bench.stats().channels), (None, 1));
}

/// A second deletion finds the channel as the first left it.
pub fn deleting_twice_changes_nothing(new: New<'_>) {
    let bench = Bench::new(new);
    bench.put("a", "1");
    let once = bench.delete(&channel("a")).unwrap();
    bench.put("b", "1");
    assert_eq!(bench.delete(&channel("a")).unwrap(), once);
    assert_eq!(bench.of("a"), once);
}
