//! Jobs that another queue runs, and only reports.
//!
//! Owns: what a reporter may say. Does not know: leases.
//! Flow: in ← an `External`, then reports · out → requests that may be repeated.

use std::time::Duration;

use http::Method;
use serde::Serialize;
use serde_json::{Value, json};
use tidings_core::job::{JobId, State};

use super::reporter::{Reporter, object};
use super::{Artifact, JobsError, Level, LogLine, Progress, Reported, millis};
use crate::call::{Call, Repeats};
use crate::client::Client;
use crate::upload::Upload;

/// The job of another queue.
///
/// ```
/// use tidings_client::jobs::External;
/// let job = External::new("bull:exports:123", "generate-report").queue("exports").tag("user:42");
/// ```
#[derive(Debug, Clone, Serialize)]
#[must_use]
pub struct External {
    #[serde(skip)]
    id: String,
    #[serde(rename = "type")]
    job_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<State>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stale_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    publish_to: Vec<String>,
}

impl External {
    /// A job by the id that its queue gave it, and its type.
    pub fn new(id: impl Into<String>, job_type: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            job_type: job_type.into(),
            queue: None,
            tags: Vec::new(),
            state: None,
            stale_after_ms: None,
            parent: None,
            publish_to: Vec::new(),
        }
    }

    /// The queue that it stands in.
    pub fn queue(self, queue: impl Into<String>) -> Self {
        Self { queue: Some(queue.into()), ..self }
    }

    /// One more tag, for filters.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Where it stands; one that has ended is reported by [`Report::complete`] or [`Report::fail`].
    pub fn state(self, state: State) -> Self {
        Self { state: Some(state), ..self }
    }

    /// It has failed with the code `lost` when nothing was reported for this long (never).
    pub fn stale_after(self, silence: Duration) -> Self {
        Self { stale_after_ms: Some(millis(silence)), ..self }
    }

    /// The job that it belongs to.
    pub fn parent(self, id: impl Into<String>) -> Self {
        Self { parent: Some(id.into()), ..self }
    }

    /// One more channel that gets its events.
    pub fn publish_to(mut self, channel: impl Into<String>) -> Self {
        self.publish_to.push(channel.into());
        self
    }

    pub(super) async fn put(&self, client: &Client) -> Result<Report, JobsError> {
        let id = JobId::parse(&self.id)?;
        let body = serde_json::to_vec(self).map_err(|error| JobsError::Invalid(error.to_string()))?;
        Call::new(Method::PUT, format!("/v1/jobs/{id}"))
            .json(body)
            .repeats(Repeats::Few)
            .send(client)
            .await?;
        Ok(Report::new(client.clone(), id))
    }
}

/// Reports on a job that another queue runs. They take effect in order, and each once, however often it had to be sent.
///
/// Every answer says whether somebody asked to call the job off: that is how a cancellation reaches its queue.
#[derive(Debug)]
pub struct Report(Reporter);

impl Report {
    pub(super) fn new(client: Client, id: JobId) -> Self {
        Self(Reporter::new(client, id, 0, None, Repeats::Few))
    }

    /// The reports from here on are of this attempt; the first is 1. A newer one starts at 0 %.
    #[must_use]
    pub fn attempt(self, attempt: u32) -> Self {
        self.0.begin_attempt(attempt);
        self
    }

    /// How far the job is: a percentage or a [`Progress`].
    ///
    /// # Errors
    /// [`JobsError`], such as `job_finished`.
    pub async fn progress(&self, progress: impl Into<Progress>) -> Result<Reported, JobsError> {
        self.0.progress(progress.into()).await
    }

    /// A line of its log.
    ///
    /// # Errors
    /// [`JobsError`].
    pub async fn log(&self, level: Level, message: impl Into<String>) -> Result<Reported, JobsError> {
        self.0.logs(&[LogLine::new(level, message)]).await
    }

    /// Several lines of its log, up to 1,000.
    ///
    /// # Errors
    /// [`JobsError`].
    pub async fn logs(&self, lines: &[LogLine]) -> Result<Reported, JobsError> {
        self.0.logs(lines).await
    }

    /// A piece of what it produces, for whoever watches.
    ///
    /// # Errors
    /// [`JobsError`].
    pub async fn output(&self, chunk: impl Serialize) -> Result<Reported, JobsError> {
        self.0.output(chunk).await
    }

    /// Stores a file with the job, to be downloaded when it is complete.
    ///
    /// # Errors
    /// [`JobsError`].
    pub async fn artifact(&self, name: &str, upload: Upload) -> Result<Reported, JobsError> {
        self.0.artifact(name, upload).await
    }

    /// It has ended with a result; `elsewhere` are files that are not in the server's store.
    ///
    /// # Errors
    /// [`JobsError`].
    pub async fn complete(
        &self,
        result: impl Serialize,
        elsewhere: &[Artifact],
    ) -> Result<Reported, JobsError> {
        let result = serde_json::to_value(result).map_err(|error| JobsError::Invalid(error.to_string()))?;
        self.0.complete(Some(result), elsewhere).await
    }

    /// It has ended without a result.
    ///
    /// # Errors
    /// [`JobsError`].
    pub async fn fail(&self, code: &str, message: &str) -> Result<Reported, JobsError> {
        self.0.fail(object(json!({ "code": code, "message": message }))).await
    }

    /// It was called off.
    ///
    /// # Errors
    /// [`JobsError`].
    pub async fn cancelled(&self, message: &str) -> Result<Reported, JobsError> {
        self.0
            .fail(object(json!({ "state": State::Cancelled, "code": "cancelled", "message": message })))
            .await
    }

    /// An attempt has failed, and its queue will try again, at `next_attempt_at` (Unix milliseconds) if that is known.
    ///
    /// # Errors
    /// [`JobsError`].
    pub async fn retrying(&self, message: &str, next_attempt_at: Option<u64>) -> Result<Reported, JobsError> {
        let mut fields = object(json!({ "message": message, "retrying": true }));
        if let Some(at) = next_attempt_at {
            fields.insert("next_attempt_at".to_owned(), Value::from(at));
        }
        self.0.fail(fields).await
    }
}
