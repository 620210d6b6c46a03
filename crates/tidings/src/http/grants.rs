//! Tickets and revocations.
//!
//! Owns: their JSON. Does not know: how a ticket is kept, what a revocation covers.
//! Flow: a request → `crate::auth` → an answer.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tidings_core::grant::{Holder, Pattern};
use tidings_core::{ChannelName, Grant};

use super::body;
use super::caller::Caller;
use super::jobs::{read, text};
use super::problem::{Code, Problem};
use crate::Hub;
use crate::auth::{Authorized, RevokeError, Revoked};
use crate::clock;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TicketBody {
    channels: Option<Vec<String>>,
}

/// A grant for one request that can be nothing but a URL.
pub(super) async fn ticket(
    State(hub): State<Hub>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let text = text(request).await?;
    if matches!(caller.grant().holder, Holder::Anonymous) {
        return Err(caller.forbidden("make a ticket"));
    }
    let wanted: TicketBody = match text.trim().is_empty() {
        true => TicketBody::default(),
        false => body::object(text.as_bytes())?,
    };
    let authorized = match wanted.channels {
        None => Arc::unwrap_or_clone(caller.0),
        Some(names) => narrowed(&hub, &caller, &names).await?,
    };
    // In an address, it is not what a browser adds by itself.
    let authorized = authorized.ambient(false);
    let full = || Problem::new(Code::Overloaded, "too many tickets wait");
    let (ticket, until) = hub.0.auth.tickets.make(authorized, clock::unix_ms()).ok_or_else(full)?;
    let answer = json!({ "ticket": ticket, "expires_at": until });
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// The same grant for these channels only, and what is always the subject's.
async fn narrowed(hub: &Hub, caller: &Caller, names: &[String]) -> Result<Authorized, Problem> {
    let channels = names.iter().map(|n| ChannelName::parse(n)).collect::<Result<Vec<_>, _>>()?;
    if channels.is_empty() {
        return Err(Problem::new(Code::ChannelsMissing, "name a channel"));
    }
    if !hub.uncovered(&caller.0, &channels).await?.is_empty() {
        return Err(caller.forbidden("subscribe to all of these channels"));
    }
    let patterns = names.iter().map(|name| Pattern::parse(name)).collect::<Result<Vec<_>, _>>();
    let subscribe = patterns.map_err(|e| Problem::new(Code::ChannelNameInvalid, e.to_string()))?;
    let grant = Grant {
        subscribe,
        publish: Vec::new(),
        jobs: Vec::new(),
        admin: false,
        ..(**caller.grant()).clone()
    };
    Ok(Authorized { grant: grant.into(), ..(*caller.0).clone() })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RevocationBody {
    token: Option<String>,
    session: Option<String>,
    subject: Option<String>,
    until: Option<u64>,
}

/// What was issued until now holds no longer.
pub(super) async fn revoke(
    State(hub): State<Hub>,
    caller: Caller,
    request: Request,
) -> Result<Json<Value>, Problem> {
    caller.require_admin()?;
    let (parts, bytes) = read(request).await?;
    body::require_json(&parts.headers).map_err(Problem::uncommitted)?;
    let wanted: RevocationBody = body::object(&bytes).map_err(Problem::uncommitted)?;
    let revoked = match (wanted.token, wanted.session, wanted.subject) {
        (Some(token), None, None) => Revoked::Token(token),
        (None, Some(session), None) => Revoked::Session(session),
        (None, None, Some(subject)) => Revoked::Subject(subject),
        _ => {
            let detail = "name one of `token`, `session` and `subject`";
            return Err(Problem::new(Code::FieldInvalid, detail).uncommitted());
        }
    };
    let (closed, until) = hub.revoke(&revoked, wanted.until).await?;
    Ok(Json(json!({ "closed": closed, "until": until })))
}

pub(super) async fn revocations(State(hub): State<Hub>, caller: Caller) -> Result<Json<Value>, Problem> {
    caller.require_admin()?;
    Ok(Json(json!({ "revocations": hub.0.auth.revocations.list() })))
}

impl From<RevokeError> for Problem {
    fn from(error: RevokeError) -> Self {
        match error {
            RevokeError::TooMany => Self::new(Code::RevocationsTooMany, error.to_string()).uncommitted(),
            RevokeError::Value | RevokeError::Until => {
                Self::new(Code::FieldInvalid, error.to_string()).uncommitted()
            }
            RevokeError::Commit(error) => error.into(),
        }
    }
}
