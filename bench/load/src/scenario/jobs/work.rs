//! Workers: each is one connection and a loop of lease and complete.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};

use super::{Leased, NETWORK, QUEUE, complete, end_of_input, leased};
use crate::calls::{Calls, Kind};
use crate::clock;
use crate::connect::Target;
use crate::quantiles::Quantiles;

/// How often it is told how many are done.
const TELL_US: u64 = 50_000;

/// The shape of the run.
#[derive(Debug, Args)]
pub(crate) struct Work {
    /// Where the server listens
    #[arg(long)]
    url: String,
    /// Workers
    #[arg(long, default_value_t = 16)]
    workers: usize,
}

/// Runs it.
pub(super) fn run(args: &Work) -> Result<Value> {
    let over = end_of_input();
    let mut calls = Calls::new(Target::parse(&args.url)?, NETWORK, args.workers)?;
    let mut running: Vec<Option<Leased>> = (0..args.workers).map(|_| None).collect();
    let (mut latencies, mut last, mut told) = (Vec::new(), 0, 0);
    for worker in 0..args.workers {
        lease(&mut calls, worker)?;
    }
    println!("{}", json!({ "done": 0 }));
    while !over.load(Ordering::Relaxed) {
        for answer in calls.answers(Duration::from_millis(20))? {
            let answer = answer.success()?;
            let worker = answer.connection;
            let slot = running.get_mut(worker).context("a worker")?;
            if let Some(job) = slot.take() {
                last = clock::micros();
                latencies.push(job.input.map_or(0, |input| last.saturating_sub(input.t)));
                lease(&mut calls, worker)?;
            } else if let Some(job) = leased(&answer)?.pop() {
                complete(&mut calls, worker, &job)?;
                *slot = Some(job);
            } else {
                lease(&mut calls, worker)?;
            }
        }
        if clock::micros() > told + TELL_US {
            told = clock::micros();
            println!("{}", json!({ "done": latencies.len() }));
        }
    }
    Ok(json!({ "done": latencies.len(), "last": last, "took_us": Quantiles::of(latencies) }))
}

fn lease(calls: &mut Calls, worker: usize) -> Result<()> {
    let body = format!("{{\"worker_id\":\"rust.{worker}\",\"max\":1,\"wait_ms\":20000}}");
    calls.post(worker, &format!("/v1/queues/{QUEUE}/lease"), Kind::Json, body.as_bytes())
}
