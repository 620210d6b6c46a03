//! Schedules over HTTP.
//!
//! Owns: the JSON of their requests and answers. Does not know: when a schedule is due.
//! Flow: a request → `crate::jobs` → an answer.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use tidings_core::grant::Right;
use tidings_core::job::ScheduleName;

use super::body;
use super::caller::Caller;
use super::jobs::read;
use super::path::Path;
use super::problem::Problem;
use crate::Hub;
use crate::jobs::{Create, JobsError, WantedSchedule};

pub(super) async fn put(
    State(hub): State<Hub>,
    caller: Caller,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, bytes) = read(request).await?;
    body::require_json(&parts.headers).map_err(Problem::uncommitted)?;
    let name = schedule_name(&name)?;
    let wanted: WantedSchedule = body::object(&bytes).map_err(Problem::uncommitted)?;
    let create: Create<'_> = body::object(wanted.job.get().as_bytes()).map_err(Problem::uncommitted)?;
    let job = create.into_job()?;
    let may = caller.grant().may_manage_jobs(job.core.job_type.as_str());
    caller.require("make schedules of this type", may)?;
    require_replaceable(&hub, &caller, &name)?;
    caller.require_publishable(&job.publish_to)?;
    let (is_new, schedule) = hub.jobs().put_schedule(name, wanted, job).await?;
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, json(schedule)).into_response())
}

pub(super) async fn show(
    State(hub): State<Hub>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let name = schedule_name(&name)?;
    require_readable(&hub, &caller, &name)?;
    Ok(json(hub.jobs().schedule(&name)?).into_response())
}

pub(super) async fn list(State(hub): State<Hub>, caller: Caller) -> Result<Response, Problem> {
    require_manager(&caller)?;
    let seen = hub.jobs().schedules(|job_type| caller.grant().may_manage_jobs(job_type));
    // The documents are JSON already.
    Ok(json(format!("{{\"schedules\":[{}]}}", seen.join(","))).into_response())
}

pub(super) async fn delete(
    State(hub): State<Hub>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let name = schedule_name(&name)?;
    require_readable(&hub, &caller, &name)?;
    hub.jobs().delete_schedule(name).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Whether the caller manages jobs of any type.
fn require_manager(caller: &Caller) -> Result<(), Problem> {
    let manages = |right: &Right| matches!(right, Right::Manage(_) | Right::All);
    caller.require("manage schedules", caller.grant().jobs.iter().any(manages))
}

/// A schedule of a type that the caller may not manage looks like one that is not there.
fn require_readable(hub: &Hub, caller: &Caller, name: &ScheduleName) -> Result<(), Problem> {
    require_manager(caller)?;
    match hub.jobs().schedule_type(name) {
        Some(job_type) if !caller.grant().may_manage_jobs(&job_type) => {
            Err(JobsError::ScheduleNotFound(name.as_str().to_owned()).into())
        }
        _ => Ok(()),
    }
}

/// Nor is it replaced by one of another type.
fn require_replaceable(hub: &Hub, caller: &Caller, name: &ScheduleName) -> Result<(), Problem> {
    let known = hub.jobs().schedule_type(name);
    let may = known.is_none_or(|job_type| caller.grant().may_manage_jobs(&job_type));
    caller.require("replace this schedule", may)
}

fn json(text: String) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], text)
}

fn schedule_name(text: &str) -> Result<ScheduleName, Problem> {
    Ok(ScheduleName::parse(text).map_err(JobsError::from)?)
}
