//! Connections that are kept alive, for requests of any kind.
//!
//! Owns: one request at a time on each of them, and how long it took. Does not know: what is asked for and when.
//! Flow: in ← a request · out → an answer.
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
use crate::reader::status;

/// Answers that are taken at once.
const ANSWERS_MAX: usize = 64;
/// How long an answer may take: longer than a lease waits.
const PATIENCE_US: u64 = 60_000_000;

/// How a body is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One thing.
    Json,
    /// A batch.
    Ndjson,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    is_connected: bool,
    out: Vec<u8>,
    answer: Vec<u8>,
    since: Option<u64>,
}

/// An answer that came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) connection: usize,
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    /// From request to answer.
    pub(crate) took_us: u64,
}

/// The connections of one process.
#[derive(Debug)]
pub(crate) struct Calls {
    poll: Poll,
    target: Target,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
}

impl Calls {
    /// Begins to connect `count` of them from 127.`network`.0.0.
    pub(crate) fn new(target: Target, network: u8, count: usize) -> Result<Self> {
        let poll = Poll::new()?;
        let mut connections = Vec::with_capacity(count);
        for index in 0..count {
            let mut stream = target.connect(network, index)?;
            poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
            connections.push(Connection {
                stream,
                is_connected: false,
                out: Vec::new(),
                answer: Vec::new(),
                since: None,
            });
        }
        Ok(Self { poll, target, connections, buffer: vec![0; 64 * 1024] })
    }

    pub(crate) fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether a connection has no request under way.
    pub(crate) fn is_free(&self, index: usize) -> bool {
        self.connections.get(index).is_some_and(|connection| connection.since.is_none())
    }

    /// Sends a body on a connection that is free.
    pub(crate) fn post(&mut self, index: usize, path: &str, kind: Kind, body: &[u8]) -> Result<()> {
        let kind = match kind {
            Kind::Json => "application/json",
            Kind::Ndjson => "application/x-ndjson",
        };
        self.send(index, "POST", path, &format!("Content-Type: {kind}\r\n"), body)
    }

    /// The same with any method and more lines for the head.
    pub(crate) fn send(
        &mut self,
        index: usize,
        method: &str,
        path: &str,
        lines: &str,
        body: &[u8],
    ) -> Result<()> {
        let host = &self.target.host;
        let Some(connection) = self.connections.get_mut(index) else { bail!("no connection {index}") };
        ensure!(connection.since.is_none(), "connection {index} waits for an answer");
        connection.since = Some(clock::micros());
        write!(
            connection.out,
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{lines}Content-Length: {}\r\n\r\n",
            body.len()
        )?;
        connection.out.extend_from_slice(body);
        connection.flush()
    }

    /// What wakes a poll of others when an answer came.
    pub(crate) fn fd(&self) -> RawFd {
        self.poll.as_raw_fd()
    }

    /// The answers that came by now, or the first ones to come within `timeout`.
    pub(crate) fn answers(&mut self, timeout: Duration) -> Result<Vec<Answer>> {
        let mut events = Events::with_capacity(ANSWERS_MAX);
        let (mut answers, mut timeout) = (Vec::new(), timeout);
        loop {
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(answers),
                result => result?,
            }
            for event in &events {
                answers.extend(self.handle(event)?);
            }
            // What is left would not wake anybody again.
            if events.iter().count() < ANSWERS_MAX {
                return Ok(answers);
            }
            timeout = Duration::ZERO;
        }
    }

    /// The next answer on a connection that nobody else looks at.
    pub(crate) fn answer(&mut self) -> Result<Answer> {
        let deadline = clock::micros() + PATIENCE_US;
        loop {
            if let Some(answer) = self.answers(Duration::from_millis(100))?.pop() {
                return Ok(answer);
            }
            ensure!(clock::micros() < deadline, "no answer");
        }
    }

    fn handle(&mut self, event: &Event) -> Result<Option<Answer>> {
        let index = event.token().0;
        let Some(connection) = self.connections.get_mut(index) else { return Ok(None) };
        if event.is_writable() {
            if !connection.is_connected
                && let Some(error) = connection.stream.take_error()?
            {
                return Err(error).context("connecting");
            }
            connection.is_connected = true;
            connection.flush()?;
        }
        if !event.is_readable() && !event.is_read_closed() {
            return Ok(None);
        }
        connection.receive(&mut self.buffer)?;
        let Some((status, body)) = connection.take_answer()? else { return Ok(None) };
        let since = connection.since.take().context("an answer to nothing")?;
        let took_us = clock::micros().saturating_sub(since);
        Ok(Some(Answer { connection: index, status, body, took_us }))
    }
}

impl Answer {
    /// Refuses an answer that is no success.
    pub(crate) fn success(self) -> Result<Self> {
        let body = String::from_utf8_lossy(&self.body);
        ensure!((200..300).contains(&self.status), "status {}: {body}", self.status);
        Ok(self)
    }
}

impl Connection {
    fn flush(&mut self) -> Result<()> {
        while self.is_connected && !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(sent) => drop(self.out.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("sending a request"),
            }
        }
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<()> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(read) => self.answer.extend_from_slice(buffer.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("an answer"),
            }
        }
    }

    /// The status and body of a complete answer.
    fn take_answer(&mut self) -> Result<Option<(u16, Vec<u8>)>> {
        let Some(end) = memmem::find(&self.answer, b"\r\n\r\n") else { return Ok(None) };
        let (head, body) = self.answer.split_at(end + 4);
        let status = status(head)?;
        let length = if status == 204 {
            0
        } else {
            let text = String::from_utf8_lossy(head).to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
            length.context("an answer without content-length")?.trim().parse()?
        };
        let Some(body) = body.get(..length) else { return Ok(None) };
        let body = body.to_vec();
        self.answer.clear();
        Ok(Some((status, body)))
    }
}
