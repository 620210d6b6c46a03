//! Jobs that are there before something is measured.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::{NETWORK, QUEUE, batches};
use crate::calls::{Calls, Kind};
use crate::clock;
use crate::connect::Target;

/// Requests under way at once that make jobs.
const MAKERS: usize = 64;
/// Connections that send batches.
const REPORTERS: usize = 4;
/// Finished jobs in one batch of 1,000 lines: each is made and ended.
const FINISHED: u64 = 500;

/// The shape of the run.
#[derive(Debug, Args)]
pub(crate) struct Fill {
    /// Where the server listens
    #[arg(long)]
    url: String,
    /// Jobs that wait for a worker
    #[arg(long, default_value_t = 0)]
    queued: u64,
    /// Jobs of another queue that have ended
    #[arg(long, default_value_t = 0)]
    finished: u64,
}

/// Runs it.
pub(super) fn run(args: &Fill) -> Result<Value> {
    let target = Target::parse(&args.url)?;
    let started = clock::micros();
    queued(Calls::new(target.clone(), NETWORK, MAKERS)?, args.queued)?;
    let mut calls = Calls::new(target, NETWORK, REPORTERS)?;
    let mut made = 0;
    batches(&mut calls, || {
        let upto = args.finished.min(made + FINISHED);
        let mut body = String::new();
        for index in made..upto {
            body += &format!("{{\"id\":\"done:{index}\",\"report\":\"upsert\",\"type\":\"bench\"}}\n");
            body += &format!(
                "{{\"id\":\"done:{index}\",\"report\":\"complete\",\"result\":{{\"rows\":{index}}}}}\n"
            );
        }
        made = upto;
        (!body.is_empty()).then(|| body.into_bytes())
    })?;
    let seconds = (clock::micros() - started) as f64 / 1e6;
    Ok(json!({ "queued": args.queued, "finished": args.finished, "seconds": seconds }))
}

fn queued(mut calls: Calls, jobs: u64) -> Result<()> {
    let body = format!("{{\"type\":\"waiting\",\"queue\":\"{QUEUE}\",\"input\":{{\"rows\":1000}}}}");
    let (mut sent, mut answered) = (0, 0);
    let mut free: Vec<usize> = (0..MAKERS).collect();
    while answered < jobs {
        while sent < jobs
            && let Some(connection) = free.pop()
        {
            calls.post(connection, "/v1/jobs", Kind::Json, body.as_bytes())?;
            sent += 1;
        }
        for answer in calls.answers(Duration::from_millis(100))? {
            free.push(answer.success()?.connection);
            answered += 1;
        }
    }
    Ok(())
}
