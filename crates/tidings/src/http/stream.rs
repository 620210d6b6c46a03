//! `GET /events`: admitting a stream and handing it to a shard.
//!
//! Owns: the request of a stream, its head and its first bytes. Does not know: sockets, delivery.
//! Flow: query and headers → the resume decision → head, hello, reset → a shard; or a refusal that an `EventSource`
//! survives.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tidings_core::connection::{Retry, Seed};
use tidings_core::grant::Holder;
use tidings_core::resume::{self, Asked, Decision, Position, RefusedAt, Replay, Retained, Start};
use tidings_core::wire::sse::encode;
use tidings_core::{ChannelName, EventId, Seq};

use super::arrival;
use super::caller::{Caller, Identified};
use super::edge::AllowedOrigin;
use super::params::Params;
use super::problem::{Code, Problem};
use crate::Hub;
use crate::auth::{AuthError, kept};
use crate::control;
use crate::frame::Encoding;
use crate::log::LogError;
use crate::shard::{BodyPipe, NewSink, Opening, StreamBody, retained, unknown};
use crate::subscribe::{Crowded, Subscription, Ticket, connection_text};

/// Where a handler leaves a stream that is to be served on the bare socket. The connection's driver finds it there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Handoff(Arc<Mutex<Option<Handed>>>);

/// A stream that waits for its socket.
#[derive(Debug)]
pub(crate) struct Handed {
    ticket: Ticket,
    preamble: Bytes,
    begin: Begin,
    wait: Duration,
}

/// Where delivery starts.
#[derive(Debug, Default)]
struct Begin {
    cursor: Seq,
    grace: Box<[Seq]>,
    end_after: Option<Seq>,
    until_ms: Option<u64>,
}

impl Handoff {
    /// Takes the stream that was left here.
    pub(crate) fn take(&self) -> Option<Handed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn leave(&self, handed: Handed) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(handed);
    }
}

impl Handed {
    /// Gives the stream its socket.
    pub(crate) fn open(self, hub: &Hub, socket: std::net::TcpStream) {
        hub.0.shards.open(self.opening(NewSink::Socket(socket)));
    }

    fn opening(self, sink: NewSink) -> Opening {
        let Begin { cursor, grace, end_after, until_ms } = self.begin;
        let wait_ms = u64::try_from(self.wait.as_millis()).unwrap_or(u64::MAX);
        let (ticket, preamble) = (self.ticket, self.preamble);
        Opening { sink, ticket, preamble, cursor, grace, end_after, until_ms, wait_ms }
    }
}

/// What a stream of a job has beside its channel.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    /// The event that last changed the document.
    pub(crate) seq: Seq,
    /// Its frame without the last line.
    pub(crate) body: Bytes,
}

/// A request for a stream, read from its query.
#[derive(Debug)]
pub(crate) struct StreamRequest {
    pub(crate) channels: Vec<ChannelName>,
    pub(crate) encoding: Encoding,
    pub(crate) position: Position,
    pub(crate) document: Option<Document>,
}

pub(super) async fn events(
    State(hub): State<Hub>,
    Identified(caller): Identified,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let mut stream = read_request(&parts)?;
    let caller = match caller {
        Ok(caller) => caller,
        Err(error) => return deny(&hub, &parts, stream.position, &error.into(), &[]),
    };
    if stream.channels.is_empty() {
        if matches!(caller.grant().holder, Holder::Key(_)) {
            return Err(Problem::new(
                Code::ChannelsMissing,
                "an API key has no channel of its own: name one",
            ));
        }
        let Some(subject) = caller.subject(&Params::of(&parts.uri))? else {
            return deny(&hub, &parts, stream.position, &AuthError::Unauthorized.into(), &[]);
        };
        stream.channels.push(ChannelName::parse(&format!("user:{subject}"))?);
    }
    open(&hub, &parts, caller, stream).await
}

/// Reads query and headers of a request for a stream.
pub(crate) fn read_request(parts: &Parts) -> Result<StreamRequest, Problem> {
    let params = Params::of(&parts.uri);
    let header = parts.headers.get("last-event-id").map(|v| String::from_utf8_lossy(v.as_bytes()));
    let in_query =
        ["last_event_id", "lastEventId"].iter().find_map(|n| params.one(n).filter(|v| !v.is_empty()));
    let position = resume::position(header.as_deref(), in_query, params.one("from"))
        .map_err(|e| Problem::of(e.code(), e.to_string()))?;
    let encoding = match params.one("envelope") {
        None | Some("") => Encoding::Plain,
        Some("json") => Encoding::Envelope,
        Some(other) => {
            return Err(Problem::new(
                Code::QueryInvalid,
                format!("envelope={other:.64} is not known; it can be json"),
            ));
        }
    };
    let channels = params.channels()?;
    Ok(StreamRequest { channels, encoding, position, document: None })
}

/// Answers a request for a stream whose channels are known.
pub(crate) async fn open(
    hub: &Hub,
    parts: &Parts,
    caller: Caller,
    request: StreamRequest,
) -> Result<Response, Problem> {
    let subject = caller.subject(&Params::of(&parts.uri))?.unwrap_or_default();
    let uncovered = hub.uncovered(&caller.0, &request.channels).await?;
    if !uncovered.is_empty() {
        return deny(
            hub,
            parts,
            request.position,
            &caller.forbidden("subscribe to all of these channels"),
            &uncovered,
        );
    }
    if parts.method == Method::HEAD {
        // A body of unknown length, so that the head is that of GET and has no `Content-Length`.
        return Ok((head(parts), Body::new(StreamBody(BodyPipe::new()))).into_response());
    }
    if hub.is_draining() {
        return refuse(hub, parts, Code::Draining);
    }
    if hub.0.memory.is_over() {
        return refuse(hub, parts, Code::Overloaded);
    }
    let address = arrival::client(hub, parts);
    // Before it takes a turn, for which others wait.
    if let Some(crowded) = hub.0.registry.crowded(&subject, address) {
        return refuse(hub, parts, crowded.into());
    }
    let Some(wait) = hub.0.pace.turn(crate::clock::now_us()) else {
        return refuse(hub, parts, Code::Overloaded);
    };
    let handoff = parts.extensions.get::<Handoff>();
    if handoff.is_none() && !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    let position = request.position;
    let Some(Decided { mut preamble, begin, subscription }) = decide(hub, &caller, &subject, request).await?
    else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let ticket = match hub.0.registry.admit(subscription.counted_for(address)) {
        Ok(ticket) => ticket,
        Err(crowded) => return refuse(hub, parts, crowded.into()),
    };
    // Registered first, then looked at again: what is revoked from here on finds the stream.
    if let Err(error) = hub.0.auth.check(caller.grant()) {
        return deny(hub, parts, position, &error.into(), &[]);
    }
    hub.0.auth.live.watch(hub, ticket.subscription.id, &caller.0);
    if let Some(handoff) = handoff {
        let mut bytes = head_bytes(parts);
        bytes.append(&mut preamble);
        // It waits for its turn at its shard: the memory of a request is many times that of a stream.
        handoff.leave(Handed { ticket, preamble: bytes.into(), begin, wait });
        // The driver stops polling this connection and takes its socket; there is nobody to answer.
        return std::future::pending().await;
    }
    let pipe = BodyPipe::new();
    let handed = Handed { ticket, preamble: preamble.into(), begin, wait: Duration::ZERO };
    hub.0.shards.open(handed.opening(NewSink::Body(Arc::clone(&pipe))));
    let body = Body::new(StreamBody(Arc::clone(&pipe)));
    // For whoever writes it, who sees then when its shard has let go of it.
    Ok((head(parts), Extension(pipe), body).into_response())
}

impl From<Crowded> for Code {
    fn from(crowded: Crowded) -> Self {
        match crowded {
            Crowded::Server => Self::Overloaded,
            Crowded::Address | Crowded::Subject => Self::StreamsTooMany,
        }
    }
}

/// Overload and drain: an `EventSource` would never come back after an error, so it gets an empty stream.
fn refuse(hub: &Hub, parts: &Parts, code: Code) -> Result<Response, Problem> {
    if is_event_source(&parts.headers) {
        return Ok(whole(parts, hub.come_back(code == Code::Draining)));
    }
    Err(Problem::new(code, "come back later"))
}

/// A stream that is over with these bytes, and its connection with it.
pub(super) fn whole(parts: &Parts, bytes: impl Into<Bytes>) -> Response {
    let mut headers = head(parts);
    if parts.version <= http::Version::HTTP_11 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    (headers, Body::from(bytes.into())).into_response()
}

/// No, bad or insufficient credentials: an `EventSource` is told so, with a position that stops it while that is so.
pub(super) fn deny(
    hub: &Hub,
    parts: &Parts,
    position: Position,
    problem: &Problem,
    channels: &[ChannelName],
) -> Result<Response, Problem> {
    if !matches!(problem.code.status(), 401 | 403) {
        return refuse(hub, parts, problem.code);
    }
    if !is_event_source(&parts.headers) {
        return Err(Problem::new(problem.code, &problem.detail));
    }
    hub.0.metrics.unauthorized.inc();
    let Some(at) = refused_at(hub, position)? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let mut out = greeting();
    out.extend_from_slice(&control::unauthorized(problem.code.as_str(), channels, at));
    Ok(whole(parts, out))
}

/// The position that a refused client keeps, marked. `None` if it was told so before, and stops.
pub(super) fn refused_at(hub: &Hub, position: Position) -> Result<Option<EventId>, LogError> {
    let log = &hub.0.log;
    let (head, epochs) = (hub.0.tail.head(), log.epochs());
    // Where the newest events of a channel lie is not for those who may not read it: they keep the beginning.
    let asked = position.ask(epochs, head, |_| Ok::<_, LogError>(Seq::ZERO))?;
    let decision = resume::decide(&resume::Request {
        asked,
        refused: true,
        head,
        horizon: log.horizon(),
        channels: &[Retained::default()],
        document: None,
    });
    Ok(match (decision, position) {
        (Decision::Refuse(RefusedAt::Own), Position::Id(own)) => Some(own.stopped()),
        (Decision::Refuse(RefusedAt::Seq(seq)), _) => Some(epochs.id(seq).stopped()),
        _ => None,
    })
}

/// Browsers send exactly this; whoever reads status codes accepts problems too.
pub(crate) fn is_event_source(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).is_some_and(|accept| accept == "text/event-stream")
}

/// A stream that may begin.
struct Decided {
    /// What stands before the first event.
    preamble: Vec<u8>,
    begin: Begin,
    subscription: Subscription,
}

/// Decides where the stream starts. `None`: it is over.
async fn decide(
    hub: &Hub,
    caller: &Caller,
    subject: &str,
    request: StreamRequest,
) -> Result<Option<Decided>, Problem> {
    let until_ms = caller.grant().expires_at_ms;
    let (hub, kept, subject) = (hub.clone(), kept(&caller.0), subject.to_owned());
    let may_read = matches!(request.position, Position::Last(_));
    let work = move || {
        let encoding = request.encoding;
        let subscription = |channels| Subscription::new(&subject, channels, encoding).granted(kept);
        decide_now(&hub, request, until_ms, subscription)
    };
    if !may_read {
        return Ok(work()?);
    }
    let decided = tokio::task::spawn_blocking(work).await;
    Ok(decided.map_err(|e| Problem::new(Code::Internal, e.to_string()))??)
}

fn decide_now(
    hub: &Hub,
    request: StreamRequest,
    until_ms: Option<u64>,
    subscription: impl FnOnce(Vec<ChannelName>) -> Subscription,
) -> Result<Option<Decided>, LogError> {
    let log = &hub.0.log;
    // Head first, channels after it: whatever is published between the two lies behind the cursor.
    let head = hub.0.tail.head();
    let epochs = log.epochs();
    let channels = &request.channels;
    let asked = request.position.ask(epochs, head, |n| log.before_last(channels, n, head))?;
    let states: Vec<Retained> = channels.iter().map(|c| retained(log.window(c))).collect();
    let document = request.document.as_ref().map(|d| d.seq);
    let horizon = log.horizon();
    let decision = resume::decide(&resume::Request {
        asked,
        refused: false,
        head,
        horizon,
        channels: &states,
        document,
    });
    let Decision::Stream(start) = decision else { return Ok(None) };
    if matches!(asked, Asked::Id { .. }) {
        hub.0.metrics.resumes.inc();
    }
    let subscription = subscription(request.channels);
    let mut out = Vec::with_capacity(512);
    let keepalive_ms = u64::try_from(hub.0.settings.keepalive.as_millis()).unwrap_or(u64::MAX);
    let retry_ms = Seed(subscription.id).retry_ms(Retry::Stream);
    let hello = start.hello.map(|seq| epochs.id(seq));
    let name = connection_text(subscription.id);
    control::hello(&mut out, retry_ms, &name, keepalive_ms, until_ms, hello);
    if let Some(reset) = &start.reset {
        hub.0.metrics.resets.inc();
        control::reset(&mut out, reset, &subscription.channels, epochs);
    }
    if let (Replay::Document, Some(document)) = (start.replay, &request.document) {
        out.extend_from_slice(&encode::frame(&document.body, epochs.id(document.seq)));
    }
    let begin = Begin { until_ms, ..begin(&start, &states, horizon.min(head)) };
    Ok(Some(Decided { preamble: out, begin, subscription }))
}

/// What is gone up to here is no news: the decision has said it, or the client asked for what is retained. Of a finished
/// channel that is asked for without a position, nothing before the final event is.
fn begin(start: &Start, states: &[Retained], horizon: Seq) -> Begin {
    let before_final = |s: &Retained| match start.replay {
        Replay::Finals => s.finished.map_or(Seq::ZERO, |last| Seq(last.0.saturating_sub(1))),
        Replay::Events | Replay::Document => Seq::ZERO,
    };
    let upto = |s: &Retained| s.floor.max(unknown(s, horizon)).max(before_final(s));
    let is_needed = states.iter().any(|s| upto(s) > start.cursor);
    Begin {
        cursor: start.cursor,
        grace: if is_needed { states.iter().map(upto).collect() } else { Box::default() },
        end_after: start.end_after,
        until_ms: None,
    }
}

/// What stands before the first event, for streams that end at once.
pub(crate) fn greeting() -> Vec<u8> {
    let retry_ms = Seed(crate::clock::random()).retry_ms(Retry::Stream);
    format!(": connected\nretry: {retry_ms}\n\n").into_bytes()
}

/// The head of every stream.
pub(crate) fn head(parts: &Parts) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut set = |name: http::HeaderName, value| headers.insert(name, HeaderValue::from_static(value));
    set(header::CONTENT_TYPE, "text/event-stream; charset=utf-8");
    set(header::CACHE_CONTROL, "no-store, no-cache, no-transform");
    set(http::HeaderName::from_static("x-accel-buffering"), "no");
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    match parts.extensions.get::<AllowedOrigin>() {
        Some(origin) => origin.apply(&mut headers),
        None => AllowedOrigin::default().apply(&mut headers),
    }
    headers
}

/// The same head as HTTP/1.1 text. The body ends with the connection (RFC 9112 §6.3), which every proxy understands.
fn head_bytes(parts: &Parts) -> Vec<u8> {
    let mut out = b"HTTP/1.1 200 OK\r\n".to_vec();
    let date = httpdate::fmt_http_date(std::time::SystemTime::now());
    let mut line = |name: &str, value: &[u8]| {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    };
    for (name, value) in &head(parts) {
        line(name.as_str(), value.as_bytes());
    }
    line("date", date.as_bytes());
    line("connection", b"close");
    out.extend_from_slice(b"\r\n");
    out
}

#[cfg(test)]
mod tests {
    use tidings_core::resume::Replay;

    use super::*;

    #[test]
    fn what_may_have_been_forgotten_before_a_stream_begins_is_no_news_to_it_later() {
        let at = |cursor| Start {
            cursor: Seq(cursor),
            hello: None,
            reset: None,
            replay: Replay::Events,
            end_after: None,
        };
        let never = Retained::default();
        let whole = Retained { first: Some(Seq(5)), head: Seq(9), ..Retained::default() };
        let trimmed = Retained { first: Some(Seq(3)), head: Seq(7), floor: Seq(2), ..Retained::default() };
        let states = [never, whole, trimmed];
        assert_eq!(*begin(&at(0), &states, Seq(8)).grace, [Seq(8), Seq(4), Seq(2)]);
        assert_eq!(*begin(&at(0), &states, Seq::ZERO).grace, [Seq::ZERO, Seq::ZERO, Seq(2)]);
        // Who stands behind all that has nothing to remember.
        assert_eq!(*begin(&at(8), &states, Seq(8)).grace, []);
    }
}
