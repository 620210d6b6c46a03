//! An event's bytes, made once and shared by every connection.
//!
//! Owns: the two encodings of a frame. Does not know: connections.
//! Flow: a record and its id → `Frame` → the tail, slices, sockets.

use std::sync::OnceLock;

use bytes::Bytes;
use tidings_core::wire::sse::encode;
use tidings_core::{ChannelName, EventId, Key, Seq};

use crate::log::{Append, Flags, Record};

/// One event, ready to be sent.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) seq: Seq,
    pub(crate) channel: ChannelName,
    pub(crate) key: Option<Key>,
    pub(crate) expires_at_ms: Option<u64>,
    pub(crate) flags: Flags,
    id: EventId,
    plain: Bytes,
    envelope: OnceLock<Bytes>,
}

/// How a connection wants its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Fields of SSE.
    Plain,
    /// `?envelope=json`: one JSON object as data, for plain `EventSource` with many channels.
    Envelope,
}

impl Frame {
    pub(crate) fn new(record: &Record, id: EventId) -> Self {
        Self {
            seq: record.seq,
            channel: record.channel.clone(),
            key: record.key.clone(),
            expires_at_ms: record.expires_at_ms,
            flags: record.flags,
            id,
            plain: Bytes::from(encode::frame(&record.body, id)),
            envelope: OnceLock::new(),
        }
    }

    /// The frame of an event that was just appended.
    pub(crate) fn appended(event: &Append, seq: Seq, id: EventId) -> Self {
        Self {
            seq,
            channel: event.channel.clone(),
            key: event.key.clone(),
            expires_at_ms: event.expires_at_ms,
            flags: event.flags,
            id,
            plain: Bytes::from(encode::frame(&event.body, id)),
            envelope: OnceLock::new(),
        }
    }

    /// The bytes in an encoding. Job events stay as they are in both.
    pub(crate) fn bytes(&self, encoding: Encoding) -> &Bytes {
        match encoding {
            Encoding::Envelope if !self.channel.is_job() => {
                self.envelope.get_or_init(|| envelope(&self.plain, self.flags.is_text, self.id))
            }
            Encoding::Plain | Encoding::Envelope => &self.plain,
        }
    }

    /// Whether it is not past its time.
    pub(crate) fn is_live(&self, unix_ms: u64) -> bool {
        self.expires_at_ms.is_none_or(|at| at > unix_ms)
    }
}

/// The fields of a frame's body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields<'a> {
    pub(crate) event: &'a str,
    pub(crate) channel: &'a str,
    /// The user who published it, if the server knows.
    pub(crate) from: Option<&'a str>,
    pub(crate) time_ms: u64,
    pub(crate) data: String,
}

/// Reads a body back. It is our own encoding, so every line has the form `name: value`.
pub(crate) fn fields(body: &[u8]) -> Fields<'_> {
    let mut fields = Fields { event: "message", ..Fields::default() };
    let mut lines = 0;
    for line in std::str::from_utf8(body).unwrap_or_default().split('\n') {
        match line.split_once(": ") {
            Some(("event", value)) => fields.event = value,
            Some(("channel", value)) => fields.channel = value,
            Some(("from", value)) => fields.from = Some(value),
            Some(("time", value)) => fields.time_ms = value.parse().unwrap_or(0),
            Some(("data", value)) => {
                if lines > 0 {
                    fields.data.push('\n');
                }
                fields.data.push_str(value);
                lines += 1;
            }
            _ => {}
        }
    }
    fields
}

/// An event as JSON, as history and the envelope show it. An ephemeral one has no id.
pub(crate) fn event_json(body: &[u8], is_text: bool, id: Option<EventId>) -> String {
    let fields = fields(body);
    // Escaping a string cannot fail; JSON data was checked when it was published.
    let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
    let (data, mark) =
        if is_text { (quoted(&fields.data), r#","is_text":true"#) } else { (fields.data.clone(), "") };
    let (channel, event) = (quoted(fields.channel), quoted(fields.event));
    let from = fields.from.map_or_else(String::new, |from| format!("\"from\":{},", quoted(from)));
    let time = fields.time_ms;
    let id = id.map_or_else(|| "null".to_owned(), |id| format!("\"{id}\""));
    format!(r#"{{"channel":{channel},{from}"event":{event},"time":{time},"id":{id},"data":{data}{mark}}}"#)
}

fn envelope(plain: &[u8], is_text: bool, id: EventId) -> Bytes {
    let mut out = Vec::with_capacity(plain.len() + 64);
    encode::data(&mut out, &event_json(plain, is_text, Some(id)));
    encode::id_line(&mut out, id);
    Bytes::from(out)
}

/// A frame for the tests of those who carry frames.
#[cfg(test)]
pub(crate) fn test_frame(seq: u64, channel: &str) -> std::sync::Arc<Frame> {
    let record = Record {
        seq: Seq(seq),
        prev: Seq(seq - 1),
        channel: ChannelName::parse(channel).unwrap(),
        body: format!("channel: {channel}\ntime: 1\ndata: {seq}\n").into(),
        private: None,
        key: None,
        time_ms: 1,
        expires_at_ms: None,
        flags: Flags::default(),
    };
    let epoch = tidings_core::Epoch::parse("e").unwrap();
    std::sync::Arc::new(Frame::new(&record, EventId::new(epoch, Seq(seq))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_core::{Epoch, EventName, Payload};

    fn record(payload: &Payload) -> Record {
        let channel = ChannelName::parse("a\u{7e}b").unwrap();
        let body = encode::body(&EventName::parse("e").unwrap(), &channel, 5, payload);
        Record {
            seq: Seq(9),
            prev: Seq::ZERO,
            channel,
            body: body.into(),
            private: None,
            key: None,
            time_ms: 5,
            expires_at_ms: None,
            flags: Flags { is_text: !payload.is_json(), ..Flags::default() },
        }
    }

    #[test]
    fn the_envelope_wraps_an_event_and_keeps_its_id_last() {
        let id = EventId::new(Epoch::parse("k").unwrap(), Seq(9));
        let json = Frame::new(&record(&Payload::json("{\"x\": 1}").unwrap()), id);
        assert_eq!(
            json.bytes(Encoding::Envelope),
            "data: {\"channel\":\"a~b\",\"event\":\"e\",\"time\":5,\"id\":\"k-9\",\"data\":{\"x\": 1}}\nid: k-9\n\n"
        );
        let text = Frame::new(&record(&Payload::text("a: b\nid: \"7\"").unwrap()), id);
        assert_eq!(
            text.bytes(Encoding::Envelope),
            "data: {\"channel\":\"a~b\",\"event\":\"e\",\"time\":5,\"id\":\"k-9\",\"data\":\"a: b\\nid: \\\"7\\\"\",\"is_text\":true}\nid: k-9\n\n"
        );
    }
}
