//! One connection that is kept alive, without a client library in between.
//!
//! Owns: requests and answers, one at a time. Does not know: jobs.
//! Flow: in ← method, path, body · out → a status and a body, or an error that leaves open what became of the request.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::torture::http::head;

/// How long an answer may take; a lease waits for up to two seconds.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Connection {
    address: SocketAddr,
    socket: Option<TcpStream>,
}

/// What was answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

impl Connection {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, socket: None }
    }

    /// Sends a JSON body. After an error the next request has a new socket.
    pub(super) async fn post(&mut self, path: &str, body: &str) -> Result<Answer> {
        self.call("POST", path, "content-type: application/json\r\n", body).await
    }

    pub(super) async fn get(&mut self, path: &str) -> Result<Answer> {
        self.call("GET", path, "", "").await
    }

    /// Sends a request with more lines for its head.
    pub(super) async fn call(&mut self, method: &str, path: &str, lines: &str, body: &str) -> Result<Answer> {
        let exchange = tokio::time::timeout(PATIENCE, self.exchange(method, path, lines, body)).await;
        let answer = exchange.context("no answer in time").flatten();
        if answer.is_err() {
            self.socket = None;
        }
        answer
    }

    async fn exchange(&mut self, method: &str, path: &str, lines: &str, body: &str) -> Result<Answer> {
        let mut socket = match self.socket.take() {
            Some(socket) => socket,
            None => TcpStream::connect(self.address).await?,
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\n{lines}content-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        socket.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        let answer = loop {
            let count = socket.read(&mut buffer).await?;
            bytes.extend_from_slice(buffer.get(..count).unwrap_or_default());
            if let Some(answer) = answer(&bytes, count == 0)? {
                break answer;
            }
            if count == 0 {
                bail!("the connection ended before the answer did");
            }
        };
        // A stream's connection ends with it.
        self.socket = Some(socket).filter(|_| !answer.1);
        Ok(answer.0)
    }
}

/// An answer, once all of it is here, and whether its connection is at its end.
fn answer(bytes: &[u8], is_end: bool) -> Result<Option<(Answer, bool)>> {
    let Some((status, at)) = head(bytes) else { return Ok(None) };
    let (lines, body) = bytes.split_at(at);
    let lines = String::from_utf8_lossy(lines).to_ascii_lowercase();
    let field = |name: &str| lines.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let closes = field("connection:") == Some("close");
    let body = if status == 204 {
        Some(String::new())
    } else if let Some(length) = field("content-length:") {
        body.get(..length.parse()?).map(|body| String::from_utf8_lossy(body).into_owned())
    } else if field("transfer-encoding:") == Some("chunked") {
        unchunk(body)
    } else {
        is_end.then(|| String::from_utf8_lossy(body).into_owned())
    };
    Ok(body.map(|body| (Answer { status, body }, closes || is_end)))
}

/// A chunked body, once its last chunk is here.
fn unchunk(mut rest: &[u8]) -> Option<String> {
    let mut out = Vec::new();
    loop {
        let line = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(rest.get(..line)?).ok()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(String::from_utf8_lossy(&out).into_owned());
        }
        out.extend_from_slice(rest.get(line + 2..line + 2 + size)?);
        rest = rest.get(line + 2 + size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_or_not_there_yet() {
        let of = |text: &str, is_end| {
            let answer = answer(text.as_bytes(), is_end).unwrap();
            answer.map(|(answer, closes)| (answer.status, answer.body, closes))
        };
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab";
        assert_eq!(of(whole, false), Some((200, "ab".into(), false)));
        assert_eq!(of(&whole[..whole.len() - 1], false), None);
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        assert_eq!(of(chunked, false), Some((200, "abc".into(), false)));
        assert_eq!(of(&chunked[..chunked.len() - 8], false), None);
        let stream = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nid: 1";
        assert_eq!(of(stream, false), None);
        assert_eq!(of(stream, true), Some((200, "id: 1".into(), true)));
        assert_eq!(of("HTTP/1.1 204 No Content\r\n\r\n", false), Some((204, String::new(), false)));
    }
}
