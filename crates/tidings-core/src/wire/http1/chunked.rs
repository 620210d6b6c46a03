//! A body in chunks.
//!
//! Owns: where it ends, and what its lines may be. Does not know: what it holds.
//! Flow: bytes as they arrive → how many of them belong to it, and whether it is over.

/// How far a body in chunks was read.
#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    /// Bytes of the present line that are neither size nor data.
    line: usize,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Size {
        digits: u8,
        value: u64,
    },
    Extension(u64),
    SizeEnd(u64),
    Data(u64),
    DataEnd,
    DataEndLf,
    /// Within the trailer section; `empty` is the present line.
    Trailer {
        empty: bool,
    },
    TrailerLf {
        empty: bool,
    },
}

impl Default for Chunked {
    fn default() -> Self {
        Self { state: State::Size { digits: 0, value: 0 }, line: 0 }
    }
}

/// What an extension, or all trailer fields together, may have: nobody uses either.
const LINE_BYTES_MAX: usize = 1_024;

impl Chunked {
    /// Reads on: how many bytes are the body's, and whether it ends with them.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<(usize, bool), &'static str> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if let State::Data(left) = self.state {
                let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                at += here;
                let left = left - here as u64;
                self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                continue;
            }
            at += 1;
            if self.byte(byte)? {
                return Ok((at, true));
            }
        }
        Ok((at, false))
    }

    /// One byte that is not data; `true` if it was the last one.
    fn byte(&mut self, byte: u8) -> Result<bool, &'static str> {
        self.state = match (self.state, byte) {
            (State::Size { digits, value }, b) if b.is_ascii_hexdigit() => {
                if digits >= 15 {
                    return Err("a chunk is too large");
                }
                let digit = char::from(b).to_digit(16).unwrap_or(0);
                State::Size { digits: digits + 1, value: value * 16 + u64::from(digit) }
            }
            (State::Size { digits: 1.., value }, b'\r') => State::SizeEnd(value),
            (State::Size { digits: 1.., value }, b';') => {
                self.line = 0;
                State::Extension(value)
            }
            (State::Size { .. }, _) => return Err("the size of a chunk is not a hexadecimal number"),
            (State::Extension(value), b'\r') => State::SizeEnd(value),
            (State::Extension(_), b) => {
                self.counted(b)?;
                self.state
            }
            (State::SizeEnd(0), b'\n') => {
                self.line = 0;
                State::Trailer { empty: true }
            }
            (State::SizeEnd(size), b'\n') => State::Data(size),
            (State::DataEnd, b'\r') => State::DataEndLf,
            (State::DataEndLf, b'\n') => State::Size { digits: 0, value: 0 },
            (State::DataEnd | State::DataEndLf | State::Data(_), _) => {
                return Err("a chunk is longer than its size");
            }
            (State::Trailer { empty }, b'\r') => State::TrailerLf { empty },
            (State::Trailer { empty: true }, b' ' | b'\t') => {
                return Err("a trailer field goes on in a second line");
            }
            (State::Trailer { .. }, b) => {
                self.counted(b)?;
                State::Trailer { empty: false }
            }
            (State::TrailerLf { empty: true }, b'\n') => return Ok(true),
            (State::TrailerLf { empty: false }, b'\n') => State::Trailer { empty: true },
            (State::SizeEnd(_) | State::TrailerLf { .. }, _) => return Err("a CR is not followed by LF"),
        };
        Ok(false)
    }

    fn counted(&mut self, byte: u8) -> Result<(), &'static str> {
        if (byte < b' ' && byte != b'\t') || byte == 0x7f {
            return Err("a line of the body's chunks has a control character");
        }
        self.line += 1;
        if self.line > LINE_BYTES_MAX { Err("the lines of the body's chunks are too long") } else { Ok(()) }
    }
}
