//! Control events: what the server itself says on a stream.
//!
//! Owns: their data. Does not know: when they are due.
//! Flow: facts of the decision or of a shard → bytes between two frames.

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tidings_core::resume::Reset;
use tidings_core::wire::sse::encode;
use tidings_core::{ChannelName, Epochs, EventId};

/// `: connected`, `retry:` and the first event of every stream.
pub(crate) fn hello(
    out: &mut Vec<u8>,
    retry_ms: u32,
    connection: &str,
    keepalive_ms: u64,
    expires_at_ms: Option<u64>,
    id: Option<EventId>,
) {
    out.extend_from_slice(format!(": connected\nretry: {retry_ms}\n\n").as_bytes());
    let mut data = json!({ "connection": connection, "keepalive_ms": keepalive_ms });
    if let Some((at, object)) = expires_at_ms.zip(data.as_object_mut()) {
        object.insert("expires_at".into(), at.into());
    }
    encode::control(out, "tidings.hello", &data.to_string(), id);
}

/// Something that the client has not seen cannot be sent.
pub(crate) fn reset(out: &mut Vec<u8>, reset: &Reset, channels: &[ChannelName], epochs: &Epochs) {
    let mut data = Map::from_iter([("reason".into(), Value::from(reset.reason.as_str()))]);
    if !reset.channels.is_empty() {
        let names = reset.channels.iter().filter_map(|&i| channels.get(i)).map(ChannelName::as_str);
        data.insert("channels".into(), names.collect());
    }
    if let Some(first) = reset.first {
        data.insert("first".into(), epochs.id(first).to_string().into());
    }
    encode::control(out, "tidings.reset", &Value::Object(data).to_string(), Some(epochs.id(reset.id)));
}

/// `tidings.cursor`: the stream's position, where the log has moved and the stream has not, or where channels have joined it.
pub(crate) fn cursor(joined: &[ChannelName], id: EventId) -> Bytes {
    let mut data = Map::new();
    if !joined.is_empty() {
        data.insert("joined".into(), joined.iter().map(ChannelName::as_str).collect());
    }
    let mut out = Vec::new();
    encode::control(&mut out, "tidings.cursor", &Value::Object(data).to_string(), Some(id));
    out.into()
}

/// The server is stopping: come back, at a random time within the spread.
pub(crate) fn drain(spread_ms: u32, retry_ms: u32) -> Bytes {
    let mut out = format!("retry: {retry_ms}\n").into_bytes();
    encode::control(&mut out, "tidings.drain", &json!({ "spread_ms": spread_ms }).to_string(), None);
    out.into()
}

/// The grant is about to end.
pub(crate) fn auth_expiring(expires_at_ms: u64) -> Bytes {
    let mut out = Vec::new();
    let data = json!({ "expires_at": expires_at_ms }).to_string();
    encode::control(&mut out, "tidings.auth_expiring", &data, None);
    out.into()
}

/// The stream is refused, or its grant is over; `id` has the mark that stops it.
pub(crate) fn unauthorized(code: &str, channels: &[ChannelName], id: EventId) -> Bytes {
    let mut data = Map::from_iter([("code".into(), Value::from(code))]);
    if !channels.is_empty() {
        data.insert("channels".into(), channels.iter().map(ChannelName::as_str).collect());
    }
    let mut out = Vec::new();
    encode::control(&mut out, "tidings.unauthorized", &Value::Object(data).to_string(), Some(id));
    out.into()
}

/// A whole stream for those who cannot be served now: wait, then come back. Without an id, so positions stay.
pub(crate) fn come_back(retry_ms: u32) -> Bytes {
    format!(": come back\nretry: {retry_ms}\n\n").into()
}
