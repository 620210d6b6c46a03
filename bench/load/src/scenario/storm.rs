//! Many clients come back at once, each owed some events.

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};

use super::{SUBSCRIBERS, Server, cpu_report, faults};
use crate::clock;
use crate::connect::Target;
use crate::fill::fill;
use crate::fleet::Spec;
use crate::process::Cpu;
use crate::rig::Rig;
use crate::traffic::channel;

/// The shape of the run.
#[derive(Debug, Args)]
pub(crate) struct Storm {
    #[command(flatten)]
    server: Server,
    /// Clients
    #[arg(long, default_value_t = 1_000)]
    clients: usize,
    /// Events that each is owed
    #[arg(long, default_value_t = 100)]
    owed: u64,
    /// Events that are there before those
    #[arg(long, default_value_t = 9_000)]
    before: u64,
    /// Bytes of an event's data
    #[arg(long, default_value_t = 100)]
    bytes: usize,
}

/// Runs it.
pub(crate) fn run(args: &Storm) -> Result<Value> {
    let target = Target::parse(&args.server.url)?;
    let mut rig = Rig::new(&target, 1, 1)?;
    let mut position = None;
    let events = args.before + args.owed;
    fill(&mut rig, &args.server.prefix, 1, 0..events, args.bytes, |index, id| {
        if index + 1 == args.before {
            position = Some(id.to_owned());
        }
    })?;
    let position = position.context("--before is at least 1")?;
    let query = format!("channel={}", channel(&args.server.prefix, 0));
    let request = target.stream_request(&query, Some(&position));
    let first = args.before + 1;
    let spec = |_| Spec { request: request.clone(), network: SUBSCRIBERS, channel: 0, first, counts: false };

    let (cpu, start) = (Cpu::of(args.server.pid)?, clock::micros());
    rig.subscribe_within(args.clients, args.clients, spec)?;
    let open_s = (clock::micros() - start) as f64 / 1e6;
    rig.run_until("what the clients are owed", |rig| rig.fleet.has_all(0..args.clients, events))?;
    let all_s = (clock::micros() - start) as f64 / 1e6;
    let tally = &rig.fleet.tally;
    Ok(json!({
        "scenario": "storm",
        "clients": args.clients,
        "owed": args.owed,
        "before": args.before,
        "open_s": open_s,
        "all_s": all_s,
        "cpu": cpu_report(cpu.until(Cpu::of(args.server.pid)?), tally.deliveries),
        "faults": faults(tally),
    }))
}
