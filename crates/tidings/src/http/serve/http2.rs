//! One connection of HTTP/2.
//!
//! Owns: its bounds, when it is idle, when an answer is not taken. Does not know: routes, shards.
//! Flow: socket → hyper → router → answers in small pieces, each of which says that the peer still takes them.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::crowd::{Busy, Guest};
use super::pieces::{Answers, Pieces, Turn};
use super::{Door, strict};
use crate::http::arrival::Arrival;
use crate::shard::BodyPipe;

/// Bytes of the header fields of a request.
const HEADER_LIST_BYTES: u32 = 16 * 1024;
/// Requests of one connection at once.
const REQUESTS_MAX: u32 = 100;
/// What hyper may hold of one answer that is not read. Its default is 400 KiB.
const SEND_BYTES: usize = 32 * 1024;
/// What a client may send ahead of whoever reads it, for one body and for all of a connection. hyper's default is 1 MiB.
const BODY_WINDOW_BYTES: u32 = 128 * 1024;
const WINDOW_BYTES: u32 = 256 * 1024;
/// Requests that were reset before they were looked at: an honest client has a few, a rapid reset has thousands.
const RESETS_PENDING_MAX: usize = 20;
/// Streams that this side has reset because of what the peer did.
const RESETS_LOCAL_MAX: usize = 64;
/// How often a connection is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long it may take to end once it is asked to and answers nothing any more.
const END: Duration = Duration::from_secs(2);

/// Serves a connection to its end.
pub(super) async fn serve(door: &Arc<Door>, socket: TcpStream, arrival: Arrival, guest: &Arc<Guest>) {
    let settings = &door.server.hub.0.settings;
    let answers = Arc::new(Answers::default());
    let (served, seat, all) = (Arc::clone(door), Arc::clone(guest), Arc::clone(&answers));
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(arrival);
        answer(Arc::clone(&served), seat.busy(), Arc::clone(&all), request)
    });
    let mut connection = std::pin::pin!(
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(REQUESTS_MAX)
            .max_header_list_size(HEADER_LIST_BYTES)
            .max_send_buf_size(SEND_BYTES)
            .initial_stream_window_size(BODY_WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
            .max_local_error_reset_streams(RESETS_LOCAL_MAX)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .serve_connection(TokioIo::new(socket), service)
    );
    let mut look = tokio::time::interval(LOOK.min(settings.idle_timeout / 2).max(Duration::from_millis(10)));
    loop {
        tokio::select! {
            served = &mut connection => {
                if let Err(error) = served {
                    tracing::debug!(%error, "an HTTP/2 connection ended early");
                }
                return;
            }
            _ = look.tick() => {}
            () = guest.asked_to_leave() => break,
        }
        if answers.are_stuck(settings.write_timeout) {
            return tracing::debug!("an HTTP/2 connection does not take its answers");
        }
        if guest.idle_left(crate::clock::now_ms(), settings.idle_timeout).is_zero() {
            break;
        }
    }
    // It says that it is over, and lets what was asked be answered.
    connection.as_mut().graceful_shutdown();
    loop {
        let ended = tokio::time::timeout(END, connection.as_mut()).await;
        if ended.is_ok() || !guest.is_busy() || answers.are_stuck(settings.write_timeout) {
            return;
        }
    }
}

async fn answer(
    door: Arc<Door>,
    busy: Busy,
    answers: Arc<Answers>,
    request: hyper::Request<Incoming>,
) -> Result<Response, std::convert::Infallible> {
    let request: Request = request.map(Body::new);
    let mut response = match strict::refusal(&request) {
        None => door.answer(request).await?,
        Some(problem) => door.origins.refuse(&request, problem),
    };
    let is_stream = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    let turn = match response.extensions_mut().remove::<Arc<BodyPipe>>() {
        Some(pipe) => Some(Turn::of_stream(answers, &pipe)),
        // One of the application's own may be quiet as well.
        None => (!is_stream).then(|| Turn::new(answers)),
    };
    Ok(response.map(|body| Body::new(Pieces::new(body, SEND_BYTES, turn, busy))))
}
