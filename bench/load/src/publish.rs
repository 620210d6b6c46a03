//! Publishing alone: how many events per second become durable, and how long each publish waits.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use crate::clock;
use crate::connect::Target;
use crate::publishers::Kind;
use crate::rig::Rig;
use crate::traffic::{channel, line};

/// The shape of the run.
#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// Where the server listens
    #[arg(long)]
    url: String,
    /// The first part of all channel names
    #[arg(long, default_value = "load")]
    prefix: String,
    /// Connections, each with one request at a time
    #[arg(long, default_value_t = 1)]
    publishers: usize,
    /// Channels that the connections are spread over
    #[arg(long, default_value_t = 1)]
    channels: usize,
    /// Events in one request; more than one is sent as NDJSON
    #[arg(long, default_value_t = 1)]
    batch: u64,
    /// Requests per second over all connections; 0: as fast as they are answered
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// Bytes of an event's data
    #[arg(long, default_value_t = 100)]
    bytes: usize,
    /// Seconds that are measured
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

/// Runs it.
pub(crate) fn run(args: &Publish) -> Result<Value> {
    let target = Target::parse(&args.url)?;
    let mut rig = Rig::new(&target, 0, args.publishers)?;
    let names: Vec<String> = (0..args.channels).map(|index| channel(&args.prefix, index)).collect();
    let mut next = vec![1; args.channels];
    let start = clock::micros();
    let end = start + clock::to_micros(Duration::from_secs_f64(args.seconds));
    let (mut sent, mut answered) = (0_u64, 0_u64);
    let is_due =
        |sent: u64, now: u64| args.rate == 0.0 || sent as f64 <= (now - start) as f64 / 1e6 * args.rate;
    loop {
        let now = clock::micros();
        if now >= end && answered == sent {
            break;
        }
        for publisher in 0..rig.publishers.len() {
            if now < end && is_due(sent, now) && rig.publishers.is_free(publisher) {
                let channel = publisher % args.channels;
                let mut body = Vec::new();
                for _ in 0..args.batch {
                    line(&mut body, &names[channel], next[channel], now, args.bytes);
                    next[channel] += 1;
                    body.push(b'\n');
                }
                let kind = if args.batch > 1 { Kind::Ndjson } else { Kind::Json };
                rig.publishers.publish(publisher, kind, &body)?;
                sent += 1;
            }
        }
        let wait = if args.rate == 0.0 { Duration::from_millis(100) } else { Duration::from_micros(100) };
        answered += rig.turn(wait)?.len() as u64;
    }
    let seconds = (clock::micros() - start) as f64 / 1e6;
    let events = answered * args.batch;
    Ok(json!({
        "scenario": "publish",
        "publishers": args.publishers,
        "channels": args.channels,
        "batch": args.batch,
        "bytes": args.bytes,
        "seconds": seconds,
        "events": events,
        "events_per_s": events as f64 / seconds,
        "request_us": rig.publishers.take_latencies(),
    }))
}
