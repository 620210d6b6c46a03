//! Reports of progress: each reporter has jobs of its own and takes them in turns, so that every report is stored.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::{NETWORK, batches};
use crate::calls::{Calls, Kind};
use crate::clock;
use crate::connect::Target;
use crate::quantiles::Quantiles;

/// The shape of the run.
#[derive(Debug, Args)]
pub(crate) struct Report {
    /// Where the server listens
    #[arg(long)]
    url: String,
    /// Jobs that are reported
    #[arg(long, default_value_t = 10_000)]
    jobs: usize,
    /// Connections, each with one request at a time
    #[arg(long, default_value_t = 16)]
    reporters: usize,
    /// Reports in one request; more than one is sent as NDJSON
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Seconds that are measured
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

/// Runs it.
pub(super) fn run(args: &Report) -> Result<Value> {
    let mut calls = Calls::new(Target::parse(&args.url)?, NETWORK, args.reporters)?;
    let prefix = format!("bench:{}", std::process::id());
    upsert(&mut calls, &prefix, args.jobs)?;
    // Behind an event of a job its progress is held back for a tenth of a second.
    std::thread::sleep(Duration::from_millis(300));
    let share = args.jobs / args.reporters;
    ensure!(share >= args.batch, "a batch has each job once");
    let (mut turns, mut latencies) = (vec![0; args.reporters], Vec::new());
    let started = clock::micros();
    let until = started + clock::to_micros(Duration::from_secs_f64(args.seconds));
    let mut under_way = 0;
    for reporter in 0..args.reporters {
        send(&mut calls, args, &prefix, reporter, 0)?;
        under_way += 1;
    }
    while under_way > 0 {
        for answer in calls.answers(Duration::from_millis(100))? {
            let answer = answer.success()?;
            let text = String::from_utf8_lossy(&answer.body);
            ensure!(answer.status == 200, "a report was not stored: {text}");
            ensure!(!text.contains("\"stored\":false") && !text.contains("\"code\":"), "{text}");
            latencies.push(answer.took_us);
            under_way -= 1;
            if clock::micros() < until {
                turns[answer.connection] += 1;
                send(&mut calls, args, &prefix, answer.connection, turns[answer.connection])?;
                under_way += 1;
            }
        }
    }
    let seconds = (clock::micros() - started) as f64 / 1e6;
    let reports = latencies.len() * args.batch;
    Ok(json!({ "reports": reports, "seconds": seconds, "took_us": Quantiles::of(latencies) }))
}

/// Jobs of another queue that run.
pub(super) fn upsert(calls: &mut Calls, prefix: &str, jobs: usize) -> Result<()> {
    let mut made = 0;
    batches(calls, || {
        let upto = jobs.min(made + 1_000);
        let mut body = String::new();
        for index in made..upto {
            body += &format!(
                "{{\"id\":\"{prefix}:{index}\",\"report\":\"upsert\",\"type\":\"bench\",\"state\":\"running\"}}\n"
            );
        }
        made = upto;
        (!body.is_empty()).then(|| body.into_bytes())
    })
}

fn send(calls: &mut Calls, args: &Report, prefix: &str, reporter: usize, turn: usize) -> Result<()> {
    let share = args.jobs / args.reporters;
    let at = turn * args.batch % share;
    let percent = (turn * args.batch / share) % 100;
    let job = |index: usize| reporter * share + (at + index) % share;
    if args.batch == 1 {
        let body = format!("{{\"progress\":{percent},\"step\":\"bench\"}}");
        let path = format!("/v1/jobs/{prefix}:{}/progress", job(0));
        return calls.post(reporter, &path, Kind::Json, body.as_bytes());
    }
    let mut body = String::new();
    for index in 0..args.batch {
        let id = job(index);
        body += &format!(
            "{{\"id\":\"{prefix}:{id}\",\"report\":\"progress\",\"progress\":{percent},\"step\":\"bench\"}}\n"
        );
    }
    calls.post(reporter, "/v1/jobs:report", Kind::Ndjson, body.as_bytes())
}
