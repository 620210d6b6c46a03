//! Reports: what a worker says of a job, as JSON or from a handler.
//!
//! Owns: their fields and their bounds. Does not know: the job that they are about.
//! Flow: JSON → `Progress`, `EntriesReport`, `Completion`, `Fail` → `Job::handle_*`.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::{Artifact, Failure, JobError};
use crate::limits;

/// A progress report. A field that is `None` keeps its value; `Some(None)` clears it.
///
/// ```
/// use tidings_core::job::Progress;
/// assert_eq!(Progress::from_json("42")?.progress, Some(42.0));
/// let report = Progress::from_json(r#"{"current": 3, "total": 4, "message": null}"#)?;
/// assert_eq!((report.current, report.message), (Some(Some(3.0)), Some(None)));
/// assert_eq!(Progress::from_json("101").unwrap_err().code(), "progress_invalid");
/// # Ok::<(), tidings_core::job::JobError>(())
/// ```
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Progress {
    /// 0–100.
    pub progress: Option<f64>,
    /// How much of `total` is done.
    #[serde(deserialize_with = "present")]
    pub current: Option<Option<f64>>,
    /// How much there is to do.
    #[serde(deserialize_with = "present")]
    pub total: Option<Option<f64>>,
    /// What `current` and `total` count.
    #[serde(deserialize_with = "present")]
    pub unit: Option<Option<String>>,
    /// The part it is at.
    #[serde(deserialize_with = "present")]
    pub step: Option<Option<String>>,
    /// For people.
    #[serde(deserialize_with = "present")]
    pub message: Option<Option<String>>,
    /// How long it will take yet, in milliseconds.
    #[serde(deserialize_with = "present")]
    pub eta_ms: Option<Option<u64>>,
    /// Anything, up to 16 KiB.
    #[serde(deserialize_with = "present")]
    pub data: Option<Option<Box<RawValue>>>,
    /// The progress may fall with this report.
    pub reset: bool,
    /// The attempt that it is about; the present one if left out.
    pub attempt: Option<u32>,
    /// The reporter's counter, which makes a repeat recognisable.
    pub n: Option<u64>,
    /// The lease's token, if it is a leased job.
    pub lease: Option<String>,
}

impl Progress {
    /// A report of nothing but a number.
    #[must_use]
    pub fn percent(progress: f64) -> Self {
        Self { progress: Some(progress), ..Self::default() }
    }

    /// Reads a report: a number, or an object.
    ///
    /// # Errors
    /// [`JobError::Json`], [`JobError::Progress`] or [`JobError::TooLarge`].
    pub fn from_json(text: &str) -> Result<Self, JobError> {
        let is_number = text.trim_start().starts_with(|c: char| c == '-' || c.is_ascii_digit());
        let report = if is_number {
            Self::percent(serde_json::from_str(text).map_err(|e| refused(&e, JobError::Progress))?)
        } else {
            object(text, JobError::Progress)?
        };
        report.check()?;
        Ok(report)
    }

    /// Says whether the values make sense; a handler's report has not been parsed.
    pub(super) fn check(&self) -> Result<(), JobError> {
        if let Some(percent) = self.progress.filter(|percent| !(0.0..=100.0).contains(percent)) {
            return Err(JobError::Progress(format!("progress is {percent}, not a number from 0 to 100")));
        }
        for (name, value) in [("current", self.current), ("total", self.total)] {
            if let Some(value) = value.flatten().filter(|value| !value.is_finite() || *value < 0.0) {
                return Err(JobError::Progress(format!("{name} is {value}, not a number from 0 on")));
            }
        }
        bounded("data", self.data.as_ref().and_then(Option::as_deref), limits::JOB_DATA_BYTES_MAX)
    }
}

/// A report that a job has ended with a result.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Completion {
    /// What it made, up to 64 KiB.
    pub result: Option<Box<RawValue>>,
    /// The files it made.
    pub artifacts: Vec<Artifact>,
    /// The attempt that it is about; the present one if left out.
    pub attempt: Option<u32>,
    /// The reporter's counter.
    pub n: Option<u64>,
    /// The lease's token, if it is a leased job.
    pub lease: Option<String>,
    /// Where to get the file, if there will be one; not part of a report, the server knows.
    #[serde(skip)]
    pub download_url: Option<String>,
}

impl Completion {
    /// Reads a report; an empty body is one too.
    ///
    /// # Errors
    /// [`JobError::Json`], [`JobError::Field`] or [`JobError::TooLarge`].
    pub fn from_json(text: &str) -> Result<Self, JobError> {
        let text = if text.trim().is_empty() { "{}" } else { text };
        let report: Self = object(text, JobError::Field)?;
        report.check()?;
        Ok(report)
    }

    pub(super) fn check(&self) -> Result<(), JobError> {
        if self.artifacts.len() > limits::JOB_ARTIFACTS_MAX {
            let most = limits::JOB_ARTIFACTS_MAX;
            return Err(JobError::Field(format!(
                "{} artifacts; at most {most} are allowed",
                self.artifacts.len()
            )));
        }
        for artifact in &self.artifacts {
            artifact.check()?;
        }
        bounded("result", self.result.as_deref(), limits::JOB_RESULT_BYTES_MAX)
    }
}

impl Artifact {
    /// Whether a file may have this name: one part of a path and of a header, of a file that no system hides.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        (1..=limits::ARTIFACT_NAME_BYTES_MAX).contains(&name.len())
            && !name.contains(['/', '\\'])
            && !name.starts_with('.')
            && !name.chars().any(char::is_control)
    }

    /// Nothing of a file may break the header it stands in, and a link to it leads to a file, never to a script.
    pub(super) fn check(&self) -> Result<(), JobError> {
        let name: String = self.name.chars().take(64).collect();
        if !Self::is_name(&self.name) {
            return Err(JobError::Field(format!("{name:?} is no name of a file")));
        }
        if !self.content_type.as_deref().is_none_or(is_content_type) {
            return Err(JobError::Field(format!("content_type of {name:?} is no media type")));
        }
        if !self.url.as_deref().is_none_or(is_web_url) {
            return Err(JobError::Field(format!("url of {name:?} is no http or https URL in ASCII")));
        }
        Ok(())
    }
}

fn is_content_type(text: &str) -> bool {
    text.len() <= limits::ARTIFACT_CONTENT_TYPE_BYTES_MAX && !text.chars().any(char::is_control)
}

/// `http:` or `https:` with a host, and nothing that a browser would read in another way than a header.
fn is_web_url(url: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'\\');
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    url.len() <= limits::ARTIFACT_URL_BYTES_MAX
        && url.bytes().all(is_plain)
        && (scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"))
        && !host.is_empty()
}

/// How a job ended without a result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailState {
    /// It failed.
    #[default]
    Failed,
    /// It was called off.
    Cancelled,
    /// It was not run in time.
    Expired,
}

/// Whether a failed run is to be followed by another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// As the job's maker said: after the job's backoff, while attempts are left.
    #[default]
    Auto,
    /// No.
    Never,
    /// After this many milliseconds, while attempts are left.
    #[serde(untagged)]
    After {
        /// The wait.
        after_ms: u64,
    },
}

/// A report that a run has failed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fail {
    /// For people. Either this or `error`.
    pub message: Option<String>,
    /// For programs; the state's name if left out.
    pub code: Option<String>,
    /// Message and code in one, as workers send it.
    pub error: Option<FailError>,
    /// How it ended.
    pub state: FailState,
    /// Whether the queue of a managed job tries again.
    pub retry: Retry,
    /// An external queue tries again.
    pub retrying: bool,
    /// When it does, Unix milliseconds.
    pub next_attempt_at: Option<u64>,
    /// The attempt that it is about; the present one if left out.
    pub attempt: Option<u32>,
    /// The reporter's counter.
    pub n: Option<u64>,
    /// The lease's token, if it is a leased job.
    pub lease: Option<String>,
}

/// What went wrong.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailError {
    /// For people.
    pub message: String,
    /// For programs.
    #[serde(default)]
    pub code: Option<String>,
    /// Where in the worker's program; for the server's log only.
    #[serde(default)]
    pub stack: Option<String>,
}

impl Fail {
    /// A report of a message and a code.
    #[must_use]
    pub fn new(message: impl Into<String>, code: &str) -> Self {
        Self { message: Some(message.into()), code: Some(code.into()), ..Self::default() }
    }

    /// Reads a report.
    ///
    /// # Errors
    /// [`JobError::Json`] or [`JobError::Field`].
    pub fn from_json(text: &str) -> Result<Self, JobError> {
        let report: Self = object(text, JobError::Field)?;
        report.check()?;
        Ok(report)
    }

    pub(super) fn check(&self) -> Result<(), JobError> {
        let refused = |what: &str| Err(JobError::Field(what.into()));
        if self.message.is_some() == self.error.is_some() {
            return refused("a failure has either `message` or `error`");
        }
        if self.error.is_some() && self.code.is_some() {
            return refused("the code stands in `error`");
        }
        if self.retrying && self.state != FailState::Failed {
            return refused("a job that is tried again has not ended");
        }
        match self.retry {
            Retry::After { after_ms } if after_ms > limits::BACKOFF_MS_MAX => {
                Err(JobError::Field(format!("after_ms is more than {}", limits::BACKOFF_MS_MAX)))
            }
            _ => Ok(()),
        }
    }

    /// The message and the code, cut.
    pub(super) fn failure(self, code: &str) -> Failure {
        let (message, given) = match self.error {
            Some(error) => (error.message, error.code),
            None => (self.message.unwrap_or_default(), self.code),
        };
        let code = given.filter(|code| !code.is_empty()).unwrap_or_else(|| code.into());
        Failure {
            message: cut(message, limits::JOB_TEXT_BYTES_MAX),
            code: cut(code, limits::JOB_TEXT_BYTES_MAX),
        }
    }
}

/// Who reports: what proves that a report is about the run that is going on, and what makes a repeat recognisable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Claim {
    /// The hash of the lease's token.
    pub lease: Option<u128>,
    /// The attempt; the present one if left out.
    pub attempt: Option<u32>,
    /// The reporter's counter.
    pub n: Option<u64>,
}

/// How much a line of a job's log matters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// To those who look for a fault.
    Debug,
    /// As usual.
    #[default]
    Info,
    /// Somebody should look at it.
    Warn,
    /// Something failed.
    Error,
}

/// A line of a job's log.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogLine {
    /// How much it matters.
    #[serde(default)]
    pub level: Level,
    /// For people; cut when it is read, and by [`LogLine::new`].
    #[serde(deserialize_with = "log_message")]
    pub message: String,
    /// When, Unix milliseconds; the server's time if left out.
    #[serde(default)]
    pub ts: Option<u64>,
}

impl LogLine {
    /// A line of now, whose message is cut if it is too long.
    #[must_use]
    pub fn new(level: Level, message: impl Into<String>) -> Self {
        Self { level, message: cut(message.into(), limits::JOB_LOG_BYTES_MAX), ts: None }
    }
}

/// What a job says beside its progress: never coalesced.
#[derive(Debug, Clone)]
pub enum Entries {
    /// Lines of its log.
    Logs(Vec<LogLine>),
    /// Pieces of its output.
    Output(Vec<Box<RawValue>>),
}

impl Entries {
    pub(super) fn check(&self) -> Result<(), JobError> {
        let count = match self {
            Self::Logs(lines) => lines.len(),
            Self::Output(chunks) => chunks.len(),
        };
        if !(1..=limits::JOB_ENTRIES_MAX).contains(&count) {
            let most = limits::JOB_ENTRIES_MAX;
            return Err(JobError::Field(format!("{count} entries, not 1 to {most}")));
        }
        Ok(())
    }
}

/// A report of log lines or output.
#[derive(Debug, Clone)]
pub struct EntriesReport {
    /// What it says.
    pub entries: Entries,
    /// The attempt that it is about; the present one if left out.
    pub attempt: Option<u32>,
    /// The reporter's counter.
    pub n: Option<u64>,
    /// The lease's token, if it is a leased job.
    pub lease: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogsObject {
    logs: Vec<LogLine>,
    attempt: Option<u32>,
    n: Option<u64>,
    lease: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LineObject {
    #[serde(default)]
    level: Level,
    #[serde(deserialize_with = "log_message")]
    message: String,
    ts: Option<u64>,
    attempt: Option<u32>,
    n: Option<u64>,
    lease: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OutputObject {
    chunks: Vec<Box<RawValue>>,
    attempt: Option<u32>,
    n: Option<u64>,
    lease: Option<String>,
}

#[derive(Deserialize)]
struct HasLogs {
    logs: Option<serde::de::IgnoredAny>,
}

impl EntriesReport {
    /// Reads a report of log lines: one, a list, or `{"logs": […]}`.
    ///
    /// # Errors
    /// [`JobError::Json`] or [`JobError::Field`].
    pub fn logs_from_json(text: &str) -> Result<Self, JobError> {
        let field = |e: serde_json::Error| refused(&e, JobError::Field);
        if text.trim_start().starts_with('[') {
            let entries = Entries::Logs(serde_json::from_str(text).map_err(field)?);
            return Self { entries, attempt: None, n: None, lease: None }.checked();
        }
        let has: HasLogs = serde_json::from_str(text).map_err(field)?;
        let report = if has.logs.is_some() {
            let LogsObject { logs, attempt, n, lease } = serde_json::from_str(text).map_err(field)?;
            Self { entries: Entries::Logs(logs), attempt, n, lease }
        } else {
            let LineObject { level, message, ts, attempt, n, lease } =
                serde_json::from_str(text).map_err(field)?;
            Self { entries: Entries::Logs([LogLine { level, message, ts }].into()), attempt, n, lease }
        };
        report.checked()
    }

    /// Reads a report of output.
    ///
    /// # Errors
    /// [`JobError::Json`] or [`JobError::Field`].
    pub fn output_from_json(text: &str) -> Result<Self, JobError> {
        let OutputObject { chunks, attempt, n, lease } = object(text, JobError::Field)?;
        Self { entries: Entries::Output(chunks), attempt, n, lease }.checked()
    }

    fn checked(self) -> Result<Self, JobError> {
        self.entries.check()?;
        Ok(self)
    }
}

/// Cuts a text that is for people: a long message must not keep a job from failing.
pub(super) fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let end = (0..=bytes_max).rev().find(|&at| text.is_char_boundary(at));
        text.truncate(end.unwrap_or(0));
    }
    text
}

fn bounded(field: &'static str, json: Option<&RawValue>, max: usize) -> Result<(), JobError> {
    match json.map(|json| json.get().len()).filter(|bytes| *bytes > max) {
        Some(bytes) => Err(JobError::TooLarge { field, bytes, max }),
        None => Ok(()),
    }
}

/// Reads an object; serde would take a list of its fields for one as well.
fn object<'a, T: Deserialize<'a>>(text: &'a str, field: fn(String) -> JobError) -> Result<T, JobError> {
    if text.trim_start().starts_with('[') {
        return Err(field("a report is an object, not a list".into()));
    }
    serde_json::from_str(text).map_err(|e| refused(&e, field))
}

fn refused(error: &serde_json::Error, field: fn(String) -> JobError) -> JobError {
    if error.is_data() { field(error.to_string()) } else { JobError::Json(error.to_string()) }
}

fn log_message<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    String::deserialize(from).map(|message| cut(message, limits::JOB_LOG_BYTES_MAX))
}

/// Tells a field that is `null` from one that is not there.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}
