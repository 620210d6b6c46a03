//! What the server says of a job.
//!
//! Owns: the fields, as `spec/wire.md` names them, and which may be missing. Does not know: how they are asked for.
//! Flow: in ← JSON of an answer or an event · out → values.

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use tidings_core::job::{Failure, Mode, State};

/// All that the server tells of a job. Times are Unix milliseconds.
///
/// Fields that an older server does not send are as if nothing was known; those of a newer one are passed over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Document {
    /// The id.
    pub id: String,
    /// The id again, under the name that pages know.
    #[serde(rename = "jobId", default)]
    pub job_id: String,
    /// What runs.
    #[serde(rename = "type", default)]
    pub job_type: String,
    /// The queue it stands in.
    #[serde(default)]
    pub queue: Option<String>,
    /// Who runs it.
    pub mode: Mode,
    /// Where it stands.
    pub state: State,
    /// Why it is `retrying`, or waits again.
    #[serde(default)]
    pub reason: Option<String>,
    /// Higher ones are leased first.
    #[serde(default)]
    pub priority: i32,
    /// 0–100; never falls within an attempt, unless a report asked for that.
    #[serde(default, serialize_with = "number")]
    pub progress: f64,
    /// How much of `total` is done.
    #[serde(default, serialize_with = "optional_number")]
    pub current: Option<f64>,
    /// How much there is to do.
    #[serde(default, serialize_with = "optional_number")]
    pub total: Option<f64>,
    /// What `current` and `total` count.
    #[serde(default)]
    pub unit: Option<String>,
    /// The part it is at.
    #[serde(default)]
    pub step: Option<String>,
    /// For people.
    #[serde(default)]
    pub message: Option<String>,
    /// How long it will take yet, in milliseconds.
    #[serde(default)]
    pub eta_ms: Option<u64>,
    /// Anything that its worker adds.
    #[serde(default)]
    pub data: Value,
    /// The run that it is at, or waits for; the first is 1.
    #[serde(default)]
    pub attempt: u32,
    /// How many runs there may be.
    #[serde(default)]
    pub max_attempts: u32,
    /// Somebody asked to call it off.
    #[serde(default)]
    pub cancel_requested: bool,
    /// When it was made.
    #[serde(default)]
    pub created_at: u64,
    /// When this document last changed.
    #[serde(default)]
    pub updated_at: u64,
    /// When it may run.
    #[serde(default)]
    pub run_at: Option<u64>,
    /// When it first ran.
    #[serde(default)]
    pub started_at: Option<u64>,
    /// When it ended.
    #[serde(default)]
    pub finished_at: Option<u64>,
    /// What it made.
    #[serde(default)]
    pub result: Value,
    /// Why it ended without a result, or why its last attempt did.
    #[serde(default)]
    pub error: Option<Failure>,
    /// The files it made.
    #[serde(default)]
    pub artifacts: Vec<Artifact>,
    /// Where to get the first of them.
    #[serde(rename = "downloadUrl", default)]
    pub download_url: Option<String>,
    /// For filters.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The job that it belongs to.
    #[serde(default)]
    pub parent: Option<String>,
    /// The job that it repeats.
    #[serde(default)]
    pub retry_of: Option<String>,
    /// The schedule that made it.
    #[serde(default)]
    pub schedule: Option<String>,
    /// Grows with every change.
    #[serde(default)]
    pub v: u64,
}

/// Writes a whole number without a fraction, as the server does: `42`, not `42.0`.
fn number<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    match format!("{value:.0}").parse::<i64>() {
        Ok(whole) if value.fract() == 0.0 => serializer.serialize_i64(whole),
        _ => serializer.serialize_f64(*value),
    }
}

fn optional_number<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => number(value, serializer),
        None => serializer.serialize_none(),
    }
}

/// A file of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Artifact {
    /// Its name in the download.
    pub name: String,
    /// Its media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Its size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Where it is, if not in the server's store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

impl Artifact {
    /// A file that is not in the server's store.
    #[must_use]
    pub fn elsewhere(name: impl Into<String>, url: impl Into<String>) -> Self {
        Self { name: name.into(), content_type: None, size: None, url: Some(url.into()) }
    }
}

/// A line of a job's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LogLine {
    /// How much it matters.
    #[serde(default)]
    pub level: Level,
    /// The line.
    pub message: String,
    /// When it was written, Unix milliseconds; the server's time if it is left out of a report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ts: Option<u64>,
}

impl LogLine {
    /// A line of this moment.
    #[must_use]
    pub fn new(level: Level, message: impl Into<String>) -> Self {
        Self { level, message: message.into(), ts: None }
    }
}

/// How much a log line matters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// For whoever looks for a fault.
    Debug,
    /// What goes on.
    #[default]
    Info,
    /// What should not be, and passes.
    Warn,
    /// What went wrong.
    Error,
}

impl Level {
    /// The level as it stands on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// Why a job ended without a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Ended {
    /// `failed`, `cancelled` or `expired`.
    pub state: State,
    /// For people.
    #[serde(default)]
    pub message: String,
    /// For programs.
    #[serde(default)]
    pub code: String,
    /// The run that it was at.
    #[serde(default)]
    pub attempt: u32,
}

/// What became of a report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Reported {
    /// It is durable. If not, it is in memory, and the next one may take its place.
    #[serde(default)]
    pub stored: bool,
    /// It was stored before: this was a repeat.
    #[serde(default)]
    pub duplicate: bool,
    /// Somebody asked to call the job off.
    #[serde(default)]
    pub cancel_requested: bool,
    /// The document's `v`.
    #[serde(default)]
    pub v: u64,
    /// Until when the lease holds, Unix milliseconds of the server.
    #[serde(default)]
    pub(crate) expires_at: Option<u64>,
    /// What a worker is told of a cancellation.
    #[serde(default)]
    pub(crate) cancel: Option<Cancel>,
}

/// Somebody asked to call a running job off.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Cancel {
    /// Why, if it was said.
    #[serde(default)]
    pub reason: Option<String>,
    /// When the server ends the job itself, Unix milliseconds.
    #[serde(default)]
    pub deadline: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_of_an_older_or_newer_server_is_read() {
        let old = r#"{"id":"a","mode":"managed","state":"queued"}"#;
        let old: Document = serde_json::from_str(old).unwrap();
        assert_eq!((old.priority, old.result, old.artifacts.len()), (0, Value::Null, 0));
        let new = r#"{"id":"a","mode":"external","state":"failed","progress":41.5,"artifacts":[{"name":"x","sha256":"y"}],
            "error":{"message":"m","code":"c","more":1},"downloadUrl":null,"invented":{}}"#;
        let new: Document = serde_json::from_str(new).unwrap();
        assert_eq!((new.state, new.progress), (State::Failed, 41.5));
        assert_eq!(new.error.as_ref().map(|error| error.code.as_str()), Some("c"));
        let written = serde_json::to_value(&new).unwrap();
        assert_eq!(
            (written["progress"].to_string(), written["current"].is_null()),
            ("41.5".to_owned(), true)
        );
        let whole = serde_json::to_value(Document { total: Some(1e4), progress: 7.0, ..new }).unwrap();
        assert_eq!(
            (whole["progress"].to_string(), whole["total"].to_string()),
            ("7".to_owned(), "10000".to_owned())
        );
    }
}
