//! Errors as the server tells them.
//!
//! Owns: the problem document and the errors of a publish. Does not know: routes.
//! Flow: in ← a status and a body of `application/problem+json` · out → a `Problem` with a stable code.

use std::fmt;

use serde::Deserialize;
use tidings_core::PayloadError;

use crate::call::CallError;
use crate::transport::Answer;

/// Text of an answer that is repeated in an error.
const SHOWN_CHARS_MAX: usize = 200;

/// A refusal: `application/problem+json` with a stable `code`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Problem {
    /// The HTTP status; 0 in the result of a line of a batch.
    #[serde(default)]
    pub status: u16,
    /// The stable code, such as `channel_finished`; `http_<status>` where something else than tidings answered.
    #[serde(default)]
    pub code: String,
    /// One line on what is wrong.
    #[serde(default)]
    pub title: String,
    /// What is wrong this time.
    #[serde(default)]
    pub detail: Option<String>,
    /// `Some(false)`: nothing of it was stored. Without it a 5xx may have taken effect.
    #[serde(default)]
    pub committed: Option<bool>,
}

impl Problem {
    /// A problem of which only the code is known.
    pub(crate) fn of(status: u16, code: String) -> Self {
        Self { status, code, title: String::new(), detail: None, committed: None }
    }

    /// Reads the problem in a body; anything else becomes one too.
    pub(crate) fn read(status: u16, body: &[u8]) -> Self {
        let read = serde_json::from_slice(body).ok().filter(|problem: &Self| !problem.code.is_empty());
        let mut problem = read.unwrap_or_else(|| Self {
            status: 0,
            code: format!("http_{status}"),
            title: shown(&String::from_utf8_lossy(body)),
            detail: None,
            committed: None,
        });
        problem.status = status;
        problem
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code)?;
        if self.status != 0 {
            write!(f, " ({})", self.status)?;
        }
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None if self.title.is_empty() => Ok(()),
            None => write!(f, ": {}", self.title),
        }
    }
}

/// Why a publish failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The data cannot be sent; nothing was.
    #[error(transparent)]
    Data(#[from] PayloadError),
    /// The server refused.
    #[error("{0}")]
    Refused(Problem),
    /// No answer came: whether the event was stored is unknown. With an idempotency key the publish may be repeated.
    #[error("no answer, so the outcome is unknown: {0}")]
    NoAnswer(String),
    /// An answer came that is none of tidings.
    #[error("answer not understood: {0}")]
    Answer(String),
}

impl PublishError {
    /// The stable code: the server's own for a refusal.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Data(error) => error.code(),
            Self::Refused(problem) => &problem.code,
            Self::NoAnswer(_) => "no_answer",
            Self::Answer(_) => "answer_invalid",
        }
    }

    pub(crate) fn answer(answer: &Answer) -> Self {
        Self::Answer(format!("{} {}", answer.status.as_u16(), shown(&String::from_utf8_lossy(&answer.body))))
    }
}

impl From<CallError> for PublishError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused { problem, .. } => Self::Refused(problem),
            CallError::NoAnswer(reason) => Self::NoAnswer(reason),
        }
    }
}

pub(crate) fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_document_is_read_and_anything_else_becomes_one() {
        let body = br#"{"type":"x","status":409,"code":"channel_finished","title":"t","detail":"orders","committed":false}"#;
        let problem = Problem::read(409, body);
        assert_eq!(problem.to_string(), "channel_finished (409): orders");
        assert_eq!(problem.committed, Some(false));
        let html = Problem::read(502, "<html>\u{e4}".repeat(1000).as_bytes());
        assert_eq!((html.code.as_str(), html.status), ("http_502", 502));
        assert!(html.to_string().len() < 400);
        assert_eq!(Problem::read(404, b"{}").code, "http_404");
    }
}
