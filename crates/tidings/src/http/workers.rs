//! What workers ask for, and what operators ask of them.
//!
//! Owns: the JSON of leases, queues and workers. Does not know: which job is next.
//! Flow: a request → `crate::jobs` → an answer, which may take as long as the worker is ready to wait.

use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tidings_core::grant::Right;
use tidings_core::job::{JobId, JobType, QueueName, WorkerId};
use tidings_core::limits;

use super::body;
use super::caller::Caller;
use super::jobs::read;
use super::path::Path;
use super::problem::{Code, Problem};
use super::reports::cancel;
use crate::Hub;
use crate::jobs::{Handover, JobsError, Leased, Wanted, WorkerState};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaseBody {
    worker_id: String,
    types: Option<Vec<String>>,
    max: Option<usize>,
    wait_ms: Option<u64>,
    lease_ms: Option<u64>,
}

pub(super) async fn lease(
    State(hub): State<Hub>,
    caller: Caller,
    Path(queue): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, bytes) = read(request).await?;
    body::require_json(&parts.headers).map_err(Problem::uncommitted)?;
    let asked: LeaseBody = body::object(&bytes).map_err(Problem::uncommitted)?;
    if hub.is_draining() {
        return Err(Problem::new(Code::Draining, "come back later").uncommitted());
    }
    let wanted = wanted(&queue, asked).map_err(Problem::uncommitted)?;
    caller.require("lease jobs of this queue", caller.grant().may_work(wanted.queue.as_str()))?;
    let (jobs, state) = hub.jobs().lease(wanted).await?;
    if jobs.is_empty() && state == WorkerState::Run {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let jobs: Vec<Value> = jobs.into_iter().filter_map(Handover::told).map(|job| leased(&job)).collect();
    Ok(Json(json!({ "jobs": jobs, "worker": { "state": state } })).into_response())
}

fn wanted(queue: &str, asked: LeaseBody) -> Result<Wanted, Problem> {
    let invalid = |what: String| Problem::new(Code::FieldInvalid, what);
    let max = asked.max.unwrap_or(1);
    if !(1..=limits::LEASE_JOBS_MAX).contains(&max) {
        return Err(invalid(format!("max is {max}, not 1 to {}", limits::LEASE_JOBS_MAX)));
    }
    let wait_ms = asked.wait_ms.unwrap_or(limits::LEASE_WAIT_MS_MAX);
    if wait_ms > limits::LEASE_WAIT_MS_MAX {
        return Err(invalid(format!("wait_ms is {wait_ms}, not 0 to {}", limits::LEASE_WAIT_MS_MAX)));
    }
    let types = match asked.types {
        Some(types) if types.is_empty() || types.len() > limits::LEASE_TYPES_MAX => {
            return Err(invalid(format!("types is not 1 to {} names", limits::LEASE_TYPES_MAX)));
        }
        Some(types) => {
            let types = types.iter().map(|t| JobType::parse(t)).collect::<Result<Vec<_>, _>>();
            Some(types.map_err(JobsError::from)?)
        }
        None => None,
    };
    Ok(Wanted {
        queue: QueueName::parse(queue).map_err(JobsError::from)?,
        worker: WorkerId::parse(&asked.worker_id).map_err(JobsError::from)?,
        types,
        max,
        wait: Duration::from_millis(wait_ms),
        lease_ms: asked.lease_ms,
    })
}

fn leased(job: &Leased) -> Value {
    json!({
        "id": job.id.as_str(),
        "type": job.job_type,
        "queue": job.queue,
        "input": job.input,
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "tags": job.tags,
        "deadline": job.deadline,
        "lease": {
            "token": job.token,
            "expires_at": job.expires_at,
            // Two renewals may be lost before the lease is.
            "renew_every_ms": job.lease_ms / 3,
        },
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RenewBody {
    worker_id: String,
    leases: Vec<RenewLease>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RenewLease {
    id: String,
    token: String,
}

pub(super) async fn renew(
    State(hub): State<Hub>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    require_worker(&caller)?;
    let (parts, bytes) = read(request).await?;
    body::require_json(&parts.headers).map_err(Problem::uncommitted)?;
    let asked: RenewBody = body::object(&bytes).map_err(Problem::uncommitted)?;
    let worker = WorkerId::parse(&asked.worker_id).map_err(JobsError::from)?;
    if asked.leases.len() > limits::RENEW_LEASES_MAX {
        let detail = format!(
            "{} leases; at most {} are renewed at once",
            asked.leases.len(),
            limits::RENEW_LEASES_MAX
        );
        return Err(Problem::new(Code::FieldInvalid, detail).uncommitted());
    }
    let jobs = hub.jobs();
    let mut leases = Vec::with_capacity(asked.leases.len());
    for RenewLease { id, token } in asked.leases {
        let renewed = match JobId::parse(&id) {
            Ok(job) => jobs.renew(&job, &token).await,
            Err(error) => Err(error.into()),
        };
        leases.push(match renewed {
            Err(_) => json!({ "id": id, "status": "lost" }),
            Ok(renewed) => {
                let status = if renewed.cancel.is_some() { "cancel" } else { "ok" };
                let cancel = cancel(renewed.cancel.as_ref());
                json!({ "id": id, "status": status, "expires_at": renewed.expires_at, "cancel": cancel })
            }
        });
    }
    let state = jobs.worker_seen(&worker);
    Ok(Json(json!({ "leases": leases, "worker": { "state": state } })).into_response())
}

/// Workers of a queue are seen by whoever works on it, those that only renew by whoever works on all.
fn may_see(caller: &Caller, queue: Option<&str>) -> bool {
    queue.map_or_else(|| caller.grant().jobs.contains(&Right::All), |queue| caller.grant().may_work(queue))
}

/// Whether the caller is a worker of any queue. Whose leases it may renew, the leases' tokens say.
fn require_worker(caller: &Caller) -> Result<(), Problem> {
    let works = |right: &Right| matches!(right, Right::Work(_) | Right::All);
    caller.require("work on queues", caller.grant().jobs.iter().any(works))
}

pub(super) async fn queues(State(hub): State<Hub>, caller: Caller) -> Result<Json<Value>, Problem> {
    require_worker(&caller)?;
    let queues: Vec<Value> = hub
        .jobs()
        .queues()
        .into_iter()
        .filter(|(queue, _)| caller.grant().may_work(queue))
        .map(|(queue, counts)| {
            json!({
                "queue": queue, "scheduled": counts.scheduled, "queued": counts.queued,
                "retrying": counts.retrying, "running": counts.running,
            })
        })
        .collect();
    Ok(Json(json!({ "queues": queues })))
}

pub(super) async fn list(State(hub): State<Hub>, caller: Caller) -> Result<Json<Value>, Problem> {
    require_worker(&caller)?;
    let workers = hub.jobs().workers();
    let seen: Vec<_> = workers.into_iter().filter(|w| may_see(&caller, w.queue.as_deref())).collect();
    Ok(Json(json!({ "workers": seen })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TellBody {
    state: WorkerState,
}

pub(super) async fn tell(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, bytes) = read(request).await?;
    body::require_json(&parts.headers).map_err(Problem::uncommitted)?;
    let may_all = caller.grant().jobs.contains(&Right::All);
    caller.require("tell workers what to do", may_all)?;
    let told: TellBody = body::object(&bytes).map_err(Problem::uncommitted)?;
    let id = WorkerId::parse(&id).map_err(JobsError::from)?;
    let unknown = || Problem::new(Code::NotFound, "no worker of this id was heard of").uncommitted();
    let worker = hub.jobs().tell_worker(&id, told.state).ok_or_else(unknown)?;
    Ok(Json(worker).into_response())
}
