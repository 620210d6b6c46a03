//! From bytes to events.
//!
//! Owns: the bound of an event, and which events have an id. Does not know: the syntax of streams, what events mean.
//! Flow: in ← chunks of a body · out → events and `retry:`.

use std::time::Duration;

use bytes::{Buf, Bytes};
use tidings_core::limits::DATA_BYTES_MAX;
use tidings_core::wire::sse::parse::{Item as Parsed, ParseError, Parser};

use crate::item::Event;

/// What one event of a stream may hold: twice the largest data, since an envelope escapes it.
const EVENT_BYTES_MAX: usize = 2 * DATA_BYTES_MAX;

/// What a stream says.
#[derive(Debug)]
pub(crate) enum Frame {
    /// An event, and the stream's position behind it.
    Event {
        event: Event,
        position: Option<String>,
    },
    Retry(Duration),
}

/// The frames of one response. Holds at most one chunk of the body and one unfinished event.
#[derive(Debug)]
pub(crate) struct Frames {
    parser: Parser,
    chunk: Bytes,
}

impl Frames {
    pub(crate) fn new() -> Self {
        Self { parser: Parser::new("", EVENT_BYTES_MAX), chunk: Bytes::new() }
    }

    /// Takes the next piece of the body; the one before was read to its end.
    pub(crate) fn handle_bytes(&mut self, chunk: Bytes) {
        debug_assert!(self.chunk.is_empty(), "poll returns None before the next chunk");
        self.chunk = chunk;
    }

    /// The next frame; `None` when another chunk is needed.
    pub(crate) fn poll(&mut self) -> Result<Option<Frame>, ParseError> {
        let before = self.parser.last_event_id().to_owned();
        let mut rest: &[u8] = &self.chunk;
        let parsed = self.parser.next(&mut rest)?;
        let taken = self.chunk.len() - rest.len();
        self.chunk.advance(taken);
        Ok(parsed.map(|parsed| match parsed {
            Parsed::Retry(ms) => Frame::Retry(Duration::from_millis(ms)),
            Parsed::Event(event) => {
                let position = Some(event.last_event_id).filter(|id| !id.is_empty());
                // An id stays for the events behind it. On one stream ids only grow, so one that did not change was
                // not given: the event is ephemeral.
                let id = position.clone().filter(|id| *id != before);
                let (channel, time_ms) = (event.channel.unwrap_or_default(), event.time_ms.unwrap_or(0));
                let event = Event { event: event.event, channel, time_ms, id, data: event.data };
                Frame::Event { event, position }
            }
        }))
    }
}
