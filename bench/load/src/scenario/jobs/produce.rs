//! Making jobs: several requests under way at once, or so many a second.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::{NETWORK, QUEUE};
use crate::calls::{Calls, Kind};
use crate::clock;
use crate::connect::Target;

/// The shape of the run.
#[derive(Debug, Args)]
pub(crate) struct Produce {
    /// Where the server listens
    #[arg(long)]
    url: String,
    /// Jobs to make
    #[arg(long, default_value_t = 10_000)]
    jobs: u64,
    /// Requests under way at once
    #[arg(long, default_value_t = 100)]
    batch: usize,
    /// Jobs per second; 0: as fast as they are answered
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
}

/// Runs it.
pub(super) fn run(args: &Produce) -> Result<Value> {
    let mut calls = Calls::new(Target::parse(&args.url)?, NETWORK, args.batch)?;
    let (mut sent, mut answered, filling) = (0, 0, "x".repeat(60));
    let mut free: Vec<usize> = (0..args.batch).collect();
    let started = clock::micros();
    let is_due =
        |sent: u64, now: u64| args.rate == 0.0 || sent as f64 <= (now - started) as f64 / 1e6 * args.rate;
    while answered < args.jobs {
        while sent < args.jobs && is_due(sent, clock::micros()) {
            let Some(connection) = free.pop() else { break };
            let t = clock::micros();
            let body = format!(
                "{{\"type\":\"bench\",\"queue\":\"{QUEUE}\",\"input\":{{\"t\":{t},\"text\":\"{filling}\"}}}}"
            );
            calls.post(connection, "/v1/jobs", Kind::Json, body.as_bytes())?;
            sent += 1;
        }
        let wait = if args.rate == 0.0 { Duration::from_millis(100) } else { Duration::from_micros(200) };
        for answer in calls.answers(wait)? {
            free.push(answer.success()?.connection);
            answered += 1;
        }
    }
    let seconds = (clock::micros() - started) as f64 / 1e6;
    Ok(json!({ "jobs": args.jobs, "started": started, "seconds": seconds }))
}
