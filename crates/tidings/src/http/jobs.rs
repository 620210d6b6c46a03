//! `/v1/jobs` and its aliases.
//!
//! Owns: the JSON of job requests and answers. Does not know: what a report changes, files.
//! Flow: a request → `crate::jobs` → an answer or a stream.

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
use tidings_core::job::{Completion, Document as JobDocument, Fail, JobId, Progress};
use tidings_core::resume::{self, Decision, RefusedAt};
use tidings_core::wire::sse::encode;
use tidings_core::{ChannelName, limits};

use super::problem::{Code, Problem};
use super::stream::{self, Document, StreamRequest};
use super::{body, publish};
use crate::Hub;
use crate::jobs::{JobRoute, JobsError, NewJob, Report};

impl From<JobsError> for Problem {
    fn from(error: JobsError) -> Self {
        match error {
            JobsError::Commit(error) => error.into(),
            JobsError::Log(error) => error.into(),
            error => Self::of(error.code(), error.to_string()).uncommitted(),
        }
    }
}

/// A job that is to be made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Create<'a> {
    #[serde(rename = "type")]
    job_type: String,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    id: Option<String>,
    max_attempts: Option<u32>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    publish_to: Vec<String>,
}

/// The job of another queue.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct External {
    #[serde(rename = "type")]
    job_type: String,
    queue: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    publish_to: Vec<String>,
}

pub(super) async fn create(State(hub): State<Hub>, request: Request) -> Result<Response, Problem> {
    let (parts, bytes) = read(request).await?;
    body::require_json(&parts.headers).map_err(Problem::uncommitted)?;
    let create: Create<'_> = body::object(&bytes).map_err(Problem::uncommitted)?;
    let mut new = NewJob::new(&create.job_type)?.tags(create.tags).publish_to(channels(&create.publish_to)?);
    if let Some(input) = create.input {
        new = new.input(input)?;
    }
    if let Some(id) = create.id {
        new = new.id(JobId::parse(&id).map_err(JobsError::from)?);
    }
    if let Some(attempts) = create.max_attempts {
        if !(1..=limits::JOB_ATTEMPTS_MAX).contains(&attempts) {
            let max = limits::JOB_ATTEMPTS_MAX;
            return Err(Problem::new(Code::FieldInvalid, format!("max_attempts is 1 to {max}")).uncommitted());
        }
        new = new.max_attempts(attempts);
    }
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
    let jobs = hub.jobs();
    let created = jobs.create_or_find(new).await?;
    let urls = jobs.urls(&created.id, alias.as_deref());
    let id = created.id.as_str();
    let document = jobs.document(&created.id).await?;
    let state = document.and_then(|d| serde_json::from_str::<JobDocument>(&d).ok()).map(|d| d.state.as_str());
    let mut answer = json!({
        "id": id, "jobId": id, "state": state,
        "urls": { "self": urls.itself, "events": urls.events, "download": urls.download },
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
    let external: External = body::object(&bytes).map_err(Problem::uncommitted)?;
    let id = job_id(&id)?;
    let mut new = NewJob::new(&external.job_type)?.tags(external.tags);
    new = new.publish_to(channels(&external.publish_to)?);
    new.queue = external.queue;
    let is_new = hub.jobs().upsert_external(id.clone(), new).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let document = hub.jobs().document(&id).await?.unwrap_or_default();
    Ok((status, [(header::CONTENT_TYPE, "application/json")], document).into_response())
}

pub(super) async fn show(State(hub): State<Hub>, Path(id): Path<String>) -> Result<Response, Problem> {
    let document = hub.jobs().document(&job_id(&id)?).await?;
    let document = document.ok_or(JobsError::NotFound(id))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], document).into_response())
}

pub(super) async fn progress(
    State(hub): State<Hub>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let text = text(request).await?;
    let report = Progress::from_json(&text).map_err(JobsError::from)?;
    report_to(&hub, &id, Report::Progress(report)).await
}

pub(super) async fn complete(
    State(hub): State<Hub>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let text = text(request).await?;
    let mut report = Completion::from_json(&text).map_err(JobsError::from)?;
    report.download_url = report.artifacts.iter().find_map(|a| a.url.clone());
    report_to(&hub, &id, Report::Complete(report)).await
}

pub(super) async fn fail(
    State(hub): State<Hub>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let text = text(request).await?;
    let report = Fail::from_json(&text).map_err(JobsError::from)?;
    report_to(&hub, &id, Report::Fail(report)).await
}

async fn report_to(hub: &Hub, id: &str, report: Report) -> Result<Response, Problem> {
    let reported = hub.jobs().report(&job_id(id)?, report).await?;
    let mut answer =
        json!({ "stored": reported.stored, "cancel_requested": reported.cancel_requested, "v": reported.v });
    if let Some(object) = answer.as_object_mut().filter(|_| reported.duplicate) {
        object.insert("duplicate".into(), true.into());
    }
    let status = if reported.stored { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(answer)).into_response())
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
    let Some(snapshot) = hub.jobs().snapshot(&id)? else { return unknown(&hub, &parts, &id, stream) };
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

fn channels(names: &[String]) -> Result<Vec<ChannelName>, Problem> {
    let parse = |name: &String| Ok(ChannelName::parse(name)?.publishable()?);
    names.iter().map(parse).collect()
}

/// A request's whole body. Whatever is wrong with it, nothing was committed.
async fn read(request: Request) -> Result<(Parts, Bytes), Problem> {
    let (parts, content) = request.into_parts();
    let bytes = body::read(content, limits::BODY_BYTES_MAX, Code::BodyTooLarge).await;
    Ok((parts, bytes.map_err(Problem::uncommitted)?))
}

/// The body of a report: JSON, or nothing.
async fn text(request: Request) -> Result<String, Problem> {
    let (parts, bytes) = read(request).await?;
    if !bytes.is_empty() {
        body::require_json(&parts.headers).map_err(Problem::uncommitted)?;
    }
    String::from_utf8(bytes.into())
        .map_err(|_| Problem::new(Code::JsonInvalid, "the report is not UTF-8").uncommitted())
}
