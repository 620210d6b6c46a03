use std::collections::BTreeMap;
use std::sync::Arc;

use tidings_core::{EventId, Seq, Standing};

use super::super::verify;
use super::{Repaired, repair};
use crate::log::disk::io::sim::{Fault, SimDisk};
use crate::log::disk::tests::{append, channel};
use crate::log::disk::{DiskLog, Options};
use crate::log::{Log, OpenError, ReadLimit, ReadOutcome, Retention, Want};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// What was acknowledged: body and id by channel and sequence.
type Written = BTreeMap<(&'static str, u64), (String, EventId)>;

fn options(disk: &SimDisk) -> Options {
    let retention = Retention::default().events_max(400);
    Options::default()
        .retention(retention)
        .segment_bytes(8 << 10)
        .reserve_bytes(0)
        .disk(Arc::new(disk.clone()))
}

/// Three runs; the last one is killed, with several segments behind the last checkpoint.
fn store() -> (SimDisk, Written) {
    let disk = SimDisk::new();
    let mut written = Written::new();
    for run in 0..3 {
        let log = DiskLog::open("", options(&disk)).unwrap();
        for n in 0..160 {
            let name = NAMES[(n * n + run) % 3];
            let body = format!("{run}/{n} {}", "payload ".repeat(n % 20));
            let seq = append(&log, name, &body);
            written.insert((name, seq.0), (body, log.epochs().id(seq)));
            if n == 70 {
                log.delete(&channel("c")).unwrap();
            }
            if run == 0 && n % 30 == 0 {
                log.maintain(1).unwrap();
            }
        }
        if run == 0 {
            log.close().unwrap();
        }
    }
    (disk.after_kill(), written)
}

fn segments(disk: &SimDisk) -> Vec<String> {
    disk.contents().into_keys().filter(|name| name.ends_with(".seg") && !name.contains('/')).collect()
}

/// Everything that can be read of a channel, from its floor on.
fn bodies(log: &DiskLog, name: &str) -> Vec<(u64, String)> {
    let of = channel(name);
    let Some(window) = log.window(&of) else { return Vec::new() };
    let limit = ReadLimit { upto: log.head(), events_max: usize::MAX, bytes_max: usize::MAX };
    match log.read(&[Want { channel: &of, after: window.floor }], limit).unwrap() {
        ReadOutcome::Events { records, .. } => {
            records.iter().map(|r| (r.seq.0, String::from_utf8_lossy(&r.body).into_owned())).collect()
        }
        other => panic!("{name}: {other:?}"),
    }
}

/// Refused with file and offset, then repaired, and what is left is whole: returns what the repair said.
fn check(disk: &SimDisk, written: &Written, file: &str, context: &str) -> Repaired {
    match DiskLog::open("", options(disk)).map(drop) {
        Err(OpenError::Damaged { path, .. }) => {
            assert!(path.ends_with(file), "{context}: {} is named", path.display());
        }
        other => panic!("{context}: {other:?}"),
    }
    let before = disk.contents();
    assert_ne!(verify(disk).unwrap().problems, [], "{context}: verify finds it too");
    let done = repair(disk, 7).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert!(done.damage.iter().any(|problem| problem.file == file), "{context}: {done:?}");
    // Whatever was changed or removed is aside, as it was.
    let after = disk.contents();
    for (name, bytes) in before.iter().filter(|(name, _)| !name.ends_with(".idx") && *name != "lock") {
        let kept = after.get(name) == Some(bytes);
        let aside = after.get(&format!("repair-7/{name}")) == Some(bytes);
        assert!(kept || aside || name.ends_with(".tmp"), "{context}: {name} is gone");
    }
    assert_eq!(verify(disk).unwrap().problems, [], "{context}: clean after the repair");
    let log = DiskLog::open("", options(disk)).unwrap_or_else(|error| panic!("{context}: {error}"));
    check_left(&log, written, &done, context);
    // Publishing goes on, and is there after the next start.
    let next = append(&log, "a", "after the repair");
    assert!(next > done.kept.next(), "{context}");
    log.maintain(2).unwrap();
    log.close().unwrap();
    drop(log);
    let log = DiskLog::open("", options(disk)).unwrap();
    assert_eq!(bodies(&log, "a").last().unwrap().0, next.0, "{context}");
    assert_eq!(verify(disk).unwrap().problems, [], "{context}: clean after the next run");
    done
}

fn check_left(log: &DiskLog, written: &Written, done: &Repaired, context: &str) {
    // The older half of the channel that was deleted in every run, if there is one.
    let deleted = written.keys().filter(|(name, _)| *name == "c").map(|(_, seq)| *seq).nth(1);
    for name in NAMES {
        let left = bodies(log, name);
        let floor = log.window(&channel(name)).map_or(0, |window| window.floor.0);
        let expected: Vec<(u64, String)> = written
            .iter()
            .filter(|((of, seq), _)| *of == name && *seq > floor && *seq <= done.kept.0)
            .map(|((_, seq), (body, _))| (*seq, body.clone()))
            .collect();
        assert_eq!(left, expected, "{context}: {name}");
        if name == "c" && done.kept.0 > 100 {
            assert!(Some(floor) >= deleted, "{context}: what was deleted stays so: {floor}");
        } else if name != "c" {
            assert_eq!(floor, 0, "{context}: {name} was never trimmed");
        }
    }
    for (id, seq) in written.iter().map(|((_, seq), (_, id))| (*id, *seq)) {
        let standing = log.epochs().standing(id, log.head());
        if seq > done.kept.0 {
            assert!(matches!(standing, Standing::Foreign | Standing::Ahead), "{context}: {id} {standing:?}");
        } else if !done.damage.iter().any(|problem| problem.file == "epochs") {
            assert_eq!(standing, Standing::Known(Seq(seq)), "{context}");
            assert!(Seq(seq) < log.horizon(), "{context}: {id} is told");
        }
    }
    assert_eq!(log.horizon(), log.head(), "{context}: a new stream is not told");
}

#[test]
fn a_flipped_byte_is_cut_with_everything_behind_it() {
    let (disk, written) = store();
    let names = segments(&disk);
    assert!(names.len() > 8, "{names:?}");
    for name in names.iter().skip(names.len() - 5) {
        let damaged = disk.after_kill();
        damaged.damage(name, 700, |bytes| bytes[0] ^= 1);
        let done = check(&damaged, &written, name, &format!("{name} flipped"));
        let (first, last) = done.lost.unwrap();
        assert_eq!((first, last), (done.kept.next(), Seq(480)), "{name}");
        assert!(done.lost_bytes > 0);
    }
}

#[test]
fn a_zeroed_page_a_damaged_head_and_a_segment_cut_short_are_cut() {
    let (disk, written) = store();
    let names = segments(&disk);
    let name = &names[names.len() - 3];
    let zeroed = disk.after_kill();
    zeroed.damage(name, 1024, |bytes| bytes[..2048].fill(0));
    check(&zeroed, &written, name, "zeroed");
    let headless = disk.after_kill();
    headless.damage(name, 30, |bytes| bytes[0] ^= 1);
    let done = check(&headless, &written, name, "without a head");
    assert_eq!(Some(done.kept.next()), crate::log::disk::segment::segment_first(name));
    let short = disk.after_kill();
    short.put(name, Some(disk.contents()[name][..2000].to_vec()));
    // What is missing is noticed at its end, or at the segment that follows.
    match DiskLog::open("", options(&short)).map(drop) {
        Err(OpenError::Damaged { path, .. }) => {
            let file = path.file_name().unwrap().to_string_lossy().into_owned();
            check(&short, &written, &file, "cut short");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_missing_segment_is_where_the_log_ends() {
    let (disk, written) = store();
    let names = segments(&disk);
    // One that the checkpoint names, and one behind it.
    for (missing, named) in [(1, 1), (names.len() - 3, names.len() - 2)] {
        let damaged = disk.after_kill();
        damaged.put(&names[missing], None);
        let done = check(&damaged, &written, &names[named], &format!("{} missing", names[missing]));
        assert_eq!(Some(done.kept.next()), crate::log::disk::segment::segment_first(&names[missing]));
    }
}

#[test]
fn a_damaged_checkpoint_or_list_of_runs_is_made_again_and_nothing_is_lost() {
    let (disk, written) = store();
    for file in ["checkpoint", "epochs"] {
        let damaged = disk.after_kill();
        damaged.damage(file, 30, |bytes| bytes[0] ^= 1);
        let done = check(&damaged, &written, file, file);
        assert_eq!((done.kept, done.lost, done.lost_bytes), (Seq(480), None, 0), "{file}");
        let missing = disk.after_kill();
        missing.damage(file, 30, |bytes| bytes[0] ^= 1);
        let names = segments(&disk);
        missing.damage(&names[names.len() - 2], 700, |bytes| bytes[0] ^= 1);
        check(&missing, &written, file, &format!("{file} and a segment"));
    }
}

#[test]
fn an_older_copy_of_one_file_is_repaired_wherever_it_is_refused() {
    let disk = SimDisk::new();
    let mut written = Written::new();
    let mut copies = Vec::new();
    for run in 0..4 {
        let log = DiskLog::open("", options(&disk)).unwrap();
        for n in 0..60 {
            let body = format!("{run}/{n} {}", "payload ".repeat(n % 20));
            let seq = append(&log, NAMES[n % 2], &body);
            written.insert((NAMES[n % 2], seq.0), (body, log.epochs().id(seq)));
            if n % 20 == 0 {
                log.maintain(1).unwrap();
                copies.push(disk.contents());
            }
        }
        log.close().unwrap();
        copies.push(disk.contents());
    }
    let mut repaired = 0;
    for (age, copy) in copies.iter().enumerate() {
        for (name, bytes) in copy {
            let restored = disk.after_kill();
            restored.put(name, Some(bytes.clone()));
            let refused = DiskLog::open("", options(&restored.after_kill())).map(drop);
            if let Err(OpenError::Damaged { path, .. }) = refused {
                let file = path.file_name().unwrap().to_string_lossy().into_owned();
                check(&restored, &written, &file, &format!("{name} as of copy {age}"));
                repaired += 1;
            }
        }
    }
    assert!(repaired > 5, "{repaired}");
}

#[test]
fn a_whole_log_is_left_alone_and_one_in_use_is_refused() {
    let (disk, _) = store();
    let before = disk.contents();
    assert_eq!(repair(&disk, 7).unwrap(), Repaired::default());
    assert_eq!(disk.contents(), before);
    let _log = DiskLog::open("", options(&disk)).unwrap();
    assert!(matches!(repair(&disk, 7), Err(OpenError::Locked(_))));
}

#[test]
fn a_repair_that_is_interrupted_anywhere_can_be_run_again_and_everybody_is_told() {
    let (disk, written) = store();
    let names = segments(&disk);
    disk.damage(&names[names.len() - 3], 700, |bytes| bytes[0] ^= 1);
    let whole = disk.after_kill();
    let done = repair(&whole, 7).unwrap();
    for n in 1..=whole.counts().writes {
        for seed in [None, Some(n)] {
            let cut = disk.after_kill();
            cut.fail(Some(Fault::CutAtWrite(n)));
            repair(&cut, 7).unwrap_err();
            let cut = cut.after_power_cut(seed);
            let context = format!("write {n}, seed {seed:?}");
            let refused = DiskLog::open("", options(&cut)).map(drop);
            if n < whole.counts().writes {
                assert!(refused.is_err(), "{context}: half a repair does not open");
            }
            repair(&cut, 8).unwrap_or_else(|error| panic!("{context}: {error}"));
            let log = DiskLog::open("", options(&cut)).unwrap_or_else(|error| panic!("{context}: {error}"));
            check_left(&log, &written, &done, &context);
        }
    }
}
