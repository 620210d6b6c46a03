//! Good streams next to thousands of attackers: what these cost them, and the server's memory.
//!
//! Owns: rounds with and without the attack, in turns. Does not know: what attackers do (`attack`).
//! Flow: good streams → publishes without, then with the attack, several times → medians and their ratio.

use std::io::BufRead;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::{Server, faults};
use crate::connect::Target;
use crate::fill::fill;
use crate::process::resident_bytes;
use crate::rig::Rig;
use crate::traffic::{Pace, Traffic};

/// How long an attack takes to be complete, and its remains to go.
const SETTLE: Duration = Duration::from_secs(3);
/// One process of attackers for each of these.
const KINDS: [&str; 5] = ["silent", "head", "body", "half", "reader"];

/// What readers that read nothing are owed: far more than their sockets hold.
const SLOW_EVENTS: u64 = 2_000;
const SLOW_BYTES: usize = 2_000;

/// The first part of the name of the channel that they ask for, from its start.
pub(super) fn slow(prefix: &str) -> String {
    format!("{prefix}-slow")
}

/// The shape of the run.
#[derive(Debug, Args)]
pub(crate) struct Hostile {
    #[command(flatten)]
    server: Server,
    /// Good streams, on one channel
    #[arg(long, default_value_t = 1_000)]
    good: usize,
    /// Attackers of each of the five kinds
    #[arg(long, default_value_t = 1_000)]
    attackers: usize,
    /// Rounds without and with the attack
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of publishing in each
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Publishes per second
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
}

/// Runs it.
pub(crate) fn run(args: &Hostile) -> Result<Value> {
    let pid = args.server.pid;
    let target = Target::parse(&args.server.url)?;
    let mut rig = Rig::new(&target, 1, 1)?;
    let mut traffic = Traffic::new(&args.server.prefix, 1, 1, 100);
    fill(&mut rig, &slow(&args.server.prefix), 1, 0..SLOW_EVENTS, SLOW_BYTES, |_, _| {})?;
    rig.subscribe(args.good, |_| args.server.subscriber(&target, 0))?;
    let time = Duration::from_secs(args.seconds);
    let mut publish = |rig: &mut Rig| -> Result<_> {
        traffic.run(rig, Pace::Rate(args.rate), time)?;
        Ok(rig.fleet.tally.take_latencies())
    };
    publish(&mut rig)?;
    let rss_before = resident_bytes(pid)?;
    let (mut without, mut with, mut attacks, mut rss) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for _ in 0..args.rounds {
        without.push(publish(&mut rig)?);
        let attackers: Vec<Child> = KINDS.iter().map(|kind| attack(args, kind)).collect::<Result<_>>()?;
        rig.run_for(SETTLE)?;
        with.push(publish(&mut rig)?);
        rss = rss.max(resident_bytes(pid)?);
        for attacker in attackers {
            attacks.push(end(attacker)?);
        }
        rig.run_for(SETTLE)?;
    }
    let p99 = |of: &[crate::quantiles::Quantiles]| {
        let mut all: Vec<u64> = of.iter().map(|q| q.p99).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or(0)
    };
    ensure!(rig.fleet.open == args.good, "a good stream was dropped");
    Ok(json!({
        "scenario": "hostile",
        "good": args.good,
        "attackers": args.attackers * KINDS.len(),
        "without_us": without,
        "with_us": with,
        "p99_without_us": p99(&without),
        "p99_with_us": p99(&with),
        "p99_ratio": p99(&with) as f64 / p99(&without).max(1) as f64,
        "rss_before_bytes": rss_before,
        "rss_bytes": rss,
        "attacks": attacks,
        "faults": faults(&rig.fleet.tally),
    }))
}

fn attack(args: &Hostile, kind: &str) -> Result<Child> {
    let (count, pid) = (args.attackers.to_string(), args.server.pid.to_string());
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["attack", "--kind", kind, "--count", &count, "--url", &args.server.url, "--pid", &pid]);
    command.args(["--prefix", &args.server.prefix]).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().context("no process of attackers")
}

/// Ends a process of attackers; what it reports.
fn end(mut attacker: Child) -> Result<Value> {
    drop(attacker.stdin.take());
    let said = attacker.stdout.take().context("attackers say what they did")?;
    let line = std::io::BufReader::new(said).lines().next().context("attackers say what they did")??;
    ensure!(attacker.wait()?.success(), "attackers failed");
    Ok(serde_json::from_str(&line)?)
}
