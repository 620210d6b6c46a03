//! Reports about jobs: one at a time, or many as NDJSON.
//!
//! Owns: the JSON of reports and of their answers. Does not know: what a report changes.
//! Flow: a request → `crate::jobs` → what became of it.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tidings_core::grant::JobFacts;
use tidings_core::job::{Cancel, Completion, EntriesReport, Fail, JobId, Progress};
use tidings_core::{Grant, limits};
use tokio::task::JoinSet;

use super::body;
use super::caller::Caller;
use super::jobs::{job_id, text, upsert_from};
use super::path::Path;
use super::problem::{Code, Problem};
use crate::Hub;
use crate::jobs::{JobsError, Report, Reported, Told};

/// What can be reported, by the last part of its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Progress,
    Logs,
    Output,
    Complete,
    Fail,
    Heartbeat,
    Release,
    Upsert,
}

impl Kind {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "progress" => Self::Progress,
            "logs" => Self::Logs,
            "output" => Self::Output,
            "complete" => Self::Complete,
            "fail" => Self::Fail,
            "heartbeat" => Self::Heartbeat,
            "release" => Self::Release,
            "upsert" => Self::Upsert,
            _ => return None,
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Heartbeat<'a> {
    lease: Option<String>,
    #[serde(borrow)]
    progress: Option<&'a RawValue>,
    #[serde(borrow)]
    logs: Option<&'a RawValue>,
    attempt: Option<u32>,
    n: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Release {
    lease: Option<String>,
    #[serde(default)]
    delay_ms: u64,
    attempt: Option<u32>,
    n: Option<u64>,
}

macro_rules! handlers {
    ($($name:ident => $kind:ident;)*) => {$(
        pub(super) async fn $name(
            State(hub): State<Hub>,
            caller: Caller,
            Path(id): Path<String>,
            request: Request,
        ) -> Result<Response, Problem> {
            let text = text(request).await?;
            let id = job_id(&id)?;
            let reported = take(&hub, &caller, &id, Kind::$kind, &text).await?;
            let status = if reported.stored { StatusCode::OK } else { StatusCode::ACCEPTED };
            Ok((status, Json(answer(&reported))).into_response())
        }
    )*};
}
handlers! {
    progress => Progress;
    append_logs => Logs;
    output => Output;
    complete => Complete;
    fail => Fail;
    heartbeat => Heartbeat;
    release => Release;
}

/// Whether the caller may report this job.
pub(super) async fn require_work(hub: &Hub, caller: &Caller, id: &JobId) -> Result<(), Problem> {
    let may = |grant: &Grant, job: JobFacts<'_>| grant.may_work(job.queue);
    caller.require_job(hub, id, "report jobs of this queue", may).await
}

/// Takes one report.
async fn take(hub: &Hub, caller: &Caller, id: &JobId, kind: Kind, text: &str) -> Result<Reported, Problem> {
    if kind != Kind::Upsert {
        require_work(hub, caller, id).await?;
    }
    let jobs = hub.jobs();
    let report = match kind {
        Kind::Progress => Report::Progress(Progress::from_json(text).map_err(JobsError::from)?),
        Kind::Logs => Report::Entries(EntriesReport::logs_from_json(text).map_err(JobsError::from)?),
        Kind::Output => Report::Entries(EntriesReport::output_from_json(text).map_err(JobsError::from)?),
        Kind::Complete => Report::Complete(Completion::from_json(text).map_err(JobsError::from)?),
        Kind::Fail => {
            let fail = Fail::from_json(text).map_err(JobsError::from)?;
            if let Some(stack) = fail.error.as_ref().and_then(|e| e.stack.as_deref()) {
                let stack: String = stack.chars().take(STACK_CHARS_MAX).collect();
                tracing::warn!(job = id.as_str(), stack, "a worker's run failed");
            }
            Report::Fail(fail)
        }
        Kind::Heartbeat => return beat(hub, id, text).await,
        Kind::Release => {
            let Release { lease, delay_ms, attempt, n } =
                body::object(text.as_bytes()).map_err(Problem::uncommitted)?;
            Report::Release { told: Told { lease, attempt, n }, delay_ms }
        }
        Kind::Upsert => {
            return upsert_from(hub, caller, id, text.as_bytes()).await.map(|(_, reported)| reported);
        }
    };
    Ok(jobs.report(id, report).await?)
}

/// What of a worker's stack goes to the log.
const STACK_CHARS_MAX: usize = 16 * 1024;

/// A heartbeat, with what else the worker has to say.
async fn beat(hub: &Hub, id: &JobId, text: &str) -> Result<Reported, Problem> {
    let text = if text.trim().is_empty() { "{}" } else { text };
    let beat: Heartbeat<'_> = body::object(text.as_bytes()).map_err(Problem::uncommitted)?;
    let jobs = hub.jobs();
    let mut reported = None;
    if let Some(progress) = beat.progress {
        let mut progress = Progress::from_json(progress.get()).map_err(JobsError::from)?;
        (progress.lease, progress.attempt) = (beat.lease.clone(), beat.attempt);
        // The counter belongs to the last of the two: an older one would be taken for a repeat.
        progress.n = beat.n.filter(|_| beat.logs.is_none());
        reported = Some(jobs.report(id, Report::Progress(progress)).await?);
    }
    if let Some(logs) = beat.logs {
        let mut logs = EntriesReport::logs_from_json(logs.get()).map_err(JobsError::from)?;
        (logs.lease, logs.attempt, logs.n) = (beat.lease.clone(), beat.attempt, beat.n);
        reported = Some(jobs.report(id, Report::Entries(logs)).await?);
    }
    match reported {
        Some(reported) => Ok(reported),
        None => {
            let Heartbeat { lease, attempt, n, .. } = beat;
            let reported = jobs.report(id, Report::Heartbeat(Told { lease, attempt, n })).await?;
            Ok(Reported { stored: true, duplicate: false, ..reported })
        }
    }
}

/// What became of a report, as JSON.
pub(super) fn answer(reported: &Reported) -> Map<String, Value> {
    let mut answer = Map::new();
    answer.insert("stored".into(), reported.stored.into());
    answer.insert("cancel_requested".into(), reported.cancel_requested.into());
    answer.insert("v".into(), reported.v.into());
    if reported.duplicate {
        answer.insert("duplicate".into(), true.into());
    }
    if let Some(expires_at) = reported.expires_at {
        answer.insert("expires_at".into(), expires_at.into());
        answer.insert("cancel".into(), cancel(reported.cancel.as_ref()));
    }
    answer
}

/// The wish to call a job off, as workers see it.
pub(super) fn cancel(cancel: Option<&Cancel>) -> Value {
    cancel.map_or(Value::Null, |cancel| json!({ "reason": cancel.reason, "deadline": cancel.deadline }))
}

/// Many reports of many jobs.
pub(super) async fn batch(
    State(hub): State<Hub>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, content) = request.into_parts();
    let kind = body::media_type(&parts.headers);
    if kind != "application/x-ndjson" {
        return Err(body::unsupported(&kind, "application/x-ndjson").uncommitted());
    }
    let bytes = body::read(content, limits::BATCH_BYTES_MAX, Code::BatchTooLarge).await;
    let bytes = bytes.map_err(Problem::uncommitted)?;
    let lines: Vec<(usize, &[u8])> = bytes
        .split(|b| *b == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.trim_ascii().is_empty())
        .map(|(index, line)| (index + 1, line))
        .collect();
    if lines.len() > limits::BATCH_EVENTS_MAX {
        let max = limits::BATCH_EVENTS_MAX;
        let problem = Problem::new(Code::BatchTooLarge, format!("a batch has at most {max} lines"));
        return Err(problem.uncommitted());
    }
    let mut answers: Vec<Option<Map<String, Value>>> = lines.iter().map(|_| None).collect();
    let mut by_job: BTreeMap<String, Vec<(usize, Kind, String)>> = BTreeMap::new();
    for (place, (number, line)) in lines.iter().enumerate() {
        match read_line(line) {
            Ok((id, kind, report)) => by_job.entry(id).or_default().push((place, kind, report)),
            Err((id, problem)) => {
                let refused = refusal(*number, id.as_deref(), &problem);
                answers.get_mut(place).map(|answer| answer.replace(refused));
            }
        }
    }
    let numbers: Vec<usize> = lines.iter().map(|(number, _)| *number).collect();
    // Jobs side by side, so that one fsync serves many; the lines of one job in order.
    let mut tasks = JoinSet::new();
    for (id, reports) in by_job {
        let (hub, caller, numbers) = (hub.clone(), caller.clone(), numbers.clone());
        tasks.spawn(async move { of_one_job(&hub, &caller, &id, reports, &numbers).await });
    }
    while let Some(done) = tasks.join_next().await {
        for (place, line) in done.unwrap_or_default() {
            answers.get_mut(place).map(|answer| answer.replace(line));
        }
    }
    let mut out = String::new();
    for (answer, number) in answers.into_iter().zip(numbers) {
        let unknown =
            || refusal(number, None, &Problem::new(Code::OutcomeUnknown, "the report was not answered"));
        out.push_str(&Value::Object(answer.unwrap_or_else(unknown)).to_string());
        out.push('\n');
    }
    let kind = HeaderValue::from_static("application/x-ndjson");
    Ok(([(header::CONTENT_TYPE, kind)], out).into_response())
}

async fn of_one_job(
    hub: &Hub,
    caller: &Caller,
    id: &str,
    reports: Vec<(usize, Kind, String)>,
    numbers: &[usize],
) -> Vec<(usize, Map<String, Value>)> {
    let mut answers = Vec::with_capacity(reports.len());
    for (place, kind, text) in reports {
        let number = numbers.get(place).copied().unwrap_or(0);
        let taken = match job_id(id) {
            Ok(job) => take(hub, caller, &job, kind, &text).await,
            Err(problem) => Err(problem),
        };
        let line = match taken {
            Ok(reported) => {
                let mut line = answer(&reported);
                line.insert("id".into(), id.into());
                line
            }
            Err(problem) => refusal(number, Some(id), &problem),
        };
        answers.push((place, line));
    }
    answers
}

fn refusal(number: usize, id: Option<&str>, problem: &Problem) -> Map<String, Value> {
    let mut line = Map::new();
    line.insert("line".into(), number.into());
    if let Some(id) = id {
        line.insert("id".into(), id.into());
    }
    line.insert("code".into(), problem.code.as_str().into());
    line.insert("detail".into(), problem.detail.clone().into());
    line
}

/// A line: whose report, what kind, and the report's own JSON.
fn read_line(line: &[u8]) -> Result<(String, Kind, String), (Option<String>, Problem)> {
    let mut fields: BTreeMap<String, &RawValue> = body::object(line).map_err(|problem| (None, problem))?;
    let mut named = |name: &'static str| -> Result<String, Problem> {
        let field = fields.remove(name);
        let field =
            field.ok_or_else(|| Problem::new(Code::FieldMissing, format!("missing field `{name}`")))?;
        serde_json::from_str(field.get())
            .map_err(|e| Problem::new(Code::FieldInvalid, format!("{name}: {e}")))
    };
    let id = named("id").map_err(|problem| (None, problem))?;
    let kind = named("report").and_then(|kind| {
        let unknown = || Problem::new(Code::FieldInvalid, format!("{kind:?} is no kind of report"));
        Kind::parse(&kind).ok_or_else(unknown)
    });
    let kind = match kind {
        Ok(kind) => kind,
        Err(problem) => return Err((Some(id), problem)),
    };
    // The rest is what the request of that report would have had as its body.
    match serde_json::to_string(&fields) {
        Ok(report) => Ok((id, kind, report)),
        Err(error) => Err((Some(id), Problem::new(Code::Internal, error.to_string()))),
    }
}

/// The log of a job, oldest first.
pub(super) async fn logs(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<String>,
    uri: http::Uri,
) -> Result<Response, Problem> {
    let id = job_id(&id)?;
    caller.require_job(&hub, &id, "read this job", Grant::may_read_job).await?;
    if hub.jobs().document(&id).await?.is_none() {
        return Err(JobsError::NotFound(id.as_str().to_owned()).into());
    }
    super::channels::logs_of(&hub, &id, &uri).await
}
