//! Accepting connections.
//!
//! Owns: how fast, how many, and what is left of the descriptors. Does not know: what is asked on a connection.
//! Flow: a listener → a connection that there is room for; otherwise the kernel lets others wait.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::Server;
use super::crowd::Guest;

/// Descriptors that connections leave to the log, its files and its readers.
const RESERVE: u64 = 128;
/// How long accepting pauses when there is no room.
const PAUSE: Duration = Duration::from_millis(50);
/// How often it is told that there is none.
const TELL_MS: u64 = 10_000;

/// What accepting keeps in mind.
#[derive(Debug)]
pub(super) struct Doorman {
    /// From this descriptor on, the log might be left without.
    descriptors_max: u64,
    told_ms: AtomicU64,
}

impl Doorman {
    pub(super) fn new() -> Self {
        Self { descriptors_max: descriptors().saturating_sub(RESERVE), told_ms: AtomicU64::new(0) }
    }

    /// Says that connections are not let in: not for each of them.
    fn tell(&self, why: &str) {
        let now = crate::clock::now_ms().max(1);
        let told = self.told_ms.load(Ordering::Relaxed);
        if told == 0 || now - told > TELL_MS {
            self.told_ms.store(now, Ordering::Relaxed);
            tracing::warn!(why, "connections are not let in");
        }
    }

    /// The lowest free number is given out, so a high one means that little is left.
    #[cfg(unix)]
    fn is_scarce(&self, socket: &TcpStream) -> bool {
        use std::os::fd::AsRawFd;
        u64::try_from(socket.as_raw_fd()).unwrap_or(0) >= self.descriptors_max
    }

    #[cfg(not(unix))]
    fn is_scarce(&self, _: &TcpStream) -> bool {
        self.descriptors_max == 0
    }
}

/// The next connection that there is room for. Without room nothing spins, and streams that are open go on.
pub(super) async fn accept(listener: &TcpListener, server: &Server) -> (TcpStream, SocketAddr, Guest) {
    let (doorman, crowd) = (&server.doorman, &server.crowd);
    loop {
        match server.pace.turn(crate::clock::now_us()) {
            Some(wait) if wait.is_zero() => {}
            wait => {
                tokio::time::sleep(wait.unwrap_or(PAUSE)).await;
                if wait.is_none() {
                    continue;
                }
            }
        }
        let (socket, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                doorman.tell(&error.to_string());
                crowd.make_room();
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        if doorman.is_scarce(&socket) && !crowd.make_room() {
            doorman.tell("descriptors are needed for the log");
            drop(socket);
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        match crowd.enter(counted(server, address.ip())) {
            Some(guest) => return (socket, address, guest),
            // Closed at once: waiting would let one address delay the others.
            None => {
                server.hub.0.metrics.connections_refused.inc();
                doorman.tell("there are too many connections, in all or of one address");
            }
        }
    }
}

/// The address that a connection counts for: proxies and programs of this machine bring many clients.
fn counted(server: &Server, peer: IpAddr) -> Option<IpAddr> {
    let ours = &server.hub.0.settings.trusted_proxies;
    let is_ours = peer.to_canonical().is_loopback() || ours.iter().any(|network| network.contains(peer));
    (!is_ours).then_some(peer)
}

#[cfg(unix)]
fn descriptors() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.unwrap_or(u64::MAX)
}

#[cfg(not(unix))]
fn descriptors() -> u64 {
    u64::MAX
}
