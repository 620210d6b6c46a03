//! Connections from many source addresses.
//!
//! Owns: which loopback address a connection comes from. Does not know: what is sent.
//! Flow: in ← a server and an index · out → a socket that connects without blocking.
//!
//! There are 28,000 ports for each source address, and a server may limit streams per address.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

use anyhow::{Context, Result, bail};
use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections from one source address.
const PER_ADDRESS: usize = 1_000;
/// Addresses used of each 127.x.k.0/24.
const PER_BLOCK: usize = 250;

/// A server's address and the name that it is called by.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) host: String,
}

impl Target {
    /// Reads `http://host:port`.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let Some(rest) = url.strip_prefix("http://") else { bail!("{url:?} is not http://host:port") };
        let host = rest.trim_end_matches('/');
        let address = host.to_socket_addrs().with_context(|| format!("{url:?} is not http://host:port"))?;
        let address = address.into_iter().find(SocketAddr::is_ipv4).context("no IPv4 address")?;
        Ok(Self { address, host: host.into() })
    }

    /// The head of a stream's request, with its end.
    pub(crate) fn stream_request(&self, query: &str, last_id: Option<&str>) -> Vec<u8> {
        let id = last_id.map_or_else(String::new, |id| format!("Last-Event-ID: {id}\r\n"));
        let accept = "text/event-stream, application/problem+json";
        format!("GET /events?{query} HTTP/1.1\r\nHost: {}\r\nAccept: {accept}\r\n{id}\r\n", self.host)
            .into_bytes()
    }

    /// Begins to connect as the `index`-th client of the network 127.`network`.0.0.
    pub(crate) fn connect(&self, network: u8, index: usize) -> Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))
            .context("no socket: the open-file limit is reached")?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if self.address.ip().is_loopback() {
            let source = SocketAddr::new(IpAddr::V4(source(network, index)), 0);
            socket.bind(&source.into()).with_context(|| format!("binding {source}"))?;
        }
        match socket.connect(&self.address.into()) {
            Ok(()) => {}
            Err(error) if is_in_progress(&error) => {}
            Err(error) => return Err(error).with_context(|| format!("connecting to {}", self.address)),
        }
        Ok(TcpStream::from_std(socket.into()))
    }
}

/// The network that all connections of `network` come from, as a /16.
pub(crate) fn network(network: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, network, 0, 0)
}

fn source(network: u8, index: usize) -> Ipv4Addr {
    let address = index / PER_ADDRESS;
    let octet = |number: usize| u8::try_from(number % 256).unwrap_or(0);
    Ipv4Addr::new(127, network, 1 + octet(address / PER_BLOCK), 1 + octet(address % PER_BLOCK))
}

fn is_in_progress(error: &io::Error) -> bool {
    // EINPROGRESS has a kind of its own only in newer versions of std.
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(115)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_connections_share_an_address() {
        assert_eq!(source(1, 999).to_string(), "127.1.1.1");
        assert_eq!(source(1, 1_000).to_string(), "127.1.1.2");
        assert_eq!(source(1, 250_000).to_string(), "127.1.2.1");
        assert!(Target::parse("https://127.0.0.1:1").is_err());
    }
}
