//! A log whose files were changed in any way: it opens or says that it is damaged, and never serves what was not written.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tidings::log::disk::io::sim::SimDisk;
use tidings::log::disk::{DiskLog, Options, tools};
use tidings::log::{Append, Flags, Group, Log, OpenError, Outcome, ReadLimit, ReadOutcome, Retention, Want};
use tidings_core::{ChannelName, Seq};

use crate::input::Input;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Bodies by channel and sequence, as they were acknowledged.
type Written = BTreeMap<(&'static str, u64), String>;

/// With an even first byte: changes to a valid log, 6 bytes each. With an odd one: files of any content.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    if input.byte() & 1 == 0 { mutated(&mut input) } else { arbitrary(&mut input) }
}

fn mutated(input: &mut Input<'_>) {
    let (disk, written) = store();
    let damaged = disk.after_kill();
    let files: Vec<String> = disk.contents().into_keys().filter(|name| name != "lock").collect();
    let mut changes = 0;
    while !input.is_empty() && changes < 16 {
        let (kind, file) = (input.byte(), usize::from(input.byte()));
        let (offset, value) = (input.number(3), input.byte());
        let name = &files[file % files.len()];
        let contents = damaged.contents().remove(name).unwrap_or_default();
        let end = contents.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let at = usize::try_from(offset).unwrap() % (end + 1);
        match kind % 6 {
            0 if at < end => damaged.damage(name, at, |bytes| bytes[0] ^= value.max(1)),
            1 if at < end => damaged.damage(name, at, |bytes| {
                let count = bytes.len().min(usize::from(value) * 32);
                bytes[..count].fill(0);
            }),
            2 => damaged.put(name, Some(contents[..at].to_vec())),
            3 => damaged.put(name, None),
            4 => {
                let other = &files[usize::from(value) % files.len()];
                damaged.put(name, disk.contents().get(other).cloned());
            }
            5 => damaged.put(name, Some([&contents[..at], &[value], &contents[at..]].concat())),
            _ => continue,
        }
        changes += 1;
    }
    meet(&damaged, written, changes <= 1);
}

fn arbitrary(input: &mut Input<'_>) {
    let disk = SimDisk::new();
    let names: Vec<String> = store().0.contents().into_keys().filter(|name| name != "lock").collect();
    while !input.is_empty() {
        let name = &names[usize::from(input.byte()) % names.len()];
        let length = usize::try_from(input.number(2)).unwrap();
        disk.put(name, Some(input.take(length).to_vec()));
    }
    meet(&disk, &Written::new(), false);
}

/// Opens it, reads all of it, and lets the tools look at it.
fn meet(disk: &SimDisk, written: &Written, is_single: bool) {
    match DiskLog::open("", options(&disk.after_kill())) {
        Ok(log) => {
            let served = read_all(&log);
            for ((name, seq), body) in &served {
                assert_eq!(Some(body), written.get(&(*name, *seq)), "{name} {seq} was never written so");
            }
            if is_single {
                let newest = written.keys().map(|(_, seq)| *seq).max().unwrap();
                assert_eq!(log.head(), Seq(newest), "one change takes no acknowledged event silently");
            }
            // It goes on: what is appended now can be read.
            let seq = append(&log, "a", "after");
            assert_eq!(read_all(&log).get(&("a", seq.0)).map(String::as_str), Some("after"));
            log.maintain(1).unwrap();
            log.close().unwrap();
        }
        Err(OpenError::Damaged { path, .. }) => assert!(path.file_name().is_some(), "it names a file"),
        Err(OpenError::Version { .. } | OpenError::Io { .. }) if !is_single => {}
        Err(error) => panic!("{error}"),
    }
    let (mut dump, mut export) = (Vec::new(), Vec::new());
    let _ = tools::verify(&disk.after_kill()).map(|report| report.problems.len());
    let _ = tools::dump(&disk.after_kill(), &mut dump);
    let _ = tools::export(&disk.after_kill(), &mut export);
}

fn read_all(log: &DiskLog) -> Written {
    let mut all = Written::new();
    for name in NAMES {
        let channel = ChannelName::parse(name).unwrap();
        let Some(window) = log.window(&channel) else { continue };
        let mut after = window.floor;
        while after < log.head() {
            let limit = ReadLimit { upto: log.head(), events_max: 32, bytes_max: 1 << 20 };
            let to = match log.read(&[Want { channel: &channel, after }], limit).unwrap() {
                ReadOutcome::Events { records, to } => {
                    for record in records {
                        let body = String::from_utf8_lossy(&record.body).into_owned();
                        assert!(all.insert((name, record.seq.0), body).is_none(), "an event comes twice");
                    }
                    to
                }
                ReadOutcome::Corrupt { resume_after } => resume_after,
                ReadOutcome::Truncated { channels } => channels[0].1,
            };
            assert!(to > after, "reading goes on");
            after = to;
        }
    }
    all
}

fn options(disk: &SimDisk) -> Options {
    let retention = Retention::default().events_max(20);
    Options::default()
        .retention(retention)
        .segment_bytes(4 << 10)
        .reserve_bytes(0)
        .disk(Arc::new(disk.clone()))
}

fn append(log: &DiskLog, name: &str, body: &str) -> Seq {
    let event = Append {
        channel: ChannelName::parse(name).unwrap(),
        body: Bytes::copy_from_slice(body.as_bytes()),
        private: None,
        expected_prev: None,
        key: None,
        time_ms: 1,
        expires_at_ms: None,
        flags: Flags::default(),
    };
    match log.append(&[Group { events: vec![event], idempotency: None }]).unwrap().pop() {
        Some(Outcome::Appended(places)) => places[0].seq,
        other => panic!("{other:?}"),
    }
}

/// A log with sealed segments, a checkpoint, several runs and a clean end.
fn store() -> &'static (SimDisk, Written) {
    static STORE: OnceLock<(SimDisk, Written)> = OnceLock::new();
    STORE.get_or_init(|| {
        let disk = SimDisk::new();
        let mut written = Written::new();
        for run in 0..3 {
            let log = DiskLog::open("", options(&disk)).unwrap();
            for n in 0..30 {
                let name = NAMES[(n * n + run) % 3];
                let body = format!("{run}/{n} {}", "payload ".repeat(n % 20));
                let seq = append(&log, name, &body);
                written.insert((name, seq.0), body);
                if n % 10 == 0 {
                    log.maintain(1).unwrap();
                }
            }
            log.close().unwrap();
        }
        (disk, written)
    })
}
