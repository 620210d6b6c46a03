//! `/v1/connections`: who is connected, closing connections, and what an open one may do and listen to.
//!
//! Owns: the JSON of connections. Does not know: how a stream is closed or changed.
//! Flow: a request → the registry → its list, or commands to the shards.

use axum::Json;
use axum::extract::{Request, State};
use http::{StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Value, json};
use tidings_core::grant::Holder;
use tidings_core::{ChannelName, limits};

use super::body;
use super::caller::Caller;
use super::jobs::read;
use super::params::Params;
use super::path::Path;
use super::problem::{Code, Problem};
use crate::Hub;
use crate::auth::RegrantError;
use crate::subscribe::{Subscription, connection_text, parse_connection};

pub(super) async fn list(State(hub): State<Hub>, caller: Caller, uri: Uri) -> Result<Json<Value>, Problem> {
    caller.require_admin()?;
    let params = Params::of(&uri);
    let subject = params.one("subject");
    let all = hub.0.registry.list();
    let shown = all.iter().filter(|s| subject.is_none_or(|wanted| *s.subject == *wanted)).map(|s| {
        let channels: Vec<&str> = s.channels.iter().map(|c| c.as_str()).collect();
        let subject = Some(&*s.subject).filter(|subject| !subject.is_empty());
        json!({
            "id": connection_text(s.id), "subject": subject, "channels": channels, "since": s.opened_ms,
            "behind": s.is_behind(),
        })
    });
    Ok(Json(json!({ "connections": shown.collect::<Vec<_>>() })))
}

pub(super) async fn close(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    caller.require_admin()?;
    let wanted = parse_connection(&id);
    let closed = wanted.map_or(0, |wanted| hub.0.registry.close(|s| s.id == wanted));
    if closed == 0 {
        return Err(not_found(&id));
    }
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn close_subject(
    State(hub): State<Hub>,
    caller: Caller,
    uri: Uri,
) -> Result<Json<Value>, Problem> {
    caller.require_admin()?;
    let params = Params::of(&uri);
    let subject = params.one("subject").filter(|s| !s.is_empty());
    let subject =
        subject.ok_or_else(|| Problem::new(Code::QueryInvalid, "name a subject, or an id in the path"))?;
    Ok(Json(json!({ "closed": hub.0.registry.close(|s| *s.subject == *subject) })))
}

/// New credentials for an open stream.
pub(super) async fn authorize(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Json<Value>, Problem> {
    let stream = own(&hub, &caller, &id, &uri)?;
    // An API key may change anybody's stream, but not make it its own.
    let is_other = |holder: &Holder| *holder != caller.grant().holder;
    if stream.authorized().is_some_and(|mine| is_other(&mine.grant.holder)) {
        return Err(not_found(&id));
    }
    let until = hub.regrant(stream.id, &caller.0).await?;
    hub.0.auth.live.watch(&hub, stream.id, &caller.0);
    Ok(Json(json!({ "expires_at": until })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct More {
    channels: Vec<String>,
}

/// Channels that join an open stream, from its position on.
pub(super) async fn join(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let (parts, bytes) = read(request).await?;
    body::require_json(&parts.headers)?;
    let More { channels } = body::object(&bytes)?;
    let stream = own(&hub, &caller, &id, &parts.uri)?;
    if channels.is_empty() {
        return Err(Problem::new(Code::ChannelsMissing, "name a channel"));
    }
    let channels = channels.iter().map(|c| ChannelName::parse(c)).collect::<Result<Vec<_>, _>>()?;
    if !hub.uncovered(&caller.0, &channels).await?.is_empty() {
        return Err(caller.forbidden("subscribe to all of these channels"));
    }
    // What the stream may do counts too: it is judged by its own grant, which may be another than the caller's.
    if let Some(grant) = stream.authorized()
        && !hub.uncovered(&grant, &channels).await?.is_empty()
    {
        return Err(Problem::new(Code::Forbidden, "the stream's grant does not cover all of these channels"));
    }
    let joined = hub.0.registry.join(stream.id, &channels, limits::STREAM_CHANNELS_MAX);
    let joined = joined.map_err(too_many)?.ok_or_else(|| not_found(&id))?;
    let position = joined.at.await.map_err(|_| not_found(&id))?;
    let all: Vec<&str> = joined.subscription.channels.iter().map(|c| c.as_str()).collect();
    Ok(Json(json!({ "position": hub.0.log.epochs().id(position).to_string(), "channels": all })))
}

fn too_many(count: usize) -> Problem {
    let max = limits::STREAM_CHANNELS_MAX;
    Problem::new(Code::ChannelsTooMany, format!("{count} channels; a stream has at most {max}"))
}

/// A stream of the caller's own. Somebody else's looks like one that is not there.
fn own(hub: &Hub, caller: &Caller, id: &str, uri: &Uri) -> Result<std::sync::Arc<Subscription>, Problem> {
    if matches!(caller.grant().holder, Holder::Anonymous) {
        return Err(caller.forbidden("change a stream"));
    }
    let stream = parse_connection(id).and_then(|id| hub.0.registry.find(id)).ok_or_else(|| not_found(id))?;
    let subject = caller.subject(&Params::of(uri))?;
    let is_own = match caller.grant().holder {
        Holder::Key(_) => true,
        Holder::Dev | Holder::Subject(_) | Holder::Anonymous => subject.as_deref() == Some(&*stream.subject),
    };
    if is_own { Ok(stream) } else { Err(not_found(id)) }
}

fn not_found(id: &str) -> Problem {
    Problem::new(Code::ConnectionNotFound, format!("there is no connection {id:.64}"))
}

impl From<RegrantError> for Problem {
    fn from(error: RegrantError) -> Self {
        match error {
            RegrantError::Gone => Self::new(Code::ConnectionNotFound, error.to_string()),
            RegrantError::Uncovered(_) => Self::new(Code::Forbidden, error.to_string()),
            RegrantError::Auth(error) => error.into(),
            RegrantError::Jobs(error) => error.into(),
        }
    }
}
