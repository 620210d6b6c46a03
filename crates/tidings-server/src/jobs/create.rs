//! `tidings jobs create` and `tidings jobs retry`.
//!
//! Owns: reading a new job from the command line. Does not know: how it is watched.
//! Flow: arguments or standard input → the client → the id on standard output, or a watch.

use std::io::Read;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use tidings::core::limits::BODY_BYTES_MAX;
use tidings_client::jobs::{Created, NewJob, RetryPolicy, Unique};

use super::flags::{CreateFlags, RetryFlags, WatchFlags};
use super::{explained, jobs, print, watch};
use crate::cli::ServerFlags;

pub(super) async fn create(flags: CreateFlags) -> Result<ExitCode> {
    let mut job = NewJob::new(flags.job_type);
    if let Some(input) = flags.input {
        job = job.input_json(if input == "-" { standard_input()? } else { input });
    }
    if let Some(id) = flags.id {
        job = job.id(id);
    }
    if let Some(queue) = flags.queue {
        job = job.queue(queue);
    }
    if let Some(priority) = flags.priority {
        job = job.priority(priority);
    }
    if let Some(delay) = flags.delay {
        job = job.delay(delay);
    }
    if let Some(timeout) = flags.timeout {
        job = job.timeout(timeout);
    }
    if let Some(attempts) = flags.max_attempts {
        job = job.retry(RetryPolicy::attempts(attempts));
    }
    if let Some(key) = flags.unique {
        job = job.unique(Unique::key(key));
    }
    if let Some(key) = flags.idempotency_key {
        job = job.idempotency_key(key);
    }
    job = flags.tags.into_iter().fold(job, NewJob::tag);
    let created = jobs(&flags.server)?.create(&job).await;
    let created = created.map_err(|error| explained(error, &flags.server))?;
    made(created, flags.server, flags.watch).await
}

pub(super) async fn retry(flags: RetryFlags) -> Result<ExitCode> {
    let created = jobs(&flags.server)?.retry(&flags.id).await;
    let created = created.map_err(|error| explained(error, &flags.server))?;
    made(created, flags.server, flags.watch).await
}

async fn made(created: Created, server: ServerFlags, is_watched: bool) -> Result<ExitCode> {
    if !is_watched {
        print(&created.id)?;
        return Ok(ExitCode::SUCCESS);
    }
    watch::watch(WatchFlags { server, ids: vec![created.id], from_start: true, json: false }).await
}

fn standard_input() -> Result<String> {
    let mut text = String::new();
    let bound = u64::try_from(BODY_BYTES_MAX)?;
    let read = std::io::stdin().lock().take(bound + 1).read_to_string(&mut text);
    read.context("cannot read standard input as UTF-8")?;
    // Cut off, it could still be JSON: of another job.
    ensure!(text.len() <= BODY_BYTES_MAX, "standard input has more than {BODY_BYTES_MAX} bytes");
    Ok(text)
}
