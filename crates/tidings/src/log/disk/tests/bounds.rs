//! What never grows: the disk and the memory that a log takes, however many channels were ever used.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use tidings_core::Seq;

use super::super::io::sim::SimDisk;
use super::super::{DiskLog, Options};
use super::{append, channel, event, group, read};
use crate::log::{AppendError, Log, Retention};

const LOG_BYTES: u64 = 256 << 10;
const SEGMENT_BYTES: u64 = 16 << 10;
const CHANNELS: usize = 300;

fn options(disk: &SimDisk) -> Options {
    let retention = Retention::default().log_bytes_max(LOG_BYTES).channels_max(CHANNELS);
    Options::default()
        .retention(retention)
        .segment_bytes(SEGMENT_BYTES)
        .reserve_bytes(0)
        .disk(Arc::new(disk.clone()))
}

fn used(disk: &SimDisk) -> u64 {
    disk.contents().values().map(|bytes| u64::try_from(bytes.len()).unwrap()).sum()
}

#[test]
fn a_hundred_times_the_retention_in_one_off_channels_keeps_disk_and_memory_bounded() {
    let disk = SimDisk::new();
    let mut log = DiskLog::open("", options(&disk)).unwrap();
    let body = "x".repeat(900);
    let (mut written, mut round) = (0, 0);
    // The most bytes of disk in each run.
    let mut most = vec![0];
    while written < 100 * LOG_BYTES {
        round += 1;
        // Jobs: a channel of its own each, a few events, of which the last one is final; then never again.
        let mut events = Vec::new();
        for job in 0..8 {
            for step in 0..4 {
                let mut one = event(&format!("job:{round}-{job}"), &body, round);
                one.flags.is_final = step == 3;
                events.push(one);
            }
        }
        written += 32 * 900;
        log.append(&group(events)).unwrap();
        log.maintain(round).unwrap();
        if round % 10 == 0 {
            let newest = most.last_mut().unwrap();
            *newest = used(&disk).max(*newest);
        }
        let state = log.state();
        // The records of one round come before those of the oldest go.
        assert!(state.channels_len() <= CHANNELS + 8, "round {round}: {} records", state.channels_len());
        assert!(state.slots_len() <= CHANNELS + 8, "round {round}: {} slots", state.slots_len());
        assert!(state.segments.len() < 64, "round {round}: {} segments", state.segments.len());
        drop(state);
        if round % 300 == 0 {
            if round % 600 == 0 {
                log.close().unwrap();
            }
            drop(log);
            log = DiskLog::open("", options(&disk)).unwrap();
            most.push(0);
        }
    }
    // Half as much again for finished channels, what a checkpoint has not freed yet, the checkpoint and the indexes.
    for (run, bytes) in most.iter().enumerate() {
        assert!((LOG_BYTES / 2..=3 * LOG_BYTES + 2 * SEGMENT_BYTES).contains(bytes), "run {run}: {most:?}");
    }
    assert!(most.len() > 2 && most.last() <= Some(&(most[1] * 9 / 8)), "no run leaves more behind: {most:?}");
    // The newest channels are whole.
    let name = format!("job:{round}-7");
    let first = log.head().0 - 3;
    assert_eq!(
        read(&log, &name, 0).iter().map(|(seq, _)| *seq).collect::<Vec<_>>(),
        (first..first + 4).collect::<Vec<_>>()
    );
    assert!(log.window(&channel("job:1-0")).is_none(), "the oldest are forgotten");
    assert!(log.horizon() > Seq(first / 2), "and the horizon says so");
}

#[test]
fn final_events_alone_keep_the_disk_bounded_too() {
    let disk = SimDisk::new();
    let retention = Retention::default().log_bytes_max(LOG_BYTES);
    let log = DiskLog::open("", options(&disk).retention(retention)).unwrap();
    let body = "x".repeat(900);
    let mut most = 0;
    for round in 1..=20 * LOG_BYTES / (8 * 900) {
        let answers = (0..8).map(|n| {
            let mut one = event(&format!("answer:{round}-{n}"), &body, round);
            one.flags.is_final = true;
            one
        });
        log.append(&group(answers.collect())).unwrap();
        log.maintain(round).unwrap();
        most = used(&disk).max(most);
    }
    assert!(most <= 4 * LOG_BYTES, "{most}");
}

#[test]
fn a_channel_that_gets_an_event_after_it_was_chosen_is_not_forgotten() {
    let disk = SimDisk::new();
    let log = DiskLog::open("", options(&disk)).unwrap();
    for n in 0..CHANNELS + 2 {
        append(&log, &format!("c{n}"), "1");
    }
    let chosen = log.choose_idle(&mut log.maintenance.lock().unwrap(), 1);
    assert_eq!(chosen.len(), 2, "the oldest are too many");
    let seq = append(&log, "c0", "2");
    log.forget(&chosen).unwrap();
    assert_eq!(log.window(&channel("c0")).map(|window| window.head), Some(seq));
    assert_eq!(log.window(&channel("c1")), None);
}

/// A real disk of a few MiB, where this process may mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Option<Self> {
        let small = Self(tempfile::tempdir().unwrap());
        let mount = ["-t", "tmpfs", "-o", "size=4m", "tmpfs"];
        let mounted = Command::new("mount").args(mount).arg(small.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(small)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the log may still have its files open when a test fails.
        drop(Command::new("umount").arg("-l").arg(self.path()).output());
    }
}

/// Fills a disk of 4 MiB to its last byte, beside a log that nothing keeps from trying.
fn fill_and_recover(options: &Options, path: &Path, fill: &dyn Fn(bool)) {
    let log = DiskLog::open(path, options.clone()).unwrap();
    let body = "x".repeat(1_000);
    let mut acknowledged = 0;
    for _ in 0..20 {
        acknowledged = append(&log, "a", &body).0;
    }
    fill(true);
    let full = loop {
        match log.append(&group(vec![event("a", &body, 1)])) {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 10_000);
    };
    assert!(matches!(full, AppendError::Full { .. }), "{full}");
    assert!(log.stats().refusing.unwrap().starts_with("disk full: "));
    // Maintenance may fail for want of space, but harms nothing.
    log.maintain(1).unwrap_or_default();
    assert_eq!(read(&log, "a", 0).len() as u64, acknowledged, "readers live on");
    assert_eq!(log.head(), Seq(acknowledged));
    fill(false);
    log.maintain(2).unwrap();
    assert_eq!(log.stats().refusing, None, "also where nobody asks while it says that it is full");
    assert_eq!(append(&log, "a", &body), Seq(acknowledged + 1), "publishing works again by itself");
    assert_eq!(log.stats().refusing, None);
    drop(log);
    let log = DiskLog::open(path, options.clone()).unwrap();
    assert_eq!(read(&log, "a", 0).len() as u64, acknowledged + 1, "and nothing was lost");
}

#[test]
fn a_full_disk_refuses_publishes_serves_readers_and_recovers_by_itself() {
    // Without a reserve, so that the disk itself says no; and with one.
    for reserve in [0, 512 << 10] {
        let options = Options::default().segment_bytes(256 << 10).reserve_bytes(reserve);
        if let Some(small) = SmallDisk::new() {
            let big = small.path().join("somebody-elses");
            let fill = |full: bool| {
                if full {
                    // Ends where the disk is full.
                    drop(std::fs::write(&big, vec![1; 8 << 20]));
                } else {
                    std::fs::remove_file(&big).unwrap();
                }
            };
            fill_and_recover(&options, &small.path().join("data"), &fill);
        }
        // Where this process may not mount, and besides.
        let disk = SimDisk::new();
        let fill = |full: bool| disk.set_capacity(full.then(|| used(&disk) + (64 << 10)));
        fill_and_recover(&options.disk(Arc::new(disk.clone())), Path::new(""), &fill);
    }
}
