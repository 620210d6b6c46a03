//! One subscriber's bytes: the answer's head, then frames.
//!
//! Owns: where a frame ends and that it is whole. Does not know: sockets, which events are due.
//! Flow: in ← pieces of a response · out → what was seen. It is as cheap as it can be, because one core reads for all;
//! the client's parser would do more than is measured here.

use anyhow::{Context, Result, bail, ensure};
use memchr::{memchr, memmem};

use crate::payload;

/// What stands in a response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen<'a> {
    /// The head, with its status.
    Head(u16),
    /// The first event of a stream.
    Hello,
    /// History is gone.
    Reset,
    /// A published event; its `id` is empty if it has none.
    Event { n: u64, t: u64, id: &'a [u8] },
}

/// The state between two reads.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    head_done: bool,
    carry: Vec<u8>,
}

impl Reader {
    /// Takes a piece and tells what is complete.
    pub(crate) fn handle_bytes(&mut self, bytes: &[u8], on: &mut impl FnMut(Seen<'_>)) -> Result<()> {
        if self.carry.is_empty() {
            let rest = self.take(bytes, on)?;
            self.carry.extend_from_slice(rest);
            return Ok(());
        }
        let mut carry = std::mem::take(&mut self.carry);
        carry.extend_from_slice(bytes);
        let rest = self.take(&carry, on)?.len();
        carry.drain(..carry.len() - rest);
        if carry.is_empty() {
            // Ten thousand idle buffers would be the generator's memory, not the server's.
            carry = Vec::new();
        }
        self.carry = carry;
        Ok(())
    }

    /// Whether the last piece ended with a whole frame.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.carry.is_empty()
    }

    fn take<'a>(&mut self, mut bytes: &'a [u8], on: &mut impl FnMut(Seen<'_>)) -> Result<&'a [u8]> {
        if !self.head_done {
            let Some(end) = memmem::find(bytes, b"\r\n\r\n") else { return Ok(bytes) };
            let (head, rest) = bytes.split_at(end + 4);
            on(Seen::Head(status(head)?));
            self.head_done = true;
            bytes = rest;
        }
        while let Some(end) = memmem::find(bytes, b"\n\n") {
            let (block, rest) = bytes.split_at(end + 2);
            if let Some(seen) = read_block(block)? {
                on(seen);
            }
            bytes = rest;
        }
        Ok(bytes)
    }
}

/// The status in a response head.
pub(crate) fn status(head: &[u8]) -> Result<u16> {
    let digits = head.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| digits.parse().ok()).context("not an HTTP/1.1 answer")
}

/// Reads the lines of one block, the blank one included.
fn read_block(mut block: &[u8]) -> Result<Option<Seen<'_>>> {
    let (mut event, mut data, mut id) = (&b""[..], None, &b""[..]);
    while let Some(end) = memchr(b'\n', block) {
        let (line, rest) = block.split_at(end);
        block = rest.get(1..).unwrap_or_default();
        if let Some(value) = line.strip_prefix(b"data: ") {
            // Two would mean that the blank line between two events is missing.
            ensure!(data.replace(value).is_none(), "a block with two data lines");
        } else if let Some(value) = line.strip_prefix(b"event: ") {
            event = value;
        } else if let Some(value) = line.strip_prefix(b"id: ") {
            id = value;
        }
    }
    let Some(data) = data else { return Ok(None) };
    match event {
        b"tidings.hello" => Ok(Some(Seen::Hello)),
        b"tidings.reset" => Ok(Some(Seen::Reset)),
        _ if event.starts_with(b"tidings.") => Ok(None),
        _ => match payload::read(data) {
            Some((n, t)) => Ok(Some(Seen::Event { n, t, id })),
            None => bail!("an event of nobody here: {:?}", String::from_utf8_lossy(data)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "HTTP/1.1 200 OK\r\na: b\r\n\r\n: connected\nretry: 2000\n\nevent: tidings.hello\ndata: {}\nid: k-1\n\n\
        channel: c\ntime: 1\ndata: {\"n\":1,\"t\":5,\"p\":\"x\"}\nid: k-2\n\n:\n\ndata: {\"n\":2,\"t\":6,\"p\":\"\"}\n\n";

    fn read(pieces: &[&[u8]]) -> Vec<String> {
        let (mut reader, mut seen) = (Reader::default(), Vec::new());
        for piece in pieces {
            reader.handle_bytes(piece, &mut |item| seen.push(format!("{item:?}"))).unwrap();
        }
        assert!(reader.is_between_frames());
        seen
    }

    #[test]
    fn any_cut_gives_the_same() {
        let expected =
            ["Head(200)", "Hello", "Event { n: 1, t: 5, id: [107, 45, 50] }", "Event { n: 2, t: 6, id: [] }"];
        for cut in 0..=BODY.len() {
            let (a, b) = BODY.as_bytes().split_at(cut);
            assert_eq!(read(&[a, b]), expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_missing_blank_line_and_foreign_data_are_errors() {
        for bad in
            ["data: {\"n\":1,\"t\":5,\"p\":\"\"}\ndata: {\"n\":2,\"t\":5,\"p\":\"\"}\n\n", "data: 1\n\n"]
        {
            let mut reader = Reader { head_done: true, ..Reader::default() };
            assert!(reader.handle_bytes(bad.as_bytes(), &mut |_| {}).is_err(), "{bad:?}");
        }
    }
}
