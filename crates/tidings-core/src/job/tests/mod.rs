//! What the tests of jobs share: a job to begin with, reports as JSON, and what is equal.

use std::string::String;

use serde_json::Value;
use serde_json::value::RawValue;

use super::*;

mod bounds;
mod document;
mod due;
mod external;
mod leases;
mod model;
mod reports;
mod table;

const NOW: u64 = 1_000_000;
const RIGHT: u128 = u128::MAX - 1;
const WRONG: u128 = 2;

fn new(mode: Mode) -> New {
    let (id, job_type) = (JobId::parse("7").unwrap(), JobType::parse("t").unwrap());
    New { mode, ..New::new(id, job_type) }
}

/// A managed job.
fn job(change: impl FnOnce(&mut New)) -> Job {
    let mut new = new(Mode::Managed);
    change(&mut new);
    Job::create(NOW, new).unwrap()
}

/// A managed job that a worker elsewhere runs.
fn running(change: impl FnOnce(&mut New)) -> Job {
    let mut job = job(change);
    lease(&mut job, NOW, RIGHT).unwrap();
    job
}

fn external() -> Job {
    Job::create(NOW, new(Mode::External)).unwrap()
}

fn lease(job: &mut Job, now_ms: u64, hash: u128) -> Result<Change, JobError> {
    job.handle_lease(now_ms, NewLease { hash, worker: "w".into(), lease_ms: None, is_local: false })
}

fn lease_locally(job: &mut Job, now_ms: u64, hash: u128) -> Result<Change, JobError> {
    job.handle_lease(now_ms, NewLease { hash, worker: "w".into(), lease_ms: None, is_local: true })
}

/// Of the one who has the lease.
fn of(lease: u128) -> Claim {
    Claim { lease: Some(lease), ..Claim::default() }
}

/// Of another queue.
fn nobody() -> Claim {
    Claim::default()
}

fn counted(n: u64) -> Claim {
    Claim { n: Some(n), ..Claim::default() }
}

fn progress(json: &str) -> Progress {
    Progress::from_json(json).unwrap()
}

fn fail(json: &str) -> Fail {
    Fail::from_json(json).unwrap()
}

fn logs(json: &str) -> Entries {
    EntriesReport::logs_from_json(json).unwrap().entries
}

fn value(job: &Job) -> Value {
    serde_json::to_value(job.document()).unwrap()
}

/// The process ends, and another one reads the job back.
fn stored_and_read(job: &Job) -> Job {
    let (document, hidden) =
        (serde_json::to_string(job.document()).unwrap(), serde_json::to_string(job.hidden()).unwrap());
    Job::restore(serde_json::from_str(&document).unwrap(), serde_json::from_str(&hidden).unwrap())
}

/// Where the job stands, and why.
fn standing(job: &Job) -> (State, Option<Reason>, u32) {
    let document = job.document();
    (document.state, document.reason, document.attempt)
}

fn code(job: &Job) -> &str {
    job.document().error.as_ref().map_or("", |error| error.code.as_str())
}
