//! Finished jobs with files that are kept for a short time: when they are gone.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::{NETWORK, ask, complete, id, leased};
use crate::calls::Calls;
use crate::clock;
use crate::connect::Target;

/// How much longer than promised they may be there before the run has failed.
const PATIENCE_US: u64 = 120_000_000;

/// The shape of the run.
#[derive(Debug, Args)]
pub(crate) struct Retention {
    /// Where the server listens
    #[arg(long)]
    url: String,
    /// Jobs
    #[arg(long, default_value_t = 1_000)]
    jobs: usize,
    /// How long they are kept once they have ended
    #[arg(long, default_value_t = 2_000)]
    result_ms: u64,
    /// Bytes of each file
    #[arg(long, default_value_t = 10_000)]
    bytes: usize,
}

/// Runs it.
pub(super) fn run(args: &Retention) -> Result<Value> {
    let mut calls = Calls::new(Target::parse(&args.url)?, NETWORK, 1)?;
    let file = vec![b'x'; args.bytes];
    let mut ids = Vec::new();
    let mut last = 0;
    for _ in 0..args.jobs {
        let ttl = args.result_ms;
        let body = format!("{{\"type\":\"file\",\"queue\":\"files\",\"ttl\":{{\"result_ms\":{ttl}}}}}");
        let made = id(&ask(&mut calls, "/v1/jobs", &body)?)?;
        let answer = ask(&mut calls, "/v1/queues/files/lease", r#"{"worker_id":"bench","wait_ms":0}"#)?;
        let job = leased(&answer)?.pop().context("a lease without a job")?;
        ensure!(job.id == made, "another job was leased");
        let lines = format!("Tidings-Lease: {}\r\nContent-Type: text/csv\r\n", job.lease.token);
        calls.send(0, "PUT", &format!("/v1/jobs/{made}/artifacts/report.csv"), &lines, &file)?;
        calls.answer()?.success()?;
        complete(&mut calls, 0, &job)?;
        calls.answer()?.success()?;
        last = clock::micros();
        ids.push(made);
    }
    let deadline = last + args.result_ms * 1_000 + PATIENCE_US;
    for id in &ids {
        while get(&mut calls, &format!("/v1/jobs/{id}"))? != 404 {
            ensure!(clock::micros() < deadline, "{id} is still there");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let gone = clock::micros();
    let is_served = |status: u16| (200..300).contains(&status);
    for id in ids.iter().step_by(100) {
        let status = get(&mut calls, &format!("/v1/jobs/{id}/download"))?;
        ensure!(!is_served(status), "the file of {id} is still there");
    }
    let behind = (gone - last) as f64 / 1e3 - args.result_ms as f64;
    Ok(json!({ "jobs": args.jobs, "bytes": args.bytes, "gone_ms_behind_their_time": behind }))
}

fn get(calls: &mut Calls, path: &str) -> Result<u16> {
    calls.send(0, "GET", path, "", b"")?;
    Ok(calls.answer()?.status)
}
