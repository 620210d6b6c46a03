//! Pinned events: the state of something that goes on stays readable, however long that takes.
//!
//! Owns: cases. Does not know: the engine, nor when exactly it trims.
//! Flow: in ← a way to make a store · out → a panic if the engine is wrong.

use tidings_core::Seq;

use super::bench::{
    Bench, HOUR_MS, START_MS, appended, bodies, channel, event, event_at, final_event, pinned_event, plain,
    records, truncated,
};
use super::{Ending, New};
use crate::log::{Append, Flags, ReadLimit, ReadOutcome, Retention};

/// Appends one event that cannot be refused.
fn put(bench: &Bench, event: Append) -> Seq {
    appended(bench.group(plain(vec![event])))[0].seq
}

fn pinned_at(name: &str, body: &str, time_ms: u64) -> Append {
    Append { time_ms, ..pinned_event(name, body) }
}

/// A read that ends with `at` and begins right before it, as whoever needs the state reads it.
fn read_at(bench: &Bench, name: &str, at: Seq) -> ReadOutcome {
    let limit = ReadLimit { upto: at, events_max: 1, bytes_max: usize::MAX };
    bench.read_some(&[(name, Seq(at.0 - 1))], limit)
}

/// The body of the event at this place.
#[track_caller]
fn body_at(bench: &Bench, name: &str, at: Seq) -> String {
    let found = records(read_at(bench, name, at));
    assert_eq!(found.iter().map(|record| record.seq).collect::<Vec<_>>(), [at], "{name}");
    bodies(&found).remove(0)
}

/// The window names the newest pinned event; it is read with the others, and the flag comes back.
pub fn a_window_names_the_newest_pinned_event(new: New<'_>) {
    let bench = Bench::new(new);
    assert_eq!(bench.put("a", "1").prev, Seq::ZERO);
    assert_eq!(bench.of("a").unwrap().pinned, None);
    let first = put(&bench, pinned_event("a", "2"));
    bench.put("a", "3");
    assert_eq!(bench.of("a").unwrap().pinned, Some(first));
    let second = put(&bench, pinned_event("a", "4"));
    let window = bench.of("a").unwrap();
    assert_eq!((window.pinned, window.events, window.floor), (Some(second), 4, Seq::ZERO));
    let read = records(bench.read_all(&[("a", Seq::ZERO)]));
    assert_eq!(bodies(&read), ["1", "2", "3", "4"]);
    let pinned = Flags { is_pinned: true, ..Flags::default() };
    assert_eq!(read.iter().map(|r| r.flags == pinned).collect::<Vec<_>>(), [false, true, false, true]);
    let end = put(&bench, final_event("a", "5"));
    let window = bench.of("a").unwrap();
    assert_eq!((window.pinned, window.finished), (None, Some(end)), "the final event ends it");
}

/// Where more events follow than a channel keeps, in number or in bytes, the pinned one stays, alone below the floor: it
/// is neither counted nor listed, and everything about what is gone is said as ever.
pub fn a_pinned_event_stays_below_the_floor_of_its_channel(new: New<'_>) {
    for retention in [Retention::default().events_max(8), Retention::default().channel_bytes_max(8 << 10)] {
        let bench = Bench::retaining(new, retention);
        bench.put("quiet", "q");
        bench.put_many("a", 20);
        let before = bench.put("a", "before").seq;
        let pinned = put(&bench, pinned_event("a", "state"));
        let body = "x".repeat(1 << 10);
        for i in 0..100 {
            bench.put("a", &body);
            bench.put("b", "x");
            if i % 7 == 0 {
                bench.maintain(START_MS + i).unwrap();
            }
            assert_eq!(
                (bench.of("a").unwrap().pinned, body_at(&bench, "a", pinned)),
                (Some(pinned), "state".into())
            );
        }
        bench.maintain(START_MS + 200).unwrap();
        let window = bench.of("a").unwrap();
        assert!(window.floor > pinned && window.first > Some(window.floor), "{window:?}");
        assert_eq!(window.events, bench.bodies("a").len() as u64);
        assert!((4..=9).contains(&window.events), "{window:?}");
        assert!(bench.bodies("a").iter().all(|held| *held == body));
        for after in [Seq::ZERO, before, pinned] {
            assert_eq!(truncated(bench.read_all(&[("a", after)])), [(0, window.floor)], "behind {after}");
        }
        let limit = ReadLimit { upto: pinned, ..bench.everything() };
        assert_eq!(
            bodies(&records(bench.read_some(&[("a", before), ("quiet", Seq::ZERO)], limit))),
            ["q", "state"]
        );
        assert_eq!(truncated(bench.read_some(&[("a", Seq::ZERO)], limit)), [(0, window.floor)]);
        let last = bench.before_last(&[channel("a")], 1_000, bench.head()).unwrap();
        assert_eq!(Some(last.next()), window.first);
    }
}

/// Neither age nor the size of the log takes it, with or without events behind it, however often maintenance runs.
pub fn a_pinned_event_outlives_its_age_and_the_log(new: New<'_>) {
    let retention = Retention::default().age_ms_max(HOUR_MS).horizon_ms(2 * HOUR_MS).log_bytes_max(1 << 20);
    let bench = Bench::retaining(new, retention);
    let prev = bench.put("alone", "x").seq;
    let alone = put(&bench, pinned_event("alone", "state of alone"));
    let followed = put(&bench, pinned_event("followed", "state of followed"));
    bench.put_many("followed", 3);
    bench.put("gone", "x");
    let filler = "y".repeat(16 << 10);
    // Eight days: far beyond every age and horizon, and the log is written over many times.
    for hours in 1..=192 {
        let now_ms = START_MS + hours * HOUR_MS;
        put(&bench, event_at(&format!("c{}", hours % 5), &filler, now_ms));
        bench.maintain(now_ms).unwrap();
        assert_eq!(body_at(&bench, "alone", alone), "state of alone", "after {hours} hours");
        assert_eq!(body_at(&bench, "followed", followed), "state of followed", "after {hours} hours");
    }
    let window = bench.of("alone").unwrap();
    assert_eq!(
        (window.first, window.floor, window.events),
        (Some(alone), prev, 1),
        "nothing behind it is gone"
    );
    assert_eq!(bench.bodies("alone"), ["state of alone"]);
    let window = bench.of("followed").unwrap();
    assert_eq!((window.first, window.floor, window.events), (None, window.head, 0));
    assert_eq!(bench.of("gone"), None, "the horizon has passed it");
    // It goes on: what comes now is read from the old position on.
    let late = START_MS + 192 * HOUR_MS;
    put(&bench, event_at("alone", "late", late));
    put(&bench, event_at("followed", "late", late));
    assert_eq!(bench.bodies("alone"), ["state of alone", "late"]);
    assert_eq!(bench.bodies("followed"), ["late"]);
}

/// One that was replaced goes like any other event, and so does one whose channel is finished.
pub fn a_pinned_event_that_was_replaced_is_an_event_like_any_other(new: New<'_>) {
    let bench = Bench::retaining(new, Retention::default().age_ms_max(HOUR_MS).horizon_ms(100 * HOUR_MS));
    let old = ["replaced", "finished", "above"].map(|name| put(&bench, pinned_event(name, "old")));
    bench.put("replaced", "x");
    bench.put("finished", "x");
    for hours in [2, 3] {
        bench.maintain(START_MS + hours * HOUR_MS).unwrap();
    }
    let later = START_MS + 3 * HOUR_MS;
    let newer = put(&bench, pinned_at("replaced", "new", later));
    let end = put(&bench, Append { time_ms: later, ..final_event("finished", "end") });
    put(&bench, pinned_at("above", "new", later));
    bench.maintain(later).unwrap();
    for (name, at) in [("replaced", old[0]), ("finished", old[1]), ("above", old[2])] {
        let window = bench.of(name).unwrap();
        assert!(window.floor >= at, "{name}: {window:?}");
        assert_eq!(truncated(read_at(&bench, name, at)), [(0, window.floor)], "{name}");
    }
    assert_eq!(
        (body_at(&bench, "replaced", newer), body_at(&bench, "finished", end)),
        ("new".into(), "end".into())
    );
    // Where nothing else went, the old one is read until its time comes.
    let first = put(&bench, pinned_at("young", "1", later));
    let second = put(&bench, pinned_at("young", "2", later));
    assert_eq!(bench.bodies("young"), ["1", "2"]);
    bench.maintain(later + 2 * HOUR_MS).unwrap();
    assert_eq!(bench.bodies("young"), ["2"]);
    let window = bench.of("young").unwrap();
    assert_eq!((window.floor, window.pinned), (first, Some(second)));
}

/// A deletion takes the pinned event as well, even if nothing else was left of the channel.
pub fn a_deletion_takes_the_pinned_event(new: New<'_>) {
    let bench = Bench::retaining(new, Retention::default().age_ms_max(HOUR_MS));
    let pinned = put(&bench, pinned_event("a", "state"));
    bench.put("a", "x");
    let young = put(&bench, pinned_event("b", "state"));
    bench.maintain(START_MS + 3 * HOUR_MS).unwrap();
    for (name, at) in [("a", pinned), ("b", young)] {
        let window = bench.delete(&channel(name)).unwrap().unwrap();
        let expected = (None, window.head, 0, Some(window.head));
        assert_eq!((window.pinned, window.floor, window.events, window.deleted), expected, "{name}");
        assert_eq!(truncated(read_at(&bench, name, at)), [(0, window.head)], "{name}");
        assert_eq!(bench.of(name), Some(window));
    }
}

/// Neither the horizon nor the bound of records forgets a channel with a pinned event; once it has none, both do.
pub fn a_channel_with_a_pinned_event_is_not_forgotten(new: New<'_>) {
    let retention = Retention::default().age_ms_max(HOUR_MS).horizon_ms(HOUR_MS).channels_max(16);
    let bench = Bench::retaining(new, retention);
    let pinned = ["job:1", "job:2"].map(|name| put(&bench, pinned_event(name, "state")));
    for i in 0..100 {
        bench.put(&format!("c{i}"), "x");
    }
    bench.maintain(START_MS + 1_000).unwrap();
    assert!(bench.stats().channels <= 17 && bench.of("c0").is_none(), "{:?}", bench.stats());
    for hours in [3, 6, 9] {
        bench.maintain(START_MS + hours * HOUR_MS).unwrap();
        assert_eq!(bench.stats().channels, if hours < 6 { 16 } else { 2 });
        assert_eq!(body_at(&bench, "job:1", pinned[0]), "state");
    }
    put(&bench, final_event("job:1", "end"));
    bench.delete(&channel("job:2")).unwrap();
    for hours in [12, 15, 18] {
        bench.maintain(START_MS + hours * HOUR_MS).unwrap();
    }
    assert_eq!((bench.of("job:1"), bench.of("job:2"), bench.stats().channels), (None, None, 0));
}

/// Whatever ended the run: it is there in the next one, below a floor or not, and replaced, finished or deleted ones are
/// not there again.
pub fn a_pinned_event_survives_a_restart(new: New<'_>) {
    for ending in [Ending::Closed, Ending::Killed, Ending::PowerCut { seed: 1 }, Ending::PowerCut { seed: 2 }]
    {
        let retention = Retention::default().events_max(8).age_ms_max(10 * HOUR_MS).horizon_ms(HOUR_MS);
        let mut bench = Bench::retaining(new, retention);
        let pinned = ["alone", "crowded", "replaced", "finished", "deleted"]
            .map(|name| put(&bench, pinned_event(name, "state")));
        bench.put_many("crowded", 30);
        bench.put("deleted", "x");
        for round in 0..4 {
            let now_ms = START_MS + round * 12 * HOUR_MS;
            if round == 2 {
                put(&bench, pinned_at("replaced", "new", now_ms));
                put(&bench, Append { time_ms: now_ms, ..final_event("finished", "end") });
                bench.delete(&channel("deleted")).unwrap();
            }
            bench.maintain(now_ms).unwrap();
            let names = ["alone", "crowded", "replaced", "finished", "deleted"];
            let windows = names.map(|name| bench.of(name));
            if !bench.restart(ending) {
                return;
            }
            assert_eq!(names.map(|name| bench.of(name)), windows, "{ending:?} in round {round}");
            for index in 0..if round < 2 { 5 } else { 2 } {
                assert_eq!(windows[index].unwrap().pinned, Some(pinned[index]));
                assert_eq!(
                    body_at(&bench, names[index], pinned[index]),
                    "state",
                    "{ending:?} in round {round}"
                );
            }
            if round >= 2 {
                let newer = windows[2].unwrap();
                assert_eq!((newer.pinned, newer.floor), (Some(newer.head), pinned[2]));
                assert_eq!(body_at(&bench, "replaced", newer.head), "new");
                assert!(windows[3..].iter().flatten().all(|window| window.pinned.is_none()));
            }
            // What is appended behind it counts as behind it in the next run too.
            put(&bench, event("crowded", "more"));
        }
    }
}
