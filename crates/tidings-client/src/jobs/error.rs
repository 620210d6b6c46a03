//! Why something about a job did not work.
//!
//! Owns: the errors of requests about jobs. Does not know: which request it was.
//! Flow: in ← a refusal, a missing answer, a value that cannot be sent · out → an error with a stable code.

use tidings_core::job::JobError;

use crate::call::CallError;
use crate::problem::{Problem, shown};
use crate::subscribe::SubscribeError;
use crate::transport::Answer;

/// Why something about a job did not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JobsError {
    /// The server refused.
    #[error("{0}")]
    Refused(Problem),
    /// No answer came: whether it took effect is unknown.
    #[error("no answer, so the outcome is unknown: {0}")]
    NoAnswer(String),
    /// An answer came that is none of tidings.
    #[error("answer not understood: {0}")]
    Answer(String),
    /// Not a job id; nothing was sent.
    #[error(transparent)]
    Id(#[from] JobError),
    /// A value cannot be sent; nothing was.
    #[error("{0}")]
    Invalid(String),
    /// A local file or reader failed.
    #[error("{0}")]
    Io(String),
    /// The file is not in the server's store but at this address.
    #[error("the file is at {0}")]
    Elsewhere(String),
}

impl JobsError {
    /// The stable code: the server's own for a refusal.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Refused(problem) => &problem.code,
            Self::NoAnswer(_) => "no_answer",
            Self::Answer(_) => "answer_invalid",
            Self::Id(error) => error.code(),
            Self::Invalid(_) => "request_invalid",
            Self::Io(_) => "io_failed",
            Self::Elsewhere(_) => "artifact_elsewhere",
        }
    }

    pub(crate) fn answer(answer: &Answer) -> Self {
        Self::Answer(format!("{} {}", answer.status.as_u16(), shown(&String::from_utf8_lossy(&answer.body))))
    }
}

impl From<CallError> for JobsError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused { problem, .. } => Self::Refused(problem),
            CallError::NoAnswer(reason) => Self::NoAnswer(reason),
        }
    }
}

impl From<SubscribeError> for JobsError {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::Refused(problem) => Self::Refused(problem),
            other => Self::Invalid(other.to_string()),
        }
    }
}
