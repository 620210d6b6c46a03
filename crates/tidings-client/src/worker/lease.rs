//! Leases as they stand on the wire.
//!
//! Owns: the requests for leases and for their renewal. Does not know: when they are made.
//! Flow: in ← a queue, free slots, tokens · out → jobs to run, and what became of leases.

use std::time::Duration;

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidings_core::limits;

use crate::call::{ATTEMPT, Call, CallError};
use crate::client::Client;
use crate::jobs::reporter::escape;
use crate::jobs::{Cancel, JobsError, read};

/// What a job in an answer takes: its input, and what is around it.
const LEASED_BYTES_MAX: usize = limits::DATA_BYTES_MAX + 16 * 1024;

/// What the operator wants of a worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum WorkerState {
    #[default]
    Run,
    Quiet,
    Stop,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct WorkerSays {
    #[serde(default)]
    pub(super) state: WorkerState,
}

#[derive(Debug, Serialize)]
pub(super) struct LeaseRequest<'a> {
    pub(super) worker_id: &'a str,
    pub(super) types: Vec<&'a str>,
    pub(super) max: usize,
    pub(super) wait_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lease_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Leased {
    #[serde(default)]
    pub(super) jobs: Vec<LeasedJob>,
    #[serde(default)]
    pub(super) worker: WorkerSays,
}

/// A job to run.
#[derive(Debug, Deserialize)]
pub(super) struct LeasedJob {
    pub(super) id: String,
    #[serde(rename = "type")]
    pub(super) job_type: String,
    #[serde(default)]
    pub(super) input: Option<Box<RawValue>>,
    pub(super) attempt: u32,
    #[serde(default)]
    pub(super) max_attempts: u32,
    #[serde(default)]
    pub(super) tags: Vec<String>,
    #[serde(default)]
    pub(super) deadline: Option<u64>,
    pub(super) lease: Lease,
}

#[derive(Debug, Deserialize)]
pub(super) struct Lease {
    pub(super) token: String,
    pub(super) renew_every_ms: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Renewal<'a> {
    pub(super) id: &'a str,
    pub(super) token: &'a str,
}

#[derive(Debug, Deserialize)]
pub(super) struct Renewed {
    #[serde(default)]
    pub(super) leases: Vec<RenewedLease>,
    #[serde(default)]
    pub(super) worker: WorkerSays,
}

#[derive(Debug, Deserialize)]
pub(super) struct RenewedLease {
    pub(super) id: String,
    pub(super) status: Status,
    #[serde(default)]
    pub(super) cancel: Option<Cancel>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Ok,
    Cancel,
    Lost,
}

/// Asks for jobs, and waits for them. When to ask again is the loop's to say.
pub(super) async fn lease(
    client: &Client,
    queue: &str,
    request: &LeaseRequest<'_>,
) -> Result<Leased, CallError> {
    let body = serde_json::to_vec(request).map_err(|error| CallError::NoAnswer(error.to_string()))?;
    let call = Call::new(Method::POST, format!("/v1/queues/{}/lease", escape(queue)))
        .json(body)
        .limit(ATTEMPT + Duration::from_millis(request.wait_ms))
        .answer_bytes_max(LEASED_BYTES_MAX.saturating_mul(request.max.max(1)));
    let answer = call.send(client).await?;
    if answer.status == StatusCode::NO_CONTENT {
        return Ok(Leased::default());
    }
    read(answer).map_err(|error| CallError::NoAnswer(error.to_string()))
}

/// Renews leases, up to [`limits::RENEW_LEASES_MAX`].
pub(super) async fn renew(
    client: &Client,
    worker_id: &str,
    leases: &[Renewal<'_>],
    limit: Duration,
) -> Result<Renewed, JobsError> {
    let body = serde_json::json!({ "worker_id": worker_id, "leases": leases }).to_string();
    let call = Call::new(Method::POST, "/v1/leases:renew").json(body).limit(limit);
    read(call.send(client).await?)
}
