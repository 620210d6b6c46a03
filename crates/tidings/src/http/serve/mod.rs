//! The listener: our own loop over hyper, with the bounds that a public server needs and the fast path for streams.
//!
//! Owns: the life of listeners and connections, handing sockets of streams to shards, the graceful end. Does not know:
//! routes.
//! Flow: `accept` → `http1` or `http2` → router → an answer; or, for a plain HTTP/1.1 stream, the socket back to a shard.

mod accept;

mod crowd;

mod guarded;

mod pieces;

mod strict;

mod http1;

mod http2;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::ServiceExt;

use self::accept::Doorman;
use self::crowd::{Crowd, Guest};
use super::Shortcut;
use super::arrival::{Arrival, Role};
use super::edge::Origins;
use super::stream::Handed;
use crate::Hub;
use crate::pace::Pace;

/// How long answers may take that have begun when all streams are gone, at least.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// How long the tasks of connections may take to end once they are closed.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);
/// What the kernel may hold of a stream that is not read, beyond what is in flight.
const UNSENT_BYTES: u32 = 16 * 1024;
/// How an HTTP/2 connection begins (RFC 9113 §3.4).
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves a router on a listener until `stop` resolves, then drains: streams are closed over the hub's drain time, new ones
/// are asked to come back, requests that have begun are answered, whole, if that takes no longer than the drain time and 5 s.
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
    serve_all(vec![(listener, router)], hub, stop).await;
}

/// The same with several listeners, each with routes of its own: see [`Hub::router_for`].
pub async fn serve_all(listeners: Vec<(TcpListener, Router)>, hub: &Hub, stop: impl Future<Output = ()>) {
    let ways = listeners.into_iter().map(|(listener, router)| (listener, router, None)).collect();
    serve_ways(ways, hub, stop).await;
}

/// Serves the hub and nothing else, on several listeners, each with its role. A publish takes less time here than through a
/// router that may hold anything.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use tidings::{Hub, Role, Settings};
/// let hub = Hub::open(Settings::in_memory().dev(true))?;
/// let pages = tokio::net::TcpListener::bind("127.0.0.1:4080").await?;
/// let operators = tokio::net::TcpListener::bind("127.0.0.1:4081").await?;
/// let listeners = vec![(pages, Role::everything().without_admin()), (operators, Role::admin())];
/// tidings::serve_hub(listeners, &hub, async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await;
/// # Ok(()) }
/// ```
pub async fn serve_hub(listeners: Vec<(TcpListener, Role)>, hub: &Hub, stop: impl Future<Output = ()>) {
    let way = |(listener, role)| (listener, hub.router_for(role), Shortcut::new(hub, role));
    serve_ways(listeners.into_iter().map(way).collect(), hub, stop).await;
}

/// A listener, what it serves, and what passes by its router.
type Way = (TcpListener, Router, Option<Shortcut>);

async fn serve_ways(ways: Vec<Way>, hub: &Hub, stop: impl Future<Output = ()>) {
    let (here, connections) = watch::channel(());
    let server = Arc::new(Server::new(hub.clone(), connections));
    let mut accepting = JoinSet::new();
    for (listener, router, shortcut) in ways {
        let (server, origins) = (Arc::clone(&server), Origins::new(&hub.0.settings));
        accepting.spawn(accept(listener, Arc::new(Door { server, router, shortcut, origins })));
    }
    stop.await;
    hub.drain();
    let crowd = Arc::clone(&server.crowd);
    drop(server);
    let limit = hub.0.settings.drain + ANSWER_PATIENCE;
    let drained = async {
        until(|| hub.streams() == 0).await;
        accepting.shutdown().await;
        // Whoever waits for a request is closed; an answer that has begun is finished first.
        crowd.dismiss();
        until(|| !crowd.is_busy()).await;
        tokio::time::timeout(CLOSE_PATIENCE, here.closed()).await.unwrap_or_default();
    };
    tokio::time::timeout(limit, drained).await.unwrap_or_default();
    accepting.shutdown().await;
    // Whoever opens the same data folder next finds nobody using it.
    crowd.close();
    tokio::time::timeout(CLOSE_PATIENCE, here.closed()).await.unwrap_or_default();
}

/// Waits until something is so. It is looked at, because a stop is no time for which everything has to keep count.
async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What all listeners share.
#[derive(Debug)]
struct Server {
    hub: Hub,
    crowd: Arc<Crowd>,
    pace: Pace,
    doorman: Doorman,
    /// Every connection has one of these, until it is gone.
    connections: watch::Receiver<()>,
}

/// A listener's way in.
#[derive(Debug)]
struct Door {
    server: Arc<Server>,
    router: Router,
    shortcut: Option<Shortcut>,
    origins: Arc<Origins>,
}

/// Accepts for ever.
async fn accept(listener: TcpListener, door: Arc<Door>) {
    loop {
        let (socket, address, guest) = accept::accept(&listener, &door.server).await;
        let door = Arc::clone(&door);
        tokio::spawn(async move { door.connection(socket, address, guest).await });
    }
}

impl Door {
    async fn connection(self: Arc<Self>, socket: TcpStream, address: SocketAddr, guest: Guest) {
        // Without it, small events would wait for the peer's acknowledgement.
        if let Err(error) = socket.set_nodelay(true) {
            return tracing::debug!(%error, "a connection ended before it began");
        }
        let arrival = Arrival { peer: Some(address.ip()), ..Arrival::UNKNOWN };
        let _here = self.server.connections.clone();
        let guest = Arc::new(guest);
        let served = async {
            let first = tokio::select! {
                first = tokio::time::timeout(self.server.hub.0.settings.head_timeout, is_http2(&socket)) => first,
                () = guest.asked_to_leave() => return,
            };
            match first {
                Ok(Ok(true)) => http2::serve(&self, socket, arrival, &guest).await,
                Ok(Ok(false)) => http1::serve(&self, socket, arrival, &guest).await,
                Ok(Err(_)) | Err(_) => {}
            }
        };
        let mut served = std::pin::pin!(served);
        std::future::poll_fn(
            |cx| if guest.is_closed(cx) { Poll::Ready(()) } else { served.as_mut().poll(cx) },
        )
        .await;
    }

    async fn answer(&self, request: Request) -> Result<Response, Infallible> {
        match &self.shortcut {
            Some(shortcut) if Shortcut::is_for(&request) => shortcut.answer(request).await,
            _ => self.router.clone().oneshot(request).await,
        }
    }
}

impl Server {
    fn new(hub: Hub, connections: watch::Receiver<()>) -> Self {
        let settings = &hub.0.settings;
        Self {
            crowd: Crowd::new(settings.connections_max, settings.connections_per_address),
            pace: Pace::per_second(settings.connections_per_second),
            doorman: Doorman::new(),
            connections,
            hub,
        }
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
