//! Publishing connections that are kept alive.
//!
//! Owns: one request at a time on each of them, and how long it took. Does not know: what is published and when.
//! Flow: in ← a body · out → an answer.
//!
//! They have a poll of their own: in one for all, an answer would stand in the queue behind ten thousand deliveries.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use memchr::memmem;
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::clock;
use crate::connect::Target;
use crate::quantiles::Quantiles;
use crate::reader::status;

/// 127.3.0.0 is where publishers come from.
const NETWORK: u8 = 3;

/// Answers that are taken at once.
const ANSWERS_MAX: usize = 64;

/// How a body is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One event.
    Json,
    /// A batch.
    Ndjson,
}

#[derive(Debug)]
struct Publisher {
    stream: TcpStream,
    is_connected: bool,
    out: Vec<u8>,
    answer: Vec<u8>,
    since: Option<u64>,
}

/// An answer that came.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) publisher: usize,
    pub(crate) body: Vec<u8>,
}

/// The publishing connections of one process.
#[derive(Debug)]
pub(crate) struct Publishers {
    poll: Poll,
    target: Target,
    publishers: Vec<Publisher>,
    buffer: Vec<u8>,
    latencies: Vec<u64>,
}

impl Publishers {
    /// Begins to connect `count` of them.
    pub(crate) fn new(target: Target, count: usize) -> Result<Self> {
        let poll = Poll::new()?;
        let mut publishers = Vec::with_capacity(count);
        for index in 0..count {
            let mut stream = target.connect(NETWORK, index)?;
            poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
            publishers.push(Publisher {
                stream,
                is_connected: false,
                out: Vec::new(),
                answer: Vec::new(),
                since: None,
            });
        }
        Ok(Self { poll, target, publishers, buffer: vec![0; 64 * 1024], latencies: Vec::new() })
    }

    pub(crate) fn len(&self) -> usize {
        self.publishers.len()
    }

    /// Whether a publisher has no request under way.
    pub(crate) fn is_free(&self, index: usize) -> bool {
        self.publishers.get(index).is_some_and(|publisher| publisher.since.is_none())
    }

    /// Publishes `body`; the publisher is free.
    pub(crate) fn publish(&mut self, index: usize, kind: Kind, body: &[u8]) -> Result<()> {
        let host = &self.target.host;
        let Some(publisher) = self.publishers.get_mut(index) else { bail!("no publisher {index}") };
        ensure!(publisher.since.is_none(), "publisher {index} waits for an answer");
        let content_type = match kind {
            Kind::Json => "application/json",
            Kind::Ndjson => "application/x-ndjson",
        };
        publisher.since = Some(clock::micros());
        write!(
            publisher.out,
            "POST /v1/publish HTTP/1.1\r\nHost: {host}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )?;
        publisher.out.extend_from_slice(body);
        publisher.flush()
    }

    /// What wakes a poll of others when an answer came.
    pub(crate) fn fd(&self) -> RawFd {
        self.poll.as_raw_fd()
    }

    /// The answers that came by now.
    pub(crate) fn answers(&mut self) -> Result<Vec<Answered>> {
        let mut events = Events::with_capacity(ANSWERS_MAX);
        let mut answers = Vec::new();
        loop {
            self.poll.poll(&mut events, Some(Duration::ZERO))?;
            for event in &events {
                answers.extend(self.handle(event)?);
            }
            // What is left would not wake anybody again.
            if events.iter().count() < ANSWERS_MAX {
                return Ok(answers);
            }
        }
    }

    fn handle(&mut self, event: &Event) -> Result<Option<Answered>> {
        let index = event.token().0;
        let Some(publisher) = self.publishers.get_mut(index) else { return Ok(None) };
        if event.is_writable() {
            if !publisher.is_connected
                && let Some(error) = publisher.stream.take_error()?
            {
                return Err(error).context("connecting a publisher");
            }
            publisher.is_connected = true;
            publisher.flush()?;
        }
        if !event.is_readable() && !event.is_read_closed() {
            return Ok(None);
        }
        publisher.receive(&mut self.buffer)?;
        let Some(body) = publisher.take_answer()? else { return Ok(None) };
        if let Some(since) = publisher.since.take() {
            self.latencies.push(clock::micros().saturating_sub(since));
        }
        Ok(Some(Answered { publisher: index, body }))
    }

    /// From request to answer, since the last call.
    pub(crate) fn take_latencies(&mut self) -> Quantiles {
        Quantiles::of(std::mem::take(&mut self.latencies))
    }
}

impl Publisher {
    fn flush(&mut self) -> Result<()> {
        while self.is_connected && !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(sent) => drop(self.out.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("publishing"),
            }
        }
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<()> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => bail!("the server closed a publishing connection"),
                Ok(read) => self.answer.extend_from_slice(buffer.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("an answer to a publish"),
            }
        }
    }

    /// The body of a complete answer that is a success.
    fn take_answer(&mut self) -> Result<Option<Vec<u8>>> {
        let Some(end) = memmem::find(&self.answer, b"\r\n\r\n") else { return Ok(None) };
        let (head, body) = self.answer.split_at(end + 4);
        let text = String::from_utf8_lossy(head).to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.context("an answer without content-length")?.trim().parse()?;
        let Some(body) = body.get(..length) else { return Ok(None) };
        let (status, body) = (status(head)?, body.to_vec());
        ensure!((200..300).contains(&status), "publish: status {status}: {}", String::from_utf8_lossy(&body));
        self.answer.clear();
        Ok(Some(body))
    }
}
