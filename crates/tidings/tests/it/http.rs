//! One request over a socket of its own.
//!
//! Owns: the text of HTTP/1.1 as these tests need it.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long anything may take before a test says that it does not come.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A response's head.
#[derive(Debug, Clone, Default)]
pub struct Head {
    pub status: u16,
    pub headers: Vec<(String, String)>,
}

impl Head {
    pub fn parse(text: &str) -> Self {
        let mut lines = text.lines();
        let status = lines.next().and_then(|l| l.split(' ').nth(1)).and_then(|s| s.parse().ok());
        let header =
            |line: &str| line.split_once(':').map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()));
        Self {
            status: status.unwrap_or_else(|| panic!("no status in {text:?}")),
            headers: lines.filter_map(header).collect(),
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: Head,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e} in {}", self.text()))
    }

    pub fn lines(&self) -> Vec<Value> {
        self.text().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// Demands a problem with a code, in the form that every problem has.
    #[track_caller]
    pub fn is_problem(&self, status: u16, code: &str) -> Value {
        assert_eq!((self.status, self.header("content-type")), (status, Some("application/problem+json")));
        let body = self.json();
        assert_eq!((&body["code"], &body["status"]), (&Value::from(code), &Value::from(status)), "{body}");
        for text in ["title", "detail"] {
            assert!(body[text].as_str().is_some_and(|t| !t.is_empty()), "{text} in {body}");
        }
        assert_eq!(self.header("cache-control"), Some("no-store"));
        assert_eq!(self.header("retry-after").is_some(), matches!(status, 429 | 503), "{body}");
        body
    }

    /// A problem that says that nothing was committed.
    #[track_caller]
    pub fn is_refusal(&self, status: u16, code: &str) -> Value {
        let body = self.is_problem(status, code);
        assert_eq!(body["committed"], Value::Bool(false), "{body}");
        body
    }
}

/// The text of a request.
pub fn head(addr: SocketAddr, method: &str, target: &str, headers: &[(&str, &str)]) -> String {
    let mut head = format!("{method} {target} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        head.push_str(&format!("host: {addr}\r\n"));
    }
    headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    head.push_str("\r\n");
    head
}

/// Sends one request and reads the whole answer.
pub async fn request(
    addr: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let length = body.len().to_string();
    let mut all = headers.to_vec();
    all.push(("connection", "close"));
    if !body.is_empty() || method == "POST" {
        all.push(("content-length", &length));
    }
    let mut socket = TcpStream::connect(addr).await.unwrap();
    socket.write_all(head(addr, method, target, &all).as_bytes()).await.unwrap();
    // A server that refuses before it has read everything may close early.
    socket.write_all(body).await.unwrap_or_default();
    read_answer(&mut socket).await
}

/// Reads to the end of the connection.
pub async fn read_answer(socket: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut bytes)).await;
    let read = read.expect("the answer ends");
    let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
        panic!("no head in {:?} ({read:?})", String::from_utf8_lossy(&bytes));
    };
    let head = Head::parse(std::str::from_utf8(&bytes[..at]).unwrap());
    Answer { status: head.status, head, body: bytes.split_off(at + 4) }
}
