//! What somebody or something else did to the files: flipped bytes, zeroed pages, truncation, older copies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidings_core::Seq;

use super::super::io::sim::{Random, SimDisk};
use super::super::tools::verify;
use super::super::{DiskLog, Options};
use super::{append, channel};
use crate::log::{Log, OpenError, ReadLimit, ReadOutcome, Retention, Want};

fn options(disk: &SimDisk) -> Options {
    let retention = Retention::default().events_max(60);
    Options::default()
        .retention(retention)
        .segment_bytes(8 << 10)
        .reserve_bytes(0)
        .disk(Arc::new(disk.clone()))
}

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Bodies by channel and sequence, as they were acknowledged.
type Written = BTreeMap<(&'static str, u64), String>;

/// A log with sealed segments, a checkpoint, several runs and a clean end.
fn store() -> (SimDisk, Written) {
    let disk = SimDisk::new();
    let mut written = Written::new();
    for run in 0..3 {
        let log = DiskLog::open("", options(&disk)).unwrap();
        for n in 0..100 {
            let name = NAMES[(n * n + run) % 3];
            let body = format!("{run}/{n} {}", "payload ".repeat(n % 20));
            let seq = append(&log, name, &body);
            written.insert((name, seq.0), body);
            if n % 30 == 0 {
                log.maintain(1).unwrap();
            }
        }
        log.close().unwrap();
    }
    (disk, written)
}

/// How a damaged store was met.
#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Clone, Copy)]
enum Met {
    Refused,
    Told,
    Unharmed,
}

/// Opens a damaged store and reads everything as a subscriber who starts at each channel's floor would. What is read is
/// what was written; what is missing is said to be.
fn meet(disk: &SimDisk, written: &Written, context: &str) -> Met {
    let log = match DiskLog::open("", options(disk)) {
        Ok(log) => log,
        Err(OpenError::Damaged { path, .. }) => {
            assert!(path.file_name().is_some(), "{context}: names a file");
            return Met::Refused;
        }
        // A flipped bit in a version that passes no checksum is damage, so this must not come up.
        Err(error) => panic!("{context}: {error}"),
    };
    let mut met = Met::Unharmed;
    let newest = written.keys().map(|(_, seq)| *seq).max().unwrap();
    assert_eq!(log.head(), Seq(newest), "{context}");
    for name in NAMES {
        let of = channel(name);
        let floor = log.window(&of).unwrap().floor;
        let mut after = floor;
        let mut missing: Vec<u64> =
            written.keys().filter(|(n, seq)| *n == name && *seq > floor.0).map(|(_, seq)| *seq).collect();
        let gone = written.keys().filter(|(n, seq)| *n == name && *seq <= floor.0).count();
        assert!(gone + 67 >= written.keys().filter(|(n, _)| *n == name).count(), "{context}: floor {floor}");
        while after < log.head() {
            let limit = ReadLimit { upto: log.head(), events_max: 7, bytes_max: usize::MAX };
            match log.read(&[Want { channel: &of, after }], limit).unwrap() {
                ReadOutcome::Events { records, to } => {
                    for record in &records {
                        let body = written.get(&(name, record.seq.0)).unwrap_or_else(|| panic!("{context}"));
                        assert_eq!(record.body.as_ref(), body.as_bytes(), "{context}: {name} {}", record.seq);
                        missing.retain(|&seq| seq != record.seq.0);
                    }
                    assert!(
                        !missing.iter().any(|&seq| seq > after.0 && seq <= to.0),
                        "{context}: {name} {missing:?}"
                    );
                    assert!(to > after, "{context}");
                    after = to;
                }
                ReadOutcome::Corrupt { resume_after } => {
                    assert!(resume_after > after, "{context}");
                    assert!(!log.stats().damaged.is_empty(), "{context}");
                    met = Met::Told;
                    missing.retain(|&seq| seq > resume_after.0);
                    after = resume_after;
                }
                ReadOutcome::Truncated { channels } => panic!("{context}: {channels:?}"),
            }
        }
        assert_eq!(missing, [0; 0], "{context}: {name}");
    }
    met
}

/// Places anywhere in the bytes of all files that were ever written, not in the zeros behind them.
fn places(disk: &SimDisk, n: usize, seed: u64) -> Vec<(String, usize)> {
    let files: Vec<(String, usize)> = disk
        .contents()
        .into_iter()
        .filter_map(|(name, bytes)| Some((name, bytes.iter().rposition(|&byte| byte != 0)? + 1)))
        .collect();
    let total: usize = files.iter().map(|(_, len)| len).sum();
    let mut random = Random(seed);
    (0..n)
        .map(|_| {
            let mut at = random.below(total);
            for (name, len) in &files {
                if at < *len {
                    return (name.clone(), at);
                }
                at -= len;
            }
            unreachable!("the place is below the total");
        })
        .collect()
}

#[test]
fn one_flipped_byte_anywhere_is_never_a_silent_gap() {
    let (disk, written) = store();
    assert_eq!(meet(&disk.after_kill(), &written, "unharmed"), Met::Unharmed);
    let mut counts: BTreeMap<Met, u32> = BTreeMap::new();
    for (index, (name, offset)) in places(&disk, 400, 7).into_iter().enumerate() {
        let damaged = disk.after_kill();
        let bit = 1_u8 << (index % 8);
        damaged.damage(&name, offset, |bytes| bytes[0] ^= bit);
        let context = format!("{name} at {offset}, bit {bit:#x}");
        *counts.entry(meet(&damaged, &written, &context)).or_default() += 1;
    }
    for met in [Met::Refused, Met::Told, Met::Unharmed] {
        assert!(counts.get(&met).is_some_and(|&count| count > 0), "{counts:?}");
    }
}

#[test]
fn a_segment_that_cannot_be_read_is_told_and_stops_no_publish() {
    let disk = SimDisk::new();
    let log = DiskLog::open("", options(&disk)).unwrap();
    // Soon most of every segment is gone, and what is left is worth another one.
    let body = "x".repeat(100);
    for n in 0..200 {
        append(&log, if n % 10 == 0 { "kept" } else { "a" }, &body);
    }
    let first = disk.contents().into_keys().find(|name| name.ends_with(".seg")).unwrap();
    disk.make_unreadable(&first);
    for n in 0..200 {
        append(&log, "a", &body);
        if n % 20 == 0 {
            log.maintain(n).unwrap();
        }
    }
    assert!(log.stats().damaged.iter().any(|damage| damage.contains(&first)), "{:?}", log.stats().damaged);
}

#[test]
fn one_flipped_byte_under_a_running_log_is_never_served() {
    let (disk, written) = store();
    let mut told = 0;
    for (name, offset) in places(&disk, 200, 8).into_iter().filter(|(name, _)| name.ends_with(".seg")) {
        let damaged = disk.after_kill();
        let log = DiskLog::open("", options(&damaged)).unwrap();
        damaged.damage(&name, offset, |bytes| bytes[0] ^= 0x10);
        for channel_name in NAMES {
            let of = channel(channel_name);
            let mut after = log.window(&of).unwrap().floor;
            while after < log.head() {
                let limit = ReadLimit { upto: log.head(), events_max: 5, bytes_max: usize::MAX };
                after = match log.read(&[Want { channel: &of, after }], limit).unwrap() {
                    ReadOutcome::Events { records, to } => {
                        for record in records {
                            let body = written[&(channel_name, record.seq.0)].as_bytes();
                            assert_eq!(record.body.as_ref(), body, "{name} at {offset}");
                        }
                        to
                    }
                    ReadOutcome::Corrupt { resume_after } => {
                        told += 1;
                        resume_after
                    }
                    ReadOutcome::Truncated { channels } => panic!("{name} at {offset}: {channels:?}"),
                };
            }
        }
    }
    assert!(told > 0);
}

/// Follows all channels together, as a stream does, in slices that end anywhere. What is missing is said to be; returns how
/// often.
fn follow(log: &DiskLog, written: &Written, context: &str) -> u32 {
    let names = NAMES.map(channel);
    let floors = names.each_ref().map(|name| log.window(name).unwrap().floor);
    let is_retained =
        |name: &str, seq: u64| NAMES.iter().zip(floors).any(|(of, floor)| *of == name && seq > floor.0);
    let all: BTreeSet<u64> =
        written.keys().filter(|(name, seq)| is_retained(name, *seq)).map(|(_, seq)| *seq).collect();
    let (mut after, mut told) = (Seq::ZERO, 0);
    while after < log.head() {
        let limit = ReadLimit { upto: log.head(), events_max: 7, bytes_max: usize::MAX };
        let wanted: Vec<Want<'_>> = names
            .iter()
            .zip(floors)
            .map(|(channel, floor)| Want { channel, after: after.max(floor) })
            .collect();
        match log.read(&wanted, limit).unwrap() {
            ReadOutcome::Events { records, to } => {
                let read: Vec<u64> = records.iter().map(|record| record.seq.0).collect();
                let expected: Vec<u64> = all.range(after.0 + 1..=to.0).copied().collect();
                assert_eq!(read, expected, "{context}: behind {after} up to {to}");
                assert!(to > after, "{context}");
                after = to;
            }
            ReadOutcome::Corrupt { resume_after } => {
                assert!(resume_after > after, "{context}");
                (after, told) = (resume_after, told + 1);
            }
            ReadOutcome::Truncated { channels } => panic!("{context}: {channels:?}"),
        }
    }
    told
}

fn named(disk: &SimDisk, end: &str) -> Vec<String> {
    disk.contents().into_keys().filter(|name| name.ends_with(end)).collect()
}

#[test]
fn an_index_that_cannot_be_read_stops_no_start_and_is_written_again() {
    let (disk, written) = store();
    for name in named(&disk, ".idx") {
        let len = disk.contents()[&name].len();
        for from in [0, 60, len / 2, len - 1] {
            let context = format!("{name} from {from}");
            let bad = disk.after_kill();
            bad.make_unreadable_from(&name, from);
            let log = DiskLog::open("", options(&bad)).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(follow(&log, &written, &context), 0, "{context}");
            log.maintain(1).unwrap();
            assert_eq!(log.stats().damaged, [""; 0], "{context}");
            drop(log);
            assert_eq!(verify(&bad).unwrap().problems, [], "{context}");
        }
    }
}

#[test]
fn an_index_that_becomes_bad_is_made_again_from_its_segment_and_nothing_is_missing() {
    let (disk, written) = store();
    for name in named(&disk, ".idx") {
        let len = disk.contents()[&name].len();
        // Every byte is one of them: what stands there is a sum, a mark, a hash, a count, a name, a place.
        for at in (0..len).step_by(23) {
            let context = format!("{name} at {at}");
            let bad = disk.after_kill();
            let log = DiskLog::open("", options(&bad)).unwrap();
            let windows = NAMES.map(|name| log.window(&channel(name)));
            bad.damage(&name, at, |bytes| bytes[0] ^= 0x80);
            assert_eq!(follow(&log, &written, &context), 0, "{context}");
            assert_eq!(NAMES.map(|name| log.window(&channel(name))), windows, "{context}");
            assert_eq!(log.stats().damaged, [""; 0], "{context}");
        }
        let bad = disk.after_kill();
        let log = DiskLog::open("", options(&bad)).unwrap();
        bad.make_unreadable(&name);
        assert_eq!(follow(&log, &written, &name), 0, "{name}");
        log.maintain(1).unwrap();
        assert_eq!((log.stats().damaged, verify(&bad).unwrap().problems), (vec![], vec![]), "{name}");
    }
}

#[test]
fn an_index_that_cannot_be_read_keeps_no_space_from_being_given_back() {
    let (disk, _) = store();
    let log = DiskLog::open("", options(&disk)).unwrap();
    let before = named(&disk, ".seg");
    named(&disk, ".idx").iter().for_each(|name| disk.make_unreadable(name));
    for n in 0..300 {
        append(&log, NAMES[n % 3], &"x".repeat(100));
        if n % 30 == 0 {
            log.maintain(1).unwrap();
        }
    }
    let after = named(&disk, ".seg");
    assert!(!before.iter().any(|name| after.contains(name)), "{before:?} of {after:?}");
}

#[test]
fn an_index_and_a_segment_that_are_both_damaged_are_told() {
    let (disk, written) = store();
    let mut told = 0;
    for (index, segment) in named(&disk, ".idx").iter().zip(named(&disk, ".seg")) {
        let len = disk.contents()[&segment].len();
        for at in (100..len).step_by(701) {
            let context = format!("{segment} at {at}");
            let bad = disk.after_kill();
            let log = DiskLog::open("", options(&bad)).unwrap();
            bad.make_unreadable(index);
            bad.damage(&segment, at, |bytes| bytes[0] ^= 1);
            told += follow(&log, &written, &context);
            log.maintain(1).unwrap();
            assert!(named(&bad, ".seg").contains(&segment), "{context}: damaged segments stay as they are");
        }
    }
    assert!(told > 10, "{told}");
}

#[test]
fn an_index_that_is_made_at_a_start_names_what_was_forgotten_too() {
    let disk = SimDisk::new();
    let options = || {
        let retention = Retention::default().channels_max(2);
        options(&disk).retention(retention)
    };
    let log = DiskLog::open("", options()).unwrap();
    for n in 0..240 {
        append(&log, ["a", "b", "c"][n / 80], &"x".repeat(50));
        append(&log, "d", "1");
    }
    log.maintain(1).unwrap();
    assert_eq!(log.window(&channel("a")), None);
    append(&log, "a", "again");
    log.close().unwrap();
    named(&disk, ".idx").iter().for_each(|name| disk.put(name, None));
    let log = DiskLog::open("", options()).unwrap();
    log.maintain(1).unwrap();
    log.close().unwrap();
    assert!(named(&disk, ".idx").len() > 2);
    assert_eq!(verify(&disk).unwrap().problems, []);
}

#[test]
fn a_zeroed_page_or_a_truncated_file_is_never_a_silent_gap() {
    let (disk, written) = store();
    let mut harmed = 0;
    for (name, bytes) in disk.contents().into_iter().filter(|(name, _)| name != "lock") {
        let len = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
        for page in (0..len).step_by(512) {
            let damaged = disk.after_kill();
            damaged.damage(&name, page, |bytes| {
                let end = bytes.len().min(4096);
                bytes[..end].fill(0);
            });
            harmed +=
                u32::from(meet(&damaged, &written, &format!("{name} zeroed at {page}")) != Met::Unharmed);
            let damaged = disk.after_kill();
            damaged.put(&name, Some(bytes[..page].to_vec()));
            harmed += u32::from(meet(&damaged, &written, &format!("{name} cut at {page}")) != Met::Unharmed);
        }
        let damaged = disk.after_kill();
        damaged.put(&name, None);
        harmed += u32::from(meet(&damaged, &written, &format!("{name} removed")) != Met::Unharmed);
    }
    assert!(harmed > 50, "{harmed}");
}

#[test]
fn an_older_copy_of_the_whole_folder_resets_exactly_those_who_saw_more() {
    use tidings_core::Standing;
    let disk = SimDisk::new();
    let log = DiskLog::open("", options(&disk)).unwrap();
    append(&log, "a", "1");
    let early = log.epochs().id(append(&log, "a", "2"));
    let older = disk.after_kill();
    let late = log.epochs().id(append(&log, "a", "3"));
    drop(log);
    let log = DiskLog::open("", options(&older)).unwrap();
    append(&log, "a", "another 3");
    assert_eq!(log.epochs().standing(early, log.head()), Standing::Known(Seq(2)));
    assert_eq!(log.epochs().standing(late, log.head()), Standing::Foreign);
}

#[test]
fn an_older_copy_of_a_single_file_is_refused_or_changes_nothing() {
    let disk = SimDisk::new();
    let mut written = Written::new();
    let mut copies = Vec::new();
    for run in 0..4 {
        let log = DiskLog::open("", options(&disk)).unwrap();
        for n in 0..60 {
            let name = NAMES[n % 3];
            let body = format!("{run}/{n} {}", "payload ".repeat(n % 20));
            let seq = append(&log, name, &body);
            written.insert((name, seq.0), body);
            if n % 20 == 0 {
                log.maintain(1).unwrap();
                copies.push(disk.contents());
            }
        }
        log.close().unwrap();
        copies.push(disk.contents());
    }
    let mut refused = 0;
    for (age, copy) in copies.iter().enumerate() {
        for (name, bytes) in copy {
            let restored = disk.after_kill();
            restored.put(name, Some(bytes.clone()));
            let context = format!("{name} as of copy {age}");
            refused += u32::from(meet(&restored, &written, &context) == Met::Refused);
        }
    }
    assert!(refused > 5, "{refused}");
}
