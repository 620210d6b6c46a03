//! Downloads of the files of jobs.
//!
//! Owns: the head of a download. Does not know: where files are stored.
//! Flow: a request → the job's document → the file that it names → a stream of it.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tidings_core::job::{Artifact, Document};

use super::jobs::job_id;
use super::problem::{Code, Problem};
use crate::Hub;
use crate::jobs::JobsError;

/// The job's file.
pub(super) async fn download(State(hub): State<Hub>, Path(id): Path<String>) -> Result<Response, Problem> {
    file(&hub, &id, None).await
}

/// One of the job's files, by name.
pub(super) async fn download_named(
    State(hub): State<Hub>,
    Path((id, name)): Path<(String, String)>,
) -> Result<Response, Problem> {
    file(&hub, &id, Some(&name)).await
}

async fn file(hub: &Hub, id: &str, name: Option<&str>) -> Result<Response, Problem> {
    let id = job_id(id)?;
    let jobs = hub.jobs();
    let document = jobs.document(&id).await?.ok_or_else(|| JobsError::NotFound(id.as_str().to_owned()))?;
    let document: Document =
        serde_json::from_str(&document).map_err(|e| Problem::new(Code::Internal, e.to_string()))?;
    if !document.state.is_finished() {
        return Err(Problem::new(Code::JobNotFinished, "the file is there once the job is complete"));
    }
    let missing = || Problem::new(Code::ArtifactNotFound, "the job has no such file");
    // Only what the document names is opened: a path in a request never reaches the disk.
    let named = |a: &&Artifact| name.is_none_or(|name| a.name == name);
    let artifact = document.artifacts.iter().find(named).ok_or_else(missing)?;
    if let Some(url) = &artifact.url {
        let to = HeaderValue::from_str(url).map_err(|_| missing())?;
        return Ok((StatusCode::SEE_OTHER, [(header::LOCATION, to)]).into_response());
    }
    let stored = hub.0.jobs.artifacts.open(&id, &artifact.name).await.map_err(|error| {
        tracing::warn!(%error, job = id.as_str(), "a file is gone");
        missing()
    })?;
    let mut headers = HeaderMap::new();
    let kind = artifact.content_type.as_deref().unwrap_or("application/octet-stream");
    let kind = HeaderValue::from_str(kind).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(stored.bytes));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(header::CONTENT_DISPOSITION, disposition(&artifact.name));
    let frames = tokio_util::io::ReaderStream::with_capacity(stored.file, 64 * 1024);
    Ok((headers, Body::from_stream(frames)).into_response())
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
