//! A model client: reads a stream and demands continuity of every event.
//!
//! Owns: what any client may rely on: whole events, ids that never go down, nothing twice.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use tidings::core::wire::sse::parse::{Event, Item, Parser};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http::{Head, PATIENCE, head};

const EVENT_BYTES_MAX: usize = 4 << 20;

pub enum Source {
    Socket(TcpStream),
    Body(Pin<Box<Incoming>>),
}

pub struct Stream {
    pub head: Head,
    source: Source,
    parser: Parser,
    unread: Vec<u8>,
    /// All bytes of the body so far.
    pub raw: Vec<u8>,
    /// The last event id, as `EventSource` keeps it.
    pub last_id: String,
    pub retry_ms: Option<u64>,
    /// The newest sequence per channel.
    newest: HashMap<String, u64>,
    ended: bool,
}

/// The sequence in an id. Clients never look; these tests do.
pub fn seq(id: &str) -> u64 {
    id.trim_end_matches("~s")
        .rsplit_once('-')
        .and_then(|(_, seq)| seq.parse().ok())
        .unwrap_or_else(|| panic!("no sequence in {id}"))
}

impl Stream {
    pub async fn open(addr: SocketAddr, query: &str, last_event_id: Option<&str>) -> Self {
        let socket = TcpStream::connect(addr).await.unwrap();
        Self::on(socket, addr, &format!("/events?{query}"), last_event_id).await
    }

    /// Asks for a stream on a connection that is there.
    pub async fn on(mut socket: TcpStream, addr: SocketAddr, target: &str, id: Option<&str>) -> Self {
        let mut headers = vec![("accept", "text/event-stream")];
        headers.extend(id.map(|id| ("last-event-id", id)));
        let text = head(addr, "GET", target, &headers);
        socket.write_all(text.as_bytes()).await.unwrap();
        Self::answered(socket, id.unwrap_or_default()).await
    }

    /// Reads the head of an answer to a request that was sent.
    pub async fn answered(mut socket: TcpStream, last_id: &str) -> Self {
        let mut bytes = Vec::new();
        let at = loop {
            if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
                break at;
            }
            let read = tokio::time::timeout(PATIENCE, socket.read_buf(&mut bytes)).await;
            assert_ne!(read.expect("a head comes").unwrap(), 0, "{:?}", String::from_utf8_lossy(&bytes));
        };
        let body = bytes.split_off(at + 4);
        let head = Head::parse(std::str::from_utf8(&bytes[..at]).unwrap());
        Self::new(head, Source::Socket(socket), body, last_id)
    }

    pub fn of_body(head: Head, body: Incoming) -> Self {
        Self::new(head, Source::Body(Box::pin(body)), Vec::new(), "")
    }

    fn new(head: Head, source: Source, unread: Vec<u8>, last_id: &str) -> Self {
        Self {
            head,
            source,
            parser: Parser::new(last_id, EVENT_BYTES_MAX),
            raw: unread.clone(),
            unread,
            last_id: last_id.to_owned(),
            retry_ms: None,
            newest: HashMap::new(),
            ended: false,
        }
    }

    /// The next event, control events included; `None` at the end of the response.
    pub async fn next(&mut self) -> Option<Event> {
        tokio::time::timeout(PATIENCE, self.read_event())
            .await
            .unwrap_or_else(|_| panic!("nothing comes behind {:?}", self.last_id))
    }

    async fn read_event(&mut self) -> Option<Event> {
        loop {
            let mut input = self.unread.as_slice();
            let item = self.parser.next(&mut input).unwrap();
            let left = input.len();
            self.unread.drain(..self.unread.len() - left);
            match item {
                Some(Item::Event(event)) => {
                    self.check(&event);
                    return Some(event);
                }
                Some(Item::Retry(ms)) => self.retry_ms = Some(ms),
                None if self.ended => return None,
                None => self.fill().await,
            }
        }
    }

    async fn fill(&mut self) {
        let before = self.unread.len();
        match &mut self.source {
            Source::Socket(socket) => match socket.read_buf(&mut self.unread).await {
                Ok(0) | Err(_) => self.ended = true,
                Ok(_) => {}
            },
            Source::Body(body) => match body.frame().await {
                Some(Ok(frame)) => self.unread.extend_from_slice(frame.data_ref().unwrap()),
                Some(Err(_)) | None => self.ended = true,
            },
        }
        self.raw.extend_from_slice(&self.unread[before..]);
    }

    /// What holds for every event on every stream. In these tests, ephemeral events have the type `typing`.
    fn check(&mut self, event: &Event) {
        let (old, new) = (&self.last_id, &event.last_event_id);
        if old != new {
            let known = old.trim_end_matches("~s").split_once('-').zip(new.split_once('-'));
            let is_mark = old.ends_with("~s");
            if !is_mark
                && known.is_some_and(|((before, _), (after, _))| before == after)
                && event.event != "tidings.reset"
            {
                // A refusal marks the position that the stream has.
                let is_up = seq(new) > seq(old) || (new.ends_with("~s") && seq(new) == seq(old));
                assert!(is_up, "ids go down: {old} then {new}");
            }
        } else if event.channel.is_some() {
            assert_eq!(event.event, "typing", "an event without an id, or the same id again: {event:?}");
        }
        if let Some(channel) = event.channel.as_ref().filter(|_| old != new) {
            let at = seq(new);
            let before = self.newest.insert(channel.clone(), at);
            assert!(before.is_none_or(|before| before < at), "{at} of {channel} comes twice");
        }
        self.last_id.clone_from(&event.last_event_id);
    }

    /// The next event, which has to be `tidings.hello`.
    pub async fn hello(&mut self) -> Event {
        let event = self.next().await.expect("hello comes");
        assert_eq!(event.event, "tidings.hello");
        event
    }

    /// The next event, which has to be a reset: its reason, its data.
    pub async fn reset(&mut self) -> Value {
        let event = self.next().await.expect("a reset comes");
        assert_eq!(event.event, "tidings.reset", "{event:?}");
        serde_json::from_str(&event.data).unwrap()
    }

    /// The next published event.
    pub async fn event(&mut self) -> Event {
        loop {
            let event = self.next().await.expect("an event comes");
            assert_ne!(event.event, "tidings.reset", "{event:?}");
            if !event.event.starts_with("tidings.") {
                return event;
            }
        }
    }

    /// The data of the next so many published events, as numbers.
    pub async fn numbers(&mut self, count: usize) -> Vec<u64> {
        let mut numbers = Vec::with_capacity(count);
        for _ in 0..count {
            numbers.push(self.event().await.data.parse().unwrap());
        }
        numbers
    }

    /// The response ends, with nothing but what is listed.
    pub async fn ends(&mut self) {
        let event = self.next().await;
        assert!(event.is_none(), "{event:?}");
    }

    /// Reads so many bytes of the body, then hangs up: the last id that an `EventSource` has then.
    pub async fn cut(mut self, bytes: usize) -> (String, Vec<Event>) {
        while self.raw.len() < bytes && !self.ended {
            tokio::time::timeout(PATIENCE, self.fill()).await.expect("bytes come");
        }
        let mut parser = Parser::new("", EVENT_BYTES_MAX);
        let mut input = &self.raw[..bytes.min(self.raw.len())];
        let mut events = Vec::new();
        let mut id = String::new();
        while let Some(item) = parser.next(&mut input).unwrap() {
            if let Item::Event(event) = item {
                id.clone_from(&event.last_event_id);
                events.push(event);
            }
        }
        (id, events)
    }
}

impl Stream {
    /// The connection, for what is not read as events.
    pub fn into_source(self) -> Source {
        self.source
    }
}
