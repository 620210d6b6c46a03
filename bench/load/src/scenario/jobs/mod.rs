//! Jobs over HTTP: what a queue does, one part in one process.
//!
//! Owns: the parts by name, and the requests that they share. Does not know: which server it is, the other side.
//! Flow: in ← URL of a running server · out → one JSON object, or lines of how far it is.

mod coalesce;
mod fill;
mod lease;
mod produce;
mod report;
mod retention;
mod work;

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use clap::Subcommand;
use serde::Deserialize;
use serde_json::Value;

use crate::calls::{Answer, Calls, Kind};

/// 127.4.0.0 is where workers and makers of jobs come from.
const NETWORK: u8 = 4;
/// The queue of the runs that are compared.
const QUEUE: &str = "bench";

/// Which part.
#[derive(Debug, Subcommand)]
pub(crate) enum Jobs {
    /// Make jobs
    Produce(produce::Produce),
    /// Lease and complete jobs until standard input ends
    Work(work::Work),
    /// Report progress of many running jobs
    Report(report::Report),
    /// Report one job far more often than is stored, in turns with reports that all are
    Coalesce(coalesce::Coalesce),
    /// Lease one job at a time: how soon it is there
    Lease(lease::LeaseOne),
    /// Fill a server with jobs that wait, or that have ended
    Fill(fill::Fill),
    /// Make finished jobs with files that are kept shortly, and wait until they are gone
    Retention(retention::Retention),
}

/// Runs it.
pub(crate) fn run(part: &Jobs) -> Result<Value> {
    match part {
        Jobs::Produce(args) => produce::run(args),
        Jobs::Work(args) => work::run(args),
        Jobs::Report(args) => report::run(args),
        Jobs::Coalesce(args) => coalesce::run(args),
        Jobs::Lease(args) => lease::run(args),
        Jobs::Fill(args) => fill::run(args),
        Jobs::Retention(args) => retention::run(args),
    }
}

/// The answer to a lease.
#[derive(Debug, Deserialize)]
struct Leases {
    jobs: Vec<Leased>,
}

/// A job as a worker gets it.
#[derive(Debug, Deserialize)]
struct Leased {
    id: String,
    input: Option<Input>,
    lease: Token,
}

#[derive(Debug, Deserialize)]
struct Input {
    /// When it was asked for, in Unix microseconds.
    #[serde(default)]
    t: u64,
}

#[derive(Debug, Deserialize)]
struct Token {
    token: String,
}

/// The jobs in an answer; 204 has none.
fn leased(answer: &Answer) -> Result<Vec<Leased>> {
    if answer.status == 204 {
        return Ok(Vec::new());
    }
    let text = || String::from_utf8_lossy(&answer.body).into_owned();
    Ok(serde_json::from_slice::<Leases>(&answer.body).with_context(text)?.jobs)
}

fn complete(calls: &mut Calls, connection: usize, job: &Leased) -> Result<()> {
    let body = format!("{{\"lease\":\"{}\",\"result\":{{\"ok\":true}}}}", job.lease.token);
    calls.post(connection, &format!("/v1/jobs/{}/complete", job.id), Kind::Json, body.as_bytes())
}

/// Sends one request on a connection that nobody else uses and waits for its success.
fn ask(calls: &mut Calls, path: &str, body: &str) -> Result<Answer> {
    calls.post(0, path, Kind::Json, body.as_bytes())?;
    calls.answer()?.success().with_context(|| path.to_owned())
}

/// The id in the answer to a job that was made.
fn id(answer: &Answer) -> Result<String> {
    let body: Value = serde_json::from_slice(&answer.body)?;
    body.get("id").and_then(Value::as_str).map(str::to_owned).context("no id")
}

/// Sends batches of lines as fast as they are answered, one on each connection; every line has to succeed.
fn batches(calls: &mut Calls, mut next: impl FnMut() -> Option<Vec<u8>>) -> Result<()> {
    let mut under_way = 0;
    let mut free: Vec<usize> = (0..calls.len()).collect();
    loop {
        while let Some(connection) = free.pop() {
            let Some(body) = next() else { break };
            calls.post(connection, "/v1/jobs:report", Kind::Ndjson, &body)?;
            under_way += 1;
        }
        if under_way == 0 {
            return Ok(());
        }
        for answer in calls.answers(std::time::Duration::from_millis(100))? {
            let answer = answer.success()?;
            if memchr::memmem::find(&answer.body, b"\"code\":").is_some() {
                let text = String::from_utf8_lossy(&answer.body);
                let line = text.lines().find(|line| line.contains("\"code\":")).unwrap_or_default();
                anyhow::bail!("a report was refused: {line}");
            }
            under_way -= 1;
            free.push(answer.connection);
        }
    }
}

/// Becomes true when standard input ends.
fn end_of_input() -> Arc<AtomicBool> {
    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&over);
    std::thread::spawn(move || {
        std::io::stdin().read_to_end(&mut Vec::new()).ok();
        told.store(true, Ordering::Relaxed);
    });
    over
}
