mod bounds;
mod crash;
mod damage;
mod pinned;
mod spare;

use bytes::Bytes;
use tidings_core::{ChannelName, Seq};

use super::{DiskLog, Options};
use crate::log::{Append, Flags, Group, Log, OpenError, Outcome, ReadLimit, ReadOutcome, Want};

pub(super) fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

pub(super) fn event(name: &str, body: &str, time_ms: u64) -> Append {
    Append {
        channel: channel(name),
        body: Bytes::copy_from_slice(body.as_bytes()),
        private: None,
        expected_prev: None,
        key: None,
        time_ms,
        expires_at_ms: None,
        flags: Flags::default(),
    }
}

pub(super) fn group(events: Vec<Append>) -> Vec<Group> {
    vec![Group { events, idempotency: None }]
}

pub(super) fn append(log: &DiskLog, name: &str, body: &str) -> Seq {
    match log.append(&group(vec![event(name, body, 1)])).unwrap().pop() {
        Some(Outcome::Appended(places)) => places[0].seq,
        other => panic!("{other:?}"),
    }
}

pub(super) fn read(log: &DiskLog, name: &str, after: u64) -> Vec<(u64, String)> {
    let channel = channel(name);
    let limit = ReadLimit { upto: log.head(), events_max: usize::MAX, bytes_max: usize::MAX };
    match log.read(&[Want { channel: &channel, after: Seq(after) }], limit).unwrap() {
        ReadOutcome::Events { records, .. } => {
            records.iter().map(|r| (r.seq.0, String::from_utf8_lossy(&r.body).into_owned())).collect()
        }
        other => panic!("{other:?}"),
    }
}

mod conformance {
    use std::sync::{Arc, Mutex};

    use crate::log::Log;
    use crate::log::conformance::{Ending, Setup, Store};
    use crate::log::disk::io::sim::{Fault, SimDisk};
    use crate::log::disk::{DiskLog, Options};

    struct Sim {
        setup: Setup,
        segment_bytes: u64,
        disk: Arc<Mutex<SimDisk>>,
    }

    impl Sim {
        fn new(setup: Setup, segment_bytes: u64) -> Self {
            Self { setup, segment_bytes, disk: Arc::default() }
        }
    }

    impl Store for Sim {
        fn open(&mut self) -> Arc<dyn Log> {
            let disk = self.disk.lock().unwrap().clone();
            let options = Options::default()
                .retention(self.setup.retention)
                .keys_max(self.setup.keys_max)
                .segment_bytes(self.segment_bytes)
                .reserve_bytes(0)
                .disk(Arc::new(disk));
            Arc::new(DiskLog::open("", options).unwrap())
        }

        fn end(&mut self, log: Arc<dyn Log>, ending: Ending) {
            if ending == Ending::Closed {
                log.close().unwrap();
            }
            let mut disk = self.disk.lock().unwrap();
            *disk = match ending {
                Ending::Closed | Ending::Killed => disk.after_kill(),
                Ending::PowerCut { seed } => disk.after_power_cut((seed % 4 > 0).then_some(seed)),
            };
            drop(log);
        }

        fn fail_next_append(&mut self, seed: u64) -> bool {
            let fault = if seed.is_multiple_of(2) { Fault::Write(1) } else { Fault::Sync(1) };
            self.disk.lock().unwrap().fail(Some(fault));
            true
        }
    }

    crate::log::conformance!(one_mebibyte, |setup| Box::new(Sim::new(setup, 1 << 20)));
    crate::log::conformance!(tiny_segments, |setup| Box::new(Sim::new(setup, 4 << 10)));
}

fn options() -> Options {
    Options::default().segment_bytes(8 << 10).reserve_bytes(0)
}

#[test]
fn what_was_appended_is_read_again_after_a_restart_under_its_own_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let open = || DiskLog::open(folder.path(), options()).unwrap();
    let log = open();
    let first_run = log.epochs().newest();
    for n in 0..300 {
        append(&log, if n % 3 == 0 { "a" } else { "b" }, &format!("event {n}"));
    }
    let (a, b) = (read(&log, "a", 0), read(&log, "b", 150));
    assert_eq!((a.len(), b.len()), (100, 100));
    drop(log);
    let log = open();
    assert_eq!(log.head(), Seq(300));
    assert_eq!((read(&log, "a", 0), read(&log, "b", 150)), (a, b));
    assert_ne!(log.epochs().newest(), first_run);
    assert_eq!(log.epochs().id(Seq(300)).epoch, first_run);
    assert_eq!(append(&log, "a", "next"), Seq(301));
    assert_eq!(log.epochs().id(Seq(301)).epoch, log.epochs().newest());
}

#[test]
fn a_folder_has_one_owner() {
    let folder = tempfile::tempdir().unwrap();
    let _log = DiskLog::open(folder.path(), options()).unwrap();
    let second = DiskLog::open(folder.path(), options()).unwrap_err();
    assert!(matches!(second, OpenError::Locked(_)), "{second}");
}

#[test]
fn one_commit_may_be_larger_than_a_segment() {
    let folder = tempfile::tempdir().unwrap();
    let log = DiskLog::open(folder.path(), options()).unwrap();
    let body = "x".repeat(1000);
    let outcome = log.append(&group((0..100).map(|_| event("a", &body, 1)).collect())).unwrap();
    assert!(matches!(&outcome[..], [Outcome::Appended(places)] if places.len() == 100));
    append(&log, "a", "after");
    drop(log);
    let log = DiskLog::open(folder.path(), options()).unwrap();
    assert_eq!(read(&log, "a", 0).len(), 101);
}

#[test]
fn a_closed_log_gives_its_folder_up_and_writes_nothing_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let old = DiskLog::open(folder.path(), options()).unwrap();
    append(&old, "a", "1");
    old.close().unwrap();
    old.close().unwrap();
    let new = DiskLog::open(folder.path(), options()).unwrap();
    append(&new, "a", "2");
    // Whoever still has the old one cannot spoil what the new one writes.
    assert!(old.append(&group(vec![event("a", "3", 1)])).is_err());
    assert!(old.delete(&channel("a")).is_err());
    assert!(old.maintain(u64::MAX).is_err());
    drop((old, new));
    let again = DiskLog::open(folder.path(), Options::default()).unwrap();
    let bodies: Vec<String> = read(&again, "a", 0).into_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies, ["1", "2"]);
}
