//! A client that comes back: how soon its first event is there, from any depth, compared with a client without a
//! position; and one replay of everything.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::{SUBSCRIBERS, Server, faults};
use crate::clock;
use crate::connect::Target;
use crate::fill::fill;
use crate::fleet::Spec;
use crate::process::resident_bytes;
use crate::quantiles::Quantiles;
use crate::reader::{Reader, Seen};
use crate::rig::Rig;
use crate::traffic::channel;

/// The shape of the run.
#[derive(Debug, Args)]
pub(crate) struct Resume {
    #[command(flatten)]
    server: Server,
    /// Events that are published first
    #[arg(long, default_value_t = 100_000)]
    events: u64,
    /// Channels that they are spread over; a client subscribes to the first
    #[arg(long, default_value_t = 10)]
    channels: u64,
    /// How many events behind the head clients come back; more than there are is left out
    #[arg(long, value_delimiter = ',', default_values_t = [10, 1_000, 10_000, 100_000, 999_990])]
    depths: Vec<u64>,
    /// Clients at each depth, one after the other
    #[arg(long, default_value_t = 50)]
    clients: usize,
    /// Bytes of an event's data
    #[arg(long, default_value_t = 100)]
    bytes: usize,
    /// Also replay everything of the first channel on one connection
    #[arg(long)]
    replay: bool,
}

/// Runs it.
pub(crate) fn run(args: &Resume) -> Result<Value> {
    let target = Target::parse(&args.server.url)?;
    let mut rig = Rig::new(&target, 1, 1)?;
    let wanted: Vec<u64> =
        args.depths.iter().filter_map(|depth| args.events.checked_sub(depth + 1)).collect();
    let mut ids = BTreeMap::new();
    let start = clock::micros();
    fill(&mut rig, &args.server.prefix, args.channels, 0..args.events, args.bytes, |index, id| {
        if wanted.contains(&index) {
            ids.insert(args.events - 1 - index, id.to_owned());
        }
    })?;
    let fill_s = (clock::micros() - start) as f64 / 1e6;
    let query = format!("channel={}", channel(&args.server.prefix, 0));
    // Without a position the first thing to come is the hello.
    let fresh = measure(&target, args.clients, &target.stream_request(&query, None), |seen| {
        matches!(seen, Seen::Hello)
    })?;
    let mut depths = Vec::new();
    for (depth, id) in &ids {
        let request = target.stream_request(&query, Some(id));
        let is_event = |seen: &Seen<'_>| matches!(seen, Seen::Event { .. });
        let first_event_us = measure(&target, args.clients, &request, is_event)?;
        depths.push(json!({ "depth": depth, "first_event_us": first_event_us }));
    }
    let replay = args.replay.then(|| replay(args, &mut rig, &target)).transpose()?;
    Ok(json!({
        "scenario": "resume",
        "events": args.events,
        "channels": args.channels,
        "fill_events_per_s": args.events as f64 / fill_s,
        "without_position_us": fresh,
        "depths": depths,
        "replay": replay,
    }))
}

/// From the connect to the first thing that is waited for, `clients` times.
fn measure(
    target: &Target,
    clients: usize,
    request: &[u8],
    is_it: impl Fn(&Seen<'_>) -> bool,
) -> Result<Quantiles> {
    let mut times = Vec::with_capacity(clients);
    let mut buffer = vec![0; 16 * 1024];
    for _ in 0..clients {
        let start = clock::micros();
        let mut stream = TcpStream::connect(target.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(request)?;
        let (mut reader, mut is_there) = (Reader::default(), false);
        while !is_there {
            let read = stream.read(&mut buffer)?;
            ensure!(read > 0, "the server ended the stream");
            reader.handle_bytes(&buffer[..read], &mut |seen| is_there |= is_it(&seen))?;
        }
        times.push(clock::micros() - start);
    }
    Ok(Quantiles::of(times))
}

/// Everything of the first channel on one connection.
fn replay(args: &Resume, rig: &mut Rig, target: &Target) -> Result<Value> {
    let query = format!("channel={}&from=start", channel(&args.server.prefix, 0));
    let request = target.stream_request(&query, None);
    let events = args.events.div_ceil(args.channels);
    let (before, start) = (resident_bytes(args.server.pid)?, clock::micros());
    let spec =
        |_| Spec { request: request.clone(), network: SUBSCRIBERS, channel: 0, first: 1, counts: false };
    rig.subscribe(1, spec)?;
    rig.run_until("the replay", |rig| rig.fleet.tally.deliveries >= events)?;
    let seconds = (clock::micros() - start) as f64 / 1e6;
    let after = resident_bytes(args.server.pid)?;
    Ok(json!({
        "events": events,
        "seconds": seconds,
        "events_per_s": events as f64 / seconds,
        "rss_growth_bytes": after.saturating_sub(before),
        "faults": faults(&rig.fleet.tally),
    }))
}
