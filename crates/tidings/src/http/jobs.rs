//! `/v1/jobs` and its aliases.
//!
//! Owns: the JSON of job requests and answers. Does not know: what a report changes, files.
//! Flow: a request → `crate::jobs` → an answer or a stream.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tidings_core::job::{JobId, QueueName, State as JobState};
use tidings_core::limits;
use tidings_core::resume::{self, Decision, RefusedAt};
use tidings_core::wire::sse::encode;

use super::params::Params;
use super::problem::{Code, Problem};
use super::stream::{self, Document, StreamRequest};
use super::{body, publish};
use crate::Hub;
use crate::jobs::{Create, Created, Cursor, Filter, JobRoute, JobsError, NewJob, Reported, Upsert, channels};

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
    #[serde(default)]
    publish_to: Vec<String>,
}

pub(super) async fn create(State(hub): State<Hub>, request: Request) -> Result<Response, Problem> {
    let (parts, bytes) = read(request).await?;
    body::require_json(&parts.headers).map_err(Problem::uncommitted)?;
    let create: Create<'_> = body::object(&bytes).map_err(Problem::uncommitted)?;
    let new = create.into_job()?;
    made(&hub, &parts.headers, new).await
}

/// `POST` at an alias: the body is the input.
pub(super) async fn create_at(hub: Hub, route: JobRoute, request: Request) -> Result<Response, Problem> {
    let (parts, bytes) = read(request).await?;
    let mut new = NewJob::new(route.job_type())?;
    new.alias = Some(route.path().to_owned());
    if !bytes.is_empty() {
        body::require_json(&parts.headers).map_err(Problem::uncommitted)?;
        new = new.input(body::json::<&RawValue>(&bytes).map_err(Problem::uncommitted)?)?;
    }
    made(&hub, &parts.headers, new).await
}

async fn made(hub: &Hub, headers: &HeaderMap, mut new: NewJob) -> Result<Response, Problem> {
    new.idempotency_key = publish::idempotency_header(headers)?;
    let alias = new.alias.clone();
    let created = hub.jobs().create_or_find(new).await?;
    answer_created(hub, &created, alias.as_deref()).await
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
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, bytes) = read(request).await?;
    body::require_json(&parts.headers).map_err(Problem::uncommitted)?;
    let id = job_id(&id)?;
    let (is_new, _) = upsert_from(&hub, &id, &bytes).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let document = hub.jobs().document(&id).await?.unwrap_or_default();
    Ok((status, [(header::CONTENT_TYPE, "application/json")], document).into_response())
}

/// The job of another queue, from JSON. Says whether it is new.
pub(super) async fn upsert_from(hub: &Hub, id: &JobId, bytes: &[u8]) -> Result<(bool, Reported), Problem> {
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
    new.core.tags = external.tags.unwrap_or_default();
    new.core.parent = external.parent;
    new.core.terms.stale_after_ms = external.stale_after_ms;
    Ok(hub.jobs().upsert_external(id.clone(), new, known).await?)
}

pub(super) async fn show(
    State(hub): State<Hub>,
    Path(id): Path<String>,
    uri: http::Uri,
) -> Result<Response, Problem> {
    let params = Params::of(&uri);
    let job = job_id(&id)?;
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

pub(super) async fn list(State(hub): State<Hub>, uri: http::Uri) -> Result<Response, Problem> {
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
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let id = job_id(&id)?;
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
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = read(request).await?;
    let key = publish::idempotency_header(&parts.headers)?;
    let (created, alias) = hub.jobs().retry(&job_id(&id)?, key).await?;
    answer_created(&hub, &created, alias.as_deref()).await
}

pub(super) async fn delete(State(hub): State<Hub>, Path(id): Path<String>) -> Result<Response, Problem> {
    hub.jobs().delete(&job_id(&id)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The stream of a job: its state first, then its events, then the end.
pub(super) async fn events(
    State(hub): State<Hub>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let mut stream = stream::read_request(&parts)?;
    let id = job_id(&id)?;
    let jobs = hub.jobs();
    let mut snapshot = jobs.snapshot(&id)?;
    if snapshot.is_none() && stream::is_event_source(&parts.headers) && !stream.position.is_stopped() {
        jobs.wait_for_arrival(&id, Duration::from_millis(limits::UNKNOWN_JOB_GRACE_MS)).await;
        snapshot = jobs.snapshot(&id)?;
    }
    let Some(snapshot) = snapshot else { return unknown(&hub, &parts, &id, stream) };
    stream.channels = vec![id.channel().clone()];
    stream.document = Some(Document { seq: snapshot.seq, body: snapshot.body });
    stream::open(&hub, &parts, stream).await
}

/// A job that is not there: an `EventSource` gets an event that says so, and `204` when it comes back.
fn unknown(hub: &Hub, parts: &Parts, id: &JobId, stream: StreamRequest) -> Result<Response, Problem> {
    if !stream::is_event_source(&parts.headers) {
        return Err(JobsError::NotFound(id.as_str().to_owned()).into());
    }
    let log = &hub.0.log;
    let (head, epochs) = (hub.0.tail.head(), log.epochs());
    let asked = stream.position.ask(&epochs, head, |_| Ok::<_, Problem>(head))?;
    let decision = resume::decide(&resume::Request {
        asked,
        refused: true,
        head,
        horizon: log.horizon(),
        channels: &[resume::Retained::default()],
        document: None,
    });
    let at = match (decision, stream.position) {
        (Decision::Refuse(RefusedAt::Own), resume::Position::Id(own)) => own,
        (Decision::Refuse(RefusedAt::Seq(seq)), _) => epochs.id(seq),
        _ => return Ok(StatusCode::NO_CONTENT.into_response()),
    };
    let data = json!({ "jobId": id.as_str(), "code": "job_not_found", "message": "Job not found" });
    let mut out = stream::greeting();
    encode::control(&mut out, "error", &data.to_string(), Some(at.stopped()));
    Ok((stream::head(parts), Body::from(out)).into_response())
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
