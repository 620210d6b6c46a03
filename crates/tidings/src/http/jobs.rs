//! `/v1/jobs` and its aliases.
//!
//! Owns: the JSON of job requests and answers. Does not know: what a report changes, files.
//! Flow: a request → `crate::jobs` → an answer or a stream.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tidings_core::grant::{Holder, JobFacts, Subject};
use tidings_core::job::{JobId, Mode, QueueName, State as JobState};
use tidings_core::resume::Position;
use tidings_core::wire::sse::encode;
use tidings_core::{ChannelName, Grant, limits};

use super::caller::{Caller, Identified};
use super::params::Params;
use super::path::Path;
use super::problem::{Code, Problem};
use super::stream::{self, Document, StreamRequest};
use super::{body, publish};
use crate::Hub;
use crate::jobs::{
    Create, Created, Cursor, Filter, JobRoute, JobsError, NewJob, Reported, Snapshot, Upsert, channels,
};

impl From<JobsError> for Problem {
    fn from(error: JobsError) -> Self {
        match error {
            JobsError::Commit(error) => error.into(),
            JobsError::Log(error) => error.into(),
            error => Self::of(error.code(), error.to_string()).uncommitted(),
        }
    }
}

/// The job of another queue.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct External {
    #[serde(rename = "type")]
    job_type: String,
    queue: Option<String>,
    tags: Option<Vec<String>>,
    state: Option<JobState>,
    stale_after_ms: Option<u64>,
    parent: Option<String>,
    subject: Option<String>,
    #[serde(default)]
    publish_to: Vec<String>,
}

pub(super) async fn create(
    State(hub): State<Hub>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, bytes) = read(request).await?;
    body::require_json(&parts.headers).map_err(Problem::uncommitted)?;
    let create: Create<'_> = body::object(&bytes).map_err(Problem::uncommitted)?;
    let new = create.into_job()?;
    made(&hub, &caller, &parts.headers, new).await
}

/// `POST` at an alias: the body is the input.
pub(super) async fn create_at(
    hub: Hub,
    caller: Caller,
    route: JobRoute,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, bytes) = read(request).await?;
    let mut new = NewJob::new(route.job_type())?;
    new.alias = Some(route.path().to_owned());
    if !bytes.is_empty() {
        body::require_json(&parts.headers).map_err(Problem::uncommitted)?;
        new = new.input(body::json::<&RawValue>(&bytes).map_err(Problem::uncommitted)?)?;
    }
    made(&hub, &caller, &parts.headers, new).await
}

async fn made(hub: &Hub, caller: &Caller, headers: &HeaderMap, mut new: NewJob) -> Result<Response, Problem> {
    may_make(caller, &mut new)?;
    new.idempotency_key = caller.own_key(publish::idempotency_header(headers)?);
    let alias = new.alias.clone();
    let created = hub.jobs().create_or_find(new).await?;
    answer_created(hub, &created, alias.as_deref()).await
}

/// Whether this job may be made. Who may only make jobs makes its own, and touches nobody else's with them.
fn may_make(caller: &Caller, new: &mut NewJob) -> Result<(), Problem> {
    let (grant, job_type) = (caller.grant(), new.core.job_type.as_str());
    caller.require("make jobs of this type", grant.may_create_job(job_type))?;
    if grant.may_manage_jobs(job_type) {
        if new.core.subject.is_none() {
            new.core.subject = grant.subject().map(|own| own.as_str().to_owned());
        }
    } else {
        let own = grant.subject().map(|own| own.as_str().to_owned());
        let is_bare = new.id.is_none() && new.core.parent.is_none() && new.core.terms.unique.is_none();
        let is_own = new.core.subject.is_none() || new.core.subject == own;
        let is_managed = new.core.mode == Mode::Managed;
        caller.require(
            "name an id, a parent, a unique key or another subject",
            is_bare && is_own && is_managed,
        )?;
        new.core.subject = own;
    }
    let own = grant.subject().map(Subject::channel);
    let may_tell = |channel: &&ChannelName| own != Some(*channel) && !grant.may_publish(channel);
    match new.publish_to.iter().find(may_tell) {
        None => Ok(()),
        Some(channel) => Err(caller.forbidden(&format!("publish to {channel}"))),
    }
}

async fn answer_created(hub: &Hub, created: &Created, alias: Option<&str>) -> Result<Response, Problem> {
    let jobs = hub.jobs();
    let urls = jobs.urls(&created.id, alias);
    let id = created.id.as_str();
    let mut answer = json!({
        "id": id, "jobId": id, "state": jobs.state_of(&created.id).await?,
        "urls": {
            "self": urls.itself, "events": urls.events, "cancel": urls.cancel, "download": urls.download,
        },
    });
    let mut status = StatusCode::CREATED;
    if created.duplicate {
        status = StatusCode::OK;
        if let Some(object) = answer.as_object_mut() {
            object.insert("duplicate".into(), true.into());
        }
    }
    Ok((status, Json(answer)).into_response())
}

pub(super) async fn upsert(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, bytes) = read(request).await?;
    body::require_json(&parts.headers).map_err(Problem::uncommitted)?;
    let id = job_id(&id)?;
    let (is_new, _) = upsert_from(&hub, &caller, &id, &bytes).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let document = hub.jobs().document(&id).await?.unwrap_or_default();
    Ok((status, [(header::CONTENT_TYPE, "application/json")], document).into_response())
}

/// The job of another queue, from JSON. Says whether it is new.
pub(super) async fn upsert_from(
    hub: &Hub,
    caller: &Caller,
    id: &JobId,
    bytes: &[u8],
) -> Result<(bool, Reported), Problem> {
    let external: External = body::object(bytes).map_err(Problem::uncommitted)?;
    let mut new = NewJob::new(&external.job_type)?.publish_to(channels(&external.publish_to)?);
    if let Some(queue) = &external.queue {
        new = new.queue(queue)?;
    }
    let known = Upsert {
        state: external.state,
        queue: external.queue.as_deref().map(QueueName::parse).transpose().map_err(JobsError::from)?,
        tags: external.tags.clone(),
        stale_after_ms: external.stale_after_ms,
    };
    if let Some(facts) = hub.jobs().facts(id).await? {
        caller.require("report jobs of this queue", caller.grant().may_work(facts.of(id).queue))?;
    }
    caller.require("report jobs of this queue", caller.grant().may_work(new.core.queue.as_str()))?;
    if external.subject.is_some() {
        let may = caller.grant().may_manage_jobs(new.core.job_type.as_str());
        caller.require("say whose jobs of this type are", may)?;
    }
    caller.require_publishable(&new.publish_to)?;
    new.core.subject = external.subject;
    new.core.tags = external.tags.unwrap_or_default();
    new.core.parent = external.parent;
    new.core.terms.stale_after_ms = external.stale_after_ms;
    Ok(hub.jobs().upsert_external(id.clone(), new, known).await?)
}

pub(super) async fn show(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<String>,
    uri: http::Uri,
) -> Result<Response, Problem> {
    let params = Params::of(&uri);
    let job = job_id(&id)?;
    caller.require_job(&hub, &job, "read this job", Grant::may_read_job).await?;
    let wait = match (params.one("wait"), params.one("until")) {
        (None, None) => None,
        (Some(wait), Some("terminal")) => Some(duration(wait)?),
        (Some(_), _) => return Err(Problem::new(Code::QueryInvalid, "`wait` needs `until=terminal`")),
        (None, Some(_)) => return Err(Problem::new(Code::QueryInvalid, "`until` needs `wait`, such as 20s")),
    };
    let document = match wait {
        Some(wait) => hub.jobs().document_at_end(&job, wait).await?,
        None => hub.jobs().document(&job).await?,
    };
    let document = document.ok_or(JobsError::NotFound(id))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], document).into_response())
}

/// `20s` or `500ms`, at most 25 s.
fn duration(text: &str) -> Result<Duration, Problem> {
    let invalid = || {
        Problem::new(Code::QueryInvalid, format!("wait={text:.32} is not such as 20s or 500ms, up to 25s"))
    };
    let ms = match text.strip_suffix("ms") {
        Some(ms) => ms.parse::<u64>().ok(),
        None => text.strip_suffix('s').and_then(|s| s.parse::<u64>().ok()?.checked_mul(1_000)),
    };
    let ms = ms.filter(|ms| *ms <= limits::LEASE_WAIT_MS_MAX).ok_or_else(invalid)?;
    Ok(Duration::from_millis(ms))
}

pub(super) async fn list(
    State(hub): State<Hub>,
    caller: Caller,
    uri: http::Uri,
) -> Result<Response, Problem> {
    let may = !caller.grant().jobs.is_empty() || caller.grant().subject().is_some();
    caller.require("list jobs", may)?;
    let params = Params::of(&uri);
    let invalid = |what: &str| Problem::new(Code::QueryInvalid, format!("`{what}` is not valid"));
    let text = |name: &str| params.one(name).filter(|v| !v.is_empty()).map(str::to_owned);
    let state = match text("state") {
        None => None,
        Some(state) => Some(JobState::parse(&state).ok_or_else(|| invalid("state"))?),
    };
    let filter = Filter {
        queue: text("queue"),
        state,
        job_type: text("type"),
        tag: text("tag"),
        parent: text("parent"),
        subject: text("subject"),
        reader: Arc::clone(caller.grant()),
    };
    let cursor = match text("cursor") {
        None => None,
        Some(cursor) => Some(Cursor::parse(&cursor).ok_or_else(|| invalid("cursor"))?),
    };
    let max = params.limit()?;
    let (jobs, next) = hub.jobs().list(&filter, cursor, max).await?;
    // The documents are JSON already.
    let next = json!(next.map(|cursor| cursor.to_string()));
    let out = format!("{{\"jobs\":[{}],\"next\":{next}}}", jobs.join(","));
    Ok(([(header::CONTENT_TYPE, "application/json")], out).into_response())
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CancelBody {
    reason: Option<String>,
    grace_ms: Option<u64>,
}

pub(super) async fn cancel(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let id = job_id(&id)?;
    caller.require_job(&hub, &id, "cancel this job", Grant::may_cancel_job).await?;
    let text = text(request).await?;
    let wish: CancelBody = match text.trim().is_empty() {
        true => CancelBody::default(),
        false => body::object(text.as_bytes()).map_err(Problem::uncommitted)?,
    };
    let state = hub.jobs().cancel(&id, wish.reason, wish.grace_ms).await?;
    let answer = json!({ "state": state.as_str(), "cancel_requested": true });
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

pub(super) async fn retry(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = read(request).await?;
    let key = caller.own_key(publish::idempotency_header(&parts.headers)?);
    let id = job_id(&id)?;
    caller.require_job(&hub, &id, "retry this job", Grant::may_cancel_job).await?;
    let (created, alias) = hub.jobs().retry(&id, key).await?;
    answer_created(&hub, &created, alias.as_deref()).await
}

pub(super) async fn delete(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let id = job_id(&id)?;
    let may = |grant: &Grant, job: JobFacts<'_>| grant.may_manage_jobs(job.job_type);
    caller.require_job(&hub, &id, "delete this job", may).await?;
    hub.jobs().delete(&id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The stream of a job: its state first, then its events, then the end.
pub(super) async fn events(
    State(hub): State<Hub>,
    Identified(caller): Identified,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let mut stream = stream::read_request(&parts)?;
    let id = job_id(&id)?;
    let caller = match caller {
        Ok(caller) => caller,
        Err(error) => return stream::deny(&hub, &parts, stream.position, &error.into(), &[]),
    };
    let Some(snapshot) = readable(&hub, &caller, &parts, &id, stream.position).await? else {
        if matches!(caller.grant().holder, Holder::Anonymous) {
            let problem = caller.forbidden("read this job");
            return stream::deny(&hub, &parts, stream.position, &problem, &[]);
        }
        return unknown(&hub, &parts, &id, &stream);
    };
    stream.channels = vec![id.channel().clone()];
    stream.document = Some(Document { seq: snapshot.seq, body: snapshot.body });
    stream::open(&hub, &parts, caller, stream).await
}

/// The state of a job that the caller may read. One that it may not looks like one that is not there, in time too.
async fn readable(
    hub: &Hub,
    caller: &Caller,
    parts: &Parts,
    id: &JobId,
    position: Position,
) -> Result<Option<Snapshot>, Problem> {
    let jobs = hub.jobs();
    let grace = Duration::from_millis(limits::UNKNOWN_JOB_GRACE_MS);
    let has_grace = stream::is_event_source(&parts.headers) && !position.is_stopped();
    let mut snapshot = jobs.snapshot(id)?;
    let may = caller.require_job(hub, id, "read this job", Grant::may_read_job);
    if snapshot.is_some() && may.await.is_err() {
        if has_grace {
            jobs.wait_as_if_unknown(id, grace).await;
        }
        return Ok(None);
    }
    if snapshot.is_none() && has_grace {
        jobs.wait_for_arrival(id, grace).await;
        snapshot = jobs.snapshot(id)?;
        if caller.require_job(hub, id, "read this job", Grant::may_read_job).await.is_err() {
            return Ok(None);
        }
    }
    Ok(snapshot)
}

/// A job that is not there: an `EventSource` gets an event that says so, and `204` when it comes back.
fn unknown(hub: &Hub, parts: &Parts, id: &JobId, stream: &StreamRequest) -> Result<Response, Problem> {
    if !stream::is_event_source(&parts.headers) {
        return Err(JobsError::NotFound(id.as_str().to_owned()).into());
    }
    let Some(at) = stream::refused_at(hub, stream.position)? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let data = json!({ "jobId": id.as_str(), "code": "job_not_found", "message": "Job not found" });
    let mut out = stream::greeting();
    encode::control(&mut out, "error", &data.to_string(), Some(at));
    Ok(stream::whole(parts, out))
}

pub(super) fn job_id(text: &str) -> Result<JobId, Problem> {
    Ok(JobId::parse(text).map_err(JobsError::from)?)
}

/// A request's whole body. Whatever is wrong with it, nothing was committed.
pub(super) async fn read(request: Request) -> Result<(Parts, Bytes), Problem> {
    let (parts, content) = request.into_parts();
    let bytes = body::read(content, limits::BODY_BYTES_MAX, Code::BodyTooLarge).await;
    Ok((parts, bytes.map_err(Problem::uncommitted)?))
}

/// The body of a report: JSON, or nothing.
pub(super) async fn text(request: Request) -> Result<String, Problem> {
    let (parts, bytes) = read(request).await?;
    if !bytes.is_empty() {
        body::require_json(&parts.headers).map_err(Problem::uncommitted)?;
    }
    String::from_utf8(bytes.into())
        .map_err(|_| Problem::new(Code::JsonInvalid, "the report is not UTF-8").uncommitted())
}
