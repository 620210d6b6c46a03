//! Measures the log on disk alone: durable events per second, opening, slices at random depth, and finished jobs.
//!
//! `cargo run --release -p tidings --example log_bench -- FOLDER [append|open|read|jobs]…`
//!
//! `jobs-fill`, `jobs-open` and `jobs-close` are the parts of `jobs`, so that each can be a process of its own: `jobs-open`
//! prints what that process took of memory.
//!
//! Owns: figures. Does not know: the rest of tidings. Flow: a folder on the disk to be measured → one line per figure.
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a program that prints figures"
)]

use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidings::core::{ChannelName, Seq};
use tidings::log::disk::{DiskLog, Options};
use tidings::log::{Append, Flags, Group, Log, ReadLimit, ReadOutcome, Retention, Want};

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 1).unwrap_or(0) % n
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| String::from("./log-bench")));
    let chosen: Vec<String> = arguments.collect();
    let wants = |what: &str| chosen.is_empty() || chosen.iter().any(|one| one == what);
    if wants("append") {
        appends(&folder);
    }
    if wants("open") {
        opens(&folder, 1_000_000, 500, 10_000);
        opens(&folder, 10_000_000, 100, 10_000);
    }
    if wants("read") {
        reads(&folder, 10);
        reads(&folder, 10_000);
    }
    if wants("jobs") || wants("jobs-fill") {
        fill_jobs(&folder, 1_000_000);
    }
    if wants("jobs") || wants("jobs-open") {
        open_jobs(&folder, "after a kill, or as it was left");
    }
    if wants("jobs") || wants("jobs-close") {
        let log = open(&folder);
        log.maintain(1_795_305_600_000).expect("maintenance succeeds");
        log.close().expect("the log closes");
    }
    if wants("jobs") {
        open_jobs(&folder, "after close");
    }
}

fn names(channels: usize) -> Vec<ChannelName> {
    (0..channels).map(|i| ChannelName::parse(&format!("channel:{i}")).expect("a name")).collect()
}

fn fresh(folder: &Path) -> DiskLog {
    drop(std::fs::remove_dir_all(folder));
    open(folder)
}

fn open(folder: &Path) -> DiskLog {
    let retention = Retention::default()
        .events_max(u64::MAX / 4)
        .channel_bytes_max(u64::MAX / 4)
        .log_bytes_max(64 << 30)
        .channels_max(4_000_000);
    DiskLog::open(folder, Options::default().retention(retention)).expect("the folder opens")
}

/// One commit of `batch` events, each a group of its own, on channels at random.
fn groups(names: &[ChannelName], batch: usize, bytes: usize, random: &mut Random) -> Vec<Group> {
    let text = Bytes::from("x".repeat(bytes * 2));
    let event = |random: &mut Random| Append {
        channel: names[random.below(names.len())].clone(),
        body: text.slice(..bytes / 2 + random.below(bytes)),
        private: None,
        expected_prev: None,
        key: None,
        time_ms: 1_795_305_600_000,
        expires_at_ms: None,
        flags: Flags::default(),
    };
    (0..batch).map(|_| Group { events: vec![event(random)], idempotency: None }).collect()
}

fn percentile(sorted: &[Duration], part: f64) -> Duration {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let index = (sorted.len() as f64 * part) as usize;
    sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn appends(folder: &Path) {
    let names = names(10_000);
    for bytes in [100, 500] {
        // From 32 on, so many that most of the time goes by in segments that were made ready beside the commits.
        for (batch, commits) in [(1, 4_000), (32, 60_000), (256, 12_000), (1_024, 4_000)] {
            let log = fresh(folder);
            let mut times = with_maintenance(&log, || timed(&log, &names, batch, bytes, commits));
            let total: Duration = times.iter().sum();
            times.sort_unstable();
            println!(
                "append {bytes:>4} B, {batch:>5} per fsync: {:>9.0} events/s, p50 {:?} p99 {:?} max {:?}, fsync {:.0} %",
                f64::from(u32::try_from(batch * commits).unwrap_or(u32::MAX)) / total.as_secs_f64(),
                percentile(&times, 0.5),
                percentile(&times, 0.99),
                percentile(&times, 1.0),
                100.0 * log.stats().fsync_seconds / total.as_secs_f64(),
            );
        }
    }
}

/// How long each commit took.
fn timed(log: &DiskLog, names: &[ChannelName], batch: usize, bytes: usize, commits: usize) -> Vec<Duration> {
    let mut random = Random(42);
    let commit = |_| {
        let groups = groups(names, batch, bytes, &mut random);
        let begun = Instant::now();
        log.append(&groups).expect("the append succeeds");
        begun.elapsed()
    };
    (0..commits).map(commit).collect()
}

/// What `work` returns, with maintenance beside it as often as in a server.
fn with_maintenance<T>(log: &DiskLog, work: impl FnOnce() -> T) -> T {
    let (done, is_done) = std::sync::mpsc::sync_channel::<()>(0);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while is_done.recv_timeout(Duration::from_millis(500)) == Err(RecvTimeoutError::Timeout) {
                log.maintain(1_795_305_600_000).expect("maintenance succeeds");
            }
        });
        let result = work();
        drop(done);
        result
    })
}

fn fill(folder: &Path, events: usize, bytes: usize, channels: usize, maintained: bool) {
    let log = fresh(folder);
    let names = names(channels);
    let mut random = Random(7);
    for commit in 0..events / 1_000 {
        log.append(&groups(&names, 1_000, bytes, &mut random)).expect("the append succeeds");
        if maintained && commit % 20 == 0 {
            log.maintain(1_795_305_600_000).expect("maintenance succeeds");
        }
    }
}

fn opens(folder: &Path, events: usize, bytes: usize, channels: usize) {
    for maintained in [true, false] {
        fill(folder, events, bytes, channels, maintained);
        let begun = Instant::now();
        let log = open(folder);
        let crashed = begun.elapsed();
        assert_eq!(log.head(), Seq(u64::try_from(events).unwrap_or(0)));
        log.maintain(1_795_305_600_000).expect("maintenance succeeds");
        log.close().expect("the log closes");
        drop(log);
        let begun = Instant::now();
        drop(open(folder));
        let closed = begun.elapsed();
        let how = if maintained { "maintained" } else { "never maintained" };
        println!(
            "open {events} events of {bytes} B, {how}: {crashed:?} after a crash, {closed:?} after close"
        );
    }
}

/// Jobs of four events each, all of them finished but for one in a thousand; never closed.
fn fill_jobs(folder: &Path, jobs: usize) {
    let log = fresh(folder);
    let begun = Instant::now();
    let (body, private) = (Bytes::from("b".repeat(350)), Bytes::from("p".repeat(350)));
    let mut round = 0_u64;
    let numbers: Vec<usize> = (0..jobs).collect();
    for some in numbers.chunks(250) {
        let event = |job: usize, step: u8| Append {
            channel: ChannelName::parse(&format!("job:{:032x}", mixed(job))).expect("a name"),
            body: body.clone(),
            private: Some(private.clone()),
            expected_prev: None,
            key: None,
            time_ms: 1_795_305_600_000,
            expires_at_ms: None,
            flags: Flags {
                is_final: step == 3 && !job.is_multiple_of(1_000),
                is_pinned: step < 3,
                ..Flags::default()
            },
        };
        let events = some.iter().flat_map(|&job| (0..4).map(move |step| (job, step)));
        let events = events.map(|(job, step)| event(job, step)).collect();
        log.append(&[Group { events, idempotency: None }]).expect("the append succeeds");
        round += 1;
        if round.is_multiple_of(64) {
            log.maintain(1_795_305_600_000).expect("maintenance succeeds");
        }
    }
    println!("jobs: {jobs} with four events each made in {:?}, {:?}", begun.elapsed(), log.stats());
}

/// Names of jobs are random; these can be made again.
fn mixed(job: usize) -> u128 {
    let job = u128::try_from(job).unwrap_or(0) + 1;
    job.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)
}

fn open_jobs(folder: &Path, how: &str) {
    let begun = Instant::now();
    let log = open(folder);
    let opened = begun.elapsed();
    let begun = Instant::now();
    let unfinished = log.unfinished("job:").len();
    println!(
        "jobs: {how}: open {opened:?}, {unfinished} unfinished of {} in {:?}",
        log.stats().channels,
        begun.elapsed()
    );
    println!("jobs: memory {}", memory());
    let (begun, mut after, mut found) = (Instant::now(), None, 0);
    loop {
        let page = log.channels_page("job:", after.as_ref(), 1_000);
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        found += page.len();
    }
    println!("jobs: {found} found by pages in {:?}, memory {}", begun.elapsed(), memory());
}

/// What this process takes now, and the most it ever took.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let lines = status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM"));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join(", ")
}

fn reads(folder: &Path, channels: usize) {
    fill(folder, 1_000_000, 500, channels, true);
    let log = open(folder);
    log.maintain(1_795_305_600_000).expect("maintenance succeeds");
    let names = names(channels);
    for (wanted, events_max) in [(1, 1), (1, 256), (10, 1), (10, 256), (100, 256)] {
        let mut random = Random(3);
        let mut times = Vec::new();
        let mut found = 0;
        for _ in 0..2_000 {
            let after = Seq(u64::try_from(random.below(1_000_000)).unwrap_or(0));
            let wants: Vec<Want<'_>> = (0..wanted.min(channels))
                .map(|_| Want { channel: &names[random.below(channels)], after })
                .collect();
            let begun = Instant::now();
            let limit = ReadLimit { upto: log.head(), events_max, bytes_max: 64 << 10 };
            match log.read(&wants, limit).expect("the read succeeds") {
                ReadOutcome::Events { records, .. } => found += records.len(),
                other => panic!("{other:?}"),
            }
            times.push(begun.elapsed());
        }
        times.sort_unstable();
        println!(
            "read 1,000,000 events on {channels} channels, {wanted} wanted, {events_max} at most: p50 {:?} p99 {:?} max {:?} ({} found on average)",
            percentile(&times, 0.5),
            percentile(&times, 0.99),
            percentile(&times, 1.0),
            found / 2_000,
        );
    }
}
