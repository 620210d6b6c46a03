//! Reports on one run of a job.
//!
//! Owns: the counter that makes repeats recognisable, and the order of reports. Does not know: who runs the job.
//! Flow: in ← progress, logs, output, the end · out → one request after the other, each until it is answered.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use http::{Method, Request};
use http_body::Body;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tidings_core::job::JobId;
use tokio::sync::Mutex;

use super::{Artifact, JobsError, LogLine, Progress, Reported, read};
use crate::backoff::{Backoff, Retry};
use crate::call::{Call, CallError, Repeats, passes};
use crate::client::Client;
use crate::problem::Problem;
use crate::random;
use crate::transport::Answer;
use crate::upload::Upload;

const LEASE: HeaderName = HeaderName::from_static("tidings-lease");
/// Attempts at an upload that can be read again.
const UPLOADS_MAX: u32 = 3;

/// What the reports of a run have in common.
#[derive(Debug)]
pub(crate) struct Reporter {
    client: Client,
    id: JobId,
    /// 0: whichever attempt the server thinks it is.
    attempt: AtomicU32,
    lease: Option<String>,
    repeats: Repeats,
    /// The number of the next report. Held while one is sent: the server drops a report that a later one overtook.
    n: Mutex<u64>,
}

impl Reporter {
    pub(crate) fn new(
        client: Client,
        id: JobId,
        attempt: u32,
        lease: Option<String>,
        repeats: Repeats,
    ) -> Self {
        // Numbers go on over a restart of the reporter: no process makes a million reports a second.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let first = u64::try_from(since.as_micros()).unwrap_or(1);
        Self { client, id, attempt: AtomicU32::new(attempt), lease, repeats, n: Mutex::new(first) }
    }

    pub(crate) fn id(&self) -> &JobId {
        &self.id
    }

    pub(crate) fn attempt(&self) -> u32 {
        self.attempt.load(Ordering::Relaxed)
    }

    pub(crate) fn begin_attempt(&self, attempt: u32) {
        self.attempt.store(attempt, Ordering::Relaxed);
    }

    pub(crate) async fn progress(&self, progress: Progress) -> Result<Reported, JobsError> {
        self.report("progress", progress.fields()?).await
    }

    pub(crate) async fn logs(&self, lines: &[LogLine]) -> Result<Reported, JobsError> {
        self.report("logs", object(json!({ "logs": lines }))).await
    }

    pub(crate) async fn output(&self, chunk: impl Serialize) -> Result<Reported, JobsError> {
        let chunk = serde_json::to_value(chunk).map_err(|error| JobsError::Invalid(error.to_string()))?;
        self.report("output", object(json!({ "chunks": [chunk] }))).await
    }

    pub(crate) async fn complete(
        &self,
        result: Option<Value>,
        files: &[Artifact],
    ) -> Result<Reported, JobsError> {
        let mut fields = Map::new();
        if let Some(result) = result {
            fields.insert("result".to_owned(), result);
        }
        if !files.is_empty() {
            fields.extend(object(json!({ "artifacts": files })));
        }
        self.report("complete", fields).await
    }

    pub(crate) async fn fail(&self, fields: Map<String, Value>) -> Result<Reported, JobsError> {
        self.report("fail", fields).await
    }

    /// Gives a leased job back. Repeats of it are refused with `lease_lost`, which says that the first one took effect.
    pub(crate) async fn release(&self, limit: Duration) -> Result<(), JobsError> {
        let body = json!({ "lease": self.lease }).to_string();
        let call = Call::new(Method::POST, format!("/v1/jobs/{}/release", self.id)).json(body);
        match call.repeats(Repeats::For(limit)).send(&self.client).await {
            Ok(_) => Ok(()),
            Err(CallError::Refused { problem, is_repeat: true, .. }) if problem.code == "lease_lost" => {
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn report(&self, name: &str, mut fields: Map<String, Value>) -> Result<Reported, JobsError> {
        let mut next = self.n.lock().await;
        let n = *next;
        // Taken even if this future is dropped on the way: the server may have seen it.
        *next += 1;
        fields.insert("n".to_owned(), n.into());
        if self.attempt() > 0 {
            fields.insert("attempt".to_owned(), self.attempt().into());
        }
        if let Some(lease) = &self.lease {
            fields.insert("lease".to_owned(), lease.as_str().into());
        }
        let call = Call::new(Method::POST, format!("/v1/jobs/{}/{name}", self.id))
            .json(Value::Object(fields).to_string())
            .repeats(self.repeats);
        let answer = call.send(&self.client).await?;
        drop(next);
        read(answer)
    }

    /// Stores a file of the job. A file of the same name is replaced, so a repeat does no harm.
    pub(crate) async fn artifact(&self, name: &str, mut upload: Upload) -> Result<Reported, JobsError> {
        let url = self.client.url(&format!("/v1/jobs/{}/artifacts/{}", self.id, escape(name)));
        let mut backoff = Backoff::new(Retry::default());
        loop {
            let (error, passes) = match self.upload(&url, &mut upload).await? {
                Uploaded::Taken(answer) => return read(answer),
                Uploaded::Failed { error, passes } => (error, passes),
            };
            if !passes || !upload.is_repeatable() || backoff.attempts() + 1 >= UPLOADS_MAX {
                return Err(error);
            }
            tokio::time::sleep(backoff.poll_wait(None, random::unit())).await;
        }
    }

    /// One attempt at an upload. `Err`: nothing was sent.
    async fn upload(&self, url: &str, upload: &mut Upload) -> Result<Uploaded, JobsError> {
        let mut request = Request::put(url);
        if let Some(media_type) = upload.media_type() {
            request = request.header(CONTENT_TYPE, media_type);
        }
        if let Some(lease) = &self.lease {
            request = request.header(LEASE, lease);
        }
        let opened = upload.open().await;
        let (body, taken) =
            opened.map_err(|error| JobsError::Io(format!("cannot read {upload:?}: {error}")))?;
        if let Some(size) = body.size_hint().exact() {
            request = request.header(CONTENT_LENGTH, size);
        }
        let request = request.body(body).map_err(|error| JobsError::Invalid(error.to_string()))?;
        let answer = tokio::select! {
            answer = self.client.transport().upload(request) => answer,
            () = taken.stalled() => {
                let error = JobsError::NoAnswer("the upload came to a standstill".to_owned());
                return Ok(Uploaded::Failed { error, passes: true });
            }
        };
        Ok(match answer {
            Err(error) => Uploaded::Failed { error: JobsError::NoAnswer(error.to_string()), passes: true },
            Ok(answer) if answer.status.is_success() => Uploaded::Taken(answer),
            Ok(answer) => {
                let problem = Problem::read(answer.status.as_u16(), &answer.body);
                Uploaded::Failed { error: JobsError::Refused(problem), passes: passes(answer.status) }
            }
        })
    }
}

/// What became of an attempt at an upload.
enum Uploaded {
    Taken(Answer),
    Failed {
        error: JobsError,
        /// It may pass by itself.
        passes: bool,
    },
}

/// The fields of a `json!` object.
pub(crate) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// A name as one segment of a path.
pub(crate) fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_segment_of_a_path() {
        assert_eq!(escape("report-1.csv"), "report-1.csv");
        assert_eq!(escape("Ä b/../c?%"), "%C3%84%20b%2F..%2Fc%3F%25");
    }
}
