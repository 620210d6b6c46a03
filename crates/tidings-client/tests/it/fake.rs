//! A server that answers each connection with the next part of a script.
//!
//! Owns: exact bytes and cuts on a real socket. Does not know: what is right.
//! Flow: in ← one `Act` per connection · out → bytes; the heads and bodies of the requests for the test to look at.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// What happens on one connection.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Send these bytes, then close.
    Send(String),
    /// Send these bytes, then keep the connection open and silent.
    Hold(String),
    /// Close without an answer, after the request was read.
    Drop,
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Fake {
    /// Listens, and goes through `script`; connections behind its end are closed at once.
    pub(crate) async fn start(script: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let script: VecDeque<Act> = script.into_iter().collect();
        let task = tokio::spawn(serve(listener, script, requests.clone()));
        Self { url, requests, task }
    }

    /// Listens, and answers each request as `answer` says, several at a time.
    pub(crate) async fn answering(answer: impl FnMut(&str) -> Act + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(serve_all(listener, Arc::new(Mutex::new(answer)), requests.clone()));
        Self { url, requests, task }
    }

    /// The requests so far: head and body.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// The value of a header in each request, `-` where it is missing.
    pub(crate) fn header(&self, name: &str) -> Vec<String> {
        let find = |request: &String| {
            let lines = request.lines().filter_map(|line| line.split_once(": "));
            lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
        };
        self.requests().iter().map(|request| find(request).unwrap_or_else(|| "-".into())).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The head of a stream and what follows.
pub(crate) fn stream(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nconnection: close\r\n\r\n{body}"
    )
}

/// A whole answer.
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

async fn serve_all(
    listener: TcpListener,
    answer: Arc<Mutex<impl FnMut(&str) -> Act + Send + 'static>>,
    requests: Arc<Mutex<Vec<String>>>,
) {
    let mut connections = JoinSet::new();
    while let Ok((mut socket, _)) = listener.accept().await {
        let (answer, requests) = (Arc::clone(&answer), Arc::clone(&requests));
        connections.spawn(async move {
            let Some(request) = read_request(&mut socket).await else { return };
            let act = {
                // One lock, so that the list has the order in which requests were answered.
                let mut answer = answer.lock().unwrap();
                requests.lock().unwrap().push(request.clone());
                answer(&request)
            };
            if let Act::Send(bytes) | Act::Hold(bytes) = &act {
                socket.write_all(bytes.as_bytes()).await.ok();
            }
            match act {
                Act::Hold(_) => std::future::pending().await,
                Act::Send(_) | Act::Drop => drop(socket.shutdown().await),
            }
        });
    }
}

async fn serve(listener: TcpListener, mut script: VecDeque<Act>, requests: Arc<Mutex<Vec<String>>>) {
    let mut held = Vec::new();
    while let Ok((mut socket, _)) = listener.accept().await {
        let Some(act) = script.pop_front() else { continue };
        let Some(request) = read_request(&mut socket).await else { continue };
        requests.lock().unwrap().push(request);
        match act {
            Act::Drop => {}
            Act::Send(bytes) => {
                // A client that has read enough may be gone.
                socket.write_all(bytes.as_bytes()).await.ok();
                socket.shutdown().await.ok();
            }
            Act::Hold(bytes) => {
                socket.write_all(bytes.as_bytes()).await.ok();
                held.push(socket);
            }
        }
    }
}

/// Reads one request; its body is as long as `content-length` says.
async fn read_request(socket: &mut TcpStream) -> Option<String> {
    let mut read = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let n = socket.read(&mut chunk).await.ok().filter(|&n| n > 0)?;
        read.extend_from_slice(&chunk[..n]);
        let text = String::from_utf8_lossy(&read).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        if head.contains("transfer-encoding: chunked") {
            if body.ends_with("0\r\n\r\n") {
                return Some(text);
            }
            continue;
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            return Some(text);
        }
    }
}
