//! The ways a stream is asked for: HTTP/1.0, a kept-alive connection, HTTP/2, another server.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::client::Stream;
use crate::http::{Head, PATIENCE, head, read_answer, request};
use crate::server::{Engine, Server, keep};

on_each_engine! {
    http_1_0_gets_the_stream,
    a_kept_alive_connection_becomes_a_stream,
    pipelined_bytes_are_dropped_and_too_many_close,
    an_answer_before_a_pipelined_stream_is_whole,
    head_has_the_head_and_no_stream,
    http_2_and_another_server_carry_the_same_events,
    a_response_body_that_is_not_read_loses_nothing,
    a_response_body_ends_when_its_connection_is_closed,
    a_client_of_http_2_that_goes_is_freed,
    a_client_of_http_2_that_takes_nothing_of_a_stream_that_has_ended_loses_its_connection,
    a_slow_or_large_head_is_not_waited_for,
}

async fn read_head(socket: &mut TcpStream) -> (Head, Vec<u8>) {
    let mut bytes = Vec::new();
    loop {
        if let Some(at) = bytes.windows(4).position(|w: &[u8]| w == b"\r\n\r\n") {
            let body = bytes.split_off(at + 4);
            return (Head::parse(std::str::from_utf8(&bytes[..at]).unwrap()), body);
        }
        let read = tokio::time::timeout(PATIENCE, socket.read_buf(&mut bytes)).await;
        assert_ne!(read.expect("a head comes").unwrap(), 0);
    }
}

async fn http_1_0_gets_the_stream(engine: Engine) {
    let server = Server::start(engine).await;
    let mut socket = TcpStream::connect(server.addr).await.unwrap();
    let text = format!("GET /events?channel=a HTTP/1.0\r\nhost: {}\r\n\r\n", server.addr);
    socket.write_all(text.as_bytes()).await.unwrap();
    let mut stream = Stream::answered(socket, "").await;
    stream.hello().await;
    server.numbers("a", 0..3).await;
    assert_eq!(stream.numbers(3).await, [0, 1, 2]);
    assert_eq!(stream.head.header("transfer-encoding"), None);
}

async fn a_kept_alive_connection_becomes_a_stream(engine: Engine) {
    let server = Server::start(engine).await;
    let mut socket = TcpStream::connect(server.addr).await.unwrap();
    for _ in 0..3 {
        let text = head(server.addr, "GET", "/healthz", &[]);
        socket.write_all(text.as_bytes()).await.unwrap();
        let (head, mut body) = read_head(&mut socket).await;
        assert_eq!(head.status, 200);
        while body.len() < head.header("content-length").unwrap().parse().unwrap() {
            socket.read_buf(&mut body).await.unwrap();
        }
    }
    let mut stream = Stream::on(socket, server.addr, "/events?channel=a", None).await;
    stream.hello().await;
    server.numbers("a", 0..2).await;
    assert_eq!(stream.numbers(2).await, [0, 1]);
}

async fn pipelined_bytes_are_dropped_and_too_many_close(engine: Engine) {
    let server = Server::start(engine).await;
    let mut socket = TcpStream::connect(server.addr).await.unwrap();
    let stream = head(server.addr, "GET", "/events?channel=a", &[]);
    let next = head(server.addr, "GET", "/healthz", &[]);
    socket.write_all(format!("{stream}{next}").as_bytes()).await.unwrap();
    let mut stream = Stream::answered(socket, "").await;
    stream.hello().await;
    let crate::client::Source::Socket(socket) = stream.into_source() else { panic!("a socket") };
    let (mut read, mut write) = socket.into_split();
    // Up to 64 KiB nothing happens.
    write.write_all(&vec![b'x'; 30_000]).await.unwrap();
    server.until_metric("tidings_connections_behind", 0.0).await;
    server.numbers("a", 0..1).await;
    let mut bytes = Vec::new();
    while !String::from_utf8_lossy(&bytes).contains("data: 0\n") {
        assert_ne!(tokio::time::timeout(PATIENCE, read.read_buf(&mut bytes)).await.unwrap().unwrap(), 0);
    }
    assert!(!String::from_utf8_lossy(&bytes).contains("HTTP/1.1"), "no answer to what was pipelined");
    let sending = tokio::spawn(async move { while write.write_all(&[b'x'; 8_192]).await.is_ok() {} });
    server.until_metric("tidings_connections", 0.0).await;
    tokio::time::timeout(PATIENCE, sending).await.expect("the server closes").unwrap();
}

async fn an_answer_before_a_pipelined_stream_is_whole(engine: Engine) {
    let server = Server::start_with(engine, |s| s.retention(keep(100_000))).await;
    for n in 0..20 {
        server.publish(json!({"channel": "big", "text": format!("{n}{}", "x".repeat(150_000))})).await;
    }
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2_048).unwrap();
    let mut socket = socket.connect(server.addr).await.unwrap();
    let history = head(server.addr, "GET", "/v1/history?channel=big", &[]);
    let stream = head(server.addr, "GET", "/events?channel=a", &[]);
    socket.write_all(format!("{history}{stream}").as_bytes()).await.unwrap();
    // The answer cannot be flushed while nobody reads it: the stream's head must not overtake it.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (first, mut body) = read_head(&mut socket).await;
    let length: usize = first.header("content-length").unwrap().parse().unwrap();
    let mut rest = Vec::new();
    while body.len() < length {
        let read = tokio::time::timeout(PATIENCE, socket.read_buf(&mut body)).await;
        assert_ne!(read.expect("the answer comes").unwrap(), 0, "{} of {length}", body.len());
    }
    rest.extend(body.split_off(length));
    let _: serde_json::Value = serde_json::from_slice(&body).unwrap();
    while !rest.windows(13).any(|w| w == b"tidings.hello") {
        let read = tokio::time::timeout(PATIENCE, socket.read_buf(&mut rest)).await;
        assert_ne!(read.expect("the stream comes").unwrap(), 0);
    }
    assert!(rest.starts_with(b"HTTP/1.1 200 OK\r\n"));
}

async fn head_has_the_head_and_no_stream(engine: Engine) {
    let server = Server::start(engine).await;
    let mut stream = server.stream("channel=a").await;
    stream.hello().await;
    let answer = request(server.addr, "HEAD", "/events?channel=a", &[], b"").await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    let without_date = |head: &Head| {
        let mut headers = head.headers.clone();
        headers.retain(|(name, _)| name != "date");
        headers.sort();
        headers
    };
    assert_eq!(without_date(&answer.head), without_date(&stream.head));
    assert!((server.metric("tidings_connections").await - 1.0).abs() < f64::EPSILON);
    let bad = request(server.addr, "HEAD", "/events?channel=a%20b", &[], b"").await;
    assert_eq!((bad.status, bad.body.len()), (400, 0));
    // HTTP/2 ends the answer as well.
    let mut client = http2(server.addr).await;
    let asked = Request::head(format!("http://{}/events?channel=a", server.addr));
    let answer = client.send_request(asked.body(Empty::new()).unwrap()).await.unwrap();
    let collected = tokio::time::timeout(PATIENCE, answer.into_body().collect()).await;
    assert!(collected.expect("the answer ends").unwrap().to_bytes().is_empty());
}

type Http2 = hyper::client::conn::http2::SendRequest<Empty<Bytes>>;

pub async fn http2(addr: SocketAddr) -> Http2 {
    http2_with(addr, 1 << 20).await
}

/// One that lets the server send so many bytes ahead.
pub async fn http2_with(addr: SocketAddr, window: u32) -> Http2 {
    let socket = TcpStream::connect(addr).await.unwrap();
    let (client, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window)
        .handshake(TokioIo::new(socket))
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

pub async fn stream_on(client: &mut Http2, addr: SocketAddr, query: &str) -> Stream {
    stream_with(client, Request::get(format!("http://{addr}/events?{query}"))).await
}

pub async fn stream_with(client: &mut Http2, asked: http::request::Builder) -> Stream {
    let asked = asked.body(Empty::new()).unwrap();
    let answer = tokio::time::timeout(PATIENCE, client.send_request(asked)).await.unwrap().unwrap();
    let headers = answer.headers().iter();
    let headers = headers.map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned())).collect();
    let head = Head { status: answer.status().as_u16(), headers };
    Stream::of_body(head, answer.into_body())
}

/// The hub's routes in a server that knows nothing of the fast path.
async fn in_axum(server: &Server) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let router = server.hub.router();
    tokio::spawn(async move { axum::serve(listener, router).await });
    addr
}

async fn http1(addr: SocketAddr, query: &str) -> Stream {
    let socket = TcpStream::connect(addr).await.unwrap();
    let (mut client, connection) =
        hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    let asked = Request::get(format!("/events?{query}")).header("host", addr.to_string());
    let answer = client.send_request(asked.body(Empty::new()).unwrap()).await.unwrap();
    let headers = answer.headers().iter();
    let headers = headers.map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned())).collect();
    let head = Head { status: answer.status().as_u16(), headers };
    Stream::of_body(head, answer.into_body())
}

async fn http_2_and_another_server_carry_the_same_events(engine: Engine) {
    let server = Server::start_with(engine, |s| s.retention(keep(100_000))).await;
    server.numbers("a", 0..2_000).await;
    let other = in_axum(&server).await;
    let mut client = http2(server.addr).await;
    let query = "channel=a&channel=b&from=start";
    let mut streams = [
        stream_on(&mut client, server.addr, query).await,
        stream_on(&mut client, server.addr, query).await,
        http1(other, query).await,
        server.stream(query).await,
    ];
    for stream in &mut streams {
        stream.hello().await;
        assert_eq!(stream.head.header("content-type"), Some("text/event-stream; charset=utf-8"));
        assert_eq!(stream.head.header("cache-control"), Some("no-store, no-cache, no-transform"));
        assert_eq!(stream.head.header("x-accel-buffering"), Some("no"));
    }
    server.numbers("b", 2_000..2_100).await;
    for n in 2_100..2_130 {
        server.numbers("a", n..n + 1).await;
    }
    server.publish(json!({"channel": "a", "data": 2_130, "final": true})).await;
    server.publish(json!({"channel": "b", "data": 2_131, "final": true})).await;
    let all: Vec<u64> = (0..2_132).collect();
    for (index, stream) in streams.iter_mut().enumerate() {
        assert_eq!(stream.numbers(2_132).await, all, "{index}");
        stream.ends().await;
    }
    assert_eq!(streams[0].head.header("connection"), None);
    server.until_metric("tidings_connections", 0.0).await;
}

async fn a_response_body_that_is_not_read_loses_nothing(engine: Engine) {
    let server = Server::start(engine).await;
    let mut client = http2(server.addr).await;
    let other = in_axum(&server).await;
    let mut slow = [stream_on(&mut client, server.addr, "channel=a").await, http1(other, "channel=a").await];
    for stream in &mut slow {
        stream.hello().await;
    }
    let mut quick = server.stream("channel=a").await;
    quick.hello().await;
    server.until_metric("tidings_connections_behind", 0.0).await;
    let text = "x".repeat(100_000);
    for n in 0..100 {
        server.publish(json!({"channel": "a", "text": format!("{n} {text}")})).await;
        quick.event().await;
        server.post(r#"{"channel":"a","event":"typing","data":0,"ephemeral":true}"#).await;
        quick.event().await;
    }
    for stream in &mut slow {
        let mut next = 0;
        while next < 100 {
            let event = stream.event().await;
            if event.event != "typing" {
                assert!(event.data.starts_with(&format!("{next} ")), "{next}");
                next += 1;
            }
        }
    }
}

/// A stream whose client took nothing of thirty events until its shard let it go.
async fn stalled(server: &Server, client: &mut Http2) -> Stream {
    let mut stalled = stream_on(client, server.addr, "channel=a").await;
    stalled.hello().await;
    server.until_metric("tidings_connections_behind", 0.0).await;
    for n in 0..30 {
        server.publish(json!({"channel": "a", "text": format!("{n} {}", "x".repeat(100_000))})).await;
    }
    server.until_metric("tidings_stalled_total", 1.0).await;
    stalled
}

async fn a_response_body_ends_when_its_connection_is_closed(engine: Engine) {
    // How long a stream has been stalled is looked at in the rhythm of its keep-alive.
    let short = Duration::from_millis(300);
    let server = Server::start_with(engine, |s| s.stall(short).keepalive(short)).await;
    let mut client = http2(server.addr).await;
    let mut closed = stream_on(&mut client, server.addr, "channel=a&as=ada").await;
    closed.hello().await;
    server.until_metric("tidings_connections_behind", 0.0).await;
    assert_eq!(server.delete("/v1/connections?subject=ada").await.json(), json!({"closed": 1}));
    closed.ends().await;
    // One that stalls is let go; what it had taken is whole, and it resumes.
    let mut stalled = stalled(&server, &mut client).await;
    let mut got = 0;
    while let Some(event) = stalled.next().await {
        assert!(event.data.starts_with(&format!("{got} ")));
        got += 1;
    }
    assert!(got < 30);
    let mut again = server.resume("channel=a", &stalled.last_id).await;
    for n in got..30 {
        assert!(again.event().await.data.starts_with(&format!("{n} ")));
    }
}

async fn a_client_of_http_2_that_takes_nothing_of_a_stream_that_has_ended_loses_its_connection(
    engine: Engine,
) {
    let short = Duration::from_millis(300);
    let server = Server::start_with(engine, |s| s.stall(short).keepalive(short).write_timeout(short)).await;
    let mut client = http2(server.addr).await;
    let _stalled = stalled(&server, &mut client).await;
    // Else what it does not take would be kept for as long as it answers pings.
    let closed = async {
        while client.ready().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.expect("the connection is closed");
}

async fn a_client_of_http_2_that_goes_is_freed(engine: Engine) {
    let server = Server::start(engine).await;
    let mut client = http2(server.addr).await;
    let mut one = stream_on(&mut client, server.addr, "channel=a").await;
    let mut two = stream_on(&mut client, server.addr, "channel=a").await;
    one.hello().await;
    two.hello().await;
    drop(one);
    server.until_metric("tidings_connections", 1.0).await;
    drop((two, client));
    server.until_metric("tidings_connections", 0.0).await;
}

async fn a_slow_or_large_head_is_not_waited_for(engine: Engine) {
    let short = Duration::from_millis(200);
    let server = Server::start_with(engine, |s| s.head_timeout(short).idle_timeout(short)).await;
    for part in ["", "P", "PRI * HTTP/2.0\r\n", "GET /events HTT", "GET /healthz HTTP/1.1\r\nhost: x\r\n"] {
        let mut socket = TcpStream::connect(server.addr).await.unwrap();
        socket.write_all(part.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut bytes)).await;
        assert!(read.is_ok(), "{part:?} is waited for");
    }
    // A connection that is kept alive and silent is closed as well.
    let mut socket = TcpStream::connect(server.addr).await.unwrap();
    socket.write_all(head(server.addr, "GET", "/healthz", &[]).as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut socket).await.status, 200);
    let many: Vec<(String, String)> = (0..100).map(|n| (format!("x-{n}"), "1".to_owned())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(request(server.addr, "GET", "/healthz", &many, b"").await.status, 431);
    let large = "x".repeat(400_000);
    for text in [
        head(server.addr, "GET", "/healthz", &[("x-large", &large)]),
        head(server.addr, "GET", &format!("/healthz?{large}"), &[]),
    ] {
        let mut socket = TcpStream::connect(server.addr).await.unwrap();
        socket.write_all(text.as_bytes()).await.unwrap_or_default();
        let mut bytes = Vec::new();
        // A server that does not read all of it may reset the connection before its answer is read.
        let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut bytes)).await;
        assert!(read.is_ok());
        assert!(
            bytes.is_empty() || bytes.starts_with(b"HTTP/1.1 4"),
            "{:.40?}",
            String::from_utf8_lossy(&bytes)
        );
    }
}
