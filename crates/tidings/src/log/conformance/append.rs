//! Appending: order, groups, compare and set, final events.
//!
//! Owns: cases. Does not know: the engine.
//! Flow: in ← a way to make a store · out → a panic if the engine is wrong.

use bytes::Bytes;
use tidings_core::{Key, Seq, limits};

use super::New;
use super::bench::{
    Bench, START_MS, appended, bodies, channel, event, expecting, final_event, plain, records, refusal, seqs,
};
use crate::log::{Append, AppendError, Appended, Flags, Outcome, Refusal};

/// Every event stands behind all that were appended before it; those of a group stand side by side, from 1 on.
pub fn sequences_only_grow_and_follow_each_other_within_a_group(new: New<'_>) {
    let bench = Bench::new(new);
    assert_eq!(bench.head(), Seq::ZERO);
    let mut newest = Seq::ZERO;
    for events in [1_u32, 3, 1, 7] {
        let group = (0..events).map(|i| event(if i % 2 == 0 { "a" } else { "b" }, "x")).collect();
        let places = appended(bench.group(plain(group)));
        assert_eq!(places.len(), events as usize);
        assert!(places[0].seq > newest, "{places:?} not behind {newest}");
        assert!(places.windows(2).all(|two| two[1].seq == two[0].seq.next()), "not adjacent: {places:?}");
        newest = places[places.len() - 1].seq;
        assert_eq!(bench.head(), newest);
    }
}

/// `prev` is the channel's own last event, in the outcome and in the record, `Seq::ZERO` for its first.
pub fn prev_is_the_channels_own_last_event(new: New<'_>) {
    let bench = Bench::new(new);
    let a1 = bench.put("a", "1");
    let b1 = bench.put("b", "1");
    let both = appended(bench.group(plain(vec![event("a", "2"), event("b", "2"), event("a", "3")])));
    assert_eq!((a1.prev, b1.prev), (Seq::ZERO, Seq::ZERO));
    assert_eq!((both[0].prev, both[1].prev, both[2].prev), (a1.seq, b1.seq, both[0].seq));
    let read = records(bench.read_all(&[("a", Seq::ZERO), ("b", Seq::ZERO)]));
    let places: Vec<Appended> = read.iter().map(|r| Appended { seq: r.seq, prev: r.prev }).collect();
    assert_eq!(places, [vec![a1, b1], both].concat());
}

/// The groups of one append stand one behind the other, and each is judged after those before it.
pub fn groups_of_one_append_do_not_mix_and_each_sees_those_before_it(new: New<'_>) {
    let bench = Bench::new(new);
    let groups = vec![
        plain(vec![event("a", "1"), event("b", "1")]),
        plain(vec![expecting("a", "never", Seq::ZERO)]),
        plain(vec![event("b", "2"), final_event("a", "2")]),
        plain(vec![event("a", "never")]),
        plain(vec![event("b", "3")]),
    ];
    let mut outcomes = bench.append(&groups).unwrap();
    assert_eq!(outcomes.len(), 5);
    let [fifth, fourth, third, second, first] = [(); 5].map(|()| outcomes.pop().unwrap());
    let (first, third, fifth) = (appended(first), appended(third), appended(fifth));
    let mismatch = Refusal::PrevMismatch { index: 0, channel: channel("a"), prev: first[0].seq };
    assert_eq!(refusal(second), mismatch);
    assert_eq!(refusal(fourth), Refusal::Finished { index: 0, channel: channel("a") });
    let read = records(bench.read_all(&[("a", Seq::ZERO), ("b", Seq::ZERO)]));
    let places: Vec<Seq> = [first, third, fifth].concat().iter().map(|place| place.seq).collect();
    assert_eq!(seqs(&read), places);
    assert_eq!(bodies(&read), ["1", "1", "2", "2", "3"]);
}

/// A group whose last event is refused leaves no event, no channel and no moved head behind.
pub fn a_refused_group_leaves_nothing_behind(new: New<'_>) {
    let bench = Bench::new(new);
    let a = bench.put("a", "1");
    let group = vec![event("new", "x"), event("a", "x"), expecting("b", "x", Seq(99))];
    let expected = Refusal::PrevMismatch { index: 2, channel: channel("b"), prev: Seq::ZERO };
    assert_eq!(refusal(bench.group(plain(group))), expected);
    assert_eq!(bench.head(), a.seq);
    assert_eq!((bench.of("new"), bench.of("b")), (None, None));
    assert_eq!(bench.bodies("a"), ["1"]);
    let next = bench.put("a", "2");
    assert_eq!(next, Appended { seq: next.seq, prev: a.seq });
    // Nor in front of a group of the same append.
    let group = plain(vec![event("new", "x"), event("a", "x"), expecting("b", "x", Seq(99))]);
    let mut outcomes = bench.append(&[group, plain(vec![event("a", "3")])]).unwrap();
    let last = appended(outcomes.remove(1))[0];
    assert_eq!(last, Appended { seq: next.seq.next(), prev: next.seq });
    assert_eq!((bench.head(), bench.of("new")), (last.seq, None));
}

/// `expected_prev` is compared with the channel's head; `Seq::ZERO` means that it has none.
pub fn compare_and_set_takes_the_head_and_nothing_else(new: New<'_>) {
    let bench = Bench::new(new);
    let first = appended(bench.group(plain(vec![expecting("a", "1", Seq::ZERO)])))[0];
    let other = bench.put("b", "1");
    for wrong in [Seq::ZERO, other.seq, other.seq.next()] {
        let expected = Refusal::PrevMismatch { index: 0, channel: channel("a"), prev: first.seq };
        assert_eq!(refusal(bench.group(plain(vec![expecting("a", "x", wrong)]))), expected, "{wrong}");
    }
    let second = appended(bench.group(plain(vec![expecting("a", "2", first.seq)])))[0];
    assert_eq!(second.prev, first.seq);
    assert_eq!(bench.bodies("a"), ["1", "2"]);
}

/// Two groups of one append that expect the same head: the first is appended, the second is told the new head.
pub fn of_two_that_expect_the_same_head_one_wins(new: New<'_>) {
    let bench = Bench::new(new);
    let head = bench.put("a", "1").seq;
    let both = ["one", "other"].map(|body| plain(vec![expecting("a", body, head)]));
    let mut outcomes = bench.append(&both).unwrap();
    let second = refusal(outcomes.remove(1));
    let first = appended(outcomes.remove(0))[0].seq;
    assert_eq!(second, Refusal::PrevMismatch { index: 0, channel: channel("a"), prev: first });
    assert_eq!(bench.bodies("a"), ["1", "one"]);
}

/// Behind a final event its channel refuses everything; other channels do not notice.
pub fn a_finished_channel_takes_nothing_more(new: New<'_>) {
    let bench = Bench::new(new);
    bench.put("a", "1");
    let end = appended(bench.group(plain(vec![final_event("a", "end")])))[0];
    assert_eq!(bench.of("a").unwrap().finished, Some(end.seq));
    for late in [event("a", "late"), final_event("a", "late")] {
        let refused = refusal(bench.group(plain(vec![event("b", "x"), late])));
        assert_eq!(refused, Refusal::Finished { index: 1, channel: channel("a") });
    }
    assert_eq!(bench.of("b"), None);
    bench.put("b", "1");
    assert_eq!(bench.bodies("a"), ["1", "end"]);
    assert_eq!(bench.of("b").unwrap().finished, None);
}

/// A group that goes on behind its own final event is refused as a whole.
pub fn nothing_follows_a_final_event_in_its_own_group(new: New<'_>) {
    let bench = Bench::new(new);
    let refused =
        refusal(bench.group(plain(vec![final_event("a", "end"), event("b", "x"), event("a", "x")])));
    assert_eq!(refused, Refusal::Finished { index: 2, channel: channel("a") });
    assert_eq!((bench.head(), bench.of("a")), (Seq::ZERO, None));
    let both = appended(bench.group(plain(vec![event("a", "1"), final_event("a", "end")])));
    assert_eq!(bench.of("a").unwrap().finished, Some(both[1].seq));
}

/// 1,000 events are one group; one more is the caller's mistake, and nothing of the whole append happens.
pub fn a_group_above_a_thousand_events_fails_the_whole_append(new: New<'_>) {
    let bench = Bench::new(new);
    let of = |count: usize| plain(vec![event("a", "x"); count]);
    let failed = bench.append(&[plain(vec![event("b", "x")]), of(limits::BATCH_EVENTS_MAX + 1)]);
    assert!(matches!(failed, Err(AppendError::TooLarge)), "{failed:?}");
    assert_eq!((bench.head(), bench.of("a"), bench.of("b")), (Seq::ZERO, None, None));
    let places = appended(bench.group(of(limits::BATCH_EVENTS_MAX)));
    assert_eq!(places.len(), limits::BATCH_EVENTS_MAX);
    assert_eq!(bench.of("a").unwrap().events, 1_000);
}

/// Bodies, private parts, keys, times and flags come back as they went in, empty and large ones too.
pub fn everything_that_was_appended_is_read_back_unchanged(new: New<'_>) {
    let bench = Bench::new(new);
    let large: Vec<u8> = (0..=255_u8).cycle().take(limits::DATA_BYTES_MAX + 1_000).collect();
    let all = vec![
        event("a", ""),
        Append { body: Bytes::from(large), private: Some(Bytes::new()), ..event("a", "") },
        Append { private: Some(Bytes::from_static(b"\0\r\n\xff")), ..event("b", "data: \u{1F514}\n") },
        Append { key: Some(Key::parse("k\u{e4}").unwrap()), time_ms: 0, ..event("a", "x") },
        Append { expires_at_ms: Some(START_MS + 1), time_ms: u64::MAX / 4, ..event("~!#$%&'()+-./", "x") },
        Append {
            expires_at_ms: Some(0),
            flags: Flags { is_text: true, ..Flags::default() },
            ..event("b", "x")
        },
        Append { flags: Flags { is_final: true, is_text: true, is_pinned: true }, ..event("b", "x") },
    ];
    let places = appended(bench.group(plain(all.clone())));
    let read = records(bench.read_all(&[("~!#$%&'()+-./", Seq::ZERO), ("b", Seq::ZERO), ("a", Seq::ZERO)]));
    assert_eq!(read.len(), all.len());
    for ((record, event), place) in read.into_iter().zip(all).zip(places) {
        assert_eq!(Appended { seq: record.seq, prev: record.prev }, place);
        assert_eq!(record.channel, event.channel);
        assert_eq!(record.body, event.body);
        assert_eq!((record.private, record.key), (event.private, event.key));
        assert_eq!((record.time_ms, record.expires_at_ms), (event.time_ms, event.expires_at_ms));
        assert_eq!(record.flags, event.flags);
    }
    let outcome = bench.append(&[]).unwrap();
    assert_eq!(outcome, Vec::<Outcome>::new(), "no groups, no outcomes");
}

/// However many groups an append has, it is one commit; one that appends nothing is none.
pub fn an_append_is_one_commit(new: New<'_>) {
    let bench = Bench::new(new);
    let before = bench.stats().commits;
    let groups: Vec<_> = (0..50).map(|_| plain(vec![event("a", "x"), event("b", "x")])).collect();
    bench.append(&groups).unwrap();
    assert_eq!(bench.stats().commits, before + 1);
    refusal(bench.group(plain(vec![expecting("a", "x", Seq::ZERO)])));
    bench.append(&[]).unwrap();
    assert_eq!(bench.stats().commits, before + 1);
    bench.put("a", "x");
    assert_eq!(bench.stats().commits, before + 2);
}
