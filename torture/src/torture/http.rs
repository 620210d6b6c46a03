//! One small request at a time, without a client library in between.
//!
//! Owns: one request and its answer. Does not know: streams.
//! Flow: in ← a method, a path, lines of the head · out → a status and a body.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a whole answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long more of an answer that has begun is waited for.
const MOMENT: Duration = Duration::from_millis(500);

/// The status of a head, once all of it is here, and where the body begins.
pub(crate) fn head(bytes: &[u8]) -> Option<(u16, usize)> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let status = std::str::from_utf8(bytes.get(9..12)?).ok()?.parse().ok()?;
    Some((status, end + 4))
}

/// GET without credentials.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    ask(address, ("GET", path), "", "").await
}

/// A request over a connection of its own; `lines` go into its head, each with its end.
pub(crate) async fn ask(
    address: SocketAddr,
    (method, path): (&str, &str),
    lines: &str,
    json: &str,
) -> Result<(u16, String)> {
    let exchange = async {
        let mut socket = TcpStream::connect(address).await?;
        let body = match json.len() {
            0 => String::new(),
            length => format!("content-type: application/json\r\ncontent-length: {length}\r\n"),
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\n{lines}{body}connection: close\r\n\r\n{json}"
        );
        socket.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await?;
        let (status, body) = head(&answer).context("no head")?;
        let body = String::from_utf8_lossy(answer.get(body..).unwrap_or_default()).into_owned();
        Ok((status, body))
    };
    tokio::time::timeout(PATIENCE, exchange).await?
}

/// A value for a query.
pub(crate) fn escape(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02x}") })
        .collect()
}

/// GET of something that may not end: the status, and what had come when it was silent for a moment or had ended.
pub(crate) async fn begin(address: SocketAddr, path: &str, lines: &str) -> Result<(u16, String)> {
    let mut socket = tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await??;
    socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n{lines}\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    let mut piece = [0; 4_096];
    loop {
        let patience = if answer.is_empty() { PATIENCE } else { MOMENT };
        match tokio::time::timeout(patience, socket.read(&mut piece)).await {
            Ok(read) => match read? {
                0 => break,
                count => answer.extend_from_slice(piece.get(..count).unwrap_or_default()),
            },
            Err(_) => break,
        }
        if answer.len() > 64 * 1024 {
            break;
        }
    }
    let (status, body) = head(&answer).context("no head")?;
    Ok((status, String::from_utf8_lossy(answer.get(body..).unwrap_or_default()).into_owned()))
}
