//! The door, over raw sockets: what never becomes a request, how long anything may take, how many there may be.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::http::{Answer, Head, PATIENCE, head, read_answer, request};
use crate::server::{Engine, Server};

/// Sends bytes and reads to the end of the connection.
async fn raw(server: &Server, text: &str) -> Answer {
    let mut socket = TcpStream::connect(server.addr).await.unwrap();
    socket.write_all(text.as_bytes()).await.unwrap();
    read_answer(&mut socket).await
}

async fn start(change: impl FnOnce(tidings::Settings) -> tidings::Settings) -> Server {
    Server::start_with(Engine::Memory, |s| change(s.dev(false))).await
}

/// Reads one answer of a connection that stays open.
async fn next_answer(socket: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = Head::parse(std::str::from_utf8(&bytes[..at]).unwrap());
            let length: usize = head.header("content-length").map_or(0, |text| text.parse().unwrap());
            if bytes.len() >= at + 4 + length {
                assert_eq!(bytes.len(), at + 4 + length, "nothing behind it");
                return Answer { status: head.status, head, body: bytes.split_off(at + 4) };
            }
        }
        let read = tokio::time::timeout(PATIENCE, socket.read_buf(&mut bytes)).await;
        assert_ne!(read.expect("an answer comes").unwrap(), 0, "{:?}", String::from_utf8_lossy(&bytes));
    }
}

/// Waits for the end of a connection, whichever way it comes.
async fn closes(socket: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut bytes)).await;
    read.expect("the connection is closed").map(drop).unwrap_or_default();
    bytes
}

/// Requests, and how each is refused.
fn hostile() -> Vec<(String, u16, &'static str)> {
    let body = r#"{"channel":"a","data":1}"#;
    let post = "POST /v1/publish HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    let length = body.len();
    let chunk = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
    let get = "GET /v1/channels?channel=a HTTP/1.1\r\nHost: a\r\n";
    vec![
        (
            format!("{post}Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"),
            400,
            "framing_invalid",
        ),
        (
            format!("{post}Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n\r\n{chunk}"),
            400,
            "framing_invalid",
        ),
        (
            format!("{post}Content-Length: {length}\r\nContent-Length: {length}\r\n\r\n{body}"),
            400,
            "framing_invalid",
        ),
        (format!("{post}Transfer-Encoding: gzip, chunked\r\n\r\n{chunk}"), 400, "framing_invalid"),
        (
            format!("{post}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"),
            400,
            "framing_invalid",
        ),
        (format!("{post}Transfer-Encoding: chunked\r\n\r\n0x{chunk}"), 400, "framing_invalid"),
        (
            format!("{post}Content-Encoding: gzip\r\nContent-Length: {length}\r\n\r\n{body}"),
            415,
            "content_encoding_unsupported",
        ),
        (
            format!("{post}Content-Encoding: identity\r\nContent-Length: {length}\r\n\r\n{body}"),
            415,
            "content_encoding_unsupported",
        ),
        (
            format!("{post}Expect: 200-ok\r\nContent-Length: {length}\r\n\r\n{body}"),
            417,
            "expectation_failed",
        ),
        (
            format!("{post}Content-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}"),
            400,
            "header_repeated",
        ),
        (format!("{get}Last-Event-ID: a\r\nLast-Event-ID: b\r\n\r\n"), 400, "header_repeated"),
        (format!("{get}Authorization: a\r\nAuthorization: b\r\n\r\n"), 400, "header_repeated"),
        (format!("{get}Content-Length: 1\r\n\r\nx"), 400, "body_unexpected"),
        (format!("{get}Host: a\r\n\r\n"), 400, "host_invalid"),
        ("GET /healthz HTTP/1.1\r\n\r\n".to_owned(), 400, "host_invalid"),
        ("GET http://a/healthz HTTP/1.1\r\nHost: b\r\n\r\n".to_owned(), 400, "host_invalid"),
        ("GET /healthz HTTP/1.1\nHost: a\n\n".to_owned(), 400, "request_malformed"),
        (format!("{get}x: a\r\n b\r\n\r\n"), 400, "request_malformed"),
        (format!("{get}x : a\r\n\r\n"), 400, "request_malformed"),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\n".to_owned(), 400, "request_malformed"),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(9_000)), 414, "uri_too_long"),
        (format!("{get}x: {}\r\n\r\n", "x".repeat(20_000)), 431, "headers_too_large"),
        (format!("{get}{}\r\n", "x: y\r\n".repeat(64)), 431, "headers_too_large"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_proxy_could_read_otherwise_gets_a_problem_and_the_end_of_the_connection() {
    let server = start(|s| s).await;
    for (text, status, code) in hostile() {
        let answer = raw(&server, &text).await;
        assert_eq!(answer.json()["code"], code, "{text:.300}");
        answer.is_problem(status, code);
        assert_eq!(answer.header("connection"), Some("close"), "{text:.300}");
        assert_eq!(answer.header("vary"), Some("origin, cookie, authorization"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    assert_eq!(
        server.get("/v1/channels?channel=a").await.json()["head"],
        json!(null),
        "nothing was published"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_a_listed_origin_can_read_why_the_door_refused_it() {
    let origin = "https://app.example";
    let server = start(|s| s.allowed_origins(vec![origin.parse().unwrap()])).await;
    let long = "x".repeat(9_000);
    for text in [
        format!("GET /{long} HTTP/1.1\r\nHost: a\r\nOrigin: {origin}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: a\r\nOrigin: {origin}\r\nContent-Encoding: x\r\n\r\n"),
    ] {
        let answer = raw(&server, &text).await;
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
        assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    }
    let foreign =
        raw(&server, &format!("GET /{long} HTTP/1.1\r\nHost: a\r\nOrigin: https://evil\r\n\r\n")).await;
    assert_eq!((foreign.status, foreign.header("access-control-allow-origin")), (414, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_before_a_bad_one_are_answered_and_the_bad_one_ends_the_connection() {
    let server = start(|s| s).await;
    let good = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let bad = "GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n";
    let mut socket = TcpStream::connect(server.addr).await.unwrap();
    socket.write_all(format!("{good}{good}{bad}{good}").as_bytes()).await.unwrap();
    let bytes = closes(&mut socket).await;
    let text = String::from_utf8(bytes).unwrap();
    let statuses: Vec<&str> = text.match_indices("HTTP/1.1 ").map(|(at, _)| &text[at + 9..at + 12]).collect();
    assert_eq!(statuses, ["200", "200", "400"], "{text}");
    // In pieces, and on a connection that was used before.
    let mut socket = TcpStream::connect(server.addr).await.unwrap();
    socket.write_all(good.as_bytes()).await.unwrap();
    assert_eq!(next_answer(&mut socket).await.status, 200);
    for part in bad.as_bytes().chunks(5) {
        socket.write_all(part).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    read_answer(&mut socket).await.is_problem(400, "host_invalid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_in_pieces_and_a_body_in_chunks_are_read() {
    let server = start(|s| s).await;
    let text = "POST /v1/publish HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n\
        c\r\n{\"channel\":\"\r\nc;x=y\r\na\",\"data\":1}\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for size in [1, 7, 50, 1_000] {
        let mut socket = TcpStream::connect(server.addr).await.unwrap();
        socket.set_nodelay(true).unwrap();
        for part in text.as_bytes().chunks(size) {
            socket.write_all(part).await.unwrap();
            tokio::task::yield_now().await;
        }
        let text = String::from_utf8(closes(&mut socket).await).unwrap();
        assert!(text.starts_with("HTTP/1.1 201") && text.contains("HTTP/1.1 200"), "{size}: {text}");
    }
    // A head of several buffers.
    let large = "x".repeat(15_000);
    let mut socket = TcpStream::connect(server.addr).await.unwrap();
    let text = head(server.addr, "GET", "/healthz", &[("x", &large), ("connection", "close")]);
    let (first, second) = text.as_bytes().split_at(9_000);
    socket.write_all(first).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    socket.write_all(second).await.unwrap();
    assert_eq!(read_answer(&mut socket).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_whose_chunks_are_not_valid_takes_no_effect() {
    let server = start(|s| s).await;
    let head = "POST /v1/publish HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = r#"{"channel":"a","data":1}"#;
    for chunks in [
        format!("{:x}\n{body}\r\n0\r\n\r\n", body.len()),
        format!("{:x}\r\n{body}\n0\r\n\r\n", body.len()),
        format!("{:x}\r\n{body}\r\n0\r\nx: y\n\r\n", body.len()),
        format!("{:x}\r\n{body}x\r\n0\r\n\r\n", body.len()),
    ] {
        let mut socket = TcpStream::connect(server.addr).await.unwrap();
        socket
            .write_all(format!("{head}{chunks}GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let text = String::from_utf8(closes(&mut socket).await).unwrap();
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 400"), "{text}");
        assert!(!text.contains("HTTP/1.1 200"), "what stands behind is no request");
    }
    assert_eq!(server.get("/v1/channels?channel=a").await.json()["head"], json!(null));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_does_not_arrive_in_time_is_told_so_and_a_quick_client_may_be_idle_for_longer() {
    let server =
        start(|s| s.head_timeout(Duration::from_millis(200)).idle_timeout(Duration::from_secs(2))).await;
    let mut idle = TcpStream::connect(server.addr).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert_eq!(next_answer(&mut idle).await.status, 200);
    let mut slow = TcpStream::connect(server.addr).await.unwrap();
    let dripping = async {
        for byte in b"GET /healthz HTTP/1.1\r\nHost: a\r\nx: ".iter().chain(std::iter::repeat(&b'x')) {
            if slow.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! { () = dripping => {} () = tokio::time::sleep(Duration::from_millis(600)) => {} }
    let mut bytes = Vec::new();
    slow.read_to_end(&mut bytes).await.map(drop).unwrap_or_default();
    assert!(bytes.starts_with(b"HTTP/1.1 408"), "{:?}", String::from_utf8_lossy(&bytes));
    let mut silent = TcpStream::connect(server.addr).await.unwrap();
    assert_eq!(closes(&mut silent).await, b"");
    // The idle one was there all the time.
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert_eq!(next_answer(&mut idle).await.status, 200);
    assert_eq!(closes(&mut idle).await, b"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_not_taken_ends_its_connection() {
    let server = start(|s| s.write_timeout(Duration::from_millis(300))).await;
    for n in 0..10 {
        server.publish(json!({"channel": "a", "data": format!("{n}{}", "x".repeat(250_000))})).await;
    }
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2_048).unwrap();
    let mut socket = socket.connect(server.addr).await.unwrap();
    for _ in 0..4 {
        let text = head(server.addr, "GET", "/v1/history?channel=a", &[]);
        socket.write_all(text.as_bytes()).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let bytes = closes(&mut socket).await;
    assert!(bytes.len() < 9_000_000, "{} bytes of 10 MB came", bytes.len());
    // One that takes a little now and then gets all of it.
    let mut slow = TcpStream::connect(server.addr).await.unwrap();
    let text = head(server.addr, "GET", "/v1/history?channel=a", &[("connection", "close")]);
    slow.write_all(text.as_bytes()).await.unwrap();
    let mut got = 0;
    let mut piece = vec![0; 200_000];
    loop {
        let count = tokio::time::timeout(PATIENCE, slow.read(&mut piece)).await.unwrap().unwrap();
        if count == 0 {
            break;
        }
        got += count;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert!(got > 2_500_000, "{got}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connection_that_is_idle_for_longest_goes_when_there_are_too_many() {
    let server = start(|s| s.connections_max(4)).await;
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(TcpStream::connect(server.addr).await.unwrap());
    }
    let mut half = TcpStream::connect(server.addr).await.unwrap();
    half.write_all(b"GET /healthz HTTP/1.1\r\nHo").await.unwrap();
    // Each of these needs a place; a stream leaves its own.
    let mut stream = server.stream("channel=a").await;
    stream.hello().await;
    assert_eq!(closes(&mut silent[0]).await, b"");
    for _ in 0..10 {
        assert_eq!(server.get("/healthz").await.status, 200);
    }
    server.numbers("a", 0..5).await;
    assert_eq!(stream.numbers(5).await, [0, 1, 2, 3, 4]);
    // Nobody is let in while all are busy, and they are let in when one is done.
    let waiting: Vec<TcpStream> = {
        let mut all = Vec::new();
        for _ in 0..4 {
            let mut socket = TcpStream::connect(server.addr).await.unwrap();
            let body = r#"{"worker_id":"w","wait_ms":1000}"#;
            let text = format!(
                "POST /v1/queues/q/lease HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            socket.write_all(text.as_bytes()).await.unwrap();
            all.push(socket);
        }
        all
    };
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut turned_away = TcpStream::connect(server.addr).await.unwrap();
    assert_eq!(closes(&mut turned_away).await, b"");
    for mut socket in waiting {
        assert_eq!(next_answer(&mut socket).await.status, 204);
    }
    assert_eq!(server.get("/healthz").await.status, 200);
    assert!(server.metric("tidings_connections_refused_total").await >= 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_connections_are_paced_and_none_is_lost() {
    let server = start(|s| s.connections_per_second(50)).await;
    let begun = tokio::time::Instant::now();
    for _ in 0..90 {
        let answer = request(server.addr, "GET", "/healthz", &[], b"").await;
        assert_eq!(answer.status, 200);
    }
    // A burst of a second is let in at once.
    assert!(begun.elapsed() > Duration::from_millis(500), "{:?}", begun.elapsed());
}
