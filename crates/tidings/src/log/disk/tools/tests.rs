use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::io::sim::SimDisk;
use super::super::tests::{append, channel};
use super::super::{DiskLog, Options};
use super::{dump, export, verify};
use crate::log::{Log, Retention};

fn store() -> SimDisk {
    let disk = SimDisk::new();
    let options = Options::default().segment_bytes(4 << 10).reserve_bytes(0).disk(Arc::new(disk.clone()));
    let log = DiskLog::open("", options).unwrap();
    for n in 0..100 {
        append(&log, "a", &format!("event: step\nchannel: a\ntime: 1\ndata: {{\"n\":{n}}}\n"));
    }
    log.delete(&channel("a")).unwrap();
    log.close().unwrap();
    disk
}

#[test]
fn a_whole_log_has_no_problems_and_every_event_is_shown() {
    let disk = store();
    let report = verify(&disk).unwrap();
    assert_eq!((report.problems.as_slice(), report.events, report.head.0), (&[][..], 100, 100));
    assert!(report.segments > 2 && report.frames == 101, "{report:?}");
    let mut text = Vec::new();
    dump(&disk, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains(" 42 prev 41 a time 1 ") && text.contains("channel a deleted up to 100"), "{text}");
    let mut lines = Vec::new();
    export(&disk, &mut lines).unwrap();
    let lines: Vec<serde_json::Value> =
        String::from_utf8(lines).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 100);
    assert_eq!((&lines[41]["event"], &lines[41]["data"]["n"]), (&"step".into(), &41.into()));
    assert!(lines[41]["id"].as_str().unwrap().ends_with("-42"));
}

#[test]
fn every_damaged_place_is_named_and_what_is_behind_it_is_still_shown() {
    let disk = store();
    let names: Vec<String> = disk.contents().into_keys().filter(|name| name.ends_with(".seg")).collect();
    disk.damage(&names[0], 700, |bytes| bytes[0] ^= 1);
    disk.damage(&names[1], 900, |bytes| bytes[0] ^= 1);
    disk.damage("epochs", 30, |bytes| bytes[0] ^= 1);
    let report = verify(&disk).unwrap();
    let files: Vec<&str> = report.problems.iter().map(|problem| problem.file.as_str()).collect();
    assert!(files.contains(&names[0].as_str()) && files.contains(&names[1].as_str()), "{files:?}");
    assert!(files.contains(&"epochs"), "{files:?}");
    assert_eq!(report.events, 98);
    let first = report.problems.iter().find(|problem| problem.file == names[0]).unwrap();
    assert!((500..=700).contains(&first.offset), "{first}");
}

#[test]
fn files_are_checked_against_each_other() {
    let disk = store();
    let found = |disk: &SimDisk| -> Vec<String> {
        verify(disk).unwrap().problems.into_iter().map(|problem| problem.file).collect()
    };
    let names: Vec<String> = disk.contents().into_keys().collect();
    let indexes: Vec<&String> = names.iter().filter(|name| name.ends_with(".idx")).collect();
    let segments: Vec<&String> = names.iter().filter(|name| name.ends_with(".seg")).collect();
    for name in &indexes {
        let damaged = disk.after_kill();
        let len = damaged.contents()[*name].len();
        damaged.damage(name, len - 3, |bytes| bytes[0] ^= 1);
        assert_eq!(found(&damaged), std::slice::from_ref(*name));
    }
    // The checkpoint lists it.
    let missing = disk.after_kill();
    missing.put(segments[1], None);
    assert_eq!(found(&missing), std::slice::from_ref(segments[1]));
    // The runs promise more than is there.
    drop(DiskLog::open("", Options::default().reserve_bytes(0).disk(Arc::new(disk.clone()))).unwrap());
    let short = disk.after_kill();
    short.put("checkpoint", None);
    let newest = segments[segments.len() - 1];
    short.damage(newest, 80, |bytes| bytes.fill(0));
    assert_eq!(found(&short), std::slice::from_ref(newest));
}

#[test]
fn an_index_that_is_whole_but_wrong_is_named() {
    let disk = store();
    let names: Vec<String> = disk.contents().into_keys().filter(|name| name.ends_with(".idx")).collect();
    let segment = names[0].replace(".idx", ".seg");
    let bytes = disk.contents()[&segment].clone();
    let header = super::SegmentHeader::decode(&bytes).unwrap();
    let frames: Vec<usize> = super::scan::frames(&bytes, header.salt).map(|frame| frame.offset).collect();
    // A segment that lost its last event, with the index that it had.
    let mut short = bytes;
    short.truncate(*frames.last().unwrap());
    disk.put(&segment, Some(short));
    let files: Vec<String> =
        verify(&disk).unwrap().problems.into_iter().map(|problem| problem.file).collect();
    assert!(files.contains(&names[0]), "{files:?}");
}

#[test]
fn what_a_running_server_does_meanwhile_is_no_problem() {
    let retention = Retention::default().events_max(40);
    let open = |disk: &SimDisk| {
        let options = Options::default().retention(retention).segment_bytes(4 << 10).reserve_bytes(0);
        Arc::new(DiskLog::open("", options.disk(Arc::new(disk.clone()))).unwrap())
    };
    let fill = |log: &DiskLog, count| {
        for n in 0..count {
            append(log, if n % 8 == 0 { "kept" } else { "a" }, &"x".repeat(60));
        }
    };
    let whole = SimDisk::new();
    let log = open(&whole);
    fill(&log, 150);
    log.close().unwrap();
    // Before each of the reads in turn, a server appends, seals, rewrites, removes and writes checkpoints.
    let mut at = 0;
    loop {
        let disk = whole.after_kill();
        let log = open(&disk);
        fill(&log, 30);
        let (reads, other) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&log));
        let count = Arc::clone(&reads);
        disk.before_read(move || {
            if count.fetch_add(1, Ordering::SeqCst) == at {
                fill(&other, 100);
                (0..3).for_each(|_| other.maintain(1).unwrap());
            }
        });
        let report = verify(&disk).unwrap();
        assert_eq!(report.problems, [], "before read {at}");
        disk.before_read(|| {});
        if reads.load(Ordering::SeqCst) <= at {
            break;
        }
        at += 1;
    }
    assert!(at > 20, "{at}");
}

#[test]
fn commits_that_come_while_a_segment_is_read_do_not_pass_for_damage() {
    let disk = store();
    let newest = disk.contents().into_keys().rfind(|name| name.ends_with(".seg")).unwrap();
    let bytes = disk.contents()[&newest].clone();
    let header = super::SegmentHeader::decode(&bytes).unwrap();
    let frame = super::scan::frames(&bytes, header.salt).nth(1).unwrap();
    let (start, commit) = (frame.offset, bytes[frame.offset..frame.end()].to_vec());
    // As one read finds it that took these pages before the commit, and those behind them after the next one.
    disk.damage(&newest, start, |behind| behind[..commit.len()].fill(0));
    let mut lines = Vec::new();
    assert_eq!(
        export(&disk, &mut lines).unwrap().problems.len(),
        1,
        "without anybody who writes, it is damage"
    );
    let (reads, other) = (AtomicUsize::new(0), disk.clone());
    let segments = disk.contents().into_keys().filter(|name| name.ends_with(".seg")).count();
    disk.before_read(move || {
        // Of the checkpoint, the runs and each segment there is one.
        if reads.fetch_add(1, Ordering::SeqCst) == segments + 2 {
            other.damage(&newest, start, |behind| behind[..commit.len()].copy_from_slice(&commit));
        }
    });
    let mut lines = Vec::new();
    let report = export(&disk, &mut lines).unwrap();
    assert_eq!((report.problems, report.events), (vec![], 100));
}

#[test]
fn exported_data_is_what_was_published_to_the_last_digit() {
    let disk = SimDisk::new();
    let options = Options::default().reserve_bytes(0).disk(Arc::new(disk.clone()));
    let log = DiskLog::open("", options).unwrap();
    let sent = [
        "123456789012345678901234567890",
        "-0",
        "1.10",
        "3.14159265358979323846264338327950288",
        "1e400",
        r#"{"b":1,"a":2,"a":3,"u":"\u00e9"}"#,
    ];
    for data in sent {
        append(&log, "a", &format!("channel: a\ntime: 1\ndata: {data}\n"));
    }
    append(&log, "a", "channel: a\ntime: 1\ndata: [1,\ndata:  2]\n");
    append(&log, "a", "channel: a\ntime: 1\ndata: not\ndata: json\n");
    let mut lines = Vec::new();
    export(&disk, &mut lines).unwrap();
    let lines = String::from_utf8(lines).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    let expected = sent.iter().map(|data| format!(r#","data":{data},"event":"#));
    let expected: Vec<String> = expected
        .chain([r#","data":[1,  2],"event":"#.to_owned(), r#","text":"not\njson","time":1}"#.to_owned()])
        .collect();
    assert_eq!(lines.len(), expected.len());
    for (line, expected) in lines.iter().zip(&expected) {
        assert!(line.contains(expected), "{line} has {expected}");
    }
}
