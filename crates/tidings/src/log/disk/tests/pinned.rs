//! Pinned events in the files: rewritten segments, repaired ones, and those of the first format.

use std::sync::Arc;

use tidings_core::Seq;

use super::super::format::{FileKind, SEGMENT_HEADER, open_sealed};
use super::super::io::sim::SimDisk;
use super::super::tools::{dump, export, repair, verify};
use super::super::{DiskLog, Options};
use super::{append, channel, event, group, read};
use crate::log::{Flags, Log, OpenError, Outcome, ReadLimit, ReadOutcome, Record, Retention, Want, event_at};

const LOG_BYTES: u64 = 128 << 10;
const SEGMENT_BYTES: u64 = 8 << 10;

fn open(disk: &SimDisk) -> Result<DiskLog, OpenError> {
    let retention = Retention::default().log_bytes_max(LOG_BYTES).events_max(16);
    let options = Options::default().retention(retention).segment_bytes(SEGMENT_BYTES).reserve_bytes(0);
    DiskLog::open("", options.disk(Arc::new(disk.clone())))
}

fn pin(log: &DiskLog, name: &str, body: &str) -> Seq {
    let mut one = event(name, body, 1);
    one.flags = Flags { is_pinned: true, ..Flags::default() };
    match log.append(&group(vec![one])).unwrap().pop() {
        Some(Outcome::Appended(places)) => places[0].seq,
        other => panic!("{other:?}"),
    }
}

fn pinned(log: &DiskLog, name: &str) -> Option<Record> {
    let name = channel(name);
    event_at(log, &name, log.window(&name)?.pinned?).unwrap()
}

fn segments_bytes(disk: &SimDisk) -> u64 {
    let files = disk.contents().into_iter().filter(|(name, _)| name.ends_with(".seg"));
    files.map(|(_, bytes)| u64::try_from(bytes.len()).unwrap()).sum()
}

/// Writes the log over, so that everything that may go goes.
fn churn(log: &DiskLog, from: u64) {
    for n in from..from + 400 {
        append(log, &format!("c{}", n % 7), &"x".repeat(900));
        if n % 4 == 0 {
            log.maintain(n).unwrap();
        }
    }
}

#[test]
fn segments_are_rewritten_around_pinned_events_and_given_back_once_they_are_not() {
    let disk = SimDisk::new();
    let log = open(&disk).unwrap();
    let names: Vec<String> = (0..60).map(|n| format!("job:{n}")).collect();
    let body = "s".repeat(500);
    for name in &names {
        pin(&log, name, "replaced");
        append(&log, name, &"x".repeat(900));
        pin(&log, name, &format!("{name} {body}"));
        append(&log, name, &"x".repeat(900));
    }
    churn(&log, 1);
    log.close().unwrap();
    for name in &names {
        assert_eq!(pinned(&log, name).unwrap().body, format!("{name} {body}"));
    }
    let kept = LOG_BYTES + 60 * 700 + 4 * SEGMENT_BYTES;
    assert!(segments_bytes(&disk) <= kept, "{} of {kept} bytes", segments_bytes(&disk));
    let oldest = disk.contents().into_keys().find(|name| name.ends_with(".seg")).unwrap();
    let bytes = disk.contents()[&oldest].clone();
    assert!(bytes.windows(6).all(|window| window != b"replac"), "what was replaced is not copied");
    // The same in the next run, from the checkpoint and rewritten segments.
    drop(log);
    let log = open(&disk.after_kill()).unwrap();
    assert!(names.iter().all(|name| pinned(&log, name).unwrap().body == format!("{name} {body}")));
    drop(log);
    // Looking changes nothing, and the tools see what is pinned.
    assert_eq!(verify(&disk).unwrap().problems, []);
    let (mut text, mut lines) = (Vec::new(), Vec::new());
    dump(&disk, &mut text).unwrap();
    export(&disk, &mut lines).unwrap();
    let count = |text: Vec<u8>, what: &str| String::from_utf8(text).unwrap().matches(what).count();
    assert_eq!((count(text, " bytes pinned\n"), count(lines, "\"pinned\":true")), (60, 60));
    // Once none is pinned, they go like everything else.
    let log = open(&disk).unwrap();
    for (n, name) in names.iter().enumerate() {
        if n % 2 == 0 {
            log.delete(&channel(name)).unwrap();
        } else {
            pin(&log, name, "small");
        }
    }
    churn(&log, 1_000);
    log.close().unwrap();
    assert!(segments_bytes(&disk) <= LOG_BYTES + 8 * SEGMENT_BYTES, "{} bytes", segments_bytes(&disk));
    assert!(names.iter().skip(1).step_by(2).all(|name| pinned(&log, name).unwrap().body == "small"));
}

#[test]
fn a_repair_keeps_pinned_events_with_a_checkpoint_and_without() {
    for loses_checkpoint in [false, true] {
        let disk = SimDisk::new();
        let log = open(&disk).unwrap();
        let alone = pin(&log, "alone", "alone");
        let lone = pin(&log, "lone", "lone");
        for _ in 0..40 {
            append(&log, "lone", &"x".repeat(300));
        }
        pin(&log, "deleted", "deleted");
        log.delete(&channel("deleted")).unwrap();
        churn(&log, 1);
        log.close().unwrap();
        let log = open(&disk).unwrap();
        let late = pin(&log, "late", "late");
        append(&log, "late", "x");
        let floor = log.window(&channel("lone")).unwrap().floor;
        for _ in 0..20 {
            append(&log, "lone", &"y".repeat(300));
        }
        drop(log);
        let disk = disk.after_kill();
        if loses_checkpoint {
            disk.put("checkpoint", None);
        } else {
            let newest = disk.contents().into_keys().rfind(|name| name.ends_with(".seg")).unwrap();
            let header = SEGMENT_HEADER + 20;
            disk.damage(&newest, header, |bytes| bytes[0] ^= 1);
        }
        assert!(matches!(open(&disk), Err(OpenError::Damaged { .. })));
        repair(&disk, 7).unwrap();
        for _ in 0..2 {
            let log = open(&disk).unwrap();
            for (name, at) in [("alone", alone), ("lone", lone), ("late", late)] {
                let record =
                    pinned(&log, name).unwrap_or_else(|| panic!("{name} is lost: {loses_checkpoint}"));
                assert_eq!((record.seq, record.body.as_ref()), (at, name.as_bytes()));
            }
            let window = log.window(&channel("lone")).unwrap();
            assert!(window.floor >= floor && window.floor > lone, "{window:?} after {floor}");
            assert_eq!(read(&log, "lone", window.floor.0).len() as u64, window.events);
            let of = channel("lone");
            let limit = ReadLimit { upto: log.head(), events_max: usize::MAX, bytes_max: usize::MAX };
            let behind = log.read(&[Want { channel: &of, after: lone }], limit).unwrap();
            assert!(matches!(behind, ReadOutcome::Truncated { .. }), "{behind:?}");
            assert_eq!(pinned(&log, "deleted"), None);
            log.close().unwrap();
        }
    }
}

/// A file as the first format had it. Indexes are made again where they do not fit.
fn of_the_first_format(name: &str, mut bytes: Vec<u8>) -> Vec<u8> {
    let put =
        |bytes: &mut Vec<u8>, at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    put(&mut bytes, 8, 1);
    let crc = crc32c::crc32c(&bytes[..16]);
    put(&mut bytes, 16, crc);
    let end = if name.ends_with(".seg") { SEGMENT_HEADER - 4 } else { bytes.len() - 4 };
    let crc = crc32c::crc32c(&bytes[..end]);
    put(&mut bytes, end, crc);
    bytes
}

#[test]
fn a_folder_of_the_first_format_is_read_and_one_of_the_next_is_refused() {
    let disk = SimDisk::new();
    let log = open(&disk).unwrap();
    for n in 0..100 {
        append(&log, ["a", "b"][n % 2], &format!("{n} {}", "x".repeat(300)));
    }
    log.close().unwrap();
    let before = ["a", "b"].map(|name| {
        (log.window(&channel(name)), read(&log, name, log.window(&channel(name)).unwrap().floor.0))
    });
    drop(log);
    let old = disk.after_kill();
    for (name, bytes) in disk.contents() {
        if name.ends_with(".seg") || name == "epochs" || name == "checkpoint" {
            old.put(&name, Some(of_the_first_format(&name, bytes)));
        }
    }
    let is_old = |disk: &SimDisk, name: &str| disk.contents()[name][8] == 1;
    assert!(is_old(&old, "epochs") && is_old(&old, "checkpoint"));
    assert!(open_sealed(&old.contents()["checkpoint"], FileKind::Checkpoint).is_ok());
    let log = open(&old).unwrap();
    let after = ["a", "b"].map(|name| {
        (log.window(&channel(name)), read(&log, name, log.window(&channel(name)).unwrap().floor.0))
    });
    assert_eq!(after, before);
    // From the first start on, a program that knows only the first format is refused.
    assert!(!is_old(&old, "epochs"));
    pin(&log, "a", "state");
    log.close().unwrap();
    assert!(!is_old(&old, "checkpoint"));
    assert_eq!(pinned(&open(&old.after_kill()).unwrap(), "a").unwrap().body, "state");
    let newer = old.after_kill();
    newer.damage("epochs", 8, |bytes| bytes[0] = 3);
    newer.damage("epochs", 16, |bytes| {
        let crc = crc32c::crc32c(&[&old.contents()["epochs"][..8], &[3, 0, 0, 0, 2, 0, 0, 0]].concat());
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
    });
    let refused = open(&newer).unwrap_err();
    assert!(matches!(refused, OpenError::Version { found: 3, known: 2, .. }), "{refused}");
}
