//! HTTP/2 as hostile clients speak it: the server says what is wrong, or closes, and others notice nothing.

use std::time::Duration;

use serde_json::json;

use crate::frames::*;
use crate::http::PATIENCE;
use crate::server::{Engine, Server};

const ENHANCE_YOUR_CALM: u32 = 11;
const INITIAL_WINDOW_SIZE: u16 = 4;

async fn start(change: impl FnOnce(tidings::Settings) -> tidings::Settings) -> Server {
    Server::start_with(Engine::Memory, |s| change(s.dev(false))).await
}

/// A stream beside the attack goes on.
async fn others_go_on(server: &Server) {
    let begun = tokio::time::Instant::now();
    let mut stream = server.stream("channel=a").await;
    stream.hello().await;
    server.numbers("a", 0..3).await;
    assert_eq!(stream.numbers(3).await, [0, 1, 2]);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rapid_reset_is_told_to_calm_down() {
    let server = start(|s| s).await;
    let mut peer = Peer::connect(server.addr, &[]).await;
    let block = request("GET", "/events?channel=a", &[]);
    let mut all = Vec::new();
    for n in 0..2_000_u32 {
        all.extend(frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &block));
        all.extend(frame(RST_STREAM, 0, 2 * n + 1, &8_u32.to_be_bytes()));
    }
    peer.send(&all).await;
    assert!(matches!(peer.goes_away().await, Some(ENHANCE_YOUR_CALM) | None));
    others_go_on(&server).await;
    server.until_metric("tidings_connections", 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn continuations_without_an_end_are_refused() {
    let server = start(|s| s).await;
    let mut peer = Peer::connect(server.addr, &[]).await;
    peer.send(&frame(HEADERS, END_STREAM, 1, &request("GET", "/healthz", &[]))).await;
    let part: Vec<u8> = (0..100).flat_map(|_| field("x-filler", &"y".repeat(100))).collect();
    for _ in 0..2_000 {
        if !peer.send(&frame(CONTINUATION, 0, 1, &part)).await {
            break;
        }
    }
    assert!(peer.goes_away().await.is_none_or(|code| code == ENHANCE_YOUR_CALM));
    others_go_on(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_header_list_is_refused() {
    let server = start(|s| s).await;
    let mut peer = Peer::connect(server.addr, &[]).await;
    let mut block = request("GET", "/healthz", &[]);
    (0..150).for_each(|_| block.extend(field("x-filler", &"y".repeat(100))));
    let (first, second) = block.split_at(12_000);
    peer.send(&frame(HEADERS, END_STREAM, 1, first)).await;
    peer.send(&frame(CONTINUATION, END_HEADERS, 1, second)).await;
    // 431 on that stream, or an error on the connection; never an answer of a handler.
    let answer = peer.next_of(HEADERS).await;
    assert!(answer.is_none_or(|frame| frame.payload != [0x88]), "200 is 0x88 in HPACK");
    others_go_on(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_pings_and_settings_hold_nothing_and_nobody_up() {
    let server = start(|s| s.idle_timeout(Duration::from_millis(500))).await;
    for flood in [
        frame(PING, 0, 0, &[7; 8]),
        frame(SETTINGS, 0, 0, &[]),
        frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()),
    ] {
        let mut peer = Peer::connect(server.addr, &[]).await;
        let many = flood.repeat(1_000);
        let sending = async {
            // Nothing is read: the answers to these fill the way back.
            while peer.send(&many).await {}
        };
        tokio::join!(
            async {
                tokio::time::timeout(PATIENCE, sending).await.expect("it is closed, for it asks nothing")
            },
            others_go_on(&server)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_without_requests_is_closed_when_it_is_idle() {
    let server = start(|s| s.idle_timeout(Duration::from_millis(300))).await;
    let mut peer = Peer::connect(server.addr, &[]).await;
    assert_eq!(peer.goes_away().await, Some(0));
    while peer.next().await.is_some() {}
    // One with a stream stays.
    let mut peer = Peer::connect(server.addr, &[]).await;
    peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &request("GET", "/events?channel=a", &[]))).await;
    server.until_metric("tidings_connections", 1.0).await;
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    server.numbers("a", 0..1).await;
    loop {
        let data = peer.next_of(DATA).await.expect("it goes on");
        if data.payload.windows(7).any(|w| w == b"data: 0") {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_for_which_there_is_no_window_ends_its_connection() {
    let server = start(|s| s.write_timeout(Duration::from_millis(500))).await;
    for n in 0..4 {
        server.publish(json!({"channel": "a", "data": format!("{n}{}", "x".repeat(100_000))})).await;
    }
    let mut peer = Peer::connect(server.addr, &[(INITIAL_WINDOW_SIZE, 0)]).await;
    for n in 0..50_u32 {
        let block = request("GET", "/v1/history?channel=a", &[]);
        peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &block)).await;
    }
    let mut got = 0;
    while let Some(frame) = peer.next().await {
        got += usize::from(frame.kind == DATA) * frame.payload.len();
        // It answers what it is asked, and takes nothing.
        if frame.kind == PING && frame.flags == 0 {
            peer.send(&crate::frames::frame(PING, 1, 0, &frame.payload)).await;
        }
    }
    assert_eq!(got, 0);
    others_go_on(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_is_strict_as_on_http_1() {
    let server = start(|s| s).await;
    let get = "/v1/channels?channel=a";
    let cases: [(Vec<u8>, bool); 6] = [
        (request("GET", get, &[("last-event-id", "a"), ("last-event-id", "b")]), true),
        (request("GET", get, &[("authorization", "a"), ("authorization", "b")]), true),
        (request("GET", get, &[("host", "evil.example")]), true),
        (request("GET", get, &[("content-encoding", "gzip")]), true),
        (request("GET", get, &[("expect", "x")]), true),
        (request("GET", get, &[]), false),
    ];
    for (block, ends) in cases {
        let mut peer = Peer::connect(server.addr, &[]).await;
        let flags = END_HEADERS | if ends { END_STREAM } else { 0 };
        peer.send(&frame(HEADERS, flags, 1, &block)).await;
        let data = peer.next_of(DATA).await.expect("an answer");
        let body = String::from_utf8_lossy(&data.payload).into_owned();
        assert!(body.contains("\"code\":\""), "{body}");
        assert!(
            [
                "header_repeated",
                "host_invalid",
                "content_encoding_unsupported",
                "expectation_failed",
                "body_unexpected"
            ]
            .iter()
            .any(|code| body.contains(code)),
            "{body}"
        );
    }
}
