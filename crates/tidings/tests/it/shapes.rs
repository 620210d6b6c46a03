//! Ephemeral events, events with a time to live, the envelope, history.

use serde_json::{Value, json};

use crate::server::{Engine, Server};

on_each_engine! {
    an_ephemeral_event_reaches_streams_in_step_and_is_not_kept,
    an_event_past_its_time_is_neither_delivered_nor_listed,
    the_envelope_wraps_what_was_published_and_nothing_else,
    text_keeps_its_bytes_but_for_line_ends,
    history_pages_through_what_is_retained,
    history_of_several_channels_is_merged_and_ends_where_it_is_told,
    what_a_channel_is_can_be_asked,
}

async fn an_ephemeral_event_reaches_streams_in_step_and_is_not_kept(engine: Engine) {
    let server = Server::start(engine).await;
    let before = server.numbers("a", 0..1).await.remove(0);
    let mut plain = server.stream("channel=a").await;
    let mut wrapped = server.stream("channel=a&channel=b&envelope=json").await;
    plain.hello().await;
    wrapped.hello().await;
    server.until_metric("tidings_connections_behind", 0.0).await;
    let body = json!({"channels": ["a", "b"], "event": "typing", "data": {"who": "ada"}, "ephemeral": true});
    let answer = server.post(&body.to_string()).await;
    assert_eq!((answer.status, answer.json()), (202, json!({"ids": {"a": null, "b": null}})));
    let one = server.post(r#"{"channel":"a","event":"typing","text":"x","ephemeral":true}"#).await;
    assert_eq!((one.status, one.json()), (202, json!({"id": null})));
    server.numbers("a", 1..2).await;
    let (first, second) = (plain.event().await, plain.event().await);
    assert_eq!((&*first.event, &*first.data), ("typing", r#"{"who":"ada"}"#));
    assert_eq!((&*second.data, &*second.last_event_id), ("x", &*before));
    assert_eq!(plain.numbers(1).await, [1]);
    for channel in ["a", "b"] {
        let event: Value = serde_json::from_str(&wrapped.event().await.data).unwrap();
        assert_eq!((&event["id"], &event["channel"]), (&Value::Null, &json!(channel)));
        assert_eq!((&event["event"], &event["data"]["who"]), (&json!("typing"), &json!("ada")));
    }
    let mut replay = server.stream("channel=a&from=start").await;
    assert_eq!(replay.numbers(2).await, [0, 1]);
    for (field, value) in
        [("final", json!(true)), ("key", json!("k")), ("ttl_ms", json!(5)), ("idempotency_key", json!("k"))]
    {
        let mut body = json!({"channel": "a", "data": 1, "ephemeral": true});
        body[field] = value;
        server.post(&body.to_string()).await.is_refusal(400, "ephemeral_conflict");
    }
}

async fn an_event_past_its_time_is_neither_delivered_nor_listed(engine: Engine) {
    let server = Server::start(engine).await;
    let from = server.numbers("a", 0..1).await.remove(0);
    server.publish(json!({"channel": "a", "data": 1, "ttl_ms": 1})).await;
    server.publish(json!({"channel": "a", "data": 2, "ttl_ms": 600_000})).await;
    server.numbers("a", 3..4).await;
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let mut stream = server.resume("channel=a", &from).await;
    stream.hello().await;
    assert_eq!(stream.numbers(2).await, [2, 3]);
    let page = server.get("/v1/history?channel=a").await.json();
    let listed: Vec<&Value> = page["events"].as_array().unwrap().iter().map(|e| &e["data"]).collect();
    assert_eq!(listed, [0, 2, 3]);
    for bad in ["0", "-1", "1.5", "\"7\""] {
        let body = format!(r#"{{"channel":"a","data":1,"ttl_ms":{bad}}}"#);
        server.post(&body).await.is_refusal(400, "field_invalid");
    }
    for field in [("ttl_ms", json!(5)), ("key", json!("k"))] {
        let mut body = json!({"channel": "a", "data": 1, "final": true});
        body[field.0] = field.1;
        server.post(&body.to_string()).await.is_refusal(400, "final_conflict");
    }
}

async fn the_envelope_wraps_what_was_published_and_nothing_else(engine: Engine) {
    let server = Server::start(engine).await;
    let mut stream = server.stream("channel=a&envelope=json").await;
    stream.hello().await;
    let id = server.publish(json!({"channel": "a", "event": "e", "data": {"x": [1, null]}})).await;
    server.publish(json!({"channel": "a", "text": "one\ntwo \"quoted\" \u{1f600}\u{feff}"})).await;
    let first = stream.event().await;
    assert_eq!((&*first.event, &*first.last_event_id), ("message", &*id));
    let data: Value = serde_json::from_str(&first.data).unwrap();
    assert!(data["time"].as_u64().is_some_and(|t| t > 1_700_000_000_000));
    assert_eq!(
        data,
        json!({"channel": "a", "event": "e", "time": data["time"], "id": id, "data": {"x": [1, null]}})
    );
    let data: Value = serde_json::from_str(&stream.event().await.data).unwrap();
    assert_eq!(data["data"], "one\ntwo \"quoted\" \u{1f600}\u{feff}");
    assert_eq!(data["is_text"], true);
    server.delete("/v1/channels?channel=a").await;
    assert_eq!(stream.reset().await["reason"], "deleted");
}

async fn text_keeps_its_bytes_but_for_line_ends(engine: Engine) {
    let server = Server::start(engine).await;
    let mut stream = server.stream("channel=a").await;
    stream.hello().await;
    let cases = [
        ("", ""),
        ("\n", "\n"),
        ("\r\n", "\n"),
        ("\r\r\n\n", "\n\n\n"),
        ("a\rb\r\nc\nd", "a\nb\nc\nd"),
        (" leading and trailing ", " leading and trailing "),
        (": comment\nid: k-1\nretry: 0\ndata: x", ": comment\nid: k-1\nretry: 0\ndata: x"),
        ("\u{feff}bom\u{0}nul\u{2028}\u{85}\u{b}", "\u{feff}bom\u{0}nul\u{2028}\u{85}\u{b}"),
        ("\u{1f600}é", "\u{1f600}é"),
    ];
    for (sent, got) in cases {
        server.publish(json!({"channel": "a", "text": sent})).await;
        assert_eq!(stream.event().await.data, got, "{sent:?}");
        server.publish(json!({"channel": "a", "data": sent})).await;
        let data: String = serde_json::from_str(&stream.event().await.data).unwrap();
        assert_eq!(data, sent, "as JSON, nothing changes");
    }
    let page = server.get("/v1/history?channel=a&limit=1000").await.json();
    for (pair, (sent, got)) in page["events"].as_array().unwrap().chunks(2).zip(cases) {
        assert_eq!((&pair[0]["data"], &pair[1]["data"]), (&json!(got), &json!(sent)));
        assert_eq!((&pair[0]["is_text"], &pair[1]["is_text"]), (&json!(true), &Value::Null));
    }
}

async fn history_pages_through_what_is_retained(engine: Engine) {
    let server = Server::start(engine).await;
    let ids = server.numbers("a", 0..250).await;
    server.numbers("b", 0..10).await;
    let mut after = String::new();
    let mut numbers = Vec::new();
    for page in 0..3 {
        let answer = server.get(&format!("/v1/history?channel=a&after={after}")).await.json();
        let events = answer["events"].as_array().unwrap();
        numbers.extend(events.iter().map(|e| e["data"].as_u64().unwrap()));
        assert_eq!(answer["more"], Value::Bool(page < 2), "{page}");
        after = answer["next"].as_str().unwrap().to_owned();
        assert!(answer.get("reset").is_none());
    }
    assert_eq!(numbers, (0..250).collect::<Vec<_>>());
    assert_eq!(after, ids[249]);
    let one = server.get(&format!("/v1/history?channel=a&limit=1&after={}", ids[6])).await.json();
    assert_eq!((&one["events"][0]["data"], &one["events"][0]["id"]), (&json!(7), &json!(ids[7])));
    let empty = server.get("/v1/history?channel=nothing").await.json();
    assert_eq!((&empty["events"], &empty["more"]), (&json!([]), &json!(false)));
    let foreign = server.get("/v1/history?channel=a&after=zzz-1").await.json();
    assert_eq!((&foreign["reset"]["reason"], &foreign["events"]), (&json!("epoch"), &json!([])));
    for limit in ["0", "1001", "x", "-1", ""] {
        let answer = server.get(&format!("/v1/history?channel=a&limit={limit}")).await;
        answer.is_problem(400, "limit_invalid");
    }
    server.get("/v1/history?channel=a&after=what").await.is_problem(400, "after_invalid");
    server.get("/v1/history").await.is_problem(400, "channels_missing");
    server.get("/v1/history?channel=a%20b").await.is_problem(400, "channel_name_invalid");
}

async fn history_of_several_channels_is_merged_and_ends_where_it_is_told(engine: Engine) {
    let server = Server::start(engine).await;
    let mut ids = Vec::new();
    for n in 0..30 {
        let channel = ["a", "b", "c"][n % 3];
        ids.extend(server.numbers(channel, n as u64..n as u64 + 1).await);
    }
    let numbers = |answer: &Value| -> Vec<u64> {
        answer["events"].as_array().unwrap().iter().map(|e| e["data"].as_u64().unwrap()).collect()
    };
    let two = |range: std::ops::RangeInclusive<u64>| range.filter(|n| n % 3 < 2).collect::<Vec<_>>();
    let all = server.get("/v1/history?channel=a&channel=b").await.json();
    assert_eq!((numbers(&all), &all["channels"]), (two(0..=29), &json!(["a", "b"])));
    // The end need not be an event of the channels; pages end there too.
    let (after, until) = (&ids[5], &ids[20]);
    let path = format!("/v1/history?channel=a&channel=b&after={after}&until={until}");
    let part = server.get(&path).await.json();
    assert_eq!((numbers(&part), &part["more"]), (two(6..=20), &json!(false)));
    let mut found = Vec::new();
    let mut next = after.clone();
    loop {
        let path = format!("/v1/history?channel=a&channel=b&after={next}&until={until}&limit=4");
        let page = server.get(&path).await.json();
        found.extend(numbers(&page));
        next = page["next"].as_str().unwrap().to_owned();
        if page["more"] == json!(false) {
            break;
        }
    }
    assert_eq!(found, two(6..=20));
    let last = server.get(&format!("/v1/history?channel=a&from=last:2&until={until}")).await.json();
    assert_eq!(numbers(&last), [15, 18]);
    for (after, until) in [(&ids[20], &ids[20]), (&ids[20], &ids[5])] {
        let none = server.get(&format!("/v1/history?channel=a&after={after}&until={until}")).await.json();
        assert_eq!((numbers(&none), &none["more"], &none["next"]), (vec![], &json!(false), &json!(after)));
    }
    for (until, reason) in [("zzz-1", "epoch"), (&*ids[0].replace("-1", "-99999"), "ahead")] {
        let none = server.get(&format!("/v1/history?channel=a&until={until}")).await.json();
        assert_eq!((&none["events"], &none["reset"]["reason"]), (&json!([]), &json!(reason)));
    }
    server.get("/v1/history?channel=a&until=what").await.is_problem(400, "after_invalid");
    let gone = server.delete("/v1/channels?channel=a").await.status;
    assert_eq!(gone, 204);
    let rest =
        server.get(&format!("/v1/history?channel=a&channel=b&after={after}&until={until}")).await.json();
    assert_eq!(numbers(&rest), (6..=20).filter(|n| n % 3 == 1).collect::<Vec<_>>());
    assert_eq!((&rest["reset"]["reason"], &rest["reset"]["channels"]), (&json!("deleted"), &json!(["a"])));
}

async fn what_a_channel_is_can_be_asked(engine: Engine) {
    let server = Server::start(engine).await;
    let nothing = server.get("/v1/channels?channel=a").await.json();
    assert_eq!(nothing, json!({"channel": "a", "head": null, "first": null, "streams": 0, "finished": null}));
    assert_eq!(server.delete("/v1/channels?channel=a").await.status, 204, "also if there was nothing");
    let mut streams = Vec::new();
    for query in ["channel=a", "channel=a&channel=b", "channel=b"] {
        let mut stream = server.stream(query).await;
        stream.hello().await;
        streams.push(stream);
    }
    let ids = server.numbers("a", 0..3).await;
    let shown = server.get("/v1/channels?channel=a").await.json();
    assert_eq!(
        shown,
        json!({"channel": "a", "head": ids[2], "first": ids[0], "streams": 2, "finished": null})
    );
    for channel in ["job:1", "tidings:x"] {
        server.delete(&format!("/v1/channels?channel={channel}")).await.is_problem(403, "channel_reserved");
    }
    server.delete("/v1/channels").await.is_problem(400, "channels_missing");
}
