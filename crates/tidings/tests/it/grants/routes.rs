//! What each request needs, and how it is refused.

use serde_json::json;

use super::*;

on_each_engine! {
    no_route_answers_without_a_grant_but_those_that_say_that_the_server_lives,
    a_stream_is_granted_whole_or_refused_whole,
    an_event_source_without_credentials_is_told_and_stops_and_resumes_with_better_ones,
    a_plain_event_source_with_a_cookie_hears_its_own_channel,
    a_publish_needs_the_channel_and_carries_who_it_was,
    an_idempotency_key_belongs_to_whoever_uses_it,
    history_and_channels_are_for_readers,
    writes_with_a_cookie_show_where_they_come_from,
    reads_with_a_cookie_from_another_site_are_refused_before_the_first_byte,
    a_ticket_opens_one_stream,
    administration_is_for_administrators,
    an_address_that_guesses_is_not_listened_to,
}

async fn no_route_answers_without_a_grant_but_those_that_say_that_the_server_lives(engine: Engine) {
    let (server, _) = start(engine).await;
    let description: Value = serde_json::from_str(&openapi()).unwrap();
    let mut asked = 0;
    for (path, methods) in description.as_object().unwrap() {
        for method in methods.as_array().unwrap() {
            let (method, target) = (method.as_str().unwrap(), path.replace(['{', '}'], ""));
            if matches!(path.as_str(), "/healthz" | "/readyz" | "/tidings/worker.js") {
                continue;
            }
            let target = format!("{target}?channel=secret");
            let headers = [("content-type", "application/json")];
            let answer = request(server.addr, &method.to_uppercase(), &target, &headers, b"{}").await;
            let is_refused = answer.status == 401 || (answer.status >= 400 && method == "head");
            // A body that is no publish says nothing of grants.
            let is_malformed = [400, 415].contains(&answer.status);
            assert!(is_refused || is_malformed, "{method} {path}: {} {}", answer.status, answer.text());
            asked += 1;
        }
    }
    assert!(asked > 40, "{asked}");
}

/// Paths and methods of `openapi.yaml`, as JSON.
fn openapi() -> String {
    let text = include_str!("../../../../../spec/openapi.yaml");
    let paths = text.split("\npaths:\n").nth(1).unwrap().split("\ncomponents:").next().unwrap();
    let mut all = serde_json::Map::new();
    let mut path = String::new();
    for line in paths.lines() {
        if let Some(name) = line.strip_prefix("  /").and_then(|l| l.strip_suffix(':')) {
            path = format!("/{name}");
            all.insert(path.clone(), json!([]));
        } else if let Some(method) = line.strip_prefix("    ").and_then(|l| l.strip_suffix(':'))
            && ["get", "head", "post", "put", "delete"].contains(&method)
        {
            all[&path].as_array_mut().unwrap().push(method.into());
        }
    }
    serde_json::to_string(&all).unwrap()
}

async fn a_stream_is_granted_whole_or_refused_whole(engine: Engine) {
    let (server, _) = start(engine).await;
    let who = user("42", json!({ "subscribe": ["orders:*"] }));
    let (_open, _) = greeted(&server, &who, "/events?channel=orders:1&channel=user:42").await;
    for refused in ["channel=orders:1&channel=secret", "channel=user:4", "channel=orders", "channel=job:1"] {
        let answer = ask(&server, &who, "GET", &format!("/events?{refused}"), Value::Null).await;
        assert_eq!((answer.status, &answer.json()["code"]), (403, &json!("forbidden")), "{refused}");
    }
    let refused = "/events?channel=orders:1&channel=secret&channel=other";
    let mut refused = stream(&server, &[("authorization", &who)], refused, "").await;
    let data = unauthorized(&mut refused).await;
    assert_eq!(data, json!({ "code": "forbidden", "channels": ["secret", "other"] }));
}

async fn an_event_source_without_credentials_is_told_and_stops_and_resumes_with_better_ones(engine: Engine) {
    let (server, _) = start(engine).await;
    publish(&server, "user:42", 1).await;
    let mut refused = stream(&server, &[], "/events", "").await;
    assert_eq!(refused.head.status, 200);
    assert_eq!(unauthorized(&mut refused).await, json!({ "code": "unauthorized" }));
    let id = refused.last_id.clone();
    publish(&server, "user:42", 2).await;
    // As long as nothing is better, the browser is told to stop.
    assert_eq!(stream(&server, &[], "/events", &id).await.head.status, 204);
    let who = user("42", json!({}));
    let mut resumed = stream(&server, &[("authorization", &who)], "/events", &id).await;
    resumed.hello().await;
    assert_eq!(resumed.numbers(1).await, [2], "what came in between, and nothing older");
    // Whoever reads status codes gets one.
    let answer = ask(&server, "", "GET", "/events", Value::Null).await;
    assert_eq!((answer.status, &answer.json()["code"]), (401, &json!("unauthorized")));
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    let answer = ask(&server, "Bearer nonsense", "GET", "/events", Value::Null).await;
    assert_eq!((answer.status, &answer.json()["code"]), (401, &json!("token_invalid")));
}

async fn a_plain_event_source_with_a_cookie_hears_its_own_channel(engine: Engine) {
    let (server, _) = start(engine).await;
    let cookie = format!("tidings={}", json!({ "object": { "sub": "42" } }));
    let mut own = stream(&server, &[("cookie", &cookie)], "/events", "").await;
    own.hello().await;
    publish(&server, "user:4", 1).await;
    publish(&server, "user:42", 2).await;
    publish(&server, "user:421", 3).await;
    publish(&server, "user:42", 4).await;
    assert_eq!(own.numbers(2).await, [2, 4]);
}

async fn a_publish_needs_the_channel_and_carries_who_it_was(engine: Engine) {
    let (server, _) = start(engine).await;
    let who = user("42", json!({ "publish": ["chat"], "subscribe": ["chat"] }));
    let (mut chat, _) = greeted(&server, &who, "/events?channel=chat").await;
    let said = ask(&server, &who, "POST", "/v1/publish", json!({ "channel": "chat", "data": 1 })).await;
    assert_eq!(said.status, 201, "{}", said.text());
    chat.event().await;
    let raw = String::from_utf8(chat.raw.clone()).unwrap();
    assert!(raw.contains("channel: chat\nfrom: 42\ntime: "), "{raw}");
    let forged = json!({ "channel": "chat", "data": 1, "from": "43" });
    assert_eq!(ask(&server, &who, "POST", "/v1/publish", forged).await.json()["code"], "field_unknown");
    for channels in [
        json!({ "channel": "news" }),
        json!({ "channels": ["chat", "news"] }),
        json!({ "channel": "user:42" }),
    ] {
        let mut body = channels;
        body["data"] = json!(1);
        let answer = ask(&server, &who, "POST", "/v1/publish", body).await;
        assert_eq!((answer.status, &answer.json()["code"]), (403, &json!("forbidden")));
        assert_eq!(answer.json()["committed"], false);
    }
    let lines = "{\"channel\":\"news\",\"data\":1}\n{\"channel\":\"chat\",\"data\":2}";
    let headers = [("content-type", "application/x-ndjson"), ("authorization", who.as_str())];
    let batch = request(server.addr, "POST", "/v1/publish", &headers, lines.as_bytes()).await;
    assert_eq!(batch.lines()[0]["code"], "forbidden");
    assert!(batch.lines()[1]["id"].is_string(), "{}", batch.text());
    // The back end is no user: nobody is named.
    publish(&server, "chat", 3).await;
    let history = ask(&server, &who, "GET", "/v1/history?channel=chat", Value::Null).await.json();
    let from: Vec<&Value> = history["events"].as_array().unwrap().iter().map(|e| &e["from"]).collect();
    assert_eq!(from, [&json!("42"), &json!("42"), &Value::Null]);
}

async fn an_idempotency_key_belongs_to_whoever_uses_it(engine: Engine) {
    let (server, _) = start(engine).await;
    let event = json!({ "channel": "chat", "data": 1, "idempotency_key": "k" });
    for (sub, status) in [("1", 201), ("1", 200), ("2", 201), ("key:back-end", 201)] {
        let who = user(sub, json!({ "publish": ["chat"] }));
        let answer = ask(&server, &who, "POST", "/v1/publish", event.clone()).await;
        assert_eq!(answer.status, status, "{sub}: {}", answer.text());
    }
    assert_eq!(ask(&server, &back_end(), "POST", "/v1/publish", event).await.status, 201);
}

async fn history_and_channels_are_for_readers(engine: Engine) {
    let (server, _) = start(engine).await;
    publish(&server, "orders", 1).await;
    let who = user("42", json!({ "subscribe": ["orders"] }));
    for path in ["/v1/history", "/v1/channels"] {
        assert_eq!(
            ask(&server, &who, "GET", &format!("{path}?channel=orders"), Value::Null).await.status,
            200
        );
        // One that was used and one that never was are refused alike.
        publish(&server, "used", 1).await;
        let of = |channel| ask(&server, &who, "GET", format!("{path}?channel={channel}").leak(), Value::Null);
        let (used, unused) = (of("used").await, of("free").await);
        assert_eq!(used.status, 403);
        assert_eq!(used.text().replace("used", "free"), unused.text());
    }
    let shown = ask(&server, &who, "GET", "/v1/channels?channel=orders", Value::Null).await.json();
    assert_eq!(shown["streams"], Value::Null, "how many listen is for administrators");
    let shown = ask(&server, &back_end(), "GET", "/v1/channels?channel=orders", Value::Null).await.json();
    assert_eq!(shown["streams"], 0);
}

async fn writes_with_a_cookie_show_where_they_come_from(engine: Engine) {
    let own = "http://own.example";
    let (server, _) =
        start_with(engine, |s| s.allowed_origins(vec!["https://app.example".parse().unwrap()])).await;
    let cookie = format!("tidings={}", json!({ "object": { "sub": "42", "publish": ["chat"] } }));
    let post = |more: Vec<(&'static str, &'static str)>| {
        let (addr, cookie) = (server.addr, cookie.clone());
        async move {
            let mut headers = vec![("content-type", "application/json"), ("cookie", cookie.as_str())];
            headers.extend(more);
            request(addr, "POST", "/v1/publish", &headers, br#"{"channel":"chat","data":1}"#).await
        }
    };
    for good in [vec![("origin", "https://app.example")], vec![("sec-fetch-site", "same-origin")]] {
        assert_eq!(post(good.clone()).await.status, 201, "{good:?}");
    }
    let bad = [
        vec![],
        vec![("origin", own)],
        vec![("origin", "null")],
        vec![("origin", "https://app.example.evil")],
        vec![("sec-fetch-site", "cross-site")],
        vec![("sec-fetch-site", "same-site")],
        vec![("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")],
    ];
    for bad in bad {
        let answer = post(bad.clone()).await;
        assert_eq!((answer.status, &answer.json()["code"]), (403, &json!("cross_site")), "{bad:?}");
    }
    // A token in the head is not what a browser adds by itself.
    let who = user("42", json!({ "publish": ["chat"] }));
    let answer = ask(&server, &who, "POST", "/v1/publish", json!({ "channel": "chat", "data": 1 })).await;
    assert_eq!(answer.status, 201);
}

async fn reads_with_a_cookie_from_another_site_are_refused_before_the_first_byte(engine: Engine) {
    let (server, _) =
        start_with(engine, |s| s.allowed_origins(vec!["https://app.example".parse().unwrap()])).await;
    let cookie = format!("tidings={}", json!({ "object": { "sub": "42" } }));
    let get = |origin: &'static str| stream_from(&server, &cookie, origin);
    assert_eq!(get("https://evil.example").await.head.status, 403);
    assert_eq!(get("null").await.head.status, 403);
    let mut listed = get("https://app.example").await;
    assert_eq!(listed.head.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(listed.head.header("access-control-allow-credentials"), Some("true"));
    listed.hello().await;
    assert!((metric(&server, "tidings_connections").await - 1.0).abs() < f64::EPSILON);
}

async fn stream_from(server: &Server, cookie: &str, origin: &'static str) -> Stream {
    stream(server, &[("cookie", cookie), ("origin", origin)], "/events", "").await
}

async fn metric(server: &Server, name: &str) -> f64 {
    let text = ask(server, &back_end(), "GET", "/metrics", Value::Null).await.text();
    let line = text.lines().find(|l| l.split(' ').next() == Some(name)).unwrap();
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

async fn a_ticket_opens_one_stream(engine: Engine) {
    let (server, _) = start(engine).await;
    let who = user("42", json!({ "subscribe": ["a", "b"] }));
    let made = ask(&server, &who, "POST", "/v1/tickets", json!({ "channels": ["a"] })).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let ticket = made.json()["ticket"].as_str().unwrap().to_owned();
    let left = made.json()["expires_at"].as_u64().unwrap() - believer::now_ms();
    assert!(left <= 60_000, "{left}");
    let ready = ask(&server, "", "GET", &format!("/readyz?ticket={ticket}"), Value::Null).await;
    assert_eq!(ready.status, 200, "which is no stream, and leaves it");
    let target = format!("/events?channel=a&ticket={ticket}");
    let mut first = stream(&server, &[], &target, "").await;
    first.hello().await;
    publish(&server, "a", 1).await;
    assert_eq!(first.numbers(1).await, [1]);
    let mut second = stream(&server, &[], &target, "").await;
    assert_eq!(unauthorized(&mut second).await, json!({ "code": "ticket_invalid" }));
    let narrow = ask(&server, &who, "POST", "/v1/tickets", json!({ "channels": ["a"] })).await.json();
    let target = format!("/events?channel=b&ticket={}", narrow["ticket"].as_str().unwrap());
    let mut other = stream(&server, &[], &target, "").await;
    assert_eq!(unauthorized(&mut other).await["code"], "forbidden");
    let wide = ask(&server, &who, "POST", "/v1/tickets", json!({ "channels": ["secret"] })).await;
    assert_eq!(wide.status, 403);
    assert_eq!(ask(&server, "", "POST", "/v1/tickets", Value::Null).await.status, 401);
}

async fn administration_is_for_administrators(engine: Engine) {
    let (server, _) = start(engine).await;
    let everything = json!({ "subscribe": ["*"], "publish": ["*"], "jobs": ["*"] });
    let who = user("42", everything);
    let requests = [
        ("GET", "/v1/connections", Value::Null),
        ("DELETE", "/v1/connections?subject=42", Value::Null),
        ("DELETE", "/v1/connections/c0000000000000000", Value::Null),
        ("DELETE", "/v1/channels?channel=a", Value::Null),
        ("GET", "/v1/revocations", Value::Null),
        ("POST", "/v1/revocations", json!({ "subject": "43" })),
        ("GET", "/metrics", Value::Null),
    ];
    for (method, target, body) in requests {
        let answer = ask(&server, &who, method, target, body.clone()).await;
        assert_eq!((answer.status, &answer.json()["code"]), (403, &json!("forbidden")), "{method} {target}");
        let answer = ask(&server, &back_end(), method, target, body).await;
        assert!(answer.status != 403, "{method} {target}: {}", answer.text());
    }
    assert_eq!(ask(&server, "", "GET", "/healthz", Value::Null).await.status, 200);
    assert_eq!(ask(&server, "", "GET", "/readyz", Value::Null).await.status, 200);
}

async fn an_address_that_guesses_is_not_listened_to(engine: Engine) {
    let (server, _) = start_with(engine, |s| s.auth_failures_per_minute(3)).await;
    let from = ("x-forwarded-for", "203.0.113.9");
    let get = async |who: &str, address: &'static str| {
        let headers = [("authorization", who), (from.0, address)];
        request(server.addr, "GET", "/v1/history?channel=user:42", &headers, b"").await.status
    };
    let who = user("42", json!({}));
    for _ in 0..3 {
        assert_eq!(get("Bearer guess", from.1).await, 401);
    }
    assert_eq!(get(&who, from.1).await, 429, "not even with a good one");
    assert_eq!(get(&who, "203.0.113.10").await, 200, "others are not concerned");
    assert_eq!(get(&who, "203.0.113.10").await, 200);
}
