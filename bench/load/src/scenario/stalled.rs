//! Readers that read nothing: what they cost the kernel and the others, and that nothing is lost to them.
//!
//! Owns: turns of publishing with them and, on another server, without. Does not know: what a reader does.
//! Flow: readers on both servers → some of one stop → turns → memory → they read again until they have everything.

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
    /// Where another server like it listens, which nobody stalls
    #[arg(long)]
    without: String,
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
    /// Turns of publishing, on each server
    #[arg(long, default_value_t = 20)]
    turns: u64,
}

/// Runs it.
pub(crate) fn run(args: &Stalled) -> Result<Value> {
    let (mut with, mut without) = (Side::new(args, &args.server.url)?, Side::new(args, &args.without)?);
    without.publish(args)?;
    with.publish(args)?;

    let (first, rss) = (with.traffic.published + 1, resident_bytes(args.server.pid)?);
    with.rig.subscribe(args.stalled, |_| Spec {
        network: STALLED,
        first,
        counts: false,
        ..args.server.subscriber(&with.target, 0)
    })?;
    let stalled = args.others..args.others + args.stalled;
    with.rig.fleet.pause(stalled.clone(), true)?;
    for turn in 0..args.turns {
        // Neither is always the second.
        let order = if turn % 2 == 0 { [&mut without, &mut with] } else { [&mut with, &mut without] };
        order.into_iter().try_for_each(|side| side.turn(args))?;
    }
    let kernel = socket_memory(with.target.address.port(), network(STALLED))?;
    let rss_growth = resident_bytes(args.server.pid)?.saturating_sub(rss);

    let (last, start) = (with.traffic.published, clock::micros());
    with.rig.fleet.pause(stalled.clone(), false)?;
    with.rig
        .run_until("what the stalled readers are owed", |rig| rig.fleet.has_all(stalled.clone(), last))?;
    Ok(json!({
        "scenario": "stalled",
        "stalled": args.stalled,
        "others": args.others,
        "published_bytes_each": (last + 1 - first) * args.bytes as u64,
        "with": with.report(),
        "without": without.report(),
        "kernel": kernel,
        "rss_growth_bytes": rss_growth,
        "caught_up_s": (clock::micros() - start) as f64 / 1e6,
    }))
}

/// One of the two servers, and the readers that read.
#[derive(Debug)]
struct Side {
    target: Target,
    rig: Rig,
    traffic: Traffic,
    /// Times to the last of the readers, for each turn.
    turns: Vec<Quantiles>,
}

impl Side {
    fn new(args: &Stalled, url: &str) -> Result<Self> {
        let target = Target::parse(url)?;
        let mut rig = Rig::new(&target, 1, 1)?;
        rig.subscribe(args.others, |_| args.server.subscriber(&target, 0))?;
        let traffic = Traffic::new(&args.server.prefix, 1, 1, args.bytes);
        Ok(Self { target, rig, traffic, turns: Vec::new() })
    }

    fn turn(&mut self, args: &Stalled) -> Result<()> {
        let latencies = self.publish(args)?;
        self.turns.push(latencies);
        Ok(())
    }

    /// Publishes a turn's events; the latencies to the last of the others.
    fn publish(&mut self, args: &Stalled) -> Result<Quantiles> {
        let events = args.total_bytes.div_ceil(args.bytes as u64 * args.turns);
        let end = self.traffic.published + events;
        // A server that is behind gets the rest in another round.
        while self.traffic.published < end {
            let time = Duration::from_secs_f64((end - self.traffic.published) as f64 / args.rate);
            self.traffic.run(&mut self.rig, Pace::Rate(args.rate), time)?;
        }
        Ok(self.rig.fleet.tally.take_latencies())
    }

    fn report(&self) -> Value {
        json!({ "others_us": self.turns, "faults": faults(&self.rig.fleet.tally) })
    }
}
