//! Idempotency keys: what is appended again, takes effect once.
//!
//! Owns: cases. Does not know: the engine.
//! Flow: in ← a way to make a store · out → a panic if the engine is wrong.

use tidings_core::{Seq, limits};

use super::bench::{
    Bench, HOUR_MS, START_MS, appended, channel, event, expecting, final_event, keyed, plain, refusal,
};
use super::{New, Setup};
use crate::log::{Outcome, Refusal, Retention};

/// The repeat of a group appends nothing and names the sequence of the first time, even with events in between.
pub fn a_repeat_takes_effect_once_and_names_the_first_time(new: New<'_>) {
    let bench = Bench::new(new);
    let first = appended(bench.group(keyed(vec![event("a", "1")], 7, 1, START_MS)))[0].seq;
    bench.put("a", "2");
    for _ in 0..3 {
        let again = bench.group(keyed(vec![event("a", "1")], 7, 1, START_MS + 1));
        assert_eq!(again, Outcome::Duplicate { first, count: 1 });
    }
    assert_eq!(bench.bodies("a"), ["1", "2"]);
    appended(bench.group(keyed(vec![event("a", "1")], 8, 1, START_MS)));
    assert_eq!(bench.bodies("a"), ["1", "2", "1"], "another key is another publish");
}

/// The repeat of a group of several events tells where they stand: `first`, and how many.
pub fn a_repeat_of_several_events_tells_how_many_there_were(new: New<'_>) {
    let bench = Bench::new(new);
    bench.put("a", "0");
    let group = || keyed(vec![event("a", "1"), event("b", "1"), event("a", "2")], u128::MAX, 1, START_MS);
    let places = appended(bench.group(group()));
    assert_eq!(bench.group(group()), Outcome::Duplicate { first: places[0].seq, count: 3 });
    assert_eq!(bench.head(), places[2].seq);
}

/// The repeat may sit in the very append that holds the first time.
pub fn a_repeat_in_the_same_append_is_seen(new: New<'_>) {
    let bench = Bench::new(new);
    let group = |body, fingerprint| keyed(vec![event("a", body)], 7, fingerprint, START_MS);
    let mut outcomes = bench.append(&[group("1", 1), group("1", 1), group("2", 2)]).unwrap();
    assert_eq!(outcomes.pop(), Some(Outcome::Refused(Refusal::KeyReused)));
    let second = outcomes.pop();
    let first = appended(outcomes.pop().unwrap())[0].seq;
    assert_eq!(second, Some(Outcome::Duplicate { first, count: 1 }));
    assert_eq!(bench.bodies("a"), ["1"]);
}

/// A key that stands for another body is an error of the caller, and nothing is appended.
pub fn the_same_key_with_another_body_is_refused(new: New<'_>) {
    let bench = Bench::new(new);
    appended(bench.group(keyed(vec![event("a", "1")], 7, 1, START_MS)));
    let refused = refusal(bench.group(keyed(vec![event("a", "2")], 7, 2, START_MS)));
    assert_eq!(refused, Refusal::KeyReused);
    assert_eq!(bench.bodies("a"), ["1"]);
}

/// A repeat is a repeat even where its group would now be refused: it finished the channel, or moved the head.
pub fn a_repeat_is_recognised_before_its_group_is_judged_again(new: New<'_>) {
    let bench = Bench::new(new);
    let cas = || keyed(vec![expecting("a", "1", Seq::ZERO)], 1, 1, START_MS);
    let end = || keyed(vec![final_event("a", "end")], 2, 2, START_MS);
    let [first, last] = [cas(), end()].map(|group| appended(bench.group(group))[0].seq);
    assert_eq!(bench.group(cas()), Outcome::Duplicate { first, count: 1 });
    assert_eq!(bench.group(end()), Outcome::Duplicate { first: last, count: 1 });
}

/// A key is only used up by the group that was appended under it.
pub fn a_refused_group_does_not_use_up_its_key(new: New<'_>) {
    let bench = Bench::new(new);
    let refused = refusal(bench.group(keyed(vec![expecting("a", "1", Seq(5))], 7, 1, START_MS)));
    assert_eq!(refused, Refusal::PrevMismatch { index: 0, channel: channel("a"), prev: Seq::ZERO });
    let first = appended(bench.group(keyed(vec![event("a", "2")], 7, 2, START_MS)))[0].seq;
    let again = bench.group(keyed(vec![event("a", "2")], 7, 2, START_MS));
    assert_eq!(again, Outcome::Duplicate { first, count: 1 });
}

/// Up to 24 h after its publish arrived, a key is known; from then on it is a new one.
pub fn a_key_is_remembered_for_24_hours_and_no_longer(new: New<'_>) {
    let bench = Bench::new(new);
    let group = |time_ms| keyed(vec![event("a", "x")], 7, 1, time_ms);
    let first = appended(bench.group(group(START_MS)))[0].seq;
    let last_moment = START_MS + limits::IDEMPOTENCY_MS - 1;
    bench.maintain(last_moment).unwrap();
    assert_eq!(bench.group(group(last_moment)), Outcome::Duplicate { first, count: 1 });
    // A repeat does not make the key live longer.
    let second = appended(bench.group(group(last_moment + 1)))[0].seq;
    assert!(second > first);
    assert_eq!(bench.group(group(last_moment + HOUR_MS)), Outcome::Duplicate { first: second, count: 1 });
    bench.maintain(START_MS + 3 * limits::IDEMPOTENCY_MS).unwrap();
    assert_eq!(bench.stats().keys, 0);
}

/// A key is remembered though its event was trimmed, deleted, or its channel forgotten.
pub fn keys_outlive_their_events(new: New<'_>) {
    let retention = Retention::default().events_max(1).age_ms_max(1_000).horizon_ms(1_000);
    let bench = Bench::retaining(new, retention);
    let group = |name| keyed(vec![event(name, "x")], 7, 1, START_MS);
    let first = appended(bench.group(group("a")))[0].seq;
    bench.put_many("a", 20);
    bench.delete(&channel("a")).unwrap();
    for seconds in [10, 20, 30] {
        bench.maintain(START_MS + seconds * 1_000).unwrap();
    }
    assert_eq!(bench.of("a"), None, "forgotten");
    assert_eq!(bench.group(group("a")), Outcome::Duplicate { first, count: 1 });
}

/// At the limit a new key is refused, because forgetting one could repeat an event. Publishing without one goes on.
pub fn when_keys_are_full_new_ones_are_refused_and_old_ones_still_known(new: New<'_>) {
    let bench = Bench::with(new, Setup { keys_max: 3, ..Setup::default() });
    let group = |key: u128| keyed(vec![event("a", "x")], key, key, START_MS);
    // The third and the fourth come in one append: the batch being built counts too.
    let places = [1, 2].map(|key| appended(bench.group(group(key)))[0].seq);
    let mut outcomes = bench.append(&[group(3), group(4)]).unwrap();
    assert_eq!(outcomes.pop(), Some(Outcome::Refused(Refusal::KeysFull)));
    appended(outcomes.pop().unwrap());
    assert_eq!(refusal(bench.group(group(5))), Refusal::KeysFull);
    assert_eq!(bench.group(group(1)), Outcome::Duplicate { first: places[0], count: 1 });
    assert_eq!(bench.group(group(2)), Outcome::Duplicate { first: places[1], count: 1 });
    assert_eq!(bench.stats().keys, 3);
    appended(bench.group(plain(vec![event("a", "x")])));
    assert_eq!(bench.of("a").unwrap().events, 4);
}

/// Keys that are 24 h old make room, whether maintenance runs or the next publish finds it so.
pub fn room_for_keys_comes_back_after_24_hours(new: New<'_>) {
    let bench = Bench::with(new, Setup { keys_max: 2, ..Setup::default() });
    let group = |key: u128, time_ms| keyed(vec![event("a", "x")], key, key, time_ms);
    appended(bench.group(group(1, START_MS)));
    appended(bench.group(group(2, START_MS + HOUR_MS)));
    let later = START_MS + limits::IDEMPOTENCY_MS;
    bench.maintain(later).unwrap();
    appended(bench.group(group(3, later)));
    assert_eq!(refusal(bench.group(group(4, later))), Refusal::KeysFull);
    appended(bench.group(group(4, later + HOUR_MS)));
}
