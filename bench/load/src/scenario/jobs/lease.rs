//! How soon a job is leased, one at a time: to a worker that waits, and when the job waits.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};

use super::{NETWORK, QUEUE, ask, complete, leased};
use crate::calls::{Calls, Kind};
use crate::clock;
use crate::connect::Target;
use crate::quantiles::Quantiles;

/// The shape of the run.
#[derive(Debug, Args)]
pub(crate) struct LeaseOne {
    /// Where the server listens
    #[arg(long)]
    url: String,
    /// Jobs of each kind
    #[arg(long, default_value_t = 1_000)]
    samples: usize,
}

/// Runs it. Jobs that were there before are of the type `waiting`; what waits for a worker here is not.
pub(super) fn run(args: &LeaseOne) -> Result<Value> {
    let target = Target::parse(&args.url)?;
    let mut maker = Calls::new(target.clone(), NETWORK, 1)?;
    let mut worker = Calls::new(target, NETWORK, 1)?;
    // Requests leave at once only on a connection that stands.
    for calls in [&mut maker, &mut worker] {
        calls.send(0, "GET", "/healthz", "", b"")?;
        calls.answer()?.success()?;
    }
    let path = format!("/v1/queues/{QUEUE}/lease");
    let (mut to_waiting, mut of_ready) = (Vec::new(), Vec::new());
    for _ in 0..args.samples {
        // A worker waits for a type that is not there, and then is.
        let ask_for = r#"{"worker_id":"bench","types":["fresh"],"max":1,"wait_ms":20000}"#;
        worker.post(0, &path, Kind::Json, ask_for.as_bytes())?;
        // It has to arrive first, which nothing tells.
        std::thread::sleep(Duration::from_millis(1));
        let sent = clock::micros();
        let fresh = format!("{{\"type\":\"fresh\",\"queue\":\"{QUEUE}\"}}");
        maker.post(0, "/v1/jobs", Kind::Json, fresh.as_bytes())?;
        let answer = worker.answer()?.success()?;
        to_waiting.push(clock::micros() - sent);
        maker.answer()?.success()?;
        finish(&mut worker, leased(&answer)?).context("a worker that waits")?;
        // A job is there, and a worker comes. As many wait afterwards as before.
        let waiting = format!("{{\"type\":\"waiting\",\"queue\":\"{QUEUE}\"}}");
        ask(&mut maker, "/v1/jobs", &waiting)?;
        let sent = clock::micros();
        let answer = ask(&mut worker, &path, r#"{"worker_id":"bench","max":1,"wait_ms":0}"#)?;
        of_ready.push(clock::micros() - sent);
        finish(&mut worker, leased(&answer)?).context("a worker that comes")?;
    }
    Ok(json!({
        "scenario": "lease",
        "to_waiting_us": Quantiles::of(to_waiting),
        "of_ready_us": Quantiles::of(of_ready),
    }))
}

fn finish(worker: &mut Calls, jobs: Vec<super::Leased>) -> Result<()> {
    let job = jobs.into_iter().next().context("a lease without a job")?;
    complete(worker, 0, &job)?;
    worker.answer()?.success().map(drop)
}
