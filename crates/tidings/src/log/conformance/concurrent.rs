//! Several threads: readers beside a writer, writers beside each other.
//!
//! Owns: cases. Does not know: the engine.
//! Flow: in ← a way to make a store · out → a panic if the engine is wrong.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tidings_core::Seq;

use super::New;
use super::bench::{Bench, START_MS, appended, channel, event, expecting, plain};
use crate::log::{Feed, Group, Log, Outcome, ReadLimit, ReadOutcome, Record, Retention, Want};

/// Events of one commit. It has many groups, so that a reader that could see half of it has many chances.
const COMMIT: usize = 120;
const COMMITS: usize = 300;

fn keeping_all(new: New<'_>) -> Bench {
    Bench::retaining(new, Retention::default().events_max(1_000_000))
}

fn commit() -> Vec<Group> {
    let group = |i: usize| {
        let event_of = |i: usize| event(if i % 5 < 2 { "a" } else { "b" }, &i.to_string());
        plain(vec![event_of(i * 3), event_of(i * 3 + 1), event_of(i * 3 + 2)])
    };
    (0..COMMIT / 3).map(group).collect()
}

/// What both channels hold behind a position, up to the head that is loaded first.
fn follow(log: &dyn Log, after: Seq) -> (Seq, Vec<Record>) {
    let upto = log.head();
    let limit = ReadLimit { upto, events_max: usize::MAX, bytes_max: usize::MAX };
    let names = [channel("a"), channel("b")];
    let wanted = [0, 1].map(|i| Want { channel: &names[i], after });
    match log.read(&wanted, limit).unwrap() {
        ReadOutcome::Events { records, to } if to == upto => (upto, records),
        other => panic!("not whole: {other:?}"),
    }
}

/// Appends all commits while `reader` runs over and over, and once more when the last is done.
fn while_appending(bench: &Bench, mut reader: impl FnMut(&dyn Log) + Send) {
    let log = bench.log();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                let is_last = done.load(Ordering::Acquire);
                reader(log.as_ref());
                if is_last {
                    return;
                }
            }
        });
        for _ in 0..COMMITS {
            bench.append(&commit()).unwrap();
        }
        done.store(true, Ordering::Release);
    });
}

/// However a read falls between two appends, it finds whole commits: the events of one stand together.
pub fn readers_see_whole_commits_only(new: New<'_>) {
    let bench = keeping_all(new);
    let (mut cursor, mut seen) = (Seq::ZERO, 0);
    while_appending(&bench, |log| {
        let (head, records) = follow(log, cursor);
        assert_eq!(records.len() % COMMIT, 0, "half a commit among {} events", records.len());
        for (i, record) in records.iter().enumerate() {
            assert_eq!(record.body, (i % COMMIT).to_string());
        }
        seen += records.len();
        cursor = head;
    });
    assert_eq!((cursor, seen), (bench.head(), COMMIT * COMMITS));
}

/// Whoever loads the head can read everything up to it at once: along its channels and along the feed.
pub fn the_head_never_runs_ahead_of_what_can_be_read(new: New<'_>) {
    let bench = keeping_all(new);
    while_appending(&bench, |log| {
        let head = log.head();
        let from = Seq(head.0.saturating_sub(7));
        let newest = |records: &[Record]| records.last().map_or(Seq::ZERO, |record| record.seq);
        let (later, records) = follow(log, from);
        assert!(later >= head);
        assert_eq!(newest(&records), later);
        let limit = ReadLimit { upto: head, events_max: usize::MAX, bytes_max: usize::MAX };
        match log.feed(from, limit).unwrap() {
            Feed::Events { records, to } => assert_eq!((newest(&records), to), (head, head)),
            Feed::Lagged { floor } => panic!("nothing is gone, but the floor is {floor}"),
        }
        let heads = ["a", "b"].map(|name| log.window(&channel(name)).map_or(Seq::ZERO, |window| window.head));
        assert!(heads[0].max(heads[1]) >= head, "{heads:?} behind {head}");
    });
    assert_eq!(records_in(&bench), COMMIT * COMMITS);
}

fn records_in(bench: &Bench) -> usize {
    ["a", "b"].iter().map(|name| bench.bodies(name).len()).sum()
}

/// Appends from several threads: each is whole, sequences are given out once, compare and set lets one pass at a time.
pub fn writers_take_turns(new: New<'_>) {
    let bench = Bench::new(new);
    let (log, threads, rounds) = (bench.log(), 4, 50);
    let append = |group: Group| log.append(&[group]).unwrap().remove(0);
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

/// Retention and deletion overtake a slow reader: each of its reads links to the one before it, or says that something
/// is gone and from where on to read. It never passes over anything quietly.
pub fn a_reader_that_retention_overtakes_is_told(new: New<'_>) {
    let bench = Bench::retaining(new, Retention::default().events_max(40));
    let (log, done, rounds) = (bench.log(), AtomicBool::new(false), 400);
    let reader = || {
        let (mut cursor, mut seen, mut resets) = (Seq::ZERO, 0, 0);
        // The newest event that was read, or was said to be gone. A read moves the cursor further than that, so the
        // cursor would not show what a read has passed over.
        let mut known = Seq::ZERO;
        loop {
            let is_last = done.load(Ordering::Acquire);
            let upto = log.head();
            let name = channel("a");
            let limit = ReadLimit { upto, events_max: 3, bytes_max: usize::MAX };
            match log.read(&[Want { channel: &name, after: cursor }], limit).unwrap() {
                ReadOutcome::Events { records, to } => {
                    for record in &records {
                        assert!(record.prev <= known && record.seq > cursor, "{record:?} behind {known}");
                        (cursor, known) = (record.seq, record.seq);
                    }
                    seen += records.len();
                    cursor = cursor.max(to);
                    if is_last && records.is_empty() {
                        assert_eq!(log.window(&name).map(|window| window.head), Some(known));
                        return (cursor, seen + resets);
                    }
                }
                ReadOutcome::Truncated { channels } => {
                    assert!(
                        channels.len() == 1 && channels[0].0 == 0 && channels[0].1 > cursor,
                        "{channels:?}"
                    );
                    (cursor, known) = (channels[0].1, channels[0].1);
                    resets += 1;
                }
                ReadOutcome::Corrupt { resume_after } => panic!("corrupt up to {resume_after}"),
            }
        }
    };
    thread::scope(|scope| {
        let reader = scope.spawn(reader);
        for i in 0..rounds {
            bench.append(&[plain(vec![event("a", "x"); 9]), plain(vec![event("b", "x")])]).unwrap();
            if i % 3 == 0 {
                bench.maintain(START_MS + i).unwrap();
            }
            if i % 50 == 49 {
                bench.delete(&channel("a")).unwrap();
            }
        }
        done.store(true, Ordering::Release);
        let (cursor, turns) = reader.join().unwrap();
        assert_eq!(cursor, bench.head());
        assert!(turns > 0);
    });
}
