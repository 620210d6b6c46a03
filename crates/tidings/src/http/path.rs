//! Names that stand in paths.
//!
//! Owns: reading them off, and what is answered to bytes that are no text. Does not know: which names are valid.
//! Flow: a request's path → its names in order, or a problem with the code of the name that it should have.

use axum::extract::FromRequestParts;
use axum::extract::path::ErrorKind;
use axum::extract::rejection::PathRejection;
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::problem::{Code, Problem};

/// The names in a path.
#[derive(Debug)]
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(names)) => Ok(Self(names)),
            Err(rejection) => Err(refused(parts.uri.path(), &rejection)),
        }
    }
}

fn refused(path: &str, rejection: &PathRejection) -> Problem {
    let kind = match rejection {
        PathRejection::FailedToDeserializePathParams(error) => Some(error.kind()),
        _ => None,
    };
    let Some(ErrorKind::InvalidUtf8InPathParam { key }) = kind else {
        return Problem::new(Code::Internal, rejection.body_text());
    };
    let code = match key.as_str() {
        "queue" => Code::QueueInvalid,
        "name" if path.starts_with("/v1/schedules/") => Code::ScheduleInvalid,
        "name" if path.contains("/download/") => Code::ArtifactNotFound,
        "name" => Code::ArtifactNameInvalid,
        _ if path.starts_with("/v1/connections/") => Code::ConnectionNotFound,
        _ if path.starts_with("/v1/workers/") => Code::WorkerInvalid,
        _ => Code::JobIdInvalid,
    };
    Problem::new(code, format!("the {key} in the path is not UTF-8")).uncommitted()
}
