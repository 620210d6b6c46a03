//! What tidings promises about jobs: coalescing, leases in a full queue, starting with many, and files that go.
//!
//! Owns: the order of measurements and their rows. Does not know: how load is made.
//! Flow: a fresh server → `tidings-load jobs …` → rows.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::super::peer::{Kind, Peer};
use super::super::rows::{Table, figure, median};
use super::super::{ms, spread};

/// Turns of a server with and without jobs that wait.
const ROUNDS: usize = 5;

/// One job that is reported a thousand times a second.
pub(super) fn coalesce(table: &mut Table) -> Result<()> {
    let peer = Peer::start_anywhere(Kind::Tidings, &[])?;
    let result = peer.load_unpinned(&["jobs", "coalesce"])?;
    let events = figure(&result, "/events_per_s")?;
    table.row("1,000 reports/s of one job", "events per second", format!("{events:.1}"));
    table.row("", "answer p50 / p99", spread(&result, "/hot_us")?);
    table.row("", "answer p50 / p99 below the limit, in turns", spread(&result, "/calm_us")?);
    table.row("", "p99, over ÷ below the limit", format!("{:.2}", figure(&result, "/p99_ratio")?));
    ensure!(
        result.get("is_last_exact") == Some(&Value::Bool(true)),
        "the last value shown is not the last one reported: {result}"
    );
    table.row("", "last value shown", "exactly the last one reported");
    Ok(())
}

/// Two servers in turns: one with 100,000 jobs that wait, one without.
pub(super) fn lease(table: &mut Table) -> Result<()> {
    let empty = Peer::start_anywhere(Kind::Tidings, &[])?;
    let full = Peer::start_anywhere(Kind::Tidings, &[])?;
    full.load_unpinned(&["jobs", "fill", "--queued", "100000"])?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let mut order = [(&empty, &mut without), (&full, &mut with)];
        if round % 2 == 1 {
            order.reverse();
        }
        for (peer, results) in order {
            results.push(peer.load_unpinned(&["jobs", "lease", "--samples", "1000"])?);
        }
    }
    for (name, at) in [("to a worker that waits", "/to_waiting_us"), ("of a job that waits", "/of_ready_us")]
    {
        let of = |results: &[Value], which: &str| median(results, &format!("{at}/{which}"));
        let spread = |results: &[Value]| -> Result<String> {
            Ok(format!("{} / {}", ms(of(results, "p50")?), ms(of(results, "p99")?)))
        };
        table.row(&format!("lease {name}"), "empty queue, p50 / p99", spread(&without)?);
        table.row("", "100,000 jobs wait, p50 / p99", spread(&with)?);
        let ratio = of(&with, "p99")? / of(&without, "p99")?;
        table.row("", "p99, full ÷ empty", format!("{ratio:.2}"));
    }
    Ok(())
}

/// Starting with a million jobs that have ended.
pub(super) fn start(table: &mut Table) -> Result<()> {
    let peer = Peer::start_anywhere(Kind::Tidings, &[])?;
    let filled = peer.load_unpinned(&["jobs", "fill", "--finished", "1000000"])?;
    let name = "1,000,000 finished jobs";
    table.row(name, "made and ended in batches", format!("{:.0} s", figure(&filled, "/seconds")?));
    let (peer, stopped) = peer.restart(Signal::TERM)?;
    table.row("", "ready again after a stop", format!("{:.2} s", stopped.as_secs_f64()));
    let (peer, killed) = peer.restart(Signal::KILL)?;
    table.row("", "ready again after kill -9", format!("{:.2} s", killed.as_secs_f64()));
    table.row("", "memory then", format!("{:.0} MiB", resident_mib(peer.pid())?));
    Ok(())
}

/// Files that are kept for two seconds.
pub(super) fn retention(table: &mut Table) -> Result<()> {
    let peer = Peer::start_anywhere(Kind::Tidings, &[])?;
    let result = peer.load_unpinned(&["jobs", "retention", "--jobs", "1000"])?;
    let behind = figure(&result, "/gone_ms_behind_their_time")?;
    table.row("1,000 jobs with a file, kept 2 s", "all gone behind their time", format!("{behind:.0} ms"));
    let left = files(&peer.data().join("artifacts"))?;
    ensure!(left == 0, "{left} files are left");
    table.row("", "files left on the disk", left.to_string());
    Ok(())
}

/// Files in a folder and all that is in it.
fn files(folder: &Path) -> Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let entry = entry?;
        count += if entry.file_type()?.is_dir() { files(&entry.path())? } else { 1 };
    }
    Ok(count)
}

fn resident_mib(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
