//! The suite, run against the log on disk.
//!
//! Owns: stores for it, in a real folder and on a disk that loses what was not synced. Does not know: the cases.
//! Flow: in ← a setup · out → one test per case and kind of disk.

mod lossy;

use std::sync::Arc;

use tidings_core::Seq;

use self::lossy::LossyDisk;
use super::bench::{START_MS, appended, bodies, channel, event, plain, records};
use super::{Ending, Setup, Store};
use crate::log::disk::{DiskLog, Options};
use crate::log::{Append, Log, ReadLimit, Want};

/// Small, so that every case crosses segments.
const SEGMENT_BYTES: u64 = 64 << 10;

fn options(setup: Setup) -> Options {
    let options = Options::default().retention(setup.retention).keys_max(setup.keys_max);
    options.segment_bytes(SEGMENT_BYTES).reserve_bytes(0)
}

/// A folder of the machine. The power does not fail here; that is the simulated disk's part.
struct Folder {
    setup: Setup,
    folder: tempfile::TempDir,
}

impl Store for Folder {
    fn open(&mut self) -> Arc<dyn Log> {
        Arc::new(DiskLog::open(self.folder.path(), options(self.setup)).expect("the folder opens"))
    }
}

/// A disk in memory whose power can fail.
struct Lossy {
    setup: Setup,
    disk: LossyDisk,
}

impl Store for Lossy {
    fn open(&mut self) -> Arc<dyn Log> {
        let options = options(self.setup).disk(Arc::new(self.disk.clone()));
        Arc::new(DiskLog::open("lossy", options).expect("the disk opens"))
    }

    fn end(&mut self, log: Arc<dyn Log>, ending: Ending) {
        match ending {
            Ending::Closed => log.close().expect("a healthy log closes"),
            Ending::Killed => {}
            Ending::PowerCut { seed } => self.disk.cut(seed),
        }
    }

    fn fail_next_append(&mut self, seed: u64) -> bool {
        self.disk.fail_next_append(seed);
        true
    }
}

fn in_folder(setup: Setup) -> Box<dyn Store> {
    Box::new(Folder { setup, folder: tempfile::tempdir().unwrap() })
}

fn on_lossy_disk(setup: Setup) -> Box<dyn Store> {
    Box::new(Lossy { setup, disk: LossyDisk::default() })
}

crate::log::conformance!(in_a_folder, in_folder);
crate::log::conformance!(on_a_lossy_disk, on_lossy_disk);

/// What a run of the script acknowledged before the power failed.
#[derive(Debug, Default)]
struct Acknowledged {
    bodies: Vec<String>,
    /// The group whose append was not answered.
    open: Vec<String>,
    deleted: Seq,
}

/// Two runs of a log: appends of one to four events that cross small segments, deletions, maintenance. Ends where the
/// disk fails.
fn script(disk: &LossyDisk, done: &mut Acknowledged) -> Option<()> {
    for run in 0..2 {
        let log = open_small(disk)?;
        for i in 0..14_usize {
            let bodies: Vec<String> =
                (0..=i % 4).map(|j| format!("{run}-{i}-{j} {}", "x".repeat(i * 211 % 1_900))).collect();
            let mut events: Vec<Append> = bodies.iter().map(|body| event("a", body)).collect();
            events.push(event("deleted", "x"));
            done.open = bodies;
            let outcome = log.append(&[plain(events)]).ok()?.pop()?;
            let newest = appended(outcome).last()?.seq;
            done.bodies.append(&mut done.open);
            if i % 5 == 4 {
                log.delete(&channel("deleted")).ok()?;
                done.deleted = newest;
            }
            log.maintain(START_MS).ok()?;
        }
        log.close().ok()?;
    }
    Some(())
}

fn open_small(disk: &LossyDisk) -> Option<DiskLog> {
    let options = Options::default().segment_bytes(8 << 10).reserve_bytes(0);
    DiskLog::open("lossy", options.disk(Arc::new(disk.clone()))).ok()
}

#[track_caller]
fn check_found(log: &DiskLog, done: &Acknowledged, at: (u64, u64)) {
    let name = channel("a");
    let limit = ReadLimit { upto: log.head(), events_max: usize::MAX, bytes_max: usize::MAX };
    let read = log.read(&[Want { channel: &name, after: Seq::ZERO }], limit).unwrap();
    let found = bodies(&records(read));
    let with_open = [done.bodies.as_slice(), &done.open].concat();
    assert!(found == done.bodies || found == with_open, "{} of {} at {at:?}", found.len(), done.bodies.len());
    let floor = log.window(&channel("deleted")).map_or(Seq::ZERO, |window| window.floor);
    assert!(floor >= done.deleted, "deleted up to {}, found {floor} at {at:?}", done.deleted);
}

#[test]
fn power_that_fails_at_any_write_or_sync_loses_nothing_acknowledged() {
    let whole = LossyDisk::default();
    script(&whole, &mut Acknowledged::default()).expect("nothing fails");
    assert!(whole.calls() > 100, "only {} calls", whole.calls());
    for calls in 0..whole.calls() {
        for seed in [calls, calls + 1_000_003] {
            let (disk, mut done) = (LossyDisk::default(), Acknowledged::default());
            disk.fail_after(calls);
            assert_eq!(script(&disk, &mut done), None, "the power failed at {calls}");
            disk.cut(seed);
            let log = open_small(&disk).unwrap_or_else(|| panic!("does not open after {calls}, seed {seed}"));
            check_found(&log, &done, (calls, seed));
            // And it goes on: what comes now is kept as well.
            let before = log.head();
            let next = appended(log.append(&[plain(vec![event("b", "next")])]).unwrap().remove(0))[0].seq;
            assert_eq!(next, before.next());
            disk.cut(seed);
            drop(log);
            let log = open_small(&disk).unwrap_or_else(|| panic!("does not open again after {calls}"));
            assert_eq!(log.head(), next);
            check_found(&log, &done, (calls, seed));
        }
    }
}
