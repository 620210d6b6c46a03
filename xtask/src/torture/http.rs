//! One small request at a time, without a client library in between.
//!
//! Owns: GET. Does not know: streams.
//! Flow: in ← a path · out → a status and a body.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The status of a head, once all of it is here, and where the body begins.
pub(crate) fn head(bytes: &[u8]) -> Option<(u16, usize)> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let status = std::str::from_utf8(bytes.get(9..12)?).ok()?.parse().ok()?;
    Some((status, end + 4))
}

/// GET over a connection of its own.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let exchange = async {
        let mut socket = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await?;
        let (status, body) = head(&answer).context("no head")?;
        let body = String::from_utf8_lossy(answer.get(body..).unwrap_or_default()).into_owned();
        Ok((status, body))
    };
    tokio::time::timeout(Duration::from_secs(10), exchange).await?
}

/// A value for a query.
pub(crate) fn escape(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02x}") })
        .collect()
}
