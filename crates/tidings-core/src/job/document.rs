//! The job document: all that a page may know of a job.
//!
//! Owns: its fields, as `spec/wire.md` names them. Does not know: how they change.
//! Flow: `Job` → `Document` → the data of `progress` and `complete`, `GET /v1/jobs/{id}`, and back at a restart.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::QueueName;

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is to run later.
    Scheduled,
    /// It waits to be run.
    Queued,
    /// It runs.
    Running,
    /// It waits to be run again.
    Retrying,
    /// It has ended, with a result.
    Completed,
    /// It has ended, without.
    Failed,
    /// It was called off.
    Cancelled,
    /// It was not run in time.
    Expired,
}

impl State {
    /// Whether the job has ended. Then it stays as it is.
    #[must_use]
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::Expired)
    }

    /// Reads a state.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::Scheduled,
        Self::Queued,
        Self::Running,
        Self::Retrying,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    /// The state as it stands on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

/// Why a job waits again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Its last attempt failed.
    Failed,
    /// Its last attempt took too long.
    TimedOut,
    /// Its worker fell silent.
    Stalled,
    /// The process that ran it is gone.
    Interrupted,
    /// Its worker gave it back.
    Released,
}

/// Who runs a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Handlers or workers of this server.
    Managed,
    /// Another queue, which reports.
    External,
}

/// Why a job ended without a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// For people.
    pub message: String,
    /// For programs.
    pub code: String,
}

/// A file that a job made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// Its name in the download.
    pub name: String,
    /// Its media type.
    #[serde(default)]
    pub content_type: Option<String>,
    /// Its size in bytes.
    #[serde(default)]
    pub size: Option<u64>,
    /// Where it is, if not in this server's store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// All that a page may know of a job. Times are Unix milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Document {
    /// The id.
    pub id: String,
    /// The id again, under the name that pages know.
    #[serde(rename = "jobId")]
    pub job_id: String,
    /// What it does.
    #[serde(rename = "type")]
    pub job_type: String,
    /// The queue it stands in.
    #[serde(deserialize_with = "queue", default = "default_queue")]
    pub queue: String,
    /// Who runs it.
    pub mode: Mode,
    /// Where it stands.
    pub state: State,
    /// Why it waits again.
    pub reason: Option<Reason>,
    /// −100 to 100; higher ones are leased first.
    #[serde(default)]
    pub priority: i32,
    /// 0–100; never falls within an attempt.
    #[serde(serialize_with = "number")]
    pub progress: f64,
    /// How much of `total` is done.
    #[serde(serialize_with = "optional_number")]
    pub current: Option<f64>,
    /// How much there is to do.
    #[serde(serialize_with = "optional_number")]
    pub total: Option<f64>,
    /// What `current` and `total` count.
    pub unit: Option<String>,
    /// The part it is at.
    pub step: Option<String>,
    /// For people.
    pub message: Option<String>,
    /// How long it will take yet, in milliseconds.
    pub eta_ms: Option<u64>,
    /// Anything, up to 16 KiB.
    pub data: Option<Box<RawValue>>,
    /// Which run this is; the first is 1.
    pub attempt: u32,
    /// How many runs there may be.
    pub max_attempts: u32,
    /// Somebody asked to call it off.
    pub cancel_requested: bool,
    /// When it was made.
    pub created_at: u64,
    /// When it may run, while it is `scheduled` or `retrying`.
    pub run_at: Option<u64>,
    /// When it first ran.
    pub started_at: Option<u64>,
    /// When this document last changed.
    pub updated_at: u64,
    /// When it ended.
    pub finished_at: Option<u64>,
    /// What it made, up to 64 KiB.
    pub result: Option<Box<RawValue>>,
    /// Why it ended without a result, or why its last attempt did.
    pub error: Option<Failure>,
    /// The files it made.
    pub artifacts: Vec<Artifact>,
    /// Where to get the file, if there is one.
    #[serde(rename = "downloadUrl")]
    pub download_url: Option<String>,
    /// For filters.
    pub tags: Vec<String>,
    /// The job that it belongs to.
    pub parent: Option<String>,
    /// The job that it repeats.
    pub retry_of: Option<String>,
    /// The schedule that made it.
    pub schedule: Option<String>,
    /// Whose it is: who made it, or for whom it was made.
    #[serde(default)]
    pub subject: Option<String>,
    /// Grows with every change.
    pub v: u64,
}

/// A document that was stored before queues could be asked for jobs has none, or a text for people.
fn queue<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let stored = Option::<String>::deserialize(from)?;
    Ok(stored.filter(|queue| QueueName::parse(queue).is_ok()).unwrap_or_else(default_queue))
}

fn default_queue() -> String {
    QueueName::default_queue().as_str().into()
}

/// Writes a whole number without a fraction, as people write it: `42`, not `42.0`.
fn number<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    /// Up to here every whole number is a distinct `f64`.
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "only used where the cast is exact")]
    let whole = *value as i64;
    let is_exact = value.abs() <= WHOLE_MAX && whole as f64 == *value;
    if is_exact { serializer.serialize_i64(whole) } else { serializer.serialize_f64(*value) }
}

fn optional_number<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => number(value, serializer),
        None => serializer.serialize_none(),
    }
}
