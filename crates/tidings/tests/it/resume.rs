//! Positions: what a client gets that comes back.

use serde_json::{Value, json};
use tidings::core::EventId;
use tokio::task::JoinSet;

use crate::client::{Stream, seq};
use crate::http::request;
use crate::server::{Engine, Server, keep};

on_each_engine! {
    a_trimmed_position_is_told_and_gets_what_is_retained,
    start_on_trimmed_history_is_no_reset,
    resets_name_only_the_channels_that_lost_events,
    the_header_wins_over_the_query_and_the_query_over_from,
    a_cut_after_every_byte_loses_and_repeats_nothing,
    a_stream_that_is_cut_before_its_first_event_resumes_behind_hello,
    an_event_id_in_from_is_a_position,
    an_unknown_epoch_resets_and_goes_on_live,
    a_position_behind_the_head_resets_and_goes_on_live,
    a_malformed_position_resets_and_goes_on_live,
    a_mark_whose_reason_is_gone_refuses_nobody,
    a_deleted_position_is_told_and_goes_on,
    a_hundred_streams_resume_at_once,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_resumes_over_restarts_of_the_server() {
    let mut server = Server::start(Engine::Disk).await;
    let mut expected = Vec::new();
    let mut last_id = String::new();
    for run in 0..4_u64 {
        server.numbers("a", run * 10..run * 10 + 5).await;
        let mut stream = match run {
            0 => server.stream("channel=a&from=start").await,
            _ => server.resume("channel=a", &last_id).await,
        };
        let hello = stream.hello().await;
        assert_eq!(hello.last_event_id, last_id, "hello of run {run}");
        let missed = if run == 0 { 5 } else { 10 };
        expected.extend(stream.numbers(missed).await);
        last_id.clone_from(&stream.last_id);
        drop(stream);
        // Nobody is there when these come, and then the server restarts.
        server.numbers("a", run * 10 + 5..run * 10 + 10).await;
        server = server.restart().await;
    }
    let all: Vec<u64> = (0..35).collect();
    assert_eq!(expected, all);
}

async fn the_header_wins_over_the_query_and_the_query_over_from(engine: Engine) {
    let server = Server::start(engine).await;
    let ids = server.numbers("a", 0..6).await;
    let first_of = |query: String, header: Option<String>| {
        let addr = server.addr;
        async move {
            let mut stream = Stream::open(addr, &format!("channel=a&{query}"), header.as_deref()).await;
            stream.hello().await;
            stream.numbers(1).await[0]
        }
    };
    let (one, three) = (ids[1].clone(), ids[3].clone());
    let cases = [
        (format!("last_event_id={three}&from=start"), Some(one.clone()), 2),
        (format!("last_event_id={three}&from=start"), None, 4),
        (format!("lastEventId={three}&from=start"), None, 4),
        (format!("last_event_id=&lastEventId={three}&from=start"), Some(String::new()), 4),
        ("from=start&last_event_id=".to_owned(), Some(String::new()), 0),
        (format!("from={one}"), Some(three.clone()), 4),
        (format!("from={one}"), None, 2),
    ];
    for (query, header, expected) in cases {
        assert_eq!(first_of(query.clone(), header.clone()).await, expected, "{query} {header:?}");
    }
}

async fn a_cut_after_every_byte_loses_and_repeats_nothing(engine: Engine) {
    let server = Server::start(engine).await;
    let start = server.numbers("a", 0..1).await.remove(0);
    server.publish(json!({"channel": "a", "event": "e", "text": "one\ntwo"})).await;
    server.numbers("a", 2..4).await;
    let query = "channel=a&channel=b";
    let mut whole = server.resume(query, &start).await;
    let mut expected = Vec::new();
    for _ in 0..3 {
        expected.push(whole.event().await);
    }
    for bytes in 0..=whole.raw.len() {
        let stream = server.resume(query, &start).await;
        let (id, got) = stream.cut(bytes).await;
        let mut got: Vec<_> = got.into_iter().filter(|e| !e.event.starts_with("tidings.")).collect();
        let id = if id.is_empty() { start.clone() } else { id };
        let mut rest = server.resume(query, &id).await;
        assert_eq!(rest.hello().await.last_event_id, id);
        while got.len() < 3 {
            got.push(rest.event().await);
        }
        assert_eq!(got, expected, "cut after {bytes} bytes");
    }
}

async fn a_stream_that_is_cut_before_its_first_event_resumes_behind_hello(engine: Engine) {
    let server = Server::start(engine).await;
    server.numbers("a", 0..3).await;
    let mut stream = server.stream("channel=a").await;
    let id = stream.hello().await.last_event_id;
    drop(stream);
    server.numbers("a", 3..6).await;
    assert_eq!(server.resume("channel=a", &id).await.numbers(3).await, [3, 4, 5]);
}

async fn an_event_id_in_from_is_a_position(engine: Engine) {
    let server = Server::start(engine).await;
    let ids = server.numbers("a", 0..4).await;
    let mut stream = server.stream(&format!("channel=a&from={}", ids[1])).await;
    assert_eq!(stream.hello().await.last_event_id, ids[1]);
    assert_eq!(stream.numbers(2).await, [2, 3]);
}

/// The stream says why, with the head as its id behind a hello without one, and goes on live.
async fn resets_to_live(engine: Engine, id: impl Fn(&str) -> String, reason: &str) {
    let server = Server::start(engine).await;
    let head = server.numbers("a", 0..5).await.pop().unwrap();
    let asked = id(&head);
    let mut stream = server.resume("channel=a&channel=b", &asked).await;
    assert_eq!(stream.hello().await.last_event_id, asked, "hello has no id of its own");
    assert_eq!(stream.reset().await, json!({"reason": reason}));
    assert_eq!(stream.last_id, head);
    server.numbers("a", 5..7).await;
    assert_eq!(stream.numbers(2).await, [5, 6]);
    // The reset's id is good.
    let mut again = server.resume("channel=a", &head).await;
    assert_eq!(again.hello().await.last_event_id, head);
    assert_eq!(again.numbers(2).await, [5, 6]);
}

async fn an_unknown_epoch_resets_and_goes_on_live(engine: Engine) {
    resets_to_live(engine, |_| "zzzz-3".into(), "epoch").await;
}

async fn a_position_behind_the_head_resets_and_goes_on_live(engine: Engine) {
    let ahead = |head: &str| {
        let epoch = head.split_once('-').unwrap().0;
        format!("{epoch}-{}", seq(head) + 1)
    };
    resets_to_live(engine, ahead, "ahead").await;
    let far = |head: &str| format!("{}-{}", head.split_once('-').unwrap().0, u64::MAX);
    resets_to_live(engine, far, "ahead").await;
}

async fn a_malformed_position_resets_and_goes_on_live(engine: Engine) {
    for id in ["what", "k-", "-1", "k-01", "k-1~x", "17", "a b", &"k".repeat(300), "K-1", "k-1-1"] {
        assert!(EventId::parse(id).is_none(), "{id}");
        resets_to_live(engine, |_| id.to_owned(), "malformed").await;
    }
}

async fn a_mark_whose_reason_is_gone_refuses_nobody(engine: Engine) {
    let server = Server::start(engine).await;
    let ids = server.numbers("a", 0..4).await;
    let mut stream = server.resume("channel=a", &format!("{}~s", ids[1])).await;
    assert_eq!(stream.hello().await.last_event_id, ids[1]);
    assert_eq!(stream.numbers(2).await, [2, 3]);
}

/// The numbers that history still has.
async fn retained(server: &Server, channel: &str) -> Vec<u64> {
    let page = server.get(&format!("/v1/history?channel={channel}&limit=1000")).await.json();
    page["events"].as_array().unwrap().iter().map(|e| e["data"].as_u64().unwrap()).collect()
}

async fn a_trimmed_position_is_told_and_gets_what_is_retained(engine: Engine) {
    let server = Server::start_with(engine, |s| s.retention(keep(10)).tail_bytes(1)).await;
    let ids = server.numbers("a", 0..5).await;
    server.numbers("a", 5..100).await;
    server.until_trimmed("a", 11).await;
    let mut stream = server.resume("channel=a", &ids[2]).await;
    assert_eq!(stream.hello().await.last_event_id, ids[2]);
    let reset = stream.reset().await;
    let left = retained(&server, "a").await;
    let first = server.get("/v1/channels?channel=a").await.json()["first"].clone();
    assert_eq!(reset, json!({"reason": "expired", "first": first}));
    assert_eq!(stream.last_id, ids[2], "the reset has the client's own position");
    assert_eq!(stream.numbers(left.len()).await, left);
    server.numbers("a", 100..101).await;
    assert_eq!(stream.numbers(1).await, [100]);
}

async fn start_on_trimmed_history_is_no_reset(engine: Engine) {
    let server = Server::start_with(engine, |s| s.retention(keep(10))).await;
    server.numbers("a", 0..100).await;
    server.until_trimmed("a", 11).await;
    let left = retained(&server, "a").await;
    let mut stream = server.stream("channel=a&from=start").await;
    stream.hello().await;
    assert_eq!(stream.numbers(left.len()).await, left);
}

async fn a_deleted_position_is_told_and_goes_on(engine: Engine) {
    let server = Server::start(engine).await;
    let ids = server.numbers("a", 0..5).await;
    let mut live = server.stream("channel=a").await;
    let at = live.hello().await.last_event_id;
    assert_eq!(server.delete("/v1/channels?channel=a").await.status, 204);
    assert_eq!(live.reset().await, json!({"reason": "deleted", "channels": ["a"]}));
    assert_eq!(live.last_id, at, "with the stream's own position");
    let mut behind = server.resume("channel=a", &ids[1]).await;
    assert_eq!(behind.hello().await.last_event_id, ids[1]);
    assert_eq!(behind.reset().await, json!({"reason": "deleted"}));
    server.numbers("a", 5..7).await;
    assert_eq!(live.numbers(2).await, [5, 6]);
    assert_eq!(behind.numbers(2).await, [5, 6]);
    let mut start = server.stream("channel=a&from=start").await;
    assert_eq!(start.numbers(2).await, [5, 6]);
    let page = server.get(&format!("/v1/history?channel=a&after={}", ids[1])).await.json();
    assert_eq!(page["reset"]["reason"], "deleted", "{page}");
    assert_eq!(page["events"].as_array().map(Vec::len), Some(2));
    // Nothing lost by somebody who had seen it all.
    let mut current = server.resume("channel=a", &ids[4]).await;
    current.hello().await;
    assert_eq!(current.numbers(2).await, [5, 6]);
}

async fn resets_name_only_the_channels_that_lost_events(engine: Engine) {
    let server = Server::start_with(engine, |s| s.retention(keep(10)).tail_bytes(1)).await;
    let from = server.numbers("quiet", 0..1).await.remove(0);
    server.numbers("quiet", 1..2).await;
    server.numbers("busy", 0..100).await;
    server.until_trimmed("busy", 11).await;
    let mut stream = server.resume("channel=quiet&channel=busy", &from).await;
    stream.hello().await;
    let reset = stream.reset().await;
    assert_eq!((&reset["reason"], &reset["channels"]), (&json!("expired"), &json!(["busy"])));
    let event = stream.event().await;
    assert_eq!((event.channel.as_deref(), &*event.data), (Some("quiet"), "1"));
    assert_eq!(stream.event().await.channel.as_deref(), Some("busy"));
}

async fn a_hundred_streams_resume_at_once(engine: Engine) {
    let server = Server::start_with(engine, |s| s.tail_bytes(1)).await;
    let ids = server.numbers("a", 0..500).await;
    let mut streams = JoinSet::new();
    for n in 0..100_usize {
        let (addr, id) = (server.addr, ids[n * 4].clone());
        streams.spawn(async move {
            let mut stream = Stream::open(addr, "channel=a", Some(&id)).await;
            stream.hello().await;
            let first = n as u64 * 4 + 1;
            assert_eq!(stream.numbers(500 - first as usize).await, (first..500).collect::<Vec<_>>());
        });
    }
    while let Some(resumed) = streams.join_next().await {
        resumed.unwrap();
    }
    server.until_metric("tidings_connections", 0.0).await;
    assert!(server.metric("tidings_resumes_total").await >= 100.0);
}

impl Server {
    /// Waits until a channel retains at most so many events.
    pub async fn until_trimmed(&self, channel: &str, most: usize) {
        for _ in 0..1_000 {
            let target = format!("/v1/history?channel={channel}&limit=1000");
            let page: Value = request(self.addr, "GET", &target, &[], b"").await.json();
            if page["events"].as_array().unwrap().len() <= most {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{channel} is not trimmed");
    }
}
