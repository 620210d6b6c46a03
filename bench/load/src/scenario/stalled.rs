//! Readers that read nothing: what they cost the kernel and the others, and that nothing is lost to them.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::{Server, faults};
use crate::clock;
use crate::connect::{Target, network};
use crate::fleet::Spec;
use crate::process::{resident_bytes, socket_memory};
use crate::quantiles::Quantiles;
use crate::rig::Rig;
use crate::traffic::{Pace, Traffic};

/// 127.2.0.0 is where stalled readers come from, so that `ss` can tell them apart.
const STALLED: u8 = 2;

/// The shape of the run.
#[derive(Debug, Args)]
pub(crate) struct Stalled {
    #[command(flatten)]
    server: Server,
    /// Readers that read nothing
    #[arg(long, default_value_t = 100)]
    stalled: usize,
    /// Readers that read, on the same channel
    #[arg(long, default_value_t = 20)]
    others: usize,
    /// Bytes that are published while they read nothing
    #[arg(long, default_value_t = 100_000_000)]
    total_bytes: u64,
    /// Bytes of an event's data
    #[arg(long, default_value_t = 10_000)]
    bytes: usize,
    /// Publishes per second
    #[arg(long, default_value_t = 500.0)]
    rate: f64,
    /// Publishing connections
    #[arg(long, default_value_t = 1)]
    publishers: usize,
}

/// Runs it.
pub(crate) fn run(args: &Stalled) -> Result<Value> {
    let pid = args.server.pid;
    let target = Target::parse(&args.server.url)?;
    let events = args.total_bytes.div_ceil(args.bytes as u64);
    let mut rig = Rig::new(&target, 1, args.publishers)?;
    let mut traffic = Traffic::new(&args.server.prefix, 1, args.publishers, args.bytes);
    rig.subscribe(args.others, |_| args.server.subscriber(&target, 0))?;

    let without = publish(&mut rig, &mut traffic, args.rate, events)?;
    let (first, rss) = (traffic.published + 1, resident_bytes(pid)?);
    rig.subscribe(args.stalled, |_| {
        let spec = args.server.subscriber(&target, 0);
        Spec { network: STALLED, first, counts: false, ..spec }
    })?;
    let stalled = args.others..args.others + args.stalled;
    rig.fleet.pause(stalled.clone(), true)?;
    let with = publish(&mut rig, &mut traffic, args.rate, events)?;
    let kernel = socket_memory(target.address.port(), network(STALLED))?;
    let rss_growth = resident_bytes(pid)?.saturating_sub(rss);

    let (last, start) = (traffic.published, clock::micros());
    rig.fleet.pause(stalled.clone(), false)?;
    rig.run_until("what the stalled readers are owed", |rig| rig.fleet.has_all(stalled.clone(), last))?;
    Ok(json!({
        "scenario": "stalled",
        "stalled": args.stalled,
        "others": args.others,
        "published_bytes_each": (last + 1 - first) * args.bytes as u64,
        "others_without_us": without,
        "others_with_us": with,
        "p99_ratio": with.p99 as f64 / without.p99.max(1) as f64,
        "kernel": kernel,
        "rss_growth_bytes": rss_growth,
        "caught_up_s": (clock::micros() - start) as f64 / 1e6,
        "faults": faults(&rig.fleet.tally),
    }))
}

/// Publishes and returns the latencies to the last of the others.
fn publish(rig: &mut Rig, traffic: &mut Traffic, rate: f64, events: u64) -> Result<Quantiles> {
    let end = traffic.published + events;
    // A server that is behind gets the rest in another round.
    while traffic.published < end {
        let time = Duration::from_secs_f64((end - traffic.published) as f64 / rate);
        traffic.run(rig, Pace::Rate(rate), time)?;
    }
    Ok(rig.fleet.tally.take_latencies())
}
