//! `POST /v1/publish`: one event, one on several channels, or a batch.
//!
//! Owns: the JSON of a publish and of its answers. Does not know: what makes a publish valid (`crate::publish`).
//! Flow: a body → publications → the hub → ids.

use std::borrow::Cow;

use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tidings_core::wire::sse::encode;
use tidings_core::{ChannelName, EventId, EventName, Key, Payload, limits};

use super::body;
use super::caller::Caller;
use super::problem::{Code, Problem};
use crate::publish::{Publication, Published, is_idempotency_key};
use crate::{Hub, PublishError};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The object of a publish, or of a line of a batch.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    #[serde(borrow)]
    channel: Option<Text<'a>>,
    channels: Option<Vec<String>>,
    event: Option<Text<'a>>,
    #[serde(default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    text: Option<Text<'a>>,
    key: Option<Text<'a>>,
    #[serde(default, rename = "final")]
    is_final: bool,
    #[serde(default)]
    ephemeral: bool,
    ttl_ms: Option<u64>,
    idempotency_key: Option<String>,
}

/// Text as it stands in the body, unless it has escapes: a batch has thousands of them.
#[derive(Debug)]
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        from.deserialize_str(Reader)
    }
}

/// `"data": null` is data.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// Where it is.
pub(super) const PATH: &str = "/v1/publish";

pub(super) async fn publish(State(hub): State<Hub>, request: Request) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let caller = Caller::from_request_parts(&mut parts, &hub).await?;
    match &*body::media_type(&parts.headers) {
        "application/json" => {
            let bytes = body::read(body, limits::BODY_BYTES_MAX, Code::BodyTooLarge).await;
            let bytes = bytes.map_err(Problem::uncommitted)?;
            one(&hub, &caller, &parts.headers, &bytes).await.map_err(Problem::uncommitted_unless_unknown)
        }
        "application/x-ndjson" => {
            let bytes = body::read(body, limits::BATCH_BYTES_MAX, Code::BatchTooLarge).await;
            let bytes = bytes.map_err(Problem::uncommitted)?;
            batch(&hub, &caller, &parts.headers, &bytes).await.map_err(Problem::uncommitted_unless_unknown)
        }
        other => Err(body::unsupported(other, "application/json").uncommitted()),
    }
}

async fn one(hub: &Hub, caller: &Caller, headers: &HeaderMap, bytes: &[u8]) -> Result<Response, Problem> {
    let mut request: Fields<'_> = body::object(bytes)?;
    let header = idempotency_header(headers)?;
    match (&request.idempotency_key, header) {
        (Some(field), Some(header)) if *field != header => {
            let detail = "the header and the field name different idempotency keys";
            return Err(Problem::new(Code::IdempotencyKeyInvalid, detail));
        }
        (_, Some(header)) => request.idempotency_key = Some(header),
        (_, None) => {}
    }
    let is_many = request.channels.is_some();
    let publication = publication(request, caller)?;
    let names = is_many.then(|| publication.channels.iter().map(ToString::to_string).collect());
    let published = hub.publish(publication).await?;
    let status = match (&published.duplicate, published.ids.is_empty()) {
        (_, true) => StatusCode::ACCEPTED,
        (true, false) => StatusCode::OK,
        (false, false) => StatusCode::CREATED,
    };
    Ok(respond(status, "application/json", answer(&published, names.as_ref())))
}

fn answer(published: &Published, names: Option<&Vec<String>>) -> Vec<u8> {
    let mut answer = match (published.ids.as_slice(), names) {
        // The common answer, without a JSON value in between: there are thousands of them.
        ([id], None) if !published.duplicate => return answer_of(*id),
        (ids, None) => json!({ "id": ids.first().map(ToString::to_string) }),
        (ids, Some(names)) => {
            let id = |index: usize| ids.get(index).map_or(Value::Null, |id| id.to_string().into());
            let ids: Map<String, Value> = names.iter().enumerate().map(|(i, n)| (n.clone(), id(i))).collect();
            json!({ "ids": ids })
        }
    };
    if published.duplicate
        && let Some(object) = answer.as_object_mut()
    {
        object.insert("duplicate".into(), true.into());
    }
    answer.to_string().into_bytes()
}

fn answer_of(id: EventId) -> Vec<u8> {
    let mut out = Vec::with_capacity(48);
    out.extend_from_slice(b"{\"id\":\"");
    encode::id(&mut out, id);
    out.extend_from_slice(b"\"}");
    out
}

async fn batch(hub: &Hub, caller: &Caller, headers: &HeaderMap, bytes: &Bytes) -> Result<Response, Problem> {
    if headers.contains_key(IDEMPOTENCY_KEY) {
        let detail = "in a batch every line has its own `idempotency_key`";
        return Err(Problem::new(Code::IdempotencyHeaderOnBatch, detail));
    }
    let lines = bytes.split(|b| *b == b'\n').enumerate().filter(|(_, l)| !l.trim_ascii().is_empty());
    let mut numbers = Vec::new();
    let mut parsed: Vec<Result<(), Problem>> = Vec::new();
    let mut publications = Vec::new();
    for (index, line) in lines {
        if numbers.len() >= limits::BATCH_EVENTS_MAX {
            let max = limits::BATCH_EVENTS_MAX;
            return Err(Problem::new(Code::BatchTooLarge, format!("a batch has at most {max} lines")));
        }
        numbers.push(index + 1);
        parsed.push(line_publication(line, caller).map(|publication| publications.push(publication)));
    }
    let mut results = hub.publish_batch(&publications).await?.into_iter();
    let mut out = Vec::with_capacity(numbers.len() * 32);
    for (number, parsed) in numbers.into_iter().zip(parsed) {
        let result = parsed.and_then(|()| match results.next() {
            Some(result) => Ok(result?),
            None => Err(PublishError::Commit(crate::CommitError::OutcomeUnknown).into()),
        });
        match result {
            Ok(published) => out.extend_from_slice(&answer(&published, None)),
            Err(problem) => {
                let line = json!({ "line": number, "code": problem.code.as_str(), "detail": problem.detail });
                out.extend_from_slice(line.to_string().as_bytes());
            }
        }
        out.push(b'\n');
    }
    Ok(respond(StatusCode::OK, "application/x-ndjson", out))
}

fn respond(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn line_publication(line: &[u8], caller: &Caller) -> Result<Publication, Problem> {
    let request: Fields<'_> = body::object(line)?;
    if request.channels.is_some() {
        return Err(Problem::new(Code::FieldUnknown, "a line of a batch has `channel`, not `channels`"));
    }
    publication(request, caller)
}

fn publication(request: Fields<'_>, caller: &Caller) -> Result<Publication, Problem> {
    let channels = channels(request.channel, request.channels)?;
    caller.require_publishable(&channels)?;
    let payload = match (request.data, request.text) {
        (Some(_), Some(_)) => {
            return Err(Problem::new(Code::DataConflict, "an event has either `data` or `text`"));
        }
        (Some(data), None) => Payload::raw_json(data)?,
        (None, Some(text)) => Payload::text(&text.0)?,
        (None, None) => return Err(Problem::new(Code::FieldMissing, "an event has `data` or `text`")),
    };
    if request.ttl_ms == Some(0) {
        return Err(Problem::new(Code::FieldInvalid, "`ttl_ms` is a positive whole number"));
    }
    let event = request.event.map_or_else(|| Ok(EventName::message()), |e| EventName::parse(&e.0))?;
    let key = request.key.map(|k| Key::parse(&k.0)).transpose()?;
    Ok(Publication {
        channels,
        event,
        payload,
        key,
        is_final: request.is_final,
        ephemeral: request.ephemeral,
        ttl_ms: request.ttl_ms,
        idempotency_key: request.idempotency_key,
        principal: caller.principal(),
        from: caller.grant().subject().cloned(),
    })
}

fn channels(one: Option<Text<'_>>, many: Option<Vec<String>>) -> Result<Vec<ChannelName>, Problem> {
    let names = match (one, many) {
        (Some(_), Some(_)) => {
            return Err(Problem::new(Code::FieldInvalid, "a publish has either `channel` or `channels`"));
        }
        (Some(one), None) => return Ok(vec![ChannelName::parse(&one.0)?]),
        (None, Some(many)) => many,
        (None, None) => return Err(PublishError::ChannelsMissing.into()),
    };
    if names.len() > limits::PUBLISH_CHANNELS_MAX {
        return Err(PublishError::ChannelsTooMany(names.len()).into());
    }
    let channels = names.iter().map(|n| ChannelName::parse(n)).collect::<Result<Vec<_>, _>>()?;
    let unique: std::collections::HashSet<&ChannelName> = channels.iter().collect();
    if unique.len() < channels.len() {
        return Err(Problem::new(Code::FieldInvalid, "`channels` names a channel twice"));
    }
    Ok(channels)
}

/// The header's key, quoted (as the IETF draft has it) or bare.
pub(super) fn idempotency_header(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let invalid = || Problem::new(Code::IdempotencyKeyInvalid, "the Idempotency-Key header is not valid");
    if values.next().is_some() {
        return Err(invalid());
    }
    let text = value.to_str().map_err(|_| invalid())?.trim();
    let bare = text.strip_prefix('"').map_or(Some(text), |t| t.strip_suffix('"'));
    bare.filter(|key| is_idempotency_key(key)).map(|key| Some(key.to_owned())).ok_or_else(invalid)
}
