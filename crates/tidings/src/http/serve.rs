//! The listener: our own loop over hyper, with the bounds that a public server needs and the fast path for streams.
//!
//! Owns: accepting, time-outs of a request's head, handing sockets of streams to shards, the graceful end.
//! Does not know: routes.
//! Flow: socket → hyper → router → an answer; or, for a plain HTTP/1.1 stream, the socket back from hyper to a shard.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tower::ServiceExt;

use super::arrival::Arrival;
use super::stream::{Handed, Handoff};
use crate::Hub;

/// How long the tasks of connections may take to end once they are closed.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);
/// What hyper may buffer of one HTTP/1 connection.
const BUFFER_BYTES: usize = 64 * 1024;
/// Header fields of a request.
const HEADERS_MAX: usize = 64;
/// Bytes of the header fields of an HTTP/2 request.
const HEADER_LIST_BYTES: u32 = 16 * 1024;
/// Streams of one HTTP/2 connection.
const H2_STREAMS_MAX: u32 = 100;
/// What hyper may hold of one HTTP/2 stream that is not read. Its default is 400 KiB.
const H2_SEND_BYTES: usize = 32 * 1024;
/// What the kernel may hold of a stream that is not read, beyond what is in flight.
const UNSENT_BYTES: u32 = 16 * 1024;
/// How an HTTP/2 connection begins (RFC 9113 §3.4).
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves a router on a listener until `stop` resolves, then drains: streams are closed over the hub's drain time, new ones
/// are asked to come back, requests that have begun are answered.
///
/// The router may be the application's own, with `hub.router()` merged into it.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let hub = tidings::Hub::open(tidings::Settings::in_memory().dev(true))?;
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:4080").await?;
/// let router = hub.router();
/// tidings::serve(listener, router, &hub, async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await;
/// # Ok(()) }
/// ```
pub async fn serve(listener: TcpListener, router: Router, hub: &Hub, stop: impl Future<Output = ()>) {
    let (closed, closing) = watch::channel(false);
    let server = Arc::new(Server { hub: hub.clone(), router, requests: AtomicUsize::new(0), closing });
    let mut stop = std::pin::pin!(stop);
    tokio::select! {
        () = accept(&listener, &server) => {}
        () = &mut stop => {}
    }
    hub.drain();
    let limit = hub.0.settings.drain + Duration::from_secs(5);
    let drained = async {
        while hub.streams() > 0 || server.requests.load(Ordering::Acquire) > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = accept(&listener, &server) => {}
        _ = tokio::time::timeout(limit, drained) => {}
    }
    // Connections that wait for a request are closed. Whoever opens the same data folder next finds nobody using it.
    closed.send_replace(true);
    drop(server);
    tokio::time::timeout(CLOSE_PATIENCE, closed.closed()).await.unwrap_or_default();
}

#[derive(Debug)]
struct Server {
    hub: Hub,
    router: Router,
    /// Requests that were begun and not answered.
    requests: AtomicUsize,
    closing: watch::Receiver<bool>,
}

/// Accepts for ever. Out of descriptors, it waits: streams that are open go on.
async fn accept(listener: &TcpListener, server: &Arc<Server>) {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                let server = Arc::clone(server);
                tokio::spawn(async move { server.connection(socket).await });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

impl Server {
    async fn connection(self: Arc<Self>, socket: TcpStream) {
        // Without it, small events would wait for the peer's acknowledgement.
        if let Err(error) = socket.set_nodelay(true) {
            return tracing::debug!(%error, "a connection ended before it began");
        }
        let Ok(peer) = socket.peer_addr() else { return };
        let arrival = Arrival { peer: Some(peer.ip()), ..Arrival::UNKNOWN };
        let mut closing = self.closing.clone();
        let served = async {
            match tokio::time::timeout(self.hub.0.settings.head_timeout, is_http2(&socket)).await {
                Ok(Ok(true)) => self.http2(socket, arrival).await,
                Ok(Ok(false)) => self.http1(socket, arrival).await,
                Ok(Err(_)) | Err(_) => {}
            }
        };
        tokio::select! {
            () = served => {}
            _ = closing.wait_for(|closed| *closed) => {}
        }
    }

    async fn http1(self: &Arc<Self>, socket: TcpStream, arrival: Arrival) {
        let handoff = Handoff::default();
        let (slot, server) = (handoff.clone(), Arc::clone(self));
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(slot.clone());
            request.extensions_mut().insert(arrival);
            Arc::clone(&server).answer(request)
        });
        let mut connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.hub.0.settings.head_timeout)
            .max_buf_size(BUFFER_BYTES)
            .max_headers(HEADERS_MAX)
            .serve_connection(TokioIo::new(socket), service);
        let handed = std::future::poll_fn(|cx| {
            let done = Pin::new(&mut connection).poll(cx);
            match (handoff.take(), done) {
                (Some(handed), _) => Poll::Ready(Some(handed)),
                (None, Poll::Ready(result)) => {
                    if let Err(error) = result {
                        tracing::debug!(%error, "a connection ended early");
                    }
                    Poll::Ready(None)
                }
                (None, Poll::Pending) => Poll::Pending,
            }
        })
        .await;
        if let Some(handed) = handed {
            let socket = connection.into_parts().io.into_inner();
            self.hand_over(socket, handed);
        }
    }

    async fn http2(self: &Arc<Self>, socket: TcpStream, arrival: Arrival) {
        let server = Arc::clone(self);
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(arrival);
            Arc::clone(&server).answer(request)
        });
        let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(H2_STREAMS_MAX)
            .max_header_list_size(HEADER_LIST_BYTES)
            .max_send_buf_size(H2_SEND_BYTES)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .serve_connection(TokioIo::new(socket), service)
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "an HTTP/2 connection ended early");
        }
    }

    async fn answer(self: Arc<Self>, request: hyper::Request<Incoming>) -> Result<Response, Infallible> {
        let _counted = Counted::new(&self.requests);
        self.router.clone().oneshot(request.map(axum::body::Body::new) as Request).await
    }

    /// Gives a stream its socket, with what the kernel has to do for it.
    fn hand_over(&self, socket: TcpStream, handed: Handed) {
        let socket = match socket.into_std() {
            Ok(socket) => socket,
            Err(error) => return tracing::debug!(%error, "a stream's socket was lost"),
        };
        if let Err(error) = self.prepare(&socket) {
            tracing::debug!(%error, "a stream ended before it began");
        }
        handed.open(&self.hub, socket);
    }

    fn prepare(&self, socket: &std::net::TcpStream) -> std::io::Result<()> {
        let socket = SockRef::from(socket);
        let keepalive =
            TcpKeepalive::new().with_time(Duration::from_secs(15)).with_interval(Duration::from_secs(5));
        #[cfg(target_os = "linux")]
        let keepalive = keepalive.with_retries(3);
        socket.set_tcp_keepalive(&keepalive)?;
        #[cfg(target_os = "linux")]
        {
            // The kernel would kill a live peer that merely does not read any sooner.
            socket.set_tcp_user_timeout(Some(self.hub.0.settings.stall))?;
            socket.set_tcp_notsent_lowat(UNSENT_BYTES)?;
        }
        Ok(())
    }
}

/// Looks at the first bytes without taking them.
async fn is_http2(socket: &TcpStream) -> std::io::Result<bool> {
    let mut first = [0; H2_PREFACE.len()];
    loop {
        let count = socket.peek(&mut first).await?;
        let seen = first.get(..count).unwrap_or_default();
        if count == 0 || !H2_PREFACE.starts_with(seen) {
            return Ok(false);
        }
        if count == H2_PREFACE.len() {
            return Ok(true);
        }
        // A part of the preface: peeking again would return at once, so give the rest time to come.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Counts a request from its head to its answer's head.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
