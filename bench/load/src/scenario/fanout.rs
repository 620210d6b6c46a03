//! Publishes to many subscribers: CPU per delivery, deliveries per second, latency to the last subscriber.

use std::io::stdin;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::{Server, cpu_report, faults};
use crate::clock;
use crate::connect::Target;
use crate::process::Cpu;
use crate::rig::Rig;
use crate::traffic::{Pace, Traffic};

/// The shape of the run.
#[derive(Debug, Args)]
pub(crate) struct Fanout {
    #[command(flatten)]
    server: Server,
    /// Subscribers in all
    #[arg(long, default_value_t = 1_000)]
    subscribers: usize,
    /// Channels that they are spread over
    #[arg(long, default_value_t = 1)]
    channels: usize,
    /// Publishing connections
    #[arg(long, default_value_t = 1)]
    publishers: usize,
    /// Publishes per second; 0: the next one when fewer than `--open` are on their way to their last subscriber
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// See `--rate`
    #[arg(long, default_value_t = 1)]
    open: u64,
    /// Bytes of an event's data
    #[arg(long, default_value_t = 100)]
    bytes: usize,
    /// Seconds that are measured
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds before
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Measure once for every line of standard input, until it ends, instead of once
    #[arg(long)]
    turns: bool,
}

/// Runs it, and prints a JSON object for each measurement.
pub(crate) fn run(args: &Fanout) -> Result<()> {
    let target = Target::parse(&args.server.url)?;
    let mut rig = Rig::new(&target, args.channels, args.publishers)?;
    rig.subscribe(args.subscribers, |index| args.server.subscriber(&target, index % args.channels))?;
    let mut traffic = Traffic::new(&args.server.prefix, args.channels, args.publishers, args.bytes);
    traffic.run(&mut rig, args.pace(), Duration::from_secs_f64(args.warmup))?;
    if !args.turns {
        println!("{}", measure(args, &mut rig, &mut traffic)?);
        return Ok(());
    }
    for line in stdin().lines() {
        line?;
        println!("{}", measure(args, &mut rig, &mut traffic)?);
    }
    Ok(())
}

impl Fanout {
    fn pace(&self) -> Pace {
        if self.rate > 0.0 { Pace::Rate(self.rate) } else { Pace::Closed(self.open) }
    }
}

fn measure(args: &Fanout, rig: &mut Rig, traffic: &mut Traffic) -> Result<Value> {
    rig.fleet.tally.take_latencies();
    rig.publishers.take_latencies();
    let (before, deliveries) = (Cpu::of(args.server.pid)?, rig.fleet.tally.deliveries);
    let (published, start) = (traffic.published, clock::micros());
    traffic.run(rig, args.pace(), Duration::from_secs_f64(args.seconds))?;
    let seconds = (clock::micros() - start) as f64 / 1e6;
    let cpu = before.until(Cpu::of(args.server.pid)?);
    let tally = &mut rig.fleet.tally;
    let (deliveries, published) = (tally.deliveries - deliveries, traffic.published - published);
    Ok(json!({
        "scenario": "fanout",
        "subscribers": args.subscribers,
        "channels": args.channels,
        "bytes": args.bytes,
        "offered_per_s": (args.rate > 0.0).then_some(args.rate * (args.subscribers / args.channels) as f64),
        "seconds": seconds,
        "published": published,
        "deliveries": deliveries,
        "deliveries_per_s": deliveries as f64 / seconds,
        "cpu": cpu_report(cpu, deliveries),
        "last_subscriber_us": tally.take_latencies(),
        "publish_us": rig.publishers.take_latencies(),
        "faults": faults(tally),
    }))
}
