//! Connections that wait: memory for each.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::Server;
use crate::clock;
use crate::connect::Target;
use crate::process::{Cpu, resident_bytes};
use crate::rig::Rig;

/// The shape of the run.
#[derive(Debug, Args)]
pub(crate) struct Idle {
    #[command(flatten)]
    server: Server,
    /// Subscribers
    #[arg(long, default_value_t = 10_000)]
    subscribers: usize,
    /// Channels that they are spread over
    #[arg(long, default_value_t = 1)]
    channels: usize,
    /// Seconds of quiet, for the CPU that keep-alives cost
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

/// Runs it.
pub(crate) fn run(args: &Idle) -> Result<Value> {
    let pid = args.server.pid;
    let target = Target::parse(&args.server.url)?;
    let mut rig = Rig::new(&target, args.channels, 0)?;
    // What a server sets up once is not the price of a connection.
    rig.subscribe(10, |index| args.server.subscriber(&target, index % args.channels))?;
    let before = resident_bytes(pid)?;
    let start = clock::micros();
    let cpu = Cpu::of(pid)?;
    rig.subscribe(args.subscribers, |index| args.server.subscriber(&target, index % args.channels))?;
    let connect_s = (clock::micros() - start) as f64 / 1e6;
    let connect_cpu = cpu.until(Cpu::of(pid)?);
    rig.run_for(Duration::from_millis(500))?;
    let after = resident_bytes(pid)?;
    let cpu = Cpu::of(pid)?;
    rig.run_for(Duration::from_secs_f64(args.seconds))?;
    let count = args.subscribers as f64;
    Ok(json!({
        "scenario": "idle",
        "subscribers": args.subscribers,
        "channels": args.channels,
        "rss_before_bytes": before,
        "rss_after_bytes": after,
        "rss_bytes_per_connection": after.saturating_sub(before) as f64 / count,
        "connect_s": connect_s,
        "connect_cpu_us": connect_cpu.process_s * 1e6 / count,
        "quiet_s": args.seconds,
        "quiet_cpu": cpu.until(Cpu::of(pid)?),
    }))
}
