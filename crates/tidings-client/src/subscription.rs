//! A stream that resumes by itself.
//!
//! Owns: the position, the state of the connection, the stall timer. Does not know: HTTP details, what events mean.
//! Flow: in ← answers, bytes, time · out → items; the last id goes into the next attempt.
//!
//! Invariant: the position moves to an id only in the same step that hands out the item, so a caller that drops a
//! `next()` loses nothing.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::backoff::Backoff;
use crate::frame::{Frame, Frames};
use crate::item::{self, Disconnect, Event, Item};
use crate::problem::Problem;
use crate::random;
use crate::subscribe::{Subscribe, SubscribeError};
use crate::transport::{NoAnswer, REFUSAL_BYTES_MAX, Transport, whole};
use crate::verdict::{Verdict, judge};

/// How long an answer's head may take. Overloaded servers pace new streams, so this is generous.
const OPEN: Duration = Duration::from_secs(30);
/// The keep-alive that is assumed until the server names its own.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// A keep-alive above this would make a dead connection look alive for hours.
const KEEPALIVE_MAX: Duration = Duration::from_secs(600);
/// Silence for this many keep-alives is a stall.
const STALL_KEEPALIVES: f64 = 2.5;

type Attempt = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A stream of [`Item`]s over any number of connections. Dropping it closes the connection.
pub struct Subscription {
    subscribe: Subscribe,
    last_id: Option<String>,
    backoff: Backoff,
    failed: u32,
    /// The code with which the server ended the stream because of its credentials, until another stream is open.
    refused: Option<String>,
    state: State,
}

enum State {
    Waiting { until: Instant },
    Opening { attempt: Attempt },
    Open(Box<Open>),
    Done,
}

struct Open {
    body: Incoming,
    frames: Frames,
    since: Instant,
    heard: Instant,
    stall: Duration,
}

enum Answer {
    Stream(Incoming),
    Done,
    Refused(Problem),
    Retry { reason: Disconnect, retry_after: Option<Duration> },
}

enum Read {
    Frame(Frame),
    Ended(Disconnect),
}

impl Subscription {
    pub(crate) fn new(subscribe: Subscribe, last_id: Option<String>) -> Self {
        let backoff = Backoff::new(subscribe.backoff());
        let state = State::Waiting { until: Instant::now() };
        Self { subscribe, last_id, backoff, failed: 0, refused: None, state }
    }

    /// The next item; `None` when the stream is over for good: all its channels are finished and everything was
    /// handed out, or it was closed.
    ///
    /// Cancel-safe: it may be dropped at any time, in a `select!` for example, and the next call goes on.
    ///
    /// # Errors
    /// [`SubscribeError::Refused`] when trying again cannot help. The subscription is over then.
    pub async fn next(&mut self) -> Result<Option<Item>, SubscribeError> {
        loop {
            let item = match &mut self.state {
                State::Done => return Ok(None),
                State::Waiting { until } => {
                    sleep_until(*until).await;
                    self.begin_attempt()?;
                    None
                }
                State::Opening { attempt } => {
                    let answer = attempt.await;
                    self.handle_answer(answer)?
                }
                State::Open(open) => {
                    let read = open.read().await;
                    self.handle_read(read)
                }
            };
            if item.is_some() {
                return Ok(item);
            }
        }
    }

    /// Ends the subscription. What the server still sends is dropped, and `next` returns `None`.
    pub fn close(&mut self) {
        self.state = State::Done;
    }

    /// The id of the last item that was handed out: what [`crate::From::Id`] takes to go on from here later.
    #[must_use]
    pub fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    fn begin_attempt(&mut self) -> Result<(), SubscribeError> {
        let request = match self.subscribe.request(self.last_id.as_deref()) {
            Ok(request) => request,
            Err(error) => {
                self.state = State::Done;
                return Err(error);
            }
        };
        let transport = self.subscribe.client().transport().clone();
        let refused = self.refused.clone();
        self.state = State::Opening { attempt: Box::pin(attempt(transport, request, refused)) };
        Ok(())
    }

    fn handle_answer(&mut self, answer: Answer) -> Result<Option<Item>, SubscribeError> {
        match answer {
            Answer::Stream(body) => {
                self.state = State::Open(Box::new(Open::new(body)));
                self.refused = None;
                let attempts = std::mem::take(&mut self.failed);
                Ok((attempts > 0).then_some(Item::Reconnected { attempts }))
            }
            Answer::Done => {
                self.state = State::Done;
                Ok(None)
            }
            Answer::Refused(problem) => {
                self.state = State::Done;
                Err(SubscribeError::Refused(problem))
            }
            Answer::Retry { reason, retry_after } => Ok(Some(self.disconnected(reason, retry_after))),
        }
    }

    fn handle_read(&mut self, read: Read) -> Option<Item> {
        match read {
            Read::Frame(Frame::Retry(retry)) => {
                self.backoff.handle_retry(retry);
                None
            }
            Read::Frame(Frame::Event { event, position }) => self.handle_event(event, position),
            Read::Ended(reason) => {
                if let State::Open(open) = &self.state {
                    self.backoff.handle_ended(open.since.elapsed());
                }
                Some(self.disconnected(reason, None))
            }
        }
    }

    fn handle_event(&mut self, event: Event, position: Option<String>) -> Option<Item> {
        if let Some(id) = &position {
            self.last_id = Some(id.clone());
        }
        if !event.event.starts_with("tidings.") {
            return Some(Item::Event(event));
        }
        if event.event == "tidings.unauthorized" {
            self.refused = Some(item::code(&event.data));
        }
        let item = item::control(&event.event, &event.data, position)?;
        match (&item, &mut self.state) {
            (Item::Hello(hello), State::Open(open)) => open.handle_keepalive(hello.keepalive_ms),
            (Item::Drain { spread }, _) => self.backoff.handle_drain(*spread),
            _ => {}
        }
        Some(item)
    }

    fn disconnected(&mut self, reason: Disconnect, retry_after: Option<Duration>) -> Item {
        let retry_in = self.backoff.poll_wait(retry_after, random::unit());
        self.failed = self.failed.saturating_add(1);
        self.state = State::Waiting { until: Instant::now() + retry_in };
        Item::Disconnected { reason, retry_in }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Waiting { .. } => "waiting",
            State::Opening { .. } => "opening",
            State::Open(_) => "open",
            State::Done => "done",
        };
        f.debug_struct("Subscription")
            .field("subscribe", &self.subscribe)
            .field("last_id", &self.last_id)
            .field("state", &state)
            .finish_non_exhaustive()
    }
}

impl Open {
    fn new(body: Incoming) -> Self {
        let now = Instant::now();
        Self {
            body,
            frames: Frames::new(),
            since: now,
            heard: now,
            stall: KEEPALIVE.mul_f64(STALL_KEEPALIVES),
        }
    }

    fn handle_keepalive(&mut self, keepalive_ms: Option<u64>) {
        if let Some(ms) = keepalive_ms.filter(|&ms| ms > 0) {
            self.stall = Duration::from_millis(ms).min(KEEPALIVE_MAX).mul_f64(STALL_KEEPALIVES);
        }
    }

    /// Reads until there is a whole frame. Cancel-safe: what was read is in `frames`.
    async fn read(&mut self) -> Read {
        loop {
            match self.frames.poll() {
                Ok(Some(frame)) => return Read::Frame(frame),
                Ok(None) => {}
                Err(error) => return Read::Ended(Disconnect::Unreadable(error.to_string())),
            }
            match timeout_at(self.heard + self.stall, self.body.frame()).await {
                Err(_) => return Read::Ended(Disconnect::Stalled),
                Ok(None) => return Read::Ended(Disconnect::Ended),
                Ok(Some(Err(error))) => {
                    return Read::Ended(Disconnect::Network(NoAnswer::new(error).to_string()));
                }
                Ok(Some(Ok(frame))) => {
                    self.heard = Instant::now();
                    if let Ok(bytes) = frame.into_data() {
                        self.frames.handle_bytes(bytes);
                    }
                }
            }
        }
    }
}

/// One attempt at a stream.
async fn attempt(
    transport: Transport,
    request: http::Request<http_body_util::Full<Bytes>>,
    refused: Option<String>,
) -> Answer {
    let attempt = async {
        // The same credentials would be refused again.
        if let Some(code) = refused
            && !transport.renew().await
        {
            return Answer::Refused(Problem::of(401, code));
        }
        let response = match transport.stream(request).await {
            Ok(response) => response,
            Err(error) => return network(&error),
        };
        let (head, body) = response.into_parts();
        match judge(head.status, &head.headers) {
            Verdict::Open => Answer::Stream(body),
            Verdict::Done => Answer::Done,
            Verdict::Final => Answer::Refused(match whole(body, REFUSAL_BYTES_MAX).await {
                Ok(body) => Problem::read(head.status.as_u16(), &body),
                Err(error) => Problem::read(head.status.as_u16(), error.to_string().as_bytes()),
            }),
            Verdict::Retry { retry_after } => {
                Answer::Retry { reason: Disconnect::Status(head.status.as_u16()), retry_after }
            }
        }
    };
    timeout(OPEN, attempt).await.unwrap_or_else(|elapsed| network(&elapsed))
}

fn network(error: &dyn fmt::Display) -> Answer {
    Answer::Retry { reason: Disconnect::Network(error.to_string()), retry_after: None }
}
