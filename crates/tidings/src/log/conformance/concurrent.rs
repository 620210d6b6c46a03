//! Several threads: readers beside a writer, writers beside each other.
//!
//! Owns: cases. Does not know: the engine.
//! Flow: in ← a way to make a store · out → a panic if the engine is wrong.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tidings_core::Seq;

use super::New;
use super::bench::{Bench, appended, channel, event, expecting, plain};
use crate::log::{Feed, Group, Log, Outcome, ReadLimit, ReadOutcome, Record, Want};

/// Three groups in one commit: five events on two channels.
fn commit() -> Vec<Group> {
    vec![
        plain(vec![event("a", "1"), event("b", "1")]),
        plain(vec![event("a", "2")]),
        plain(vec![event("b", "2"), event("a", "3")]),
    ]
}

fn everything(log: &dyn Log) -> (Seq, Vec<Record>) {
    let upto = log.head();
    let limit = ReadLimit { upto, events_max: usize::MAX, bytes_max: usize::MAX };
    let names = [channel("a"), channel("b")];
    let wanted = [0, 1].map(|i| Want { channel: &names[i], after: Seq::ZERO });
    match log.read(&wanted, limit).unwrap() {
        ReadOutcome::Events { records, to } if to == upto => (upto, records),
        other => panic!("not whole: {other:?}"),
    }
}

/// However a read falls between two appends, it finds whole commits: the events of one stand together.
pub fn readers_see_whole_commits_only(new: New<'_>) {
    let bench = Bench::new(new);
    let log = bench.log();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut seen = 0;
                    loop {
                        let last = done.load(Ordering::Acquire);
                        let (_, records) = everything(log.as_ref());
                        assert_eq!(records.len() % 5, 0, "half a commit among {} events", records.len());
                        assert!(records.len() >= seen, "events went away");
                        let bodies: Vec<&[u8]> = records.iter().map(|record| record.body.as_ref()).collect();
                        for five in bodies.chunks(5) {
                            assert_eq!(five, [b"1", b"1", b"2", b"2", b"3"]);
                        }
                        seen = records.len();
                        if last {
                            return seen;
                        }
                    }
                })
            })
            .collect();
        for _ in 0..200 {
            bench.append(commit()).unwrap();
        }
        done.store(true, Ordering::Release);
        for reader in readers {
            assert_eq!(reader.join().unwrap(), 1_000);
        }
    });
}

/// Whoever loads the head can read everything up to it at once: along its channels and along the feed.
pub fn the_head_never_runs_ahead_of_what_can_be_read(new: New<'_>) {
    let bench = Bench::new(new);
    let log = bench.log();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                let (head, records) = everything(log.as_ref());
                assert_eq!(records.last().map_or(Seq::ZERO, |record| record.seq), head);
                let from = Seq(head.0.saturating_sub(7));
                let limit = ReadLimit { upto: head, events_max: usize::MAX, bytes_max: usize::MAX };
                match log.feed(from, limit).unwrap() {
                    Feed::Events { records, to } => {
                        assert_eq!(to, head);
                        assert_eq!(records.last().map_or(Seq::ZERO, |record| record.seq), head);
                    }
                    Feed::Lagged { floor } => panic!("nothing is gone, but the floor is {floor}"),
                }
                let newest = ["a", "b"].map(|name| log.window(&channel(name)).map_or(Seq::ZERO, |w| w.head));
                assert!(newest[0].max(newest[1]) >= head, "{newest:?} behind {head}");
            }
        });
        for _ in 0..200 {
            bench.append(commit()).unwrap();
        }
        done.store(true, Ordering::Release);
        reader.join().unwrap();
    });
}

/// Appends from several threads: each is whole, sequences are given out once, compare and set lets one pass at a time.
pub fn writers_take_turns(new: New<'_>) {
    let bench = Bench::new(new);
    let (log, threads, rounds) = (bench.log(), 4, 50);
    let append = |group: Group| log.append(vec![group]).unwrap().remove(0);
    thread::scope(|scope| {
        for t in 0..threads {
            let append = &append;
            let log = &log;
            scope.spawn(move || {
                for _ in 0..rounds {
                    let places = appended(append(plain(vec![event(&format!("own{t}"), "x"); 3])));
                    assert!(places.windows(2).all(|two| two[1].seq == two[0].seq.next()), "{places:?}");
                    // Tries until its own expectation holds: a lost race is refused, never appended beside another.
                    loop {
                        let head = log.window(&channel("shared")).map_or(Seq::ZERO, |window| window.head);
                        if let Outcome::Appended(_) = append(plain(vec![expecting("shared", "x", head)])) {
                            break;
                        }
                    }
                }
            });
        }
    });
    assert_eq!(bench.bodies("shared").len(), threads * rounds);
    for t in 0..threads {
        assert_eq!(bench.bodies(&format!("own{t}")).len(), 3 * rounds);
    }
}
