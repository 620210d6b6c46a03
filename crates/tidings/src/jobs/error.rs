//! Why a job could not be made or a report was not taken.
//!
//! Owns: those errors and their stable codes. Does not know: HTTP.
//! Flow: a refusal → `JobsError` → its `code()`.

use tidings_core::job::JobError;
use tidings_core::{NameError, PayloadError, limits};

use super::ArtifactError;
use crate::log::LogError;
use crate::writer::CommitError;

/// Why a job could not be made or a report was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobsError {
    /// The rules of jobs.
    #[error(transparent)]
    Job(#[from] JobError),
    /// There is no such job.
    #[error("there is no job {0}")]
    NotFound(String),
    /// There is a job with this id.
    #[error("there is already a job {0}")]
    Exists(String),
    /// Too many have not ended.
    #[error("{max} jobs have not ended; no more are taken", max = limits::JOBS_LIVE_MAX)]
    TooMany,
    /// Another job holds the unique key.
    #[error("job {0} holds the unique key")]
    Unique(String),
    /// The schedule makes no sense.
    #[error("{0}")]
    Schedule(String),
    /// There is no such schedule.
    #[error("there is no schedule {0}")]
    ScheduleNotFound(String),
    /// Too many schedules.
    #[error("there are {max} schedules; no more are taken", max = limits::SCHEDULES_MAX)]
    SchedulesTooMany,
    /// The job has not ended.
    #[error("the job has not ended")]
    NotFinished,
    /// The job is run by another queue.
    #[error("the job is run by another queue")]
    NotManaged,
    /// Too many idempotency keys are remembered.
    #[error("too many idempotency keys are remembered")]
    KeysFull,
    /// The input cannot be used.
    #[error("the input cannot be used: {0}")]
    Input(String),
    /// What an event of the job would hold is too large.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// The key was used for another job.
    #[error("the idempotency key was used before with another body")]
    KeyReused,
    /// More than eight channels.
    #[error("publish_to names {0} channels; at most {max} are allowed", max = limits::JOB_PUBLISH_TO_MAX)]
    PublishTo(usize),
    /// A channel that cannot get the job's events.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A file could not be stored.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The change was not acknowledged.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl JobsError {
    /// The stable code used in problem bodies.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Job(error) => error.code(),
            Self::NotFound(_) => "job_not_found",
            Self::Exists(_) => "job_exists",
            Self::TooMany => "jobs_too_many",
            Self::Unique(_) => "unique_conflict",
            Self::Schedule(_) => "schedule_invalid",
            Self::ScheduleNotFound(_) => "schedule_not_found",
            Self::SchedulesTooMany => "schedules_too_many",
            Self::NotFinished => "job_not_finished",
            Self::NotManaged => "job_not_managed",
            Self::KeysFull => "idempotency_keys_full",
            Self::Input(_) => "field_invalid",
            Self::Payload(error) => error.code(),
            Self::KeyReused => "idempotency_key_reused",
            Self::PublishTo(_) => "channels_too_many",
            Self::Name(error) => error.code(),
            Self::Artifact(error) => error.code(),
            Self::Commit(error) => error.code(),
            Self::Log(_) => "log_unreadable",
        }
    }

    /// Whether the same may be taken later: it was the log that failed, not what it was asked for. One that is poisoned, or
    /// closed, takes nothing more.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Commit(error) => {
                matches!(error, CommitError::Overloaded | CommitError::Full(_) | CommitError::OutcomeUnknown)
            }
            Self::Log(_) => true,
            _ => false,
        }
    }
}
