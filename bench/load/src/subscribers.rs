//! Subscribers alone, for more of them than one process may have: start several, publish from elsewhere.

use std::io::BufRead;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use crate::connect::Target;
use crate::fleet::Spec;
use crate::rig::Rig;
use crate::scenario::faults;
use crate::traffic::channel;

/// The shape of the run.
#[derive(Debug, Args)]
pub(crate) struct Subscribers {
    /// Where the server listens
    #[arg(long)]
    url: String,
    /// The first part of all channel names
    #[arg(long, default_value = "load")]
    prefix: String,
    /// How many
    #[arg(long, default_value_t = 1_000)]
    count: usize,
    /// Channels that they are spread over
    #[arg(long, default_value_t = 1)]
    channels: usize,
    /// 127.N.0.0 is where they come from; each process needs its own
    #[arg(long, default_value_t = 10)]
    network: u8,
}

/// Connects, prints `{"open":N}`, and counts until standard input ends.
pub(crate) fn run(args: &Subscribers) -> Result<Value> {
    let target = Target::parse(&args.url)?;
    let mut rig = Rig::new(&target, args.channels, 0)?;
    rig.subscribe(args.count, |index| {
        let index = index % args.channels;
        let query = format!("channel={}", channel(&args.prefix, index));
        let request = target.stream_request(&query, None);
        Spec { request, network: args.network, channel: index, first: 1, counts: true }
    })?;
    println!("{}", json!({ "open": rig.fleet.open }));
    let is_over = Arc::new(AtomicBool::new(false));
    let over = is_over.clone();
    std::thread::spawn(move || {
        std::io::stdin().lock().lines().for_each(drop);
        over.store(true, Ordering::Relaxed);
    });
    while !is_over.load(Ordering::Relaxed) {
        rig.turn(Duration::from_millis(100))?;
    }
    let tally = &mut rig.fleet.tally;
    Ok(json!({
        "scenario": "subscribers",
        "subscribers": args.count,
        "deliveries": tally.deliveries,
        "completed": tally.completed,
        "last_subscriber_us": tally.take_latencies(),
        "faults": faults(tally),
    }))
}
