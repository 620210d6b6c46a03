//! Publishing over HTTP: every form, every refusal.

use serde_json::json;

use crate::client::seq;
use crate::http::{Answer, request};
use crate::server::{Engine, Server};

on_each_engine! {
    several_channels_get_adjacent_ids_all_or_none,
    a_repeat_with_the_same_key_takes_effect_once,
    an_idempotency_key_comes_quoted_bare_or_in_the_body,
    keys_hold_within_a_batch_too,
    a_batch_answers_line_by_line_and_is_one_commit,
    malformed_json_in_the_middle_of_a_batch_is_told_with_its_line,
    a_batch_has_bounds,
    a_wrong_content_type_is_told_the_header_to_add,
    bad_fields_are_refused,
    bad_names_are_refused,
    invalid_bytes_are_refused,
    data_and_bodies_have_bounds,
    what_may_be_published_may_be_published,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotency_key_is_remembered_over_a_restart() {
    let server = Server::start(Engine::Disk).await;
    let body = json!({"channel": "a", "data": 1, "idempotency_key": "order-7"}).to_string();
    let first = server.post(&body).await.json()["id"].clone();
    let server = server.restart().await;
    let again = server.post(&body).await;
    assert_eq!((again.status, again.json()), (200, json!({"id": first, "duplicate": true})));
    let other = json!({"channel": "a", "data": 2, "idempotency_key": "order-7"}).to_string();
    server.post(&other).await.is_refusal(422, "idempotency_key_reused");
}

async fn post_with(server: &Server, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut all = vec![("content-type", "application/json")];
    all.extend(headers);
    request(server.addr, "POST", "/v1/publish", &all, body.as_bytes()).await
}

async fn count(server: &Server, channel: &str) -> usize {
    let page = server.get(&format!("/v1/history?channel={channel}&limit=1000")).await.json();
    page["events"].as_array().unwrap().len()
}

async fn several_channels_get_adjacent_ids_all_or_none(engine: Engine) {
    let server = Server::start(engine).await;
    let names: Vec<String> = (0..1_000).map(|n| format!("c{}", n * 7 % 1_000)).collect();
    let answer = server.post(&json!({"channels": names, "data": 1}).to_string()).await;
    assert_eq!(answer.status, 201);
    let ids = answer.json()["ids"].clone();
    let seqs: Vec<u64> = names.iter().map(|n| seq(ids[n].as_str().unwrap())).collect();
    assert!(seqs.windows(2).all(|w| w[1] == w[0] + 1), "adjacent, in the order of the list");
    let mut more = names.clone();
    more.push("c1000".into());
    let answer = server.post(&json!({"channels": more, "data": 1}).to_string()).await;
    answer.is_refusal(400, "channels_too_many");
    server.post(r#"{"channels":[],"data":1}"#).await.is_refusal(400, "channels_missing");
    server.post(r#"{"data":1}"#).await.is_refusal(400, "channels_missing");
    server.post(r#"{"channels":["x","y","x"],"data":1}"#).await.is_refusal(400, "field_invalid");
    server.post(r#"{"channels":["x"],"channel":"x","data":1}"#).await.is_refusal(400, "field_invalid");
    server.post(r#"{"channels":["x","job:1"],"data":1}"#).await.is_refusal(403, "channel_reserved");
    assert_eq!(count(&server, "x").await, 0);
    let one = server.post(r#"{"channels":["x"],"data":1}"#).await.json();
    assert!(one["ids"]["x"].is_string(), "{one}");
}

async fn a_repeat_with_the_same_key_takes_effect_once(engine: Engine) {
    let server = Server::start(engine).await;
    let body = json!({"channel": "a", "data": {"n": 1}, "idempotency_key": "k"}).to_string();
    let first = server.post(&body).await;
    assert_eq!(first.status, 201);
    let id = first.json()["id"].clone();
    for _ in 0..3 {
        let again = server.post(&body).await;
        assert_eq!((again.status, again.json()), (200, json!({"id": id, "duplicate": true})));
    }
    assert_eq!(count(&server, "a").await, 1);
    for other in [
        json!({"channel": "b", "data": {"n": 1}, "idempotency_key": "k"}),
        json!({"channel": "a", "data": {"n": 2}, "idempotency_key": "k"}),
        json!({"channel": "a", "text": "{\"n\":1}", "idempotency_key": "k"}),
        json!({"channel": "a", "data": {"n": 1}, "event": "e", "idempotency_key": "k"}),
        json!({"channel": "a", "data": {"n": 1}, "key": "x", "idempotency_key": "k"}),
        json!({"channel": "a", "data": {"n": 1}, "final": true, "idempotency_key": "k"}),
        json!({"channel": "a", "data": {"n": 1}, "ttl_ms": 1, "idempotency_key": "k"}),
        json!({"channels": ["a", "b"], "data": {"n": 1}, "idempotency_key": "k"}),
    ] {
        server.post(&other.to_string()).await.is_refusal(422, "idempotency_key_reused");
    }
    let many = json!({"channels": ["x", "y"], "data": 1, "idempotency_key": "m"}).to_string();
    let ids = server.post(&many).await.json()["ids"].clone();
    let again = server.post(&many).await;
    assert_eq!((again.status, again.json()), (200, json!({"ids": ids, "duplicate": true})));
    // A repeat is recognised also where it finished its channel, or was deleted.
    let last = json!({"channel": "z", "data": 1, "final": true, "idempotency_key": "f"}).to_string();
    let id = server.post(&last).await.json()["id"].clone();
    server.delete("/v1/channels?channel=z").await;
    assert_eq!(server.post(&last).await.json(), json!({"id": id, "duplicate": true}));
}

async fn an_idempotency_key_comes_quoted_bare_or_in_the_body(engine: Engine) {
    let server = Server::start(engine).await;
    let bare = r#"{"channel":"a","data":1}"#;
    let keyed = r#"{"channel":"a","data":1,"idempotency_key":"k 1"}"#;
    let first = post_with(&server, &[("idempotency-key", "k 1")], bare).await;
    assert_eq!(first.status, 201);
    for (headers, body) in [
        (&[("idempotency-key", "\"k 1\"")][..], bare),
        (&[("Idempotency-Key", " k 1 ")], bare),
        (&[], keyed),
        (&[("idempotency-key", "\"k 1\"")], keyed),
    ] {
        let again = post_with(&server, headers, body).await;
        assert_eq!((again.status, &again.json()["id"]), (200, &first.json()["id"]), "{headers:?}");
    }
    let long = "k".repeat(256);
    for bad in ["\"", "\"k", "\"\"", "", &long, "k\u{e9}"] {
        let answer = post_with(&server, &[("idempotency-key", bad)], bare).await;
        answer.is_refusal(400, "idempotency_key_invalid");
        let headers = [("content-type", "application/json"), ("idempotency-key", bad)];
        let job = request(server.addr, "POST", "/v1/jobs", &headers, br#"{"type":"t"}"#).await;
        job.is_problem(400, "idempotency_key_invalid");
    }
    for bad in ["", &long, "k\u{e9}", "k\n", "\u{feff}k"] {
        let body = json!({"channel": "a", "data": 1, "idempotency_key": bad}).to_string();
        server.post(&body).await.is_refusal(400, "idempotency_key_invalid");
    }
    let both = post_with(&server, &[("idempotency-key", "other")], keyed).await;
    both.is_refusal(400, "idempotency_key_invalid");
    let twice = [("idempotency-key", "x"), ("idempotency-key", "x")];
    post_with(&server, &twice, bare).await.is_refusal(400, "idempotency_key_invalid");
    assert_eq!(count(&server, "a").await, 1);
}

async fn keys_hold_within_a_batch_too(engine: Engine) {
    let server = Server::start(engine).await;
    let line =
        |data: u64, key: &str| json!({"channel": "a", "data": data, "idempotency_key": key}).to_string();
    let batch = [line(1, "x"), line(2, "y"), line(1, "x"), line(3, "x")].join("\n");
    let lines = server.batch(&batch).await.lines();
    assert_eq!(lines[2], json!({"id": lines[0]["id"], "duplicate": true}));
    assert_eq!((&lines[3]["code"], &lines[3]["line"]), (&json!("idempotency_key_reused"), &json!(4)));
    let again = server.batch(&batch).await.lines();
    assert_eq!(again[1], json!({"id": lines[1]["id"], "duplicate": true}));
    assert_eq!(count(&server, "a").await, 2);
    let kind = [("content-type", "application/x-ndjson"), ("idempotency-key", "k")];
    let answer = request(server.addr, "POST", "/v1/publish", &kind, batch.as_bytes()).await;
    answer.is_refusal(400, "idempotency_header_on_batch");
}

async fn a_batch_answers_line_by_line_and_is_one_commit(engine: Engine) {
    let server = Server::start(engine).await;
    let before = server.numbers("z", 0..1).await.remove(0);
    let commits = server.metric("tidings_commits_total").await;
    let batch = "\n{\"channel\":\"a\",\"data\":1}\r\n  \n{\"channel\":\"b\",\"text\":\"x\"}\n\
                 {\"channel\":\"a\",\"event\":\"typing\",\"data\":1,\"ephemeral\":true}\n\
                 {\"channel\":\"job:1\",\"data\":1}\n{\"channels\":[\"a\"],\"data\":1}\n[]\n\
                 {\"channel\":\"c\",\"data\":1,\"event\":\"open\"}\n{\"channel\":\"c\",\"data\":null}";
    let answer = server.batch(batch).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/x-ndjson")));
    let lines = answer.lines();
    assert_eq!(lines.len(), 8, "{}", answer.text());
    let start = seq(&before);
    for (index, offset) in [(0, 1), (1, 2), (7, 3)] {
        assert_eq!(seq(lines[index]["id"].as_str().unwrap()), start + offset, "adjacent");
    }
    assert_eq!(lines[2], json!({"id": null}));
    for (index, line, code) in [(3, 6, "channel_reserved"), (4, 7, "field_unknown"), (6, 9, "event_reserved")]
    {
        assert_eq!((&lines[index]["line"], &lines[index]["code"]), (&json!(line), &json!(code)));
        assert!(lines[index]["detail"].is_string());
    }
    assert_eq!(lines[5]["line"], 8);
    assert!((server.metric("tidings_commits_total").await - commits - 1.0).abs() < f64::EPSILON);
    for empty in ["", "\n \n\r\n"] {
        let answer = server.batch(empty).await;
        assert_eq!((answer.status, answer.body.len()), (200, 0));
    }
}

async fn malformed_json_in_the_middle_of_a_batch_is_told_with_its_line(engine: Engine) {
    let server = Server::start(engine).await;
    let mut lines: Vec<String> = (1..=1_000).map(|n| format!(r#"{{"channel":"a","data":{n}}}"#)).collect();
    lines[499] = r#"{"channel":"a","data":500"#.into();
    let answers = server.batch(&lines.join("\n")).await.lines();
    assert_eq!(answers.len(), 1_000);
    assert_eq!((&answers[499]["line"], &answers[499]["code"]), (&json!(500), &json!("json_invalid")));
    assert_eq!(answers.iter().filter(|a| a["id"].is_string()).count(), 999);
    assert_eq!(seq(answers[500]["id"].as_str().unwrap()), seq(answers[498]["id"].as_str().unwrap()) + 1);
    let mut stream = server.stream("channel=a&from=start").await;
    assert_eq!(stream.numbers(999).await, (1..=1_000).filter(|n| *n != 500).collect::<Vec<_>>());
}

async fn a_batch_has_bounds(engine: Engine) {
    let server = Server::start(engine).await;
    let line = "{\"channel\":\"a\",\"data\":1}\n";
    server.batch(&line.repeat(1_001)).await.is_refusal(413, "batch_too_large");
    // Lines that say nothing do not count.
    let answer = server.batch(&format!("{}\n\n", line.repeat(1_000))).await;
    assert_eq!((answer.status, answer.lines().len()), (200, 1_000));
    let large = format!("{{\"channel\":\"b\",\"text\":\"{}\"}}\n", "x".repeat(200_000));
    let batch = large.repeat(8 * 1024 * 1024 / large.len());
    assert_eq!(server.batch(&batch).await.lines().len(), batch.len() / large.len());
    let batch = format!("{batch}{}", " ".repeat(8 * 1024 * 1024 + 1 - batch.len()));
    server.batch(&batch).await.is_refusal(413, "batch_too_large");
}

async fn a_wrong_content_type_is_told_the_header_to_add(engine: Engine) {
    let server = Server::start(engine).await;
    let body = br#"{"channel":"a","data":1}"#;
    for kind in ["application/x-www-form-urlencoded", "text/plain", "application/jsonx", ""] {
        let headers = [("content-type", kind)];
        let answer = request(server.addr, "POST", "/v1/publish", &headers, body).await;
        let problem = answer.is_refusal(415, "media_type_unsupported");
        assert!(problem["detail"].as_str().unwrap().contains("Content-Type: application/json"), "{problem}");
    }
    request(server.addr, "POST", "/v1/publish", &[], body).await.is_refusal(415, "media_type_unsupported");
    for kind in ["application/json; charset=utf-8", "Application/JSON"] {
        let answer = request(server.addr, "POST", "/v1/publish", &[("content-type", kind)], body).await;
        assert_eq!(answer.status, 201, "{kind}");
    }
}

async fn bad_fields_are_refused(engine: Engine) {
    let server = Server::start(engine).await;
    let cases = [
        (r#"{"channel":"a","data":1,"finall":true}"#, "field_unknown"),
        (r#"{"channel":"a"}"#, "field_missing"),
        (r#"{"channel":"a","data":1,"text":"x"}"#, "data_conflict"),
        (r#"{"channel":"a","data":null,"text":"x"}"#, "data_conflict"),
        (r#"{"channel":7,"data":1}"#, "field_invalid"),
        (r#"{"channel":"a","text":7}"#, "field_invalid"),
        (r#"{"channel":"a","data":1,"final":"yes"}"#, "field_invalid"),
        (r#"{"channel":"a","data":1,"channel":"b"}"#, "field_invalid"),
        (r#"[{"channel":"a","data":1}]"#, "field_invalid"),
        (r#""a""#, "field_invalid"),
        (r#"["a",null,null,1]"#, "field_invalid"),
        (r#"["a",null,null,1,null,null,false,false,null,null]"#, "field_invalid"),
        ("", "json_invalid"),
        ("{", "json_invalid"),
        (r#"{"channel":"a","data":01}"#, "json_invalid"),
        (r#"{"channel":"a","data":1} x"#, "json_invalid"),
        (r#"{"channel":"a","data":NaN}"#, "json_invalid"),
        (r#"{"channel":"a","text":"\ud800"}"#, "json_invalid"),
        ("{\"channel\":\"a\",\"text\":\"\n\"}", "json_invalid"),
        ("\u{feff}{\"channel\":\"a\",\"data\":1}", "json_invalid"),
    ];
    for (body, code) in cases {
        let answer = server.post(body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        answer.is_refusal(400, code);
    }
    // Any JSON is data, and nothing here follows its depth.
    let deep = format!(r#"{{"channel":"deep","data":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(server.post(&deep).await.status, 201);
    assert_eq!(count(&server, "a").await, 0);
}

async fn bad_names_are_refused(engine: Engine) {
    let server = Server::start(engine).await;
    let long = "c".repeat(256);
    for bad in
        ["", " ", "a b", "a\n", "\ra", "a\u{0}", "\u{feff}a", "\u{e9}", "a*", "a,b", "a\"b", "a\\b", &long]
    {
        let answer = server.post(&json!({"channel": bad, "data": 1}).to_string()).await;
        answer.is_refusal(400, "channel_name_invalid");
    }
    let long = "e".repeat(65);
    for bad in ["", "a b", "a\n", "\r", "a\u{0}", "\u{feff}a", "\u{e9}", "a/b", &long] {
        let answer = server.post(&json!({"channel": "a", "event": bad, "data": 1}).to_string()).await;
        answer.is_refusal(400, "event_name_invalid");
    }
    let long = "k".repeat(129);
    for bad in ["", "a\n", "\r", "a\u{0}", "\u{7f}", "\u{85}", &long] {
        let answer = server.post(&json!({"channel": "a", "key": bad, "data": 1}).to_string()).await;
        answer.is_refusal(400, "key_invalid");
    }
    for reserved in ["job:1", "job:", "tidings:x"] {
        let answer = server.post(&json!({"channel": reserved, "data": 1}).to_string()).await;
        answer.is_refusal(403, "channel_reserved");
    }
    for reserved in ["error", "open", "tidings.hello", "tidings."] {
        let answer = server.post(&json!({"channel": "a", "event": reserved, "data": 1}).to_string()).await;
        answer.is_refusal(422, "event_reserved");
    }
    assert_eq!(count(&server, "a").await, 0);
}

async fn invalid_bytes_are_refused(engine: Engine) {
    let server = Server::start(engine).await;
    let kind = [("content-type", "application/json")];
    for body in [
        &b"{\"channel\":\"a\",\"data\":\"\xff\"}"[..],
        b"{\"channel\":\"a\",\"text\":\"\xc3\"}",
        b"{\"channel\":\"\xe9\",\"data\":1}",
        b"\xff\xfe{",
        b"{\"channel\":\"a\",\"data\":\"\x00\"}",
        b"{\"channel\":\"a\",\"data\":\"\xed\xa0\x80\"}",
    ] {
        let answer = request(server.addr, "POST", "/v1/publish", &kind, body).await;
        answer.is_refusal(400, "json_invalid");
    }
    let kind = [("content-type", "application/x-ndjson")];
    let body = b"{\"channel\":\"a\",\"data\":\"\xff\"}\n{\"channel\":\"a\",\"data\":1}";
    let lines = request(server.addr, "POST", "/v1/publish", &kind, body).await.lines();
    assert_eq!(lines[0]["code"], "json_invalid");
    assert!(lines[1]["id"].is_string());
}

async fn data_and_bodies_have_bounds(engine: Engine) {
    const MAX: usize = 256 * 1024;
    let server = Server::start(engine).await;
    let of = |bytes: usize| format!(r#"{{"channel":"a","data":"{}"}}"#, "x".repeat(bytes - 2));
    assert_eq!(server.post(&of(MAX)).await.status, 201);
    server.post(&of(MAX + 1)).await.is_refusal(413, "data_too_large");
    let text = |bytes: usize| json!({"channel": "b", "text": "y".repeat(bytes)}).to_string();
    assert_eq!(server.post(&text(MAX)).await.status, 201);
    server.post(&text(MAX + 1)).await.is_refusal(413, "data_too_large");
    let padded = |bytes: usize| {
        let body = r#"{"channel":"c","data":1}"#;
        format!("{body}{}", " ".repeat(bytes - body.len()))
    };
    assert_eq!(server.post(&padded(1 << 20)).await.status, 201);
    server.post(&padded((1 << 20) + 1)).await.is_refusal(413, "body_too_large");
    let mut stream = server.stream("channel=a&channel=b&from=start").await;
    assert_eq!(stream.event().await.data.len(), MAX);
    assert_eq!(stream.event().await.data.len(), MAX);
}

async fn what_may_be_published_may_be_published(engine: Engine) {
    let server = Server::start(engine).await;
    let mut stream = server.stream("channel=a&from=start").await;
    let (channel, event, key) = ("c".repeat(255), "e".repeat(64), "\u{e9}".repeat(64));
    let id = server.publish(json!({"channel": channel, "event": event, "key": key, "data": 1})).await;
    let page = server.get(&format!("/v1/history?channel={channel}")).await.json();
    assert_eq!((&page["events"][0]["id"], &page["events"][0]["event"]), (&json!(id), &json!(event)));
    for data in [
        "null",
        "true",
        "\"\"",
        "{}",
        "[ ]",
        "-0.0e-7",
        "\"\\ud83d\\ude00\\u0000\"",
        "12345678901234567890123",
    ] {
        let answer = server.post(&format!(r#"{{"channel":"a","data":{data}}}"#)).await;
        assert_eq!(answer.status, 201, "{data}");
        assert_eq!(stream.event().await.data, data, "nothing of it is changed");
    }
    for event in ["message", "Error", "tidings", "a.b:c-d_E9"] {
        server.publish(json!({"channel": "a", "event": event, "text": ""})).await;
        assert_eq!(stream.event().await.event, event);
    }
}
