//! Many subscribers on one thread.
//!
//! Owns: their sockets and what each expects next. Does not know: who publishes, what is measured.
//! Flow: in ← readiness · out → the tally.

use std::io::{ErrorKind, Read, Write};

use anyhow::{Context, Result, bail, ensure};
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::clock;
use crate::connect::Target;
use crate::reader::{Reader, Seen};
use crate::tally::Tally;

/// What is read at once.
const READ_BYTES: usize = 256 * 1024;

/// A subscriber to be.
#[derive(Debug)]
pub(crate) struct Spec {
    /// Its request.
    pub(crate) request: Vec<u8>,
    /// 127.`network`.x.y is where it comes from.
    pub(crate) network: u8,
    /// The index of its channel.
    pub(crate) channel: usize,
    /// The number of the first event that it is owed.
    pub(crate) first: u64,
    /// Whether "the last subscriber" may be this one.
    pub(crate) counts: bool,
}

#[derive(Debug)]
struct Subscriber {
    stream: TcpStream,
    reader: Reader,
    /// The request until it is sent.
    request: Vec<u8>,
    channel: usize,
    next: u64,
    counts: bool,
    is_paused: bool,
    is_open: bool,
}

/// The subscribers of one process.
#[derive(Debug)]
pub(crate) struct Fleet {
    target: Target,
    subscribers: Vec<Subscriber>,
    buffer: Vec<u8>,
    pub(crate) tally: Tally,
    /// Those whose stream has begun.
    pub(crate) open: usize,
}

impl Fleet {
    pub(crate) fn new(target: Target, channels: usize) -> Self {
        let tally = Tally::new(channels);
        Self { target, subscribers: Vec::new(), buffer: vec![0; READ_BYTES], tally, open: 0 }
    }

    /// Begins one more.
    pub(crate) fn add(&mut self, registry: &Registry, spec: Spec) -> Result<()> {
        let index = self.subscribers.len();
        let mut stream = self.target.connect(spec.network, index)?;
        registry.register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        if spec.counts {
            self.tally.handle_subscribed(spec.channel);
        }
        self.subscribers.push(Subscriber {
            stream,
            reader: Reader::default(),
            request: spec.request,
            channel: spec.channel,
            next: spec.first,
            counts: spec.counts,
            is_paused: false,
            is_open: false,
        });
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.subscribers.len()
    }

    /// Whether every subscriber of `range` has everything up to number `last` and stands between two frames.
    pub(crate) fn has_all(&self, range: std::ops::Range<usize>, last: u64) -> bool {
        let range = self.subscribers.get(range).unwrap_or_default();
        range.iter().all(|s| s.next == last + 1 && s.reader.is_between_frames())
    }

    /// Stops or resumes reading at the subscribers of `range`.
    pub(crate) fn pause(&mut self, range: std::ops::Range<usize>, is_paused: bool) -> Result<()> {
        for index in range {
            if let Some(subscriber) = self.subscribers.get_mut(index) {
                subscriber.is_paused = is_paused;
            }
            if !is_paused {
                // Its readiness was told while nobody listened, and is not told again.
                self.read(index)?;
            }
        }
        Ok(())
    }

    /// Takes a readiness.
    pub(crate) fn handle(&mut self, event: &Event) -> Result<()> {
        let index = event.token().0;
        if event.is_writable() {
            self.send_request(index)?;
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(index)?;
        }
        Ok(())
    }

    fn send_request(&mut self, index: usize) -> Result<()> {
        let Some(subscriber) = self.subscribers.get_mut(index) else { return Ok(()) };
        if subscriber.request.is_empty() {
            return Ok(());
        }
        if let Some(error) = subscriber.stream.take_error()? {
            return Err(error).context("connecting");
        }
        let request = std::mem::take(&mut subscriber.request);
        let sent = subscriber.stream.write(&request).context("sending a request")?;
        ensure!(sent == request.len(), "a request does not fit an empty socket");
        Ok(())
    }

    fn read(&mut self, index: usize) -> Result<()> {
        let Some(subscriber) = self.subscribers.get_mut(index).filter(|s| !s.is_paused) else {
            return Ok(());
        };
        loop {
            let read = match subscriber.stream.read(&mut self.buffer) {
                Ok(0) => bail!("subscriber {index}: the server ended the stream"),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).with_context(|| format!("subscriber {index}")),
            };
            let Subscriber { reader, next, channel, counts, is_open, .. } = subscriber;
            let (tally, open, now) = (&mut self.tally, &mut self.open, clock::micros());
            let mut refused = None;
            let bytes = self.buffer.get(..read).unwrap_or_default();
            reader.handle_bytes(bytes, &mut |seen| match seen {
                Seen::Event { n, t, .. } => {
                    *next = tally.handle_event(*next, n);
                    if *counts {
                        tally.handle_receipt(*channel, n, t, now);
                    }
                }
                Seen::Head(200) => {
                    *open += usize::from(!*is_open);
                    *is_open = true;
                }
                Seen::Head(status) => refused = Some(status),
                Seen::Reset => tally.resets += 1,
                Seen::Hello => {}
            })?;
            if let Some(status) = refused {
                bail!("subscriber {index}: status {status}: {}", String::from_utf8_lossy(bytes));
            }
            // A short read empties the socket; what comes later is a new edge (epoll(7)).
            if read < READ_BYTES {
                return Ok(());
            }
        }
    }
}
