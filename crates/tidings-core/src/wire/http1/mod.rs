//! The door of HTTP/1: requests as they come off a connection, in one reading that every proxy shares (RFC 9112).
//!
//! Owns: where a request's head and body end, and what is refused because somebody else could read it otherwise.
//! Does not know: sockets, time, what is asked for, the answer.
//! Flow: bytes as they arrive → whole heads and bodies that pass, or an `Offence`. An incomplete head waits here.

mod head;

mod chunked;

#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;

use super::problem::Code;
use chunked::Chunked;
use head::Scan;

/// How large a request's head may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The head as a whole, in bytes.
    pub head_bytes: usize,
    /// The target, in bytes.
    pub target_bytes: usize,
    /// Header fields.
    pub fields: usize,
}

impl Default for Bounds {
    /// 16 KiB, 8 KiB and 64: what proxies allow by default, and more than browsers send.
    fn default() -> Self {
        use crate::limits::{HEAD_BYTES_MAX, HEAD_FIELDS_MAX, TARGET_BYTES_MAX};
        Self { head_bytes: HEAD_BYTES_MAX, target_bytes: TARGET_BYTES_MAX, fields: HEAD_FIELDS_MAX }
    }
}

/// Why a request is refused before anybody reads it. The connection is of no use any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offence {
    /// The stable code.
    pub code: Code,
    /// What is wrong with it.
    pub detail: &'static str,
    /// The `Origin` that the head has, if it has one that is text.
    pub origin: Option<String>,
    /// It was found within a body, whose head has passed.
    pub within_body: bool,
}

/// What of the bytes that were read may be passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// So many of them; what lies behind is kept, or refused. If something waits here, that comes first.
    pub passes: usize,
    /// What was found behind them.
    pub offence: Option<Offence>,
}

/// The requests of one connection.
///
/// ```
/// use tidings_core::wire::http1::{Bounds, Requests};
/// let mut requests = Requests::new(Bounds::default());
/// assert_eq!(requests.read(b"GET / HTTP/1.1\r\nHo").passes, 0, "an incomplete head waits");
/// requests.read(b"st: a\r\n\r\n");
/// assert_eq!(requests.waiting(), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
/// requests.taken(requests.waiting().len());
/// let twice = requests.read(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
/// assert_eq!(twice.offence.unwrap().code.as_str(), "host_invalid");
/// ```
#[derive(Debug)]
pub struct Requests {
    bounds: Bounds,
    state: State,
    /// An incomplete head, or bytes behind one that was: the first `ready` of them wait to be taken.
    held: Vec<u8>,
    ready: usize,
}

#[derive(Debug)]
enum State {
    Head(Scan),
    Length(u64),
    Chunked(Chunked),
    /// Something was refused: nothing passes any more.
    Closed,
}

/// What comes behind a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    None,
    Length(u64),
    Chunked,
}

/// What a part of the input came to.
enum Step {
    /// So many bytes are used, and the state says what comes next.
    Used(usize),
    /// The head is not complete.
    Incomplete,
    Offence(Offence),
}

impl Requests {
    /// A connection on which nothing came yet.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, state: State::Head(Scan::default()), held: Vec::new(), ready: 0 }
    }

    /// Reads what arrived. Nothing is copied unless it ends within a head.
    pub fn read(&mut self, bytes: &[u8]) -> Read {
        if self.held.is_empty() {
            let (passes, offence) = self.advance(bytes);
            if offence.is_none() {
                self.held.extend_from_slice(bytes.get(passes..).unwrap_or_default());
            }
            return Read { passes, offence };
        }
        let mut held = core::mem::take(&mut self.held);
        held.extend_from_slice(bytes);
        let (more, offence) = self.advance(held.get(self.ready..).unwrap_or_default());
        self.ready += more;
        if offence.is_some() {
            held.truncate(self.ready);
        }
        self.held = held;
        Read { passes: 0, offence }
    }

    /// What waits to be passed on before anything else is read.
    #[must_use]
    pub fn waiting(&self) -> &[u8] {
        self.held.get(..self.ready).unwrap_or_default()
    }

    /// So much of what waited was passed on.
    pub fn taken(&mut self, count: usize) {
        let count = count.min(self.ready);
        self.ready -= count;
        self.held.drain(..count);
        if self.held.is_empty() {
            // The next head will likely come in one piece.
            self.held = Vec::new();
        }
    }

    /// Whether a head has begun and is not complete.
    #[must_use]
    pub fn is_within_head(&self) -> bool {
        self.held.len() > self.ready
    }

    /// How much of the input is whole, and what is wrong behind it.
    fn advance(&mut self, bytes: &[u8]) -> (usize, Option<Offence>) {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match self.step(rest) {
                Step::Used(count) => at += count,
                Step::Incomplete => break,
                Step::Offence(offence) => {
                    self.state = State::Closed;
                    return (at, Some(offence));
                }
            }
        }
        (at, None)
    }

    fn step(&mut self, rest: &[u8]) -> Step {
        match &mut self.state {
            State::Closed => Step::Incomplete,
            State::Head(scan) => match scan.read(rest, &self.bounds) {
                Ok(None) => Step::Incomplete,
                Ok(Some((end, body))) => {
                    self.state = match body {
                        Body::None => State::Head(Scan::default()),
                        Body::Length(left) => State::Length(left),
                        Body::Chunked => State::Chunked(Chunked::default()),
                    };
                    Step::Used(end)
                }
                Err(offence) => Step::Offence(offence),
            },
            State::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                *left -= count as u64;
                if *left == 0 {
                    self.state = State::Head(Scan::default());
                }
                Step::Used(count)
            }
            State::Chunked(chunked) => match chunked.read(rest) {
                Ok((count, false)) => Step::Used(count),
                Ok((count, true)) => {
                    self.state = State::Head(Scan::default());
                    Step::Used(count)
                }
                Err(detail) => Step::Offence(Offence {
                    code: Code::FramingInvalid,
                    detail,
                    origin: None,
                    within_body: true,
                }),
            },
        }
    }
}
