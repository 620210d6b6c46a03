//! One connection of HTTP/1.
//!
//! Owns: what happens to it: requests through hyper, a stream that takes the socket, a refusal of the door. Does not know:
//! routes, what is wrong with a request.
//! Flow: socket → `Guarded` → hyper → router; then the socket goes to a shard, or gets the refusal, or is closed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tidings_core::wire::http1::Offence;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::crowd::Guest;
use super::guarded::{Guarded, Times, Told};
use super::pieces::Pieces;
use super::{Door, strict};
use crate::http::arrival::Arrival;
use crate::http::problem::Problem;
use crate::http::stream::Handoff;

/// What hyper may buffer of a connection.
const BUFFER_BYTES: usize = 64 * 1024;
/// What is small beside the socket's own buffer.
const SMALL_BYTES: u64 = 64 * 1024;
/// What hyper gets of a large answer at once: about what it buffers.
const PIECE_BYTES: usize = BUFFER_BYTES;
/// How long the rest of what was refused is read, so that the client sees the answer and not a reset.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 256 * 1024;

/// Serves a connection to its end.
pub(super) async fn serve(door: &Arc<Door>, socket: TcpStream, arrival: Arrival, guest: &Arc<Guest>) {
    let settings = &door.server.hub.0.settings;
    let (handoff, told) = (Handoff::default(), Told::default());
    let (slot, served, seat) = (handoff.clone(), Arc::clone(door), Arc::clone(guest));
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            request.extensions_mut().insert(slot.clone());
        }
        request.extensions_mut().insert(arrival);
        answer(Arc::clone(&served), Arc::clone(&seat), request)
    });
    let times = Times { head: settings.head_timeout, write: settings.write_timeout };
    let mut connection = hyper::server::conn::http1::Builder::new()
        // Heads come through whole, and how long one is waited for is looked at here: hyper's timer would be a new one for
        // every request.
        .header_read_timeout(None)
        .max_buf_size(BUFFER_BYTES)
        .max_headers(tidings_core::limits::HEAD_FIELDS_MAX)
        .serve_connection(TokioIo::new(Guarded::new(socket, times, Arc::clone(&told))), service);
    let (mut refusing, mut leaving) = (false, false);
    let mut idle = std::pin::pin!(tokio::time::sleep(settings.idle_timeout));
    let handed = std::future::poll_fn(|cx| {
        loop {
            let done = Pin::new(&mut connection).poll(cx);
            if let Some(handed) = handoff.take() {
                return Poll::Ready(Some(handed));
            }
            if let Poll::Ready(result) = done {
                if let Err(error) = result {
                    tracing::debug!(%error, "a connection ended early");
                }
                return Poll::Ready(None);
            }
            let idles = is_idle(guest, settings.idle_timeout, idle.as_mut(), cx);
            let leaves = !leaving && (guest.is_asked_to_leave(cx) || idles);
            let refuses = !refusing && told.get().is_some();
            if !leaves && !refuses {
                return Poll::Pending;
            }
            // What was asked before is answered first.
            (leaving, refusing) = (leaving || leaves, refusing || refuses);
            Pin::new(&mut connection).graceful_shutdown();
        }
    })
    .await;
    let socket = connection.into_parts().io.into_inner().into_inner();
    match (handed, told.get()) {
        (Some(handed), _) => door.server.hand_over(socket, handed),
        (None, Some(offence)) if !offence.within_body => {
            tokio::time::timeout(settings.write_timeout, refuse(door, socket, offence))
                .await
                .unwrap_or_default();
        }
        (None, _) => {}
    }
}

/// Whether it has asked nothing for so long that it may go. `look` is the time to look again.
fn is_idle(guest: &Guest, limit: Duration, mut look: Pin<&mut Sleep>, cx: &mut Context<'_>) -> bool {
    while look.as_mut().poll(cx).is_ready() {
        let left = guest.idle_left(crate::clock::now_ms(), limit);
        if left.is_zero() {
            return true;
        }
        look.as_mut().reset(tokio::time::Instant::now() + left);
    }
    false
}

async fn answer(
    door: Arc<Door>,
    guest: Arc<Guest>,
    request: hyper::Request<Incoming>,
) -> Result<Response, std::convert::Infallible> {
    let busy = guest.busy();
    let request: Request = request.map(Body::new);
    match strict::refusal(&request) {
        None => {
            let response = door.answer(request).await?;
            let is_small = response.body().size_hint().upper().is_some_and(|bytes| bytes <= SMALL_BYTES);
            // A small answer is written at once; a large one is what the connection is busy with, to its last piece.
            Ok(if is_small {
                response
            } else {
                response.map(|body| Body::new(Pieces::new(body, PIECE_BYTES, None, busy)))
            })
        }
        Some(problem) => {
            let mut response = door.origins.refuse(&request, problem);
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            Ok(response)
        }
    }
}

/// Answers what never became a request.
async fn refuse(door: &Door, mut socket: TcpStream, offence: &Offence) {
    let problem = Problem::new(offence.code, offence.detail);
    let mut response = problem.into_response();
    door.origins.dress(offence.origin.as_deref(), response.headers_mut());
    let (head, body) = response.into_parts();
    // The body is text that is there already.
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else { return };
    let status = head.status;
    let mut out =
        format!("HTTP/1.1 {} {}\r\n", status.as_u16(), status.canonical_reason().unwrap_or_default())
            .into_bytes();
    for (name, value) in &head.headers {
        out.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    let date = httpdate::fmt_http_date(std::time::SystemTime::now());
    out.extend_from_slice(
        format!("content-length: {}\r\nconnection: close\r\ndate: {date}\r\n\r\n", body.len()).as_bytes(),
    );
    out.extend_from_slice(&body);
    if socket.write_all(&out).await.is_err() || socket.shutdown().await.is_err() {
        return;
    }
    let rest = async { tokio::io::copy(&mut socket.take(LINGER_BYTES), &mut tokio::io::sink()).await };
    tokio::time::timeout(LINGER, rest).await.map(drop).unwrap_or_default();
}
