//! `/v1/connections`: who is connected, and closing connections.
//!
//! Owns: the JSON of connections. Does not know: how a stream is closed.
//! Flow: a request → the registry → its list, or commands to the shards.

use axum::Json;
use axum::extract::{Path, State};
use http::{StatusCode, Uri};
use serde_json::{Value, json};

use super::params::Params;
use super::problem::{Code, Problem};
use crate::Hub;
use crate::subscribe::{connection_text, parse_connection};

pub(super) async fn list(State(hub): State<Hub>, uri: Uri) -> Json<Value> {
    let params = Params::of(&uri);
    let subject = params.one("subject");
    let all = hub.0.registry.list();
    let shown = all.iter().filter(|s| subject.is_none_or(|wanted| *s.subject == *wanted)).map(|s| {
        let channels: Vec<&str> = s.channels.iter().map(|c| c.as_str()).collect();
        json!({
            "id": connection_text(s.id), "subject": *s.subject, "channels": channels, "since": s.opened_ms,
            "behind": s.is_behind(),
        })
    });
    Json(json!({ "connections": shown.collect::<Vec<_>>() }))
}

pub(super) async fn close(State(hub): State<Hub>, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    let wanted = parse_connection(&id);
    let closed = wanted.map_or(0, |wanted| hub.0.registry.close(|s| s.id == wanted));
    if closed == 0 {
        return Err(Problem::new(Code::ConnectionNotFound, format!("there is no connection {id:.64}")));
    }
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn close_subject(State(hub): State<Hub>, uri: Uri) -> Result<Json<Value>, Problem> {
    let params = Params::of(&uri);
    let subject = params.one("subject").filter(|s| !s.is_empty());
    let subject =
        subject.ok_or_else(|| Problem::new(Code::QueryInvalid, "name a subject, or an id in the path"))?;
    Ok(Json(json!({ "closed": hub.0.registry.close(|s| *s.subject == *subject) })))
}
