//! What a stream begins with, and what it carries.

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::client::{Stream, seq};
use crate::http::request;
use crate::server::{Engine, Server};

on_each_engine! {
    a_stream_begins_with_the_head_and_the_hello_of_the_contract,
    an_event_has_the_bytes_of_the_contract,
    from_now_skips_what_was_before_and_start_sends_all_of_it,
    last_n_counts_over_all_channels_of_the_stream,
    many_channels_come_in_one_total_order,
    an_event_on_two_channels_of_a_stream_comes_twice,
    a_channel_that_is_named_twice_counts_once,
    without_a_channel_a_stream_is_the_callers_own,
    a_stream_that_joins_during_a_storm_sees_a_contiguous_run,
    bad_requests_for_a_stream_are_problems,
    a_large_burst_reaches_a_stream_that_is_in_step,
}

async fn a_stream_begins_with_the_head_and_the_hello_of_the_contract(engine: Engine) {
    let server = Server::start(engine).await;
    let id = server.publish(json!({"channel": "a", "data": 1})).await;
    let mut stream = server.stream("channel=a").await;
    let hello = stream.hello().await;
    let expected = [
        ("content-type", "text/event-stream; charset=utf-8"),
        ("cache-control", "no-store, no-cache, no-transform"),
        ("x-accel-buffering", "no"),
        ("x-content-type-options", "nosniff"),
        ("vary", "origin, cookie, authorization"),
        ("connection", "close"),
    ];
    for (name, value) in expected {
        assert_eq!(stream.head.header(name), Some(value), "{name}");
    }
    for never in ["content-length", "transfer-encoding"] {
        assert_eq!(stream.head.header(never), None);
    }
    assert!(stream.raw.starts_with(b": connected\nretry: "));
    assert!(stream.retry_ms.is_some_and(|ms| (2_000..=4_000).contains(&ms)), "{:?}", stream.retry_ms);
    assert_eq!(hello.last_event_id, id, "hello has the position that the stream starts from");
    let data: Value = serde_json::from_str(&hello.data).unwrap();
    assert_eq!(data["keepalive_ms"], 15_000);
    let listed = server.get("/v1/connections").await.json();
    assert_eq!(listed["connections"][0]["id"], data["connection"]);
}

async fn an_event_has_the_bytes_of_the_contract(engine: Engine) {
    let server = Server::start(engine).await;
    let mut stream = server.stream("channel=orders&from=start").await;
    assert_eq!(stream.hello().await.last_event_id, "");
    let body = "{\"channel\":\"orders\",\"event\":\"status-update\",\"data\":{ \"a\":\r\n[1,\n 2]}}";
    let id = server.post(body).await.json()["id"].as_str().unwrap().to_owned();
    let text = server.publish(json!({"channel": "orders", "text": "one\r\ntwo\rthree\n\nfive"})).await;
    let (first, second) = (stream.event().await, stream.event().await);
    assert_eq!((&*first.event, &*first.data), ("status-update", "{ \"a\":  [1,  2]}"));
    assert_eq!((&*second.event, &*second.data), ("message", "one\ntwo\nthree\n\nfive"));
    let raw = String::from_utf8(stream.raw.clone()).unwrap();
    let (time, time2) = (first.time_ms.unwrap(), second.time_ms.unwrap());
    let expected = format!(
        "\n\nevent: status-update\nchannel: orders\ntime: {time}\ndata: {{ \"a\":  [1,  2]}}\nid: {id}\n\n\
         channel: orders\ntime: {time2}\ndata: one\ndata: two\ndata: three\ndata: \ndata: five\nid: {text}\n\n"
    );
    assert!(raw.ends_with(&expected), "{raw}");
}

async fn from_now_skips_what_was_before_and_start_sends_all_of_it(engine: Engine) {
    let server = Server::start(engine).await;
    server.numbers("a", 0..10).await;
    let mut now = server.stream("channel=a").await;
    let mut also_now = server.stream("channel=a&from=now").await;
    let mut start = server.stream("channel=a&from=start").await;
    let mut empty = server.stream("channel=a&from=").await;
    for stream in [&mut now, &mut also_now, &mut empty] {
        assert_ne!(stream.hello().await.last_event_id, "");
    }
    server.numbers("a", 10..13).await;
    for stream in [&mut now, &mut also_now, &mut empty] {
        assert_eq!(stream.numbers(3).await, [10, 11, 12]);
    }
    assert_eq!(start.numbers(13).await, (0..13).collect::<Vec<_>>());
}

async fn last_n_counts_over_all_channels_of_the_stream(engine: Engine) {
    let server = Server::start(engine).await;
    for n in 0..9 {
        server.numbers(["a", "b", "c"][n % 3], n as u64..n as u64 + 1).await;
    }
    let mut stream = server.stream("channel=a&channel=b&from=last:3").await;
    assert_eq!(stream.hello().await.last_event_id, "");
    assert_eq!(stream.numbers(3).await, [4, 6, 7]);
    let mut all = server.stream("channel=b&from=last:10000").await;
    assert_eq!(all.numbers(3).await, [1, 4, 7]);
    server.numbers("b", 10..11).await;
    assert_eq!((stream.numbers(1).await, all.numbers(1).await), (vec![10], vec![10]));
}

async fn many_channels_come_in_one_total_order(engine: Engine) {
    let server = Server::start(engine).await;
    let query: Vec<String> = (0..100).map(|c| format!("channel=c{c}")).collect();
    let mut live = server.stream(&query.join("&")).await;
    live.hello().await;
    let lines: Vec<String> =
        (0..900).map(|n| format!(r#"{{"channel":"c{}","data":{n}}}"#, n * 7 % 100)).collect();
    for part in lines.chunks(90) {
        server.batch(&part.join("\n")).await;
    }
    let all: Vec<u64> = (0..900).collect();
    assert_eq!(live.numbers(900).await, all);
    let mut replay = server.stream(&format!("{}&from=start", query.join("&"))).await;
    assert_eq!(replay.numbers(900).await, all);
    let mut some = server.stream("channel=c7&channel=c14&channel=nothing&from=start").await;
    let expected: Vec<u64> = all.iter().copied().filter(|n| [7, 14].contains(&(n * 7 % 100))).collect();
    assert_eq!(some.numbers(expected.len()).await, expected);
}

async fn an_event_on_two_channels_of_a_stream_comes_twice(engine: Engine) {
    let server = Server::start(engine).await;
    let mut stream = server.stream("channel=b&channel=a&channel=z").await;
    stream.hello().await;
    let body = json!({"channels": ["a", "other", "b"], "data": 1}).to_string();
    let ids = server.post(&body).await.json()["ids"].clone();
    let (first, second) = (stream.event().await, stream.event().await);
    assert_eq!((first.channel.as_deref(), second.channel.as_deref()), (Some("a"), Some("b")));
    assert_eq!(
        (&*first.last_event_id, &*second.last_event_id),
        (ids["a"].as_str().unwrap(), ids["b"].as_str().unwrap())
    );
    assert_eq!(
        seq(&second.last_event_id),
        seq(&first.last_event_id) + 2,
        "adjacent, in the order of the list"
    );
}

async fn a_channel_that_is_named_twice_counts_once(engine: Engine) {
    let server = Server::start(engine).await;
    let twice: String = "channel=a&".repeat(101);
    let mut stream = server.stream(&twice).await;
    stream.hello().await;
    server.numbers("a", 0..2).await;
    assert_eq!(stream.numbers(2).await, [0, 1]);
}

async fn without_a_channel_a_stream_is_the_callers_own(engine: Engine) {
    let server = Server::start(engine).await;
    let (mut dev, mut ada) = (server.stream("as=").await, server.stream("as=ada").await);
    dev.hello().await;
    ada.hello().await;
    server.numbers("user:dev", 0..1).await;
    server.numbers("user:ada", 1..2).await;
    assert_eq!((dev.numbers(1).await, ada.numbers(1).await), (vec![0], vec![1]));
}

async fn a_stream_that_joins_during_a_storm_sees_a_contiguous_run(engine: Engine) {
    const EVENTS: u64 = 1_500;
    let server = Server::start(engine).await;
    let addr = server.addr;
    let publisher = tokio::spawn(async move {
        for n in (0..EVENTS).step_by(3) {
            let lines: Vec<String> = (n..n + 3).map(|n| format!(r#"{{"channel":"a","data":{n}}}"#)).collect();
            let kind = [("content-type", "application/x-ndjson")];
            let answer = request(addr, "POST", "/v1/publish", &kind, lines.join("\n").as_bytes()).await;
            assert_eq!(answer.status, 200);
        }
    });
    let mut joining = JoinSet::new();
    for n in 0..60_u64 {
        joining.spawn(async move {
            let from = ["now", "start", "last:5"][n as usize % 3];
            let mut stream = Stream::open(addr, &format!("channel=a&channel=b&from={from}"), None).await;
            let mut numbers = Vec::new();
            while numbers.last() != Some(&(EVENTS - 1)) {
                numbers.extend(stream.numbers(1).await);
            }
            let first = if from == "start" { 0 } else { numbers[0] };
            assert_eq!(numbers, (first..EVENTS).collect::<Vec<_>>(), "from={from}");
        });
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    // Whoever joined behind the last event still gets one.
    publisher.await.unwrap();
    let ended = async {
        while let Some(joined) = joining.join_next().await {
            joined.unwrap();
        }
    };
    ended.await;
}

async fn bad_requests_for_a_stream_are_problems(engine: Engine) {
    let server = Server::start(engine).await;
    let many: String = (0..101).map(|n| format!("channel=c{n}&")).collect();
    let long = "c".repeat(256);
    let cases = [
        ("channel=a%20b", 400, "channel_name_invalid"),
        ("channel=", 400, "channel_name_invalid"),
        ("channel=a%0Ab", 400, "channel_name_invalid"),
        ("channel=a%0D", 400, "channel_name_invalid"),
        ("channel=%00", 400, "channel_name_invalid"),
        ("channel=%EF%BB%BFa", 400, "channel_name_invalid"),
        ("channel=%FF", 400, "channel_name_invalid"),
        ("channel=a*", 400, "channel_name_invalid"),
        (&*format!("channel={long}"), 400, "channel_name_invalid"),
        (&*many, 400, "channels_too_many"),
        ("channel=a&from=yesterday", 400, "from_invalid"),
        ("channel=a&from=last:0", 400, "from_invalid"),
        ("channel=a&from=last:10001", 400, "from_invalid"),
        ("channel=a&from=last:-1", 400, "from_invalid"),
        ("channel=a&from=what&last_event_id=k-1", 400, "from_invalid"),
        ("channel=a&envelope=xml", 400, "query_invalid"),
        ("as=a%20b", 400, "subject_invalid"),
    ];
    for (query, status, code) in cases {
        // An `EventSource` gets the same: what can never work is honest.
        for accept in ["text/event-stream", "*/*"] {
            let answer =
                request(server.addr, "GET", &format!("/events?{query}"), &[("accept", accept)], b"").await;
            assert_eq!(answer.status, status, "{query}: {}", answer.text());
            answer.is_problem(status, code);
        }
    }
    let longest = "c".repeat(255);
    server.stream(&format!("channel={longest}&unknown=1")).await.hello().await;
}

async fn a_large_burst_reaches_a_stream_that_is_in_step(engine: Engine) {
    let server = Server::start(engine).await;
    let mut stream = server.stream("channel=a").await;
    stream.hello().await;
    server.until_metric("tidings_connections_behind", 0.0).await;
    // Far more than one pass of a shard carries, and nobody wakes it in between.
    let line = format!(r#"{{"channel":"b","text":"{}"}}"#, "x".repeat(200_000));
    let batch = vec![line; 40].join("\n");
    for _ in 0..6 {
        assert_eq!(server.batch(&batch).await.status, 200);
    }
    server.numbers("a", 7..8).await;
    assert_eq!(stream.numbers(1).await, [7]);
}
