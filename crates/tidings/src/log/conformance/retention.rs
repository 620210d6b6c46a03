//! Retention: what goes, what the floor says about it, and when a channel is forgotten.
//!
//! Owns: cases. Does not know: the engine, nor when exactly it trims; bounds hold with the slack of one eighth.
//! Flow: in ← a way to make a store · out → a panic if the engine is wrong.

use tidings_core::Seq;

use super::New;
use super::bench::{
    Bench, HOUR_MS, START_MS, appended, bodies, channel, event, event_at, events, expecting, final_event,
    plain, records, refusal, seqs, truncated,
};
use crate::log::{Refusal, Retention, Window};

/// What the window says and what a read behind the floor finds are the same, and the newest of what was appended.
#[track_caller]
fn holds_the_newest(bench: &Bench, name: &str, appended: &[Seq]) -> Window {
    let window = bench.of(name).expect("the channel is known");
    let held = seqs(&records(bench.read_all(&[(name, window.floor)])));
    assert_eq!(held, appended[appended.len() - held.len()..]);
    assert_eq!(window.events, held.len() as u64);
    assert_eq!(window.first, held.first().copied());
    assert_eq!(window.head, appended[appended.len() - 1]);
    window
}

/// The newest `events_max` events stay; after maintenance there is at most an eighth more.
pub fn a_channel_keeps_its_newest_events(new: New<'_>) {
    let bench = Bench::retaining(new, Retention::default().events_max(16));
    let mut all = Vec::new();
    for i in 0..100 {
        all.push(bench.put("a", "x").seq);
        bench.put("b", "x");
        assert!(holds_the_newest(&bench, "a", &all).events >= 16.min(i + 1));
        bench.maintain(START_MS + i).unwrap();
        let window = holds_the_newest(&bench, "a", &all);
        assert!((16.min(i + 1)..=18).contains(&window.events), "{window:?} after {i}");
    }
    let group = (0..1_000).map(|_| event("a", "x")).collect();
    all.extend(appended(bench.group(plain(group))).iter().map(|place| place.seq));
    assert!(holds_the_newest(&bench, "a", &all).events >= 16);
    bench.maintain(START_MS + 1_000).unwrap();
    assert!((16..=18).contains(&holds_the_newest(&bench, "a", &all).events));
}

/// After maintenance a channel's bodies are not above `channel_bytes_max` and an eighth, and not needlessly below.
pub fn a_channel_keeps_its_newest_bytes(new: New<'_>) {
    let bench = Bench::retaining(new, Retention::default().channel_bytes_max(64 << 10));
    let mut all = Vec::new();
    for i in 0..200 {
        all.push(bench.put("a", &"x".repeat(4 << 10)).seq);
        holds_the_newest(&bench, "a", &all);
        bench.maintain(START_MS + i).unwrap();
        let window = holds_the_newest(&bench, "a", &all);
        assert!(window.events <= 18, "{window:?}");
        // What an engine counts beside the bodies may cost it three of sixteen.
        assert!(window.events >= 13.min(all.len() as u64), "{window:?}");
    }
}

/// An event that is larger than what its channel may hold is not lost the moment that it was acknowledged.
pub fn one_event_above_the_byte_limit_of_its_channel_is_kept(new: New<'_>) {
    let bench = Bench::retaining(new, Retention::default().channel_bytes_max(1_000));
    bench.put("a", "small");
    bench.put("a", &"x".repeat(10_000));
    bench.maintain(START_MS).unwrap();
    assert_eq!(bench.bodies("a"), ["x".repeat(10_000)]);
}

/// Over the whole log the oldest events go first, whatever their channel; the floors say so.
pub fn the_whole_log_keeps_its_newest_bytes(new: New<'_>) {
    // Far above one segment of any engine, so that giving back whole segments can meet it.
    let max = 24 << 20;
    let bench = Bench::retaining(new, Retention::default().log_bytes_max(max).channel_bytes_max(1 << 30));
    let names: Vec<String> = (0..8).map(|i| format!("c{i}")).collect();
    let body = "x".repeat(64 << 10);
    let mut all = vec![Vec::new(); names.len()];
    for _ in 0..96 {
        let group = plain(names.iter().map(|name| event(name, &body)).collect());
        appended(bench.group(group)).iter().zip(&mut all).for_each(|(place, of)| of.push(place.seq));
    }
    bench.maintain(START_MS).unwrap();
    bench.maintain(START_MS + 1_000).unwrap();
    let windows: Vec<Window> =
        names.iter().zip(&all).map(|(name, all)| holds_the_newest(&bench, name, all)).collect();
    let held: u64 = windows.iter().map(|window| window.events * body.len() as u64).sum();
    assert!(held <= max + max / 8, "{held} bytes of bodies are held");
    assert!(windows.iter().all(|window| window.floor > Seq::ZERO), "{windows:?}");
}

/// Maintenance trims what is older than `age_ms_max`; younger events stay.
pub fn events_go_when_they_are_too_old(new: New<'_>) {
    let bench = Bench::retaining(new, Retention::default().age_ms_max(10 * HOUR_MS));
    let group = (0..20).map(|i| event_at("a", "x", START_MS + i * HOUR_MS)).collect();
    let all: Vec<Seq> = appended(bench.group(plain(group))).iter().map(|place| place.seq).collect();
    bench.maintain(START_MS + 10 * HOUR_MS - 1).unwrap();
    assert_eq!(holds_the_newest(&bench, "a", &all).events, 20);
    // Events 0 to 4 are older than ten hours, event 5 a second short of it.
    bench.maintain(START_MS + 15 * HOUR_MS - 1_000).unwrap();
    let window = holds_the_newest(&bench, "a", &all);
    assert_eq!((window.events, window.floor), (15, all[4]));
    assert_eq!(window.deleted, None);
}

/// Exactly at the floor nothing is missing behind the position; right before it something is.
pub fn a_position_at_the_floor_is_whole_and_one_before_it_is_truncated(new: New<'_>) {
    let bench = Bench::retaining(new, Retention::default().events_max(8));
    let mut all = Vec::new();
    for _ in 0..30 {
        all.push(bench.put("a", "x").seq);
        bench.put("b", "x");
    }
    bench.maintain(START_MS).unwrap();
    let window = holds_the_newest(&bench, "a", &all);
    let gone = all.iter().filter(|&&seq| seq <= window.floor).count();
    assert!(gone > 0 && gone + usize::try_from(window.events).unwrap() == all.len());
    for (i, &seq) in all.iter().enumerate() {
        if i + 1 < gone {
            assert_eq!(truncated(bench.read_all(&[("a", seq)])), [(0, window.floor)], "behind {seq}");
        } else {
            assert_eq!(seqs(&records(bench.read_all(&[("a", seq)]))), all[i + 1..], "behind {seq}");
        }
    }
    let before_the_last_that_went = Seq(all[gone - 1].0 - 1);
    assert_eq!(truncated(bench.read_all(&[("a", before_the_last_that_went)])), [(0, window.floor)]);
}

/// The indexes are those of the wanted channels that lost something, each with its floor; nothing is read.
pub fn truncated_names_exactly_the_channels_that_lost_something(new: New<'_>) {
    let bench = Bench::retaining(new, Retention::default().events_max(8));
    bench.put("quiet", "x");
    let [mut a, mut b] = [Seq::ZERO; 2];
    for _ in 0..30 {
        a = bench.put("a", "x").seq;
        b = bench.put("b", "x").seq;
    }
    bench.maintain(START_MS).unwrap();
    let floor = |name| bench.of(name).unwrap().floor;
    let wanted = [("quiet", Seq::ZERO), ("b", Seq::ZERO), ("none", Seq::ZERO), ("a", a), ("a", Seq::ZERO)];
    assert_eq!(truncated(bench.read_all(&wanted)), [(1, floor("b")), (4, floor("a"))]);
    let wanted = [("quiet", Seq::ZERO), ("b", b), ("a", floor("a"))];
    assert_eq!(records(bench.read_all(&wanted)).len() as u64, 1 + bench.of("a").unwrap().events);
}

/// "Nothing happened" is not "gone": a channel that lost nothing is whole from any position, however old.
pub fn a_position_in_a_quiet_channel_is_never_truncated(new: New<'_>) {
    let bench = Bench::retaining(new, Retention::default().events_max(4));
    let early = bench.put("quiet", "1").seq;
    bench.put_many("busy", 50);
    bench.put("quiet", "2");
    bench.maintain(START_MS + 1_000).unwrap();
    assert_eq!(bench.of("quiet").unwrap().floor, Seq::ZERO);
    assert_eq!(bodies(&records(bench.read_all(&[("quiet", Seq::ZERO)]))), ["1", "2"]);
    assert_eq!(bodies(&records(bench.read_all(&[("quiet", early)]))), ["2"]);
}

/// Neither count nor age nor the size of the log takes a final event from its channel.
pub fn a_final_event_stays_readable_while_its_record_lives(new: New<'_>) {
    let retention = Retention::default().events_max(4).age_ms_max(HOUR_MS).log_bytes_max(1 << 20);
    let bench = Bench::retaining(new, retention);
    bench.put_many("a", 20);
    let prev = bench.head();
    let end = appended(bench.group(plain(vec![final_event("a", "end")])))[0].seq;
    // Large enough that taking it, or counting it as taken, would change what else has to go.
    let only = "only".repeat(64 << 10);
    let first = appended(bench.group(plain(vec![final_event("b", &only)])))[0].seq;
    let later = START_MS + 2 * HOUR_MS;
    for i in 0..64 {
        appended(bench.group(plain(vec![event_at(&format!("c{i}"), &"x".repeat(64 << 10), later)])));
    }
    for hours in [2, 3, 4] {
        bench.maintain(START_MS + hours * HOUR_MS).unwrap();
        let window = bench.of("a").unwrap();
        assert_eq!((window.first, window.finished, window.events), (Some(end), Some(end), 1));
        let read = records(bench.read_all(&[("a", prev), ("b", Seq::ZERO)]));
        assert_eq!(seqs(&read), [end, first]);
        assert!(bodies(&read) == ["end", &only]);
        assert_eq!(truncated(bench.read_all(&[("a", Seq::ZERO)])).len(), 1);
    }
    let refused = refusal(bench.group(plain(vec![event("a", "x")])));
    assert_eq!(refused, Refusal::Finished { index: 0, channel: channel("a") });
}

/// When everything is trimmed, head and heads stay, and the next event goes on behind them.
pub fn sequences_survive_total_trimming(new: New<'_>) {
    let bench = Bench::retaining(new, Retention::default().age_ms_max(HOUR_MS));
    bench.put("a", "1");
    let head = bench.put("a", "2").seq;
    bench.maintain(START_MS + 3 * HOUR_MS).unwrap();
    let window = bench.of("a").unwrap();
    let expected =
        Window { first: None, head, floor: head, finished: None, pinned: None, events: 0, deleted: None };
    assert_eq!((window, bench.head()), (expected, head));
    assert_eq!(events(bench.read_all(&[("a", head)])), (vec![], head));
    assert_eq!(truncated(bench.read_all(&[("a", Seq::ZERO)])), [(0, head)]);
    let next = appended(bench.group(plain(vec![expecting("a", "3", head)])))[0];
    assert!(next.seq > head && next.prev == head, "{next:?} behind {head}");
}

/// A record stays `horizon_ms` longer than its channel's events. Then the horizon passes its head: an older id cannot
/// be judged, and says so.
pub fn a_record_outlives_its_events_until_the_horizon_passes_it(new: New<'_>) {
    let retention = Retention::default().age_ms_max(HOUR_MS).horizon_ms(10 * HOUR_MS);
    let bench = Bench::retaining(new, retention);
    bench.put("old", "x");
    let deleted = bench.put("deleted", "x").seq;
    bench.delete(&channel("deleted")).unwrap();
    let finished = appended(bench.group(plain(vec![final_event("finished", "x")])))[0].seq;
    let young = appended(bench.group(plain(vec![event_at("young", "x", START_MS + 30 * HOUR_MS)])))[0].seq;
    for hours in [0, 2, 9] {
        bench.maintain(START_MS + hours * HOUR_MS).unwrap();
        for name in ["old", "deleted", "finished", "young"] {
            assert!(bench.of(name).is_some(), "{name} is known after {hours} hours");
        }
        assert_eq!(bench.horizon(), Seq::ZERO);
    }
    assert_eq!(bench.of("deleted").unwrap().deleted, Some(deleted));
    for hours in [13, 25] {
        bench.maintain(START_MS + hours * HOUR_MS).unwrap();
    }
    for name in ["old", "deleted", "finished"] {
        assert_eq!(bench.of(name), None, "{name}");
    }
    assert!(bench.of("young").is_some());
    assert!((finished..young).contains(&bench.horizon()), "{} of {finished}..{young}", bench.horizon());
    assert_eq!(bench.stats().channels, 1);
}

/// The record outlives a deletion as it outlives events that retention took: `horizon_ms` from then on.
pub fn a_record_outlives_its_deletion_by_the_horizon(new: New<'_>) {
    let retention = Retention::default().age_ms_max(HOUR_MS).horizon_ms(10 * HOUR_MS);
    let bench = Bench::retaining(new, retention);
    let end = appended(bench.group(plain(vec![final_event("a", "end")])))[0].seq;
    for hours in [2, 9] {
        bench.maintain(START_MS + hours * HOUR_MS).unwrap();
    }
    bench.delete(&channel("a")).unwrap();
    for hours in [10, 14, 18] {
        bench.maintain(START_MS + hours * HOUR_MS).unwrap();
        assert_eq!(bench.of("a").and_then(|window| window.deleted), Some(end), "after {hours} hours");
    }
    for hours in [21, 32] {
        bench.maintain(START_MS + hours * HOUR_MS).unwrap();
    }
    assert_eq!(bench.of("a"), None);
}

/// What goes elsewhere in the log changes nothing of a channel that lost nothing: its floor, and whether it was deleted.
pub fn retention_elsewhere_leaves_a_window_as_it_was(new: New<'_>) {
    let bench = Bench::retaining(new, Retention::default().age_ms_max(HOUR_MS));
    let young = START_MS + 9 * HOUR_MS;
    bench.put("old", "x");
    bench.put("deleted", "x");
    bench.delete(&channel("deleted")).unwrap();
    bench.put_many("old", 10);
    for name in ["deleted", "fresh"] {
        appended(bench.group(plain(vec![event_at(name, "x", young), event_at(name, "y", young)])));
    }
    let windows = ["deleted", "fresh"].map(|name| bench.of(name).unwrap());
    bench.maintain(young).unwrap();
    assert_eq!(bench.of("old").unwrap().events, 0);
    assert_eq!(["deleted", "fresh"].map(|name| bench.of(name).unwrap()), windows);
    assert_eq!((windows[0].deleted, windows[1].floor), (Some(windows[0].floor), Seq::ZERO));
    assert_eq!(records(bench.read_all(&[("fresh", Seq::ZERO), ("deleted", windows[0].floor)])).len(), 4);
}

/// A forgotten channel begins anew, finished or not; sequences go on.
pub fn a_forgotten_channel_can_be_used_again(new: New<'_>) {
    let retention = Retention::default().age_ms_max(HOUR_MS).horizon_ms(HOUR_MS);
    let bench = Bench::retaining(new, retention);
    let end = appended(bench.group(plain(vec![event("a", "1"), final_event("a", "end")])))[1].seq;
    for hours in [3, 6, 9] {
        bench.maintain(START_MS + hours * HOUR_MS).unwrap();
    }
    assert_eq!(bench.of("a"), None);
    assert_eq!(events(bench.read_all(&[("a", end)])), (vec![], bench.head()));
    let again = appended(bench.group(plain(vec![expecting("a", "2", Seq::ZERO)])))[0];
    assert!(again.seq > end && again.prev == Seq::ZERO, "{again:?}");
    assert_eq!(bodies(&records(bench.read_all(&[("a", end)]))), ["2"]);
    let window = bench.of("a").unwrap();
    assert_eq!((window.first, window.events, window.finished), (Some(again.seq), 1, None));
}

/// Above `channels_max` those that nothing was appended to for the longest are forgotten, and the horizon says so.
pub fn beyond_the_most_records_the_longest_idle_are_forgotten(new: New<'_>) {
    let bench = Bench::retaining(new, Retention::default().channels_max(16));
    bench.put("busy", "x");
    for i in 0..100 {
        bench.put(&format!("c{i}"), "x");
        bench.put("busy", "x");
    }
    bench.maintain(START_MS + 1_000).unwrap();
    let known: Vec<bool> = (0..100).map(|i| bench.of(&format!("c{i}")).is_some()).collect();
    let kept = known.iter().filter(|known| **known).count();
    assert!((8..=17).contains(&kept), "{kept} of 100 are kept");
    assert!(known.iter().skip(100 - kept).all(|known| *known), "the newest are kept");
    assert_eq!(bench.bodies("busy").len(), 101);
    let oldest = bench.of(&format!("c{}", 100 - kept)).unwrap();
    let horizon = bench.horizon();
    assert!(horizon > Seq::ZERO && horizon < oldest.head, "{horizon} before {}", oldest.head);
}

/// A channel with retained events is not forgotten for its age, however short the horizon.
pub fn retention_forgets_no_channel_that_is_in_use(new: New<'_>) {
    let retention = Retention::default().age_ms_max(100 * HOUR_MS).horizon_ms(1);
    let bench = Bench::retaining(new, retention);
    bench.put("a", "1");
    for hours in [1, 50, 99] {
        bench.maintain(START_MS + hours * HOUR_MS).unwrap();
    }
    assert_eq!((bench.bodies("a").as_slice(), bench.horizon()), (&[String::from("1")][..], Seq::ZERO));
}
