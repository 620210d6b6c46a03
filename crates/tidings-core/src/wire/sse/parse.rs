//! The reader of a stream: bytes in any pieces → events, as WHATWG HTML §9.2.6 has it.
//!
//! Owns: lines, fields, blocks, and when an id is taken. Does not know: sockets, reconnecting, what an id means.
//! Flow: a chunk → `Parser::next` until it returns `None` → the next chunk. At the end of the stream the parser is dropped,
//! and with it an unfinished block and its id.

use alloc::string::String;
use alloc::vec::Vec;
use core::mem;

/// What a stream said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// An event.
    Event(Event),
    /// The time to wait before reconnecting, in milliseconds. Clamp it: a server may say anything.
    Retry(u64),
}

/// One event as a listener gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its type, `message` if none was named.
    pub event: String,
    /// Its data, lines separated by LF.
    pub data: String,
    /// The last event id after this event; empty if there never was one.
    pub last_event_id: String,
    /// Its channel, if this server sent one.
    pub channel: Option<String>,
    /// Its time in Unix milliseconds, if this server sent one.
    pub time_ms: Option<u64>,
}

/// Why reading a stream has to end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// A line or an event is larger than the reader allows.
    #[error("an event on the stream is larger than {max} bytes")]
    TooLarge {
        /// What the reader allows.
        max: usize,
    },
}

/// An incremental reader of one response.
///
/// ```
/// use tidings_core::wire::sse::parse::{Item, Parser};
/// let mut parser = Parser::new("", 1024);
/// let mut input: &[u8] = b"data: he";
/// assert_eq!(parser.next(&mut input)?, None);
/// let mut input: &[u8] = b"llo\nid: a-1\n\n";
/// let Some(Item::Event(event)) = parser.next(&mut input)? else { panic!("an event is complete") };
/// assert_eq!((&*event.data, &*event.last_event_id), ("hello", "a-1"));
/// # Ok::<(), tidings_core::wire::sse::parse::ParseError>(())
/// ```
#[derive(Debug)]
pub struct Parser {
    event_bytes_max: usize,
    too_large: bool,
    /// Only the first line may start with a byte order mark.
    first_line: bool,
    /// The last byte was a CR: an LF right behind it belongs to it, also in the next chunk.
    after_cr: bool,
    line: Vec<u8>,
    data: String,
    event: String,
    channel: Option<String>,
    time_ms: Option<u64>,
    /// What `id` lines said; it counts only once a block is complete.
    id: String,
    last_event_id: String,
}

impl Parser {
    /// A reader for a response to a request that sent `last_event_id` (empty if it sent none).
    #[must_use]
    pub fn new(last_event_id: &str, event_bytes_max: usize) -> Self {
        Self {
            event_bytes_max,
            too_large: false,
            first_line: true,
            after_cr: false,
            line: Vec::new(),
            data: String::new(),
            event: String::new(),
            channel: None,
            time_ms: None,
            id: last_event_id.into(),
            last_event_id: last_event_id.into(),
        }
    }

    /// Takes bytes off the front of `input` until something was said; `None` when all of it is taken.
    ///
    /// # Errors
    /// [`ParseError::TooLarge`], from then on always.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Item>, ParseError> {
        while let Some((&first, rest)) = input.split_first() {
            if mem::take(&mut self.after_cr) && first == b'\n' {
                *input = rest;
                continue;
            }
            let Some(end) = input.iter().position(|b| matches!(b, b'\r' | b'\n')) else {
                self.hold(mem::take(input))?;
                return Ok(None);
            };
            let (line, rest) = input.split_at(end);
            self.hold(line)?;
            self.after_cr = rest.first() == Some(&b'\r');
            *input = rest.get(1..).unwrap_or_default();
            if let Some(item) = self.end_line() {
                return Ok(Some(item));
            }
        }
        Ok(None)
    }

    /// The id that a reconnect has to send; it moves only with complete blocks.
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// Keeps a piece of a line. Comments are not kept, so that no length of comment is too large.
    fn hold(&mut self, piece: &[u8]) -> Result<(), ParseError> {
        let is_comment = self.line.first().or(piece.first()) == Some(&b':');
        if !is_comment {
            self.too_large |= self.line.len() + piece.len() + self.data.len() > self.event_bytes_max;
        }
        if self.too_large {
            return Err(ParseError::TooLarge { max: self.event_bytes_max });
        }
        let kept = if is_comment { piece.get(..1).unwrap_or_default() } else { piece };
        if !is_comment || self.line.is_empty() {
            self.line.extend_from_slice(kept);
        }
        Ok(())
    }

    fn end_line(&mut self) -> Option<Item> {
        let line = mem::take(&mut self.line);
        let mut rest = line.as_slice();
        if mem::take(&mut self.first_line) {
            rest = rest.strip_prefix(b"\xef\xbb\xbf").unwrap_or(rest);
        }
        let item = if rest.is_empty() {
            self.dispatch().map(Item::Event)
        } else {
            // Line ends are ASCII, so decoding by the line gives what decoding the stream would.
            self.field(&String::from_utf8_lossy(rest)).map(Item::Retry)
        };
        self.line = line;
        self.line.clear();
        item
    }

    /// Takes one field; returns what `retry` says, which counts at once.
    fn field(&mut self, line: &str) -> Option<u64> {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        let digits = || !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
        match name {
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "event" => self.event = value.into(),
            "id" if !value.contains('\0') => self.id = value.into(),
            "retry" if digits() => return Some(value.parse().unwrap_or(u64::MAX)),
            "channel" => self.channel = Some(value.into()),
            "time" if digits() => self.time_ms = value.parse().ok(),
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Event> {
        // The id counts even when there is no data, and is not reset.
        self.last_event_id.clone_from(&self.id);
        let mut data = mem::take(&mut self.data);
        let mut event = mem::take(&mut self.event);
        let (channel, time_ms) = (self.channel.take(), self.time_ms.take());
        // Every data line ends in LF, the last one's is not part of the data; no LF means no data line.
        data.pop()?;
        if event.is_empty() {
            event.push_str("message");
        }
        Some(Event { event, data, last_event_id: self.last_event_id.clone(), channel, time_ms })
    }
}

#[cfg(test)]
mod tests;
