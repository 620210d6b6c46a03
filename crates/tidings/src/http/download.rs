//! Downloads of the files of jobs.
//!
//! Owns: the answer to a request for a file. Does not know: where files are stored.
//! Flow: a request → the job's document → the file that it names → a stream of it, or of the part that is asked for.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tidings_core::Grant;
use tidings_core::job::{Artifact, Document, JobId};
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};

use super::caller::Caller;
use super::conditional::{Selection, Validators};
use super::jobs::job_id;
use super::path::Path;
use super::problem::{Code, Problem};
use crate::Hub;
use crate::jobs::{JobsError, Stored};

/// What is read of a file at once, and so what a download holds in memory.
const PIECE_BYTES: usize = 64 * 1024;

/// The job's first file.
pub(super) async fn download(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    file(&hub, &caller, &id, None, request.method(), request.headers()).await
}

/// One of the job's files, by name.
pub(super) async fn download_named(
    State(hub): State<Hub>,
    caller: Caller,
    Path((id, name)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    file(&hub, &caller, &id, Some(&name), request.method(), request.headers()).await
}

async fn file(
    hub: &Hub,
    caller: &Caller,
    id: &str,
    name: Option<&str>,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let id = job_id(id)?;
    caller.require_job(hub, &id, "read this job", Grant::may_read_job).await?;
    let artifact = named(hub, &id, name).await?;
    if let Some(url) = &artifact.url {
        let internal = |_| Problem::new(Code::Internal, "the address of the file cannot be a header");
        let to = HeaderValue::from_str(url).map_err(internal)?;
        return Ok((StatusCode::SEE_OTHER, [(header::LOCATION, to)]).into_response());
    }
    let stored = hub.0.jobs.artifacts.open(&id, &artifact.name).await.map_err(|error| {
        tracing::warn!(%error, job = id.as_str(), name = artifact.name, "a file cannot be read");
        match error.kind() {
            std::io::ErrorKind::NotFound => {
                Problem::new(Code::ArtifactGone, "the job made this file, but it is no longer kept")
            }
            _ => Problem::new(Code::Internal, "the file cannot be read"),
        }
    })?;
    answer(&artifact, stored, method, headers).await
}

/// Only what the document names is opened: a path in a request never reaches the disk.
async fn named(hub: &Hub, id: &JobId, name: Option<&str>) -> Result<Artifact, Problem> {
    let document = hub.jobs().document(id).await?;
    let document = document.ok_or_else(|| JobsError::NotFound(id.as_str().to_owned()))?;
    let document: Document =
        serde_json::from_str(&document).map_err(|e| Problem::new(Code::Internal, e.to_string()))?;
    if !document.state.is_finished() {
        return Err(Problem::new(Code::JobNotFinished, "the file is there once the job is complete"));
    }
    let mut artifacts = document.artifacts.into_iter();
    artifacts
        .find(|artifact| name.is_none_or(|name| artifact.name == name))
        .ok_or_else(|| Problem::new(Code::ArtifactNotFound, "the job has no such file"))
}

async fn answer(
    artifact: &Artifact,
    stored: Stored,
    method: &Method,
    asked: &HeaderMap,
) -> Result<Response, Problem> {
    let Stored { mut file, bytes, etag, modified } = stored;
    let validators = Validators::new(etag, modified, bytes);
    let selection = validators.select(method, asked);
    let mut headers = head(&validators);
    let (start, length) = match selection {
        Selection::Whole => (0, bytes),
        Selection::Part(part) => {
            let (start, end) = part.into_inner();
            let range = format!("bytes {start}-{end}/{bytes}");
            headers.extend(HeaderValue::from_str(&range).map(|range| (header::CONTENT_RANGE, range)));
            (start, (end - start).saturating_add(1))
        }
        Selection::NotModified => return Ok((StatusCode::NOT_MODIFIED, headers).into_response()),
        Selection::Failed => {
            return Err(Problem::new(Code::PreconditionFailed, "the file is another than the request wants"));
        }
        Selection::NotSatisfiable => {
            let mut response = Problem::new(Code::RangeNotSatisfiable, format!("the file has {bytes} bytes"))
                .into_response();
            let range = HeaderValue::from_str(&format!("bytes */{bytes}"));
            response.headers_mut().extend(range.map(|range| (header::CONTENT_RANGE, range)));
            return Ok(response);
        }
    };
    let kind = artifact.content_type.as_deref().and_then(|kind| HeaderValue::from_str(kind).ok());
    let kind = kind.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(header::CONTENT_DISPOSITION, disposition(&artifact.name));
    if start > 0 {
        let internal = |_| Problem::new(Code::Internal, "the file cannot be read");
        file.seek(SeekFrom::Start(start)).await.map_err(internal)?;
    }
    let is_part = headers.contains_key(header::CONTENT_RANGE);
    let status = if is_part { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    // Not more than was announced, even if the file should grow.
    let pieces = tokio_util::io::ReaderStream::with_capacity(file.take(length), PIECE_BYTES);
    Ok((status, headers, Body::from_stream(pieces)).into_response())
}

/// What every answer about a file has, `304` too.
fn head(validators: &Validators) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // A browser may keep it, but asks whether it still may have it.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    let modified = httpdate::fmt_http_date(validators.modified);
    for (name, text) in [(header::ETAG, &validators.etag), (header::LAST_MODIFIED, &modified)] {
        headers.extend(HeaderValue::from_str(text).map(|value| (name, value)));
    }
    headers
}

/// `attachment` with the name in both spellings of RFC 6266.
fn disposition(name: &str) -> HeaderValue {
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '%') { c } else { '_' })
        .collect();
    let mut encoded = String::new();
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    let text = format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}");
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("attachment"))
}
