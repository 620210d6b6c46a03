//! Jobs: a unit of long work whose state and progress are events on its own channel.
//!
//! Owns: the document, its states, what a report may change, and which events a change is. Does not know: the log, HTTP,
//! who runs a job, where its files are.
//! Flow: a report (JSON or from a handler) → `Job::handle_*` on a copy → `Change` → `Job::event` → one append, then the copy
//! counts.

mod coalesce;
mod document;
mod due;
mod id;
#[expect(clippy::module_inception, reason = "the file is named by what it holds, as its neighbours are")]
mod job;
mod lease;
mod report;
mod reports;
mod terms;

use alloc::string::String;

pub use coalesce::{Coalesced, coalesce};
pub use document::{Artifact, Document, Failure, Mode, Reason, State};
pub use id::{JobId, JobType, QueueName, ScheduleName, WorkerId};
pub use job::{Audience, Cancel, Change, Hidden, Job, JobEvent};
pub use lease::{Lease, NewLease};
pub use report::{
    Claim, Completion, Entries, EntriesReport, Fail, FailError, FailState, Level, LogLine, Progress, Retry,
};
pub use terms::{Backoff, BackoffKind, New, Terms};

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
    /// Not the name of a queue.
    #[error("queue {0:?} is not 1 to 128 bytes of A-Z a-z 0-9 . _ : -")]
    Queue(String),
    /// Not the id of a worker.
    #[error("worker id {0:?} is not 1 to 128 bytes of A-Z a-z 0-9 . _ : -")]
    Worker(String),
    /// Not the name of a schedule.
    #[error("schedule name {0:?} is not 1 to 128 bytes of A-Z a-z 0-9 . _ : -")]
    Schedule(String),
    /// The parent cannot be one.
    #[error("{0}")]
    Parent(String),
    /// The lease that was named is not that of the run which is going on; or none was named.
    #[error("the lease is not, or no longer, the job's")]
    LeaseLost,
    /// The job cannot be leased now.
    #[error("the job is {}", .0.as_str())]
    NotReady(State),
    /// The job is run by this server, not by another queue.
    #[error("the job is run by this server")]
    Managed,
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
    /// `data`, `result` or `input` is too large.
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
            Self::Queue(_) => "queue_invalid",
            Self::Worker(_) => "worker_invalid",
            Self::Schedule(_) => "schedule_invalid",
            Self::Parent(_) => "parent_invalid",
            Self::LeaseLost | Self::NotReady(_) => "lease_lost",
            Self::Managed => "job_exists",
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
