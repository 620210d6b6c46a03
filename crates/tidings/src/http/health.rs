//! `/healthz`, `/readyz`, `/metrics`.
//!
//! Owns: what a supervisor and a scraper see. Does not know: how parts fail.
//! Flow: a request → the hub's state → text.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::json;

use super::caller::Caller;
use super::problem::Problem;
use crate::Hub;

/// The process runs and answers.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// A durable publish can be accepted now; else why not. Whoever cannot be identified is answered too.
pub(super) async fn readyz(State(hub): State<Hub>, caller: Result<Caller, Problem>) -> Response {
    let Some(reason) = hub.unready() else { return Json(json!({ "ready": true })).into_response() };
    // It may name files: for operators only.
    let answer = match caller.is_ok_and(|caller| caller.grant().admin) {
        true => json!({ "ready": false, "reason": reason }),
        false => json!({ "ready": false }),
    };
    (StatusCode::SERVICE_UNAVAILABLE, Json(answer)).into_response()
}

pub(super) async fn metrics(State(hub): State<Hub>, caller: Caller) -> Result<Response, Problem> {
    caller.require_admin()?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let figures = hub.jobs().figures();
    hub.0.metrics.memory.set(i64::try_from(hub.0.memory.used()).unwrap_or(i64::MAX));
    let text = hub.0.metrics.text(&hub.stats(), hub.0.jobs.artifacts.used_bytes(), &figures);
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
