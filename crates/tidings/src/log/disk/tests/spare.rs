//! The next segment is made ready beside the commits, and costs them nothing when that fails.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::super::io::sim::{Fault, SimDisk};
use super::super::{DiskLog, Options};
use super::{append, read};
use crate::log::Log;

const SEGMENT_BYTES: u64 = 16 << 10;

fn options(disk: &SimDisk) -> Options {
    Options::default().segment_bytes(SEGMENT_BYTES).reserve_bytes(0).disk(Arc::new(disk.clone()))
}

fn open(disk: &SimDisk) -> DiskLog {
    DiskLog::open("", options(disk)).unwrap()
}

/// A log whose newest segment is more than half full.
fn half_full(disk: &SimDisk) -> DiskLog {
    let log = open(disk);
    write(&log, "a", 9);
    log
}

/// Some events of about a kilobyte.
fn write(log: &DiskLog, name: &str, count: usize) {
    let body = "x".repeat(1_000);
    (0..count).for_each(|_| _ = append(log, name, &body));
}

fn has(disk: &SimDisk, name: &str) -> bool {
    disk.contents().contains_key(name)
}

/// Maintains the log, which fills a segment; in the middle of that, `act` is done by somebody else. Whether it came to its end
/// before the fill went on.
fn maintain_and(
    disk: &SimDisk,
    log: &Arc<DiskLog>,
    act: impl Fn(&DiskLog) + Clone + Send + Sync + 'static,
) -> bool {
    let (begun, is_done) = (AtomicBool::new(false), Arc::new(AtomicBool::new(false)));
    let (tell, other) = (Arc::clone(&is_done), Arc::downgrade(log));
    disk.during_sync(move || {
        if begun.swap(true, Ordering::SeqCst) {
            return;
        }
        let (log, act, (done, told)) = (other.upgrade().unwrap(), act.clone(), mpsc::sync_channel(1));
        std::thread::spawn(move || {
            act(&log);
            done.send(())
        });
        tell.store(told.recv_timeout(Duration::from_secs(10)).is_ok(), Ordering::SeqCst);
    });
    log.maintain(1).unwrap();
    is_done.load(Ordering::SeqCst)
}

#[test]
fn commits_go_on_while_the_next_segment_is_filled() {
    let disk = SimDisk::new();
    let log = Arc::new(half_full(&disk));
    assert!(maintain_and(&disk, &log, |log| write(log, "b", 1)), "the commit had to wait");
    assert!(has(&disk, "next.tmp"), "it is ready");
}

#[test]
fn a_segment_that_is_full_before_the_next_one_is_ready_leaves_that_to_its_successor() {
    let disk = SimDisk::new();
    let log = Arc::new(half_full(&disk));
    assert!(maintain_and(&disk, &log, |log| write(log, "b", 9)));
    assert_eq!(log.state().segments.len(), 2, "the commits went on in a segment of their own");
    assert!(has(&disk, "next.tmp") && !has(&disk, "filling.tmp"));
    while log.state().segments.len() < 3 {
        write(&log, "c", 1);
    }
    assert!(!has(&disk, "next.tmp"), "it is the third one");
    let held = |log: &DiskLog| ["a", "b"].map(|name| read(log, name, 0).len());
    assert_eq!(held(&log), [9, 9]);
    assert_eq!(held(&open(&disk.after_power_cut(None))), [9, 9]);
}

#[test]
fn a_disk_that_is_slow_gets_a_few_maintenances_for_it() {
    let disk = SimDisk::new();
    let mut options = options(&disk).segment_bytes(1 << 20);
    options.fill_time = Duration::ZERO;
    let log = DiskLog::open("", options).unwrap();
    write(&log, "a", 600);
    for _ in 0..3 {
        log.maintain(1).unwrap();
        assert!(has(&disk, "filling.tmp") && !has(&disk, "next.tmp"));
    }
    log.maintain(1).unwrap();
    assert!(!has(&disk, "filling.tmp") && has(&disk, "next.tmp"));
}

#[test]
fn a_fill_that_fails_is_no_reason_to_stop() {
    for fault in [Fault::Write(1), Fault::Write(3), Fault::Sync(1), Fault::Write(4)] {
        let disk = SimDisk::new();
        let log = half_full(&disk);
        disk.fail(Some(fault));
        log.maintain(1).unwrap();
        assert!(!has(&disk, "next.tmp"), "{fault:?}");
        assert_eq!(log.stats().refusing, None, "{fault:?}");
        write(&log, "b", 9);
        log.maintain(2).unwrap();
        assert!(!has(&disk, "filling.tmp"), "{fault:?}: its space is given back");
        assert_eq!(read(&log, "b", 0).len(), 9);
    }
}

#[test]
fn what_a_crash_leaves_of_a_fill_is_removed() {
    let disk = SimDisk::new();
    let log = half_full(&disk);
    // create, allocate, and then the first piece.
    disk.fail(Some(Fault::CutAtWrite(3)));
    log.maintain(1).unwrap();
    let after = disk.after_kill();
    assert!(has(&after, "filling.tmp"));
    assert_eq!(read(&open(&after), "a", 0).len(), 9);
    assert!(!has(&after, "filling.tmp"));
}
