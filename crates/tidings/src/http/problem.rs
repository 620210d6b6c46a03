//! Problems: answers that are not what was asked for.
//!
//! Owns: `application/problem+json` (RFC 9457) with a stable code. Does not know: what went wrong where.
//! Flow: an error's code and text → a response.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
pub(crate) use tidings_core::wire::problem::Code;
use tidings_core::{NameError, PayloadError};

use crate::log::LogError;
use crate::publish::PublishError;
use crate::writer::CommitError;

/// An answer that is not what was asked for.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    pub(crate) detail: String,
    /// Whether something was committed, where the caller has to know.
    committed: Option<bool>,
}

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), committed: None }
    }

    /// Nothing was committed.
    pub(crate) fn uncommitted(mut self) -> Self {
        self.committed = Some(false);
        self
    }

    /// Nothing was committed, unless the writer itself does not know.
    pub(crate) fn uncommitted_unless_unknown(self) -> Self {
        if matches!(self.code, Code::OutcomeUnknown) { self } else { self.uncommitted() }
    }

    /// The error that carries this stable code.
    pub(crate) fn of(code: &str, detail: impl Into<String>) -> Self {
        let known = Code::ALL.iter().copied().find(|c| c.as_str() == code);
        Self::new(known.unwrap_or(Code::Internal), detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut body = json!({
            "code": self.code.as_str(), "status": status.as_u16(), "title": self.code.title(), "detail": self.detail,
        });
        if let Some((committed, object)) = self.committed.zip(body.as_object_mut()) {
            object.insert("committed".into(), committed.into());
        }
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut response = (status, kind, body.to_string()).into_response();
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110, 15.5.2: an answer of 401 names a scheme.
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if matches!(self.code, Code::FramingInvalid) {
            // Where the next request would begin is not known either.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if matches!(status.as_u16(), 429 | 503) {
            let seconds = 1 + crate::clock::random() % 5;
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<NameError> for Problem {
    fn from(error: NameError) -> Self {
        Self::of(error.code(), error.to_string())
    }
}

impl From<PayloadError> for Problem {
    fn from(error: PayloadError) -> Self {
        Self::of(error.code(), error.to_string())
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        let problem = Self::of(error.code(), error.to_string());
        match &error {
            PublishError::Commit(commit) if !commit.is_nothing_committed() => problem,
            _ => problem.uncommitted(),
        }
    }
}

impl From<CommitError> for Problem {
    fn from(error: CommitError) -> Self {
        PublishError::from(error).into()
    }
}

impl From<LogError> for Problem {
    fn from(error: LogError) -> Self {
        tracing::error!(%error, "the log could not be read");
        Self::new(Code::LogUnreadable, error.to_string())
    }
}

pub(super) async fn not_found(uri: http::Uri) -> Problem {
    Problem::new(Code::NotFound, format!("there is nothing at {}", uri.path()))
}

pub(super) async fn method_not_allowed(method: http::Method, uri: http::Uri) -> Problem {
    Problem::new(Code::MethodNotAllowed, format!("{} does not answer to {method}", uri.path()))
}
