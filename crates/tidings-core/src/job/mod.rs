//! Jobs: a unit of long work whose state and progress are events on its own channel.
//!
//! Owns: the document, its states, what a report may change, and which events a change is. Does not know: the log, HTTP,
//! who runs a job, where its files are.
//! Flow: a report (JSON or from a handler) → `Job::handle_*` on a copy → `Change` → `Job::event` → one append, then the copy
//! counts.

mod coalesce;
mod document;
mod id;
mod machine;
mod report;

use alloc::string::String;

pub use coalesce::{Coalesced, coalesce};
pub use document::{Artifact, Document, Failure, Mode, State};
pub use id::{JobId, JobType};
pub use machine::{Audience, Change, Job, JobEvent, New};
pub use report::{Completion, Fail, FailState, Progress};

use crate::limits;

/// Why a job could not be made or a report was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// Not a job id.
    #[error("job id {0:?} is not 1 to 128 bytes of A-Z a-z 0-9 . _ : -")]
    Id(String),
    /// Not a job type.
    #[error("job type {0:?} is not 1 to 64 bytes of A-Z a-z 0-9 _ . : -")]
    Type(String),
    /// The job has ended. It stays as it ended.
    #[error("the job is {}", .0.as_str())]
    Finished(State),
    /// The report is of an attempt that is over, or that never was.
    #[error("the report is of attempt {given}, the job is at attempt {current}")]
    AttemptStale {
        /// The report's.
        given: u32,
        /// The job's.
        current: u32,
    },
    /// A progress report with a value that makes no sense.
    #[error("{0}")]
    Progress(String),
    /// Another report, or a new job, with a value that makes no sense.
    #[error("{0}")]
    Field(String),
    /// Not JSON.
    #[error("the report is not JSON: {0}")]
    Json(String),
    /// `data` or `result` is too large.
    #[error("{field} is {bytes} bytes; at most {max} are allowed")]
    TooLarge {
        /// Which.
        field: &'static str,
        /// What was sent.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
}

impl JobError {
    /// The stable code used in problem bodies.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Id(_) => "job_id_invalid",
            Self::Type(_) => "job_type_invalid",
            Self::Finished(_) => "job_finished",
            Self::AttemptStale { .. } => "attempt_stale",
            Self::Progress(_) => "progress_invalid",
            Self::Field(_) => "field_invalid",
            Self::Json(_) => "json_invalid",
            Self::TooLarge { .. } => "data_too_large",
        }
    }
}

// A document is an event's data, so all of its parts at their largest have to fit. A text may be spelt `\u00XX` for each
// byte; a file's texts have no control characters, so they at most double.
const _: () = {
    let texts = 6 * (5 * limits::JOB_TEXT_BYTES_MAX + (limits::JOB_TAGS_MAX + 1) * limits::JOB_TAG_BYTES_MAX);
    let texts_of_a_file = limits::ARTIFACT_NAME_BYTES_MAX
        + limits::ARTIFACT_CONTENT_TYPE_BYTES_MAX
        + limits::ARTIFACT_URL_BYTES_MAX;
    let artifact = 2 * texts_of_a_file + 128;
    let json = limits::JOB_DATA_BYTES_MAX + limits::JOB_RESULT_BYTES_MAX;
    let rest = 8 * 1024;
    assert!(texts + limits::JOB_ARTIFACTS_MAX * artifact + json + rest <= limits::DATA_BYTES_MAX);
};

#[cfg(test)]
mod tests;
