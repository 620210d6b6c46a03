//! Frames: an event's bytes on a stream, made once and shared by every connection.
//!
//! Owns: the order and spelling of fields. Does not know: connections.
//! Flow: `body` before the commit · `id_line` once the sequence is known, as the last field, so that a client which
//! is cut in mid-event has not yet taken the id.

use alloc::vec::Vec;

use crate::grant::Subject;
use crate::id::EventId;
use crate::{ChannelName, EventName, Payload};

/// A comment that keeps a quiet connection open through proxies.
pub const KEEPALIVE: &[u8] = b":\n\n";

/// An event's frame without its last line: `event`, `channel`, `time` and `data`.
///
/// ```
/// use tidings_core::{ChannelName, EventName, Payload, wire::sse::encode};
/// let channel = ChannelName::parse("orders").unwrap();
/// let event = EventName::parse("status-update").unwrap();
/// let body = encode::body(&event, &channel, 1_795_305_600_123, &Payload::json("7").unwrap());
/// assert_eq!(body, b"event: status-update\nchannel: orders\ntime: 1795305600123\ndata: 7\n");
/// ```
#[must_use]
pub fn body(event: &EventName, channel: &ChannelName, time_ms: u64, payload: &Payload) -> Vec<u8> {
    body_from(event, channel, None, time_ms, payload)
}

/// The same, with `from` behind `channel`: the user who published it, as the server knows.
#[must_use]
pub fn body_from(
    event: &EventName,
    channel: &ChannelName,
    from: Option<&Subject>,
    time_ms: u64,
    payload: &Payload,
) -> Vec<u8> {
    let mut out =
        Vec::with_capacity(64 + event.as_str().len() + channel.as_str().len() + payload.as_str().len());
    if !event.is_message() {
        field(&mut out, "event", event.as_str());
    }
    field(&mut out, "channel", channel.as_str());
    if let Some(from) = from {
        field(&mut out, "from", from.as_str());
    }
    out.extend_from_slice(b"time: ");
    decimal(&mut out, time_ms);
    out.push(b'\n');
    data(&mut out, payload.as_str());
    out
}

/// The last line of a frame and the blank line behind it.
pub fn id_line(out: &mut Vec<u8>, id: EventId) {
    out.extend_from_slice(b"id: ");
    self::id(out, id);
    out.extend_from_slice(b"\n\n");
}

/// An id, as on its line and wherever else it is told.
pub fn id(out: &mut Vec<u8>, id: EventId) {
    out.extend_from_slice(id.epoch.as_str().as_bytes());
    out.push(b'-');
    decimal(out, id.seq.0);
    if id.stopped {
        out.extend_from_slice(b"~s");
    }
}

/// A whole frame: a body and its id.
#[must_use]
pub fn frame(body: &[u8], id: EventId) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 48);
    out.extend_from_slice(body);
    id_line(&mut out, id);
    out
}

/// A control event (`tidings.…`), which has no channel and no time.
pub fn control(out: &mut Vec<u8>, event: &str, json: &str, id: Option<EventId>) {
    field(out, "event", event);
    data(out, json);
    match id {
        Some(id) => id_line(out, id),
        None => out.push(b'\n'),
    }
}

/// `data:` lines; text has one for each of its lines.
pub fn data(out: &mut Vec<u8>, text: &str) {
    for line in text.split('\n') {
        field(out, "data", line);
    }
}

fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let start = out.len();
    loop {
        // The remainder of a division by ten is one digit.
        out.push(b'0' + u8::try_from(number % 10).unwrap_or(0));
        number /= 10;
        if number == 0 {
            break;
        }
    }
    if let Some(digits) = out.get_mut(start..) {
        digits.reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Epoch, Seq};

    #[test]
    fn the_id_is_the_last_field_and_message_is_left_out() {
        let channel = ChannelName::parse("c").unwrap();
        let body = body(&EventName::message(), &channel, 0, &Payload::text("a\rb\n").unwrap());
        let frame = frame(&body, EventId::new(Epoch::parse("k3").unwrap(), Seq(1234567890)));
        assert_eq!(frame, b"channel: c\ntime: 0\ndata: a\ndata: b\ndata: \nid: k3-1234567890\n\n");
    }

    #[test]
    fn a_control_event_carries_data() {
        let mut out = Vec::new();
        control(&mut out, "tidings.cursor", "{}", None);
        assert_eq!(out, b"event: tidings.cursor\ndata: {}\n\n");
    }
}
