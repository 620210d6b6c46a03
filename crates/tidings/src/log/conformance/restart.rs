//! Restarts: what the next run finds.
//!
//! Owns: cases. Does not know: the engine. One that keeps nothing has to start empty, under an epoch of its own.
//! Flow: in ← a way to make a store · out → a panic if the engine is wrong.

use tidings_core::{Seq, Standing};

use super::bench::{
    Bench, HOUR_MS, START_MS, appended, channel, event, final_event, keyed, plain, records, refusal,
    truncated,
};
use super::{Ending, New};
use crate::log::{AppendError, Outcome, Refusal, Retention};

const ENDINGS: [Ending; 5] = [
    Ending::Closed,
    Ending::Killed,
    Ending::PowerCut { seed: 1 },
    Ending::PowerCut { seed: 2 },
    Ending::PowerCut { seed: 3 },
];

/// Every start opens an epoch. A durable log still knows the ids of the runs before; one that forgets knows none.
pub fn every_run_opens_an_epoch(new: New<'_>) {
    for ending in ENDINGS {
        let mut bench = Bench::new(new);
        let mut ids = Vec::new();
        for _ in 0..4 {
            let seq = bench.put("a", "x").seq;
            let id = bench.epochs().id(seq);
            assert!(ids.iter().all(|&(_, old)| id != old), "{id} twice");
            assert_eq!(bench.epochs().newest(), id.epoch);
            ids.push((seq, id));
            bench.restart(ending);
            for &(seq, id) in &ids {
                let expected = if bench.is_durable() { Standing::Known(seq) } else { Standing::Foreign };
                assert_eq!(bench.epochs().standing(id, bench.head()), expected, "{id} after {ending:?}");
            }
        }
    }
}

/// Whatever ended the run: events, their order, their links and all their parts are there, and nothing else.
pub fn what_was_acknowledged_survives_every_ending(new: New<'_>) {
    for ending in ENDINGS {
        let mut bench = Bench::new(new);
        let wanted = ["a", "b", "c"].map(|name| (name, Seq::ZERO));
        for run in 0..3 {
            for i in 0..20_usize {
                let size = if i == 7 { 200_000 } else { i * 13 };
                let body = format!("{run}-{i}-{}", "x".repeat(size));
                appended(bench.group(plain(vec![event("a", &body), event(["b", "c"][i % 2], &body)])));
            }
            let before = records(bench.read_all(&wanted));
            let windows = ["a", "b", "c"].map(|name| bench.of(name));
            let head = bench.head();
            if bench.restart(ending) {
                assert_eq!(bench.head(), head, "{ending:?}");
                assert!(records(bench.read_all(&wanted)) == before, "run {run} differs after {ending:?}");
                assert_eq!(["a", "b", "c"].map(|name| bench.of(name)), windows, "{ending:?}");
            } else {
                assert_eq!((bench.head(), bench.channels("")), (Seq::ZERO, vec![]), "a new log is empty");
            }
        }
    }
}

/// No sequence is given out twice, nor is a channel's link lost.
pub fn sequences_go_on_after_a_restart(new: New<'_>) {
    for ending in ENDINGS {
        let mut bench = Bench::retaining(new, Retention::default().age_ms_max(HOUR_MS));
        let mut newest = bench.put("a", "x").seq;
        for hours in [0, 2, 4] {
            // In the later rounds everything is trimmed before the restart.
            bench.maintain(START_MS + hours * HOUR_MS).unwrap();
            if bench.restart(ending) {
                assert_eq!(bench.head(), newest);
                let next = bench.put("a", "x");
                assert!(
                    next.seq > newest && next.prev == newest,
                    "{next:?} behind {newest} after {ending:?}"
                );
                newest = next.seq;
            }
        }
    }
}

/// A repeat is a repeat though the server restarted in between.
pub fn keys_survive_a_restart(new: New<'_>) {
    for ending in ENDINGS {
        let mut bench = Bench::new(new);
        let group = |key: u128| keyed(vec![event("a", "x"), event("b", "x")], key, key, START_MS);
        let first = [1, 2, 3].map(|key| appended(bench.group(group(key)))[0].seq);
        for _ in 0..2 {
            if bench.restart(ending) {
                for (key, first) in [1, 2, 3].into_iter().zip(first) {
                    let again = bench.group(group(key));
                    assert_eq!(again, Outcome::Duplicate { first, count: 2 }, "{key} after {ending:?}");
                }
                let reused = bench.group(keyed(vec![event("a", "y")], 2, 99, START_MS));
                assert_eq!(refusal(reused), Refusal::KeyReused);
            }
        }
    }
}

/// A finished channel is finished, with its final event, in the next run too.
pub fn finished_channels_survive_a_restart(new: New<'_>) {
    for ending in ENDINGS {
        let mut bench = Bench::retaining(new, Retention::default().age_ms_max(HOUR_MS));
        let prev = bench.put("a", "x").seq;
        let end = appended(bench.group(plain(vec![final_event("a", "end")])))[0].seq;
        for hours in [1, 3, 5] {
            bench.maintain(START_MS + hours * HOUR_MS).unwrap();
            if bench.restart(ending) {
                assert_eq!(bench.of("a").unwrap().finished, Some(end), "{ending:?}");
                let read = records(bench.read_all(&[("a", prev)]));
                assert_eq!(read.iter().map(|record| record.seq).collect::<Vec<_>>(), [end], "{ending:?}");
                let refused = refusal(bench.group(plain(vec![event("a", "late")])));
                assert_eq!(refused, Refusal::Finished { index: 0, channel: channel("a") });
            }
        }
    }
}

/// What is gone stays gone, and the log still says so: floors never move back, and a deletion stays one.
pub fn floors_and_deletions_survive_a_restart(new: New<'_>) {
    for ending in ENDINGS {
        let mut bench = Bench::retaining(new, Retention::default().events_max(8));
        for _ in 0..30 {
            bench.put("trimmed", "x");
            bench.put("deleted", "x");
        }
        bench.maintain(START_MS + 1_000).unwrap();
        let deleted = bench.delete(&channel("deleted")).unwrap();
        let trimmed = bench.of("trimmed").unwrap();
        for _ in 0..2 {
            if bench.restart(ending) {
                assert_eq!(bench.of("deleted"), deleted, "{ending:?}");
                assert_eq!(bench.of("trimmed"), Some(trimmed), "{ending:?}");
                let read = bench.read_all(&[("trimmed", Seq::ZERO), ("deleted", Seq::ZERO)]);
                assert_eq!(truncated(read), [(0, trimmed.floor), (1, deleted.unwrap().floor)]);
            }
        }
    }
}

/// A deletion stays one whatever is appended, or refused, right before and after it, large enough to need room.
pub fn deletions_survive_whatever_happens_around_them(new: New<'_>) {
    for size in [10, 20_000, 60_000, 100_000] {
        let mut bench = Bench::new(new);
        bench.put("a", "x");
        let end = appended(bench.group(plain(vec![final_event("a", "end")])))[0].seq;
        let large = || "y".repeat(size);
        for _ in 0..3 {
            refusal(bench.group(plain(vec![event("a", &large())])));
        }
        let deleted = bench.delete(&channel("a")).unwrap();
        for _ in 0..3 {
            refusal(bench.group(plain(vec![event("a", &large()), event("b", &large())])));
        }
        bench.put("b", &large());
        for _ in 0..2 {
            if bench.restart(Ending::Killed) {
                assert_eq!(bench.of("a"), deleted, "around {size} bytes");
                assert_eq!(truncated(bench.read_all(&[("a", Seq::ZERO)])), [(0, end)]);
                assert_eq!(bench.bodies("b"), [large()]);
            }
        }
    }
}

/// A channel that was forgotten is not remembered again without its horizon.
pub fn the_horizon_survives_a_restart(new: New<'_>) {
    for ending in ENDINGS {
        let mut bench = Bench::retaining(new, Retention::default().age_ms_max(HOUR_MS).horizon_ms(HOUR_MS));
        let forgotten = bench.put("old", "x").seq;
        appended(bench.group(plain(vec![super::bench::event_at("young", "x", START_MS + 50 * HOUR_MS)])));
        for hours in [3, 6, 9] {
            bench.maintain(START_MS + hours * HOUR_MS).unwrap();
        }
        assert!(bench.of("old").is_none() && bench.horizon() >= forgotten);
        let horizon = bench.horizon();
        if bench.restart(ending) {
            assert!(bench.horizon() >= horizon, "{} before {horizon} after {ending:?}", bench.horizon());
            assert_eq!(bench.of("old"), None, "{ending:?}");
            assert!(bench.of("young").is_some(), "{ending:?}");
        }
    }
}

/// An append whose outcome is unknown is found again as a whole or not at all, and everything before it is there.
pub fn an_append_that_failed_halfway_is_there_as_a_whole_or_not_at_all(new: New<'_>) {
    for seed in 0..32 {
        let mut bench = Bench::new(new);
        let before: Vec<Seq> = (0..3).map(|_| bench.put("a", "x").seq).collect();
        if !bench.fail_next_append(seed) {
            return;
        }
        let group =
            keyed((0..5).map(|i| event(["a", "b"][i % 2], &"y".repeat(i * 3_000))).collect(), 1, 1, START_MS);
        let failed = bench.append(std::slice::from_ref(&group));
        assert!(
            matches!(failed, Err(AppendError::OutcomeUnknown(_) | AppendError::Poisoned(_))),
            "{failed:?}"
        );
        assert_eq!(bench.head(), before[2], "what is not acknowledged is not shown");
        let refused = bench.append(&[plain(vec![event("c", "x")])]);
        assert!(matches!(refused, Err(AppendError::Poisoned(_))), "{refused:?}");
        assert!(bench.stats().refusing.is_some());
        assert_eq!(bench.bodies("a").len(), 3, "reading goes on");
        bench.restart(Ending::PowerCut { seed });
        let (a, b) = (bench.bodies("a").len(), bench.of("b").map_or(0, |window| window.events));
        assert!((a, b) == (3, 0) || (a, b) == (6, 2), "{a} and {b} with seed {seed}");
        let repeat = bench.group(group);
        assert_eq!(matches!(repeat, Outcome::Duplicate { .. }), b == 2, "{repeat:?} with seed {seed}");
        assert_eq!((bench.bodies("a").len(), bench.of("b").unwrap().events), (6, 2));
    }
}

/// What a run found and showed is durable from then on, though it was written by an append that failed: a kill, another
/// run, and only then the power fails.
pub fn what_a_run_found_survives_the_next_power_cut(new: New<'_>) {
    for seed in 0..32 {
        let mut bench = Bench::new(new);
        bench.put("a", "1");
        if !bench.fail_next_append(seed) {
            return;
        }
        bench.append(&[plain(vec![event("a", "2"), event("b", &"y".repeat(5_000))])]).unwrap_err();
        bench.restart(Ending::Killed);
        let wanted = [("a", Seq::ZERO), ("b", Seq::ZERO)];
        let found = records(bench.read_all(&wanted));
        assert!(found.len() == 1 || found.len() == 3, "{} events are half a commit", found.len());
        if seed % 4 < 2 {
            bench.put("c", "3");
        }
        let head = bench.head();
        bench.restart(Ending::PowerCut { seed });
        assert!(records(bench.read_all(&wanted)) == found, "lost what was shown, with seed {seed}");
        assert_eq!(bench.head(), head);
    }
}
