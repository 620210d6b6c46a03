//! The floor: the least that a server can do for a publish.
//!
//! Owns: a bare loop of `send()` over ready bytes. Does not know: history, resume, keep-alive, errors worth telling.
//! Flow: `GET /events` → a subscriber · `POST /v1/publish` → one frame → `send()` to every subscriber of its channel.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use memchr::memmem;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::clock;

const LISTENER: Token = Token(usize::MAX);
/// As long as the epoch of a tidings server.
const EPOCH: &str = "abcdefgh";
/// A subscriber that reads nothing is given up when it is owed this much.
const OWED_BYTES_MAX: usize = 4 * 1024 * 1024;

#[derive(Debug)]
struct Peer {
    stream: TcpStream,
    request: Vec<u8>,
    /// What its socket did not take.
    owed: Vec<u8>,
    channel: Option<String>,
}

/// The server.
#[derive(Debug)]
struct Floor {
    poll: Poll,
    listener: TcpListener,
    peers: Vec<Option<Peer>>,
    channels: HashMap<String, Vec<usize>>,
    buffer: Vec<u8>,
    seq: u64,
}

/// Serves until it is killed.
pub(crate) fn run(address: SocketAddr) -> Result<()> {
    let poll = Poll::new()?;
    let mut listener = TcpListener::bind(address).with_context(|| format!("listening at {address}"))?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("{{\"listen\":\"{}\"}}", listener.local_addr()?);
    let buffer = vec![0; 64 * 1024];
    let mut floor = Floor { poll, listener, peers: Vec::new(), channels: HashMap::new(), buffer, seq: 0 };
    let mut events = Events::with_capacity(1024);
    loop {
        floor.poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                floor.accept()?;
                continue;
            }
            let index = event.token().0;
            if event.is_writable() {
                floor.pay(index);
            }
            if (event.is_readable() || event.is_read_closed()) && floor.read(index).is_err() {
                floor.close(index);
            }
        }
    }
}

impl Floor {
    fn accept(&mut self) -> Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("accepting"),
            };
            stream.set_nodelay(true)?;
            let token = Token(self.peers.len());
            self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
            let (request, owed) = (Vec::new(), Vec::new());
            self.peers.push(Some(Peer { stream, request, owed, channel: None }));
        }
    }

    fn read(&mut self, index: usize) -> Result<()> {
        loop {
            let Some(peer) = self.peers[index].as_mut() else { return Ok(()) };
            match peer.stream.read(&mut self.buffer) {
                Ok(0) => bail!("closed"),
                Ok(read) => peer.request.extend_from_slice(&self.buffer[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            while self.answer(index)? {}
        }
    }

    /// Answers one complete request; `false` if there is none.
    fn answer(&mut self, index: usize) -> Result<bool> {
        let Some(peer) = self.peers[index].as_mut() else { return Ok(false) };
        let Some(end) = memmem::find(&peer.request, b"\r\n\r\n") else { return Ok(false) };
        let head = std::str::from_utf8(&peer.request[..end])?.to_owned();
        if let Some(target) = head.strip_prefix("GET /events?channel=") {
            let name = target.split(['&', ' ']).next().unwrap_or("").replace("%3A", ":");
            peer.request = Vec::new();
            peer.stream.write_all(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n: connected\n\n",
            )?;
            peer.channel = Some(name.clone());
            self.channels.entry(name).or_default().push(index);
            return Ok(true);
        }
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let whole = end + 4 + length.context("not a publish")?.parse::<usize>()?;
        if peer.request.len() < whole {
            return Ok(false);
        }
        let body: Vec<u8> = peer.request.drain(..whole).skip(end + 4).collect();
        self.publish(std::str::from_utf8(&body)?)?;
        let id = format!("{{\"id\":\"{EPOCH}-{}\"}}", self.seq);
        let answer = format!("HTTP/1.1 201 Created\r\ncontent-length: {}\r\n\r\n{id}", id.len());
        if let Some(peer) = self.peers[index].as_mut() {
            peer.stream.write_all(answer.as_bytes())?;
        }
        Ok(true)
    }

    /// The loop that this file is for.
    fn publish(&mut self, body: &str) -> Result<()> {
        let rest = body.strip_prefix("{\"channel\":\"").context("channel first")?;
        let (channel, rest) = rest.split_once("\",\"data\":").context("then data")?;
        let data = rest.strip_suffix('}').context("nothing else")?;
        self.seq += 1;
        let (time, seq) = (clock::micros() / 1000, self.seq);
        let frame = format!("channel: {channel}\ntime: {time}\ndata: {data}\nid: {EPOCH}-{seq}\n\n");
        let Some(subscribers) = self.channels.get(channel) else { return Ok(()) };
        for &index in subscribers {
            let Some(peer) = self.peers[index].as_mut() else { continue };
            if peer.owed.is_empty() {
                let sent = peer.stream.write(frame.as_bytes()).unwrap_or(0);
                if sent == frame.len() {
                    continue;
                }
                peer.owed.extend_from_slice(&frame.as_bytes()[sent..]);
            } else if peer.owed.len() < OWED_BYTES_MAX {
                peer.owed.extend_from_slice(frame.as_bytes());
            } else {
                self.peers[index] = None;
            }
        }
        Ok(())
    }

    fn pay(&mut self, index: usize) {
        let Some(peer) = self.peers[index].as_mut() else { return };
        while !peer.owed.is_empty() {
            match peer.stream.write(&peer.owed) {
                Ok(sent) => drop(peer.owed.drain(..sent)),
                Err(_) => return,
            }
        }
    }

    fn close(&mut self, index: usize) {
        let peer = self.peers[index].take();
        if let Some(subscribers) = peer.and_then(|peer| self.channels.get_mut(&peer.channel?)) {
            subscribers.retain(|&other| other != index);
        }
    }
}
