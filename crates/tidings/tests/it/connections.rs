//! Connections: listed, closed, drained, gone.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::Stream;
use crate::http::{PATIENCE, head, read_answer, request};
use crate::protocols::http2_with;
use crate::server::{Engine, Server, keep};

on_each_engine! {
    a_connection_is_listed_and_freed_when_its_client_goes,
    a_closed_connection_resumes_without_a_loss,
    connections_are_closed_by_subject,
    a_graceful_stop_ends_every_stream_and_returns,
    an_answer_that_has_begun_is_finished_before_a_stop,
    while_draining_new_streams_are_asked_to_come_back,
    a_silent_stream_gets_comments,
    a_reader_that_takes_nothing_for_the_stall_time_is_closed,
    too_many_streams_are_told_to_come_back,
    streams_that_are_refused_take_nobodys_turn,
    a_stream_ends_at_the_end_of_its_life_and_resumes,
    a_stream_that_waits_for_its_turn_can_be_closed_and_misses_nothing,
    a_client_behind_a_proxy_is_counted_by_the_address_that_the_proxy_saw,
}

async fn connection(stream: &mut Stream) -> String {
    let data: Value = serde_json::from_str(&stream.hello().await.data).unwrap();
    data["connection"].as_str().unwrap().to_owned()
}

async fn a_connection_is_listed_and_freed_when_its_client_goes(engine: Engine) {
    let server = Server::start(engine).await;
    let mut ada = server.stream("channel=b&channel=a&as=ada").await;
    let mut bob = server.stream("as=bob").await;
    let (id, _) = (connection(&mut ada).await, connection(&mut bob).await);
    server.until_metric("tidings_connections_behind", 0.0).await;
    let all = server.get("/v1/connections").await.json();
    assert_eq!(all["connections"].as_array().map(Vec::len), Some(2));
    let of_ada = server.get("/v1/connections?subject=ada").await.json();
    let since = of_ada["connections"][0]["since"].as_u64().unwrap();
    let expected =
        json!({"id": id, "subject": "ada", "channels": ["b", "a"], "since": since, "behind": false});
    assert_eq!(of_ada, json!({"connections": [expected]}));
    assert!((server.metric("tidings_connections").await - 2.0).abs() < f64::EPSILON);
    drop(ada);
    server.until_metric("tidings_connections", 1.0).await;
    // A reset instead of an orderly end.
    let crate::client::Source::Socket(socket) = bob.into_source() else { panic!("a socket") };
    socket.set_zero_linger().unwrap();
    drop(socket);
    server.until_metric("tidings_connections", 0.0).await;
    assert_eq!(server.get("/v1/connections").await.json(), json!({"connections": []}));
}

async fn a_stream_that_waits_for_its_turn_can_be_closed_and_misses_nothing(engine: Engine) {
    let server = Server::start_with(engine, |s| s.streams_per_second(1)).await;
    // One comes at once, one more of the burst; the others would wait for one and two seconds.
    let _burst = (server.stream("channel=a").await, server.stream("channel=a").await);
    let publish = async {
        server.until_metric("tidings_connections", 4.0).await;
        server.numbers("a", 0..3).await;
        let closed = server.delete("/v1/connections?subject=eve").await.json();
        assert_eq!(closed["closed"], 1);
    };
    let waits = server.stream("channel=a&as=ada");
    let (mut ada, mut eve, ()) = tokio::join!(waits, server.stream("channel=a&as=eve"), publish);
    eve.hello().await;
    // On a slow machine it may have begun, and got some.
    while eve.next().await.is_some() {}
    ada.hello().await;
    assert_eq!(ada.numbers(3).await, [0, 1, 2]);
}

async fn a_closed_connection_resumes_without_a_loss(engine: Engine) {
    let server = Server::start(engine).await;
    let mut stream = server.stream("channel=a").await;
    let id = connection(&mut stream).await;
    server.numbers("a", 0..3).await;
    assert_eq!(stream.numbers(3).await, [0, 1, 2]);
    assert_eq!(server.delete(&format!("/v1/connections/{id}")).await.status, 204);
    stream.ends().await;
    server.numbers("a", 3..5).await;
    let mut again = server.resume("channel=a", &stream.last_id).await;
    assert_eq!(again.numbers(2).await, [3, 4]);
    drop(stream);
    for gone in [&*id, "c0000000000000000", "what", "%00", "c"] {
        for _ in 0..100 {
            let answer = server.delete(&format!("/v1/connections/{gone}")).await;
            if answer.status != 204 {
                answer.is_problem(404, "connection_not_found");
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        server.delete(&format!("/v1/connections/{gone}")).await.is_problem(404, "connection_not_found");
    }
}

async fn connections_are_closed_by_subject(engine: Engine) {
    let server = Server::start(engine).await;
    let (mut one, mut two, mut other) = (
        server.stream("as=ada").await,
        server.stream("channel=a&as=ada").await,
        server.stream("as=bob").await,
    );
    for stream in [&mut one, &mut two, &mut other] {
        stream.hello().await;
    }
    let closed = server.delete("/v1/connections?subject=ada").await;
    assert_eq!((closed.status, closed.json()), (200, json!({"closed": 2})));
    one.ends().await;
    two.ends().await;
    server.numbers("user:bob", 0..1).await;
    assert_eq!(other.numbers(1).await, [0]);
    server.delete("/v1/connections").await.is_problem(400, "query_invalid");
}

async fn a_graceful_stop_ends_every_stream_and_returns(engine: Engine) {
    let mut server = Server::start(engine).await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = server.stream("channel=a").await;
        stream.hello().await;
        streams.push(stream);
    }
    let mut stalled = crate::slow::reader(server.addr, "channel=a", None).await;
    stalled.hello().await;
    let idle = TcpStream::connect(server.addr).await.unwrap();
    server.until_metric("tidings_connections_behind", 0.0).await;
    server.publish(json!({"channel": "a", "text": "x".repeat(250_000)})).await;
    server.begin_stop();
    for stream in &mut streams {
        stream.event().await;
        let drain = stream.next().await.unwrap();
        assert_eq!((&*drain.event, &*drain.data), ("tidings.drain", r#"{"spread_ms":300}"#));
        assert!(stream.retry_ms.is_some_and(|ms| ms >= 500));
        stream.ends().await;
    }
    server.stopped().await;
    drop((stalled, idle));
}

async fn an_answer_that_has_begun_is_finished_before_a_stop(engine: Engine) {
    let (drain, keep) = (Duration::from_secs(10), keep(100_000));
    let mut server = Server::start_with(engine, |s| s.drain(drain).retention(keep)).await;
    for n in 0..20 {
        server.publish(json!({"channel": "big", "text": format!("{n}{}", "x".repeat(150_000))})).await;
    }
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2_048).unwrap();
    let mut plain = socket.connect(server.addr).await.unwrap();
    plain.write_all(head(server.addr, "GET", "/v1/history?channel=big", &[]).as_bytes()).await.unwrap();
    let mut client = http2_with(server.addr, 65_535).await;
    let asked = hyper::Request::get(format!("http://{}/v1/history?channel=big", server.addr));
    let answer = client.send_request(asked.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    plain.readable().await.unwrap();
    // Answered once, so that it has been accepted: the listener takes what has not with it.
    let mut idle = TcpStream::connect(server.addr).await.unwrap();
    idle.write_all(head(server.addr, "GET", "/healthz", &[]).as_bytes()).await.unwrap();
    idle.readable().await.unwrap();
    server.begin_stop();
    // Whoever waits for a request is let go; the others have not read anything so far.
    assert_eq!(read_answer(&mut idle).await.status, 200);
    // Longer than a connection has that is let go.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let plain = read_answer(&mut plain).await;
    assert_eq!(plain.header("content-length"), Some(&*plain.body.len().to_string()));
    let body = tokio::time::timeout(PATIENCE, answer.into_body().collect()).await.unwrap();
    assert_eq!(body.expect("it is whole").to_bytes(), plain.body);
    server.stopped().await;
}

async fn while_draining_new_streams_are_asked_to_come_back(engine: Engine) {
    let mut server = Server::start_with(engine, |s| s.drain(Duration::from_secs(3))).await;
    let ids = server.numbers("a", 0..2).await;
    // Streams that hold the drain open for a while.
    let mut streams = Vec::new();
    for _ in 0..30 {
        let mut stream = server.stream("channel=a").await;
        stream.hello().await;
        streams.push(stream);
    }
    server.begin_stop();
    while !server.hub.is_draining() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut refused = server.resume("channel=a", &ids[0]).await;
    assert_eq!(refused.head.status, 200);
    refused.ends().await;
    assert_eq!(refused.last_id, ids[0], "the position stays");
    assert!(refused.retry_ms.is_some_and(|ms| (2_000..=4_000).contains(&ms)), "{:?}", refused.retry_ms);
    server.get("/events?channel=a").await.is_problem(503, "draining");
    let ready = server.get("/readyz").await;
    assert_eq!((ready.status, ready.json()), (503, json!({"ready": false, "reason": "draining"})));
    assert_eq!(server.get("/healthz").await.status, 200);
    server.numbers("a", 2..3).await;
    server.stopped().await;
}

async fn a_silent_stream_gets_comments(engine: Engine) {
    let server = Server::start_with(engine, |s| s.keepalive(Duration::from_millis(100))).await;
    let mut stream = server.stream("channel=a").await;
    let hello: Value = serde_json::from_str(&stream.hello().await.data).unwrap();
    assert_eq!(hello["keepalive_ms"], 100);
    let raw = stream.raw.clone();
    let crate::client::Source::Socket(mut socket) = stream.into_source() else { panic!("a socket") };
    let mut more = raw[raw.len()..].to_vec();
    while more.len() < 9 {
        let read = tokio::time::timeout(PATIENCE, socket.read_buf(&mut more)).await;
        assert_ne!(read.expect("comments come").unwrap(), 0);
    }
    assert!(more.starts_with(b":\n\n:\n\n:\n\n"), "{:?}", String::from_utf8_lossy(&more));
}

async fn a_reader_that_takes_nothing_for_the_stall_time_is_closed(engine: Engine) {
    let server = Server::start_with(engine, |s| s.stall(Duration::from_millis(300))).await;
    let mut slow = crate::slow::reader(server.addr, "channel=a", None).await;
    slow.hello().await;
    let mut quick = server.stream("channel=a").await;
    quick.hello().await;
    for _ in 0..20 {
        server.publish(json!({"channel": "a", "text": "x".repeat(200_000)})).await;
        quick.event().await;
    }
    server.until_metric("tidings_connections", 1.0).await;
    server.numbers("a", 1..2).await;
    assert_eq!(quick.numbers(1).await, [1]);
}

async fn streams_that_are_refused_take_nobodys_turn(engine: Engine) {
    let server = Server::start_with(engine, |s| s.streams_max(2).streams_per_second(1)).await;
    let (mut one, mut two) = (server.stream("channel=a").await, server.stream("channel=a").await);
    one.hello().await;
    two.hello().await;
    // As many as there are turns in the next ten seconds.
    for _ in 0..10 {
        server.get("/events?channel=a").await.is_problem(503, "overloaded");
    }
    drop(one);
    server.until_metric("tidings_connections", 1.0).await;
    server.stream("channel=a").await.hello().await;
}

async fn too_many_streams_are_told_to_come_back(engine: Engine) {
    let server = Server::start_with(engine, |s| s.streams_max(2)).await;
    let (mut one, mut two) = (server.stream("channel=a").await, server.stream("channel=a").await);
    one.hello().await;
    two.hello().await;
    let mut third = server.stream("channel=a").await;
    assert_eq!(third.head.status, 200);
    third.ends().await;
    assert!(third.retry_ms.is_some_and(|ms| (5_000..=15_000).contains(&ms)), "{:?}", third.retry_ms);
    server.get("/events?channel=a").await.is_problem(503, "overloaded");
    drop(one);
    server.until_metric("tidings_connections", 1.0).await;
    server.stream("channel=a").await.hello().await;
}

async fn a_stream_ends_at_the_end_of_its_life_and_resumes(engine: Engine) {
    let server = Server::start_with(engine, |s| s.stream_life(Duration::from_millis(500))).await;
    let mut client = crate::protocols::http2(server.addr).await;
    let mut streams = [
        server.stream("channel=a").await,
        crate::protocols::stream_on(&mut client, server.addr, "channel=a").await,
    ];
    for stream in &mut streams {
        stream.hello().await;
    }
    server.numbers("a", 0..1).await;
    for stream in &mut streams {
        assert_eq!(stream.numbers(1).await, [0]);
        stream.ends().await;
        assert!((500..1_500).contains(&stream.retry_ms.unwrap()), "{:?}", stream.retry_ms);
        assert!(!String::from_utf8_lossy(&stream.raw).contains("tidings.drain"));
    }
    server.until_metric("tidings_aged_total", 2.0).await;
    server.numbers("a", 1..2).await;
    let mut again = server.resume("channel=a", &streams[0].last_id).await;
    assert_eq!(again.numbers(1).await, [1]);
}

async fn a_client_behind_a_proxy_is_counted_by_the_address_that_the_proxy_saw(engine: Engine) {
    let server = Server::start_with(engine, |s| s.streams_per_address(1)).await;
    // The last address is the one that the proxy wrote; what stands before it anybody could have sent.
    let from = |address: &'static str| [("x-forwarded-for", address)];
    let mut first = TcpStream::connect(server.addr).await.unwrap();
    let text = head(server.addr, "GET", "/events?channel=a", &from("10.0.0.1, 203.0.113.7"));
    first.write_all(text.as_bytes()).await.unwrap();
    server.until_metric("tidings_connections", 1.0).await;
    let again = request(server.addr, "GET", "/events?channel=a", &from("10.9.9.9, 203.0.113.7"), b"").await;
    again.is_problem(429, "streams_too_many");
    // Another address, and a program beside the server, are not concerned.
    let mut second = TcpStream::connect(server.addr).await.unwrap();
    let text = head(server.addr, "GET", "/events?channel=a", &from("203.0.113.8"));
    second.write_all(text.as_bytes()).await.unwrap();
    server.stream("channel=a").await.hello().await;
    server.stream("channel=a").await.hello().await;
    drop((first, second));
    server.until_metric("tidings_connections", 0.0).await;
    let text = head(server.addr, "GET", "/events?channel=a", &from("203.0.113.7"));
    let mut third = TcpStream::connect(server.addr).await.unwrap();
    third.write_all(text.as_bytes()).await.unwrap();
    server.until_metric("tidings_connections", 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_before_its_stream_begins_leaves_nothing_behind() {
    let server = Server::start_with(Engine::Memory, |s| s.streams_per_second(1)).await;
    let text = head(server.addr, "GET", "/events?channel=a", &[]);
    let mut sockets = Vec::new();
    for _ in 0..4 {
        let mut socket = TcpStream::connect(server.addr).await.unwrap();
        socket.write_all(text.as_bytes()).await.unwrap();
        sockets.push(socket);
    }
    // Two of them have begun.
    server.until_metric("tidings_connections", 4.0).await;
    drop(sockets);
    server.until_metric("tidings_connections", 0.0).await;
}
