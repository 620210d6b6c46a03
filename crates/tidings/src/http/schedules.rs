//! Schedules over HTTP.
//!
//! Owns: the JSON of their requests and answers. Does not know: when a schedule is due.
//! Flow: a request → `crate::jobs` → an answer.

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use tidings_core::job::ScheduleName;

use super::body;
use super::jobs::read;
use super::problem::Problem;
use crate::Hub;
use crate::jobs::{Create, JobsError, WantedSchedule};

pub(super) async fn put(
    State(hub): State<Hub>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, bytes) = read(request).await?;
    body::require_json(&parts.headers).map_err(Problem::uncommitted)?;
    let name = schedule_name(&name)?;
    let wanted: WantedSchedule = body::object(&bytes).map_err(Problem::uncommitted)?;
    let create: Create<'_> = body::object(wanted.job.get().as_bytes()).map_err(Problem::uncommitted)?;
    let job = create.into_job()?;
    let (is_new, schedule) = hub.jobs().put_schedule(name, wanted, job).await?;
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, json(schedule)).into_response())
}

pub(super) async fn show(State(hub): State<Hub>, Path(name): Path<String>) -> Result<Response, Problem> {
    Ok(json(hub.jobs().schedule(&schedule_name(&name)?)?).into_response())
}

pub(super) async fn list(State(hub): State<Hub>) -> Response {
    // The documents are JSON already.
    json(format!("{{\"schedules\":[{}]}}", hub.jobs().schedules().join(","))).into_response()
}

pub(super) async fn delete(State(hub): State<Hub>, Path(name): Path<String>) -> Result<Response, Problem> {
    hub.jobs().delete_schedule(schedule_name(&name)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn json(text: String) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], text)
}

fn schedule_name(text: &str) -> Result<ScheduleName, Problem> {
    Ok(ScheduleName::parse(text).map_err(JobsError::from)?)
}
