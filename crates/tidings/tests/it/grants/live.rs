//! Open streams whose grant ends, changes or is revoked.

use serde_json::json;

use super::believer::now_ms;
use super::*;

on_each_engine! {
    a_stream_ends_with_its_grant_and_nothing_is_written_behind_that,
    an_open_stream_goes_on_with_new_credentials,
    a_grant_that_shrinks_ends_the_whole_stream,
    a_revocation_ends_streams_and_survives_a_restart,
    a_slow_reader_that_is_revoked_gets_nothing_more,
    a_stream_whose_token_is_revoked_while_it_waits_for_its_turn_hears_that_and_nothing_else,
    a_stream_whose_token_is_revoked_while_it_waits_as_a_request_is_refused,
    whoever_judged_is_asked_again_for_open_streams,
    channels_join_an_open_stream_where_it_stands,
    channels_join_a_stream_that_catches_up,
}

fn until(sub: &str, ms: u64) -> String {
    bearer(json!({ "object": { "sub": sub, "subscribe": ["a"] }, "exp_ms": now_ms() + ms }))
}

async fn a_stream_ends_with_its_grant_and_nothing_is_written_behind_that(engine: Engine) {
    let (server, _) = start(engine).await;
    let who = until("42", 1_500);
    let (mut short, hello) = greeted(&server, &who, "/events?channel=a").await;
    let expires_at = hello["expires_at"].as_u64().unwrap();
    let (mut long, hello) =
        greeted(&server, &user("42", json!({ "subscribe": ["a"] })), "/events?channel=a").await;
    assert_eq!(hello["expires_at"], Value::Null);
    let (mut before, mut all) = (0, 0);
    while now_ms() < expires_at + 200 {
        let is_before = now_ms() < expires_at;
        publish(&server, "a", all).await;
        // Acknowledged before the end: it may be written. Begun behind it: it may not.
        before += u64::from(is_before);
        all += 1;
        // No faster than it could be read: a stream with half a frame in its socket ends without a word.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut got = 0;
    let mut warned = false;
    let last = loop {
        let event = short.next().await.expect("the end is told");
        match event.event.as_str() {
            "tidings.auth_expiring" => warned = true,
            "tidings.unauthorized" => break event,
            _ => got += 1,
        }
    };
    short.ends().await;
    assert!(warned && got <= before && got > 0, "{got} of {before}, {all}");
    assert_eq!(serde_json::from_str::<Value>(&last.data).unwrap(), json!({ "code": "token_expired" }));
    assert_eq!(long.numbers(all as usize).await.len(), all as usize, "others get everything");
    // The same token again stops the browser; a new one loses nothing.
    let id = short.last_id.clone();
    let same = stream(&server, &[("authorization", &who)], "/events?channel=a", &id).await;
    assert_eq!(same.head.status, 204);
    let who = until("42", 60_000);
    let mut again = stream(&server, &[("authorization", &who)], "/events?channel=a", &id).await;
    again.hello().await;
    let rest = again.numbers((all - got) as usize).await;
    assert_eq!(rest, (got..all).collect::<Vec<_>>());
}

async fn an_open_stream_goes_on_with_new_credentials(engine: Engine) {
    let (server, _) = start(engine).await;
    let (mut open, hello) = greeted(&server, &until("42", 1_000), "/events?channel=a").await;
    let id = hello["connection"].as_str().unwrap();
    let target = format!("/v1/connections/{id}/auth");
    for (who, status) in
        [(user("43", json!({ "subscribe": ["a"] })), 404), (back_end(), 404), (String::new(), 401)]
    {
        assert_eq!(ask(&server, &who, "POST", &target, Value::Null).await.status, status, "{who}");
    }
    let nowhere = "/v1/connections/c0000000000000000/auth";
    let unknown = ask(&server, &user("42", json!({})), "POST", nowhere, Value::Null).await;
    assert_eq!(unknown.json()["code"], "connection_not_found");
    let renewed = ask(&server, &until("42", 60_000), "POST", &target, Value::Null).await;
    assert_eq!(renewed.status, 200, "{}", renewed.text());
    assert!(renewed.json()["expires_at"].as_u64().unwrap() > now_ms() + 50_000);
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    publish(&server, "a", 7).await;
    assert_eq!(open.numbers(1).await, [7], "behind the end of the first grant");
    let endless =
        ask(&server, &user("42", json!({ "subscribe": ["a"] })), "POST", &target, Value::Null).await;
    assert_eq!(endless.json(), json!({ "expires_at": null }));
}

async fn a_grant_that_shrinks_ends_the_whole_stream(engine: Engine) {
    let (server, _) = start(engine).await;
    let wide = user("42", json!({ "subscribe": ["a", "b"] }));
    let (mut open, hello) = greeted(&server, &wide, "/events?channel=a&channel=b").await;
    let target = format!("/v1/connections/{}/auth", hello["connection"].as_str().unwrap());
    let narrow = user("42", json!({ "subscribe": ["a"] }));
    let answer = ask(&server, &narrow, "POST", &target, Value::Null).await;
    assert_eq!((answer.status, &answer.json()["code"]), (403, &json!("forbidden")));
    publish(&server, "a", 1).await;
    let data = unauthorized(&mut open).await;
    assert_eq!(data, json!({ "code": "forbidden", "channels": ["b"] }));
}

async fn a_revocation_ends_streams_and_survives_a_restart(engine: Engine) {
    let (server, application) = start(engine).await;
    let token = |jti: &str| {
        bearer(
            json!({ "object": { "sub": "42", "session": "s" }, "jti": jti, "iat_ms": now_ms() / 1_000 * 1_000 }),
        )
    };
    let (one, two) = (token("one"), token("two"));
    let (mut first, _) = greeted(&server, &one, "/events").await;
    let (mut second, _) = greeted(&server, &two, "/events").await;
    let revoked = ask(&server, &back_end(), "POST", "/v1/revocations", json!({ "token": "one" })).await;
    assert_eq!((revoked.status, &revoked.json()["closed"]), (200, &json!(1)), "{}", revoked.text());
    // What is published once that was answered is not for it.
    publish(&server, "user:42", 1).await;
    assert_eq!(unauthorized(&mut first).await, json!({ "code": "token_revoked" }));
    assert_eq!(second.numbers(1).await, [1]);
    let revoked = ask(&server, &back_end(), "POST", "/v1/revocations", json!({ "session": "s" })).await;
    assert_eq!(revoked.json()["closed"], 1);
    assert_eq!(unauthorized(&mut second).await, json!({ "code": "token_revoked" }));
    assert_eq!(application.forgot.lock().unwrap().len(), 2);
    let listed = ask(&server, &back_end(), "GET", "/v1/revocations", Value::Null).await.json();
    let kinds: Vec<&Value> = listed["revocations"].as_array().unwrap().iter().map(|r| &r["kind"]).collect();
    assert_eq!(kinds, [&json!("session"), &json!("token")]);
    for bad in [
        json!({}),
        json!({ "token": "a", "subject": "b" }),
        json!({ "token": "" }),
        json!({ "token": "a", "until": 1 }),
    ] {
        let answer = ask(&server, &back_end(), "POST", "/v1/revocations", bad.clone()).await;
        assert_eq!(answer.json()["code"], "field_invalid", "{bad}");
    }
    let server = if engine == Engine::Disk { server.restart().await } else { server };
    for who in [&one, &two] {
        let answer = ask(&server, who, "GET", "/events", Value::Null).await;
        assert_eq!((answer.status, &answer.json()["code"]), (401, &json!("token_revoked")));
    }
}

async fn a_slow_reader_that_is_revoked_gets_nothing_more(engine: Engine) {
    let (server, _) = start(engine).await;
    let who = bearer(json!({ "object": { "sub": "42", "subscribe": ["big"] }, "jti": "t" }));
    let (mut slow, _) = greeted(&server, &who, "/events?channel=big").await;
    let data = "x".repeat(100_000);
    for _ in 0..200 {
        let event = json!({ "channel": "big", "text": data });
        assert_eq!(ask(&server, &back_end(), "POST", "/v1/publish", event).await.status, 201);
    }
    let revoked = ask(&server, &back_end(), "POST", "/v1/revocations", json!({ "token": "t" })).await;
    assert_eq!(revoked.json()["closed"], 1);
    // What the kernel had taken comes; the frame that was being written is cut, or the stream says why it ends.
    let mut got = 0;
    while let Some(event) = slow.next().await {
        if event.event == "tidings.unauthorized" {
            break;
        }
        got += 1;
    }
    assert!(got < 200, "{got}");
    let answer = stream(&server, &[("authorization", &who)], "/events?channel=big", &slow.last_id).await;
    assert!([200, 204].contains(&answer.head.status));
}

async fn a_stream_whose_token_is_revoked_while_it_waits_for_its_turn_hears_that_and_nothing_else(
    engine: Engine,
) {
    let (server, _) = start_with(engine, |s| s.streams_per_second(1)).await;
    let other = user("1", json!({}));
    // Two come at once, the third waits for a second.
    let _burst = (greeted(&server, &other, "/events").await, greeted(&server, &other, "/events").await);
    let who = bearer(json!({ "object": { "sub": "42" }, "jti": "t" }));
    let headers = [("authorization", who.as_str())];
    let revoke = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        ask(&server, &back_end(), "POST", "/v1/revocations", json!({ "token": "t" })).await
    };
    let (mut waiting, revoked) = tokio::join!(stream(&server, &headers, "/events", ""), revoke);
    assert_eq!(revoked.json()["closed"], 1, "{}", revoked.text());
    waiting.hello().await;
    assert_eq!(unauthorized(&mut waiting).await, json!({ "code": "token_revoked" }));
}

/// A stream that is a response body is no stream yet while it waits for its turn.
async fn a_stream_whose_token_is_revoked_while_it_waits_as_a_request_is_refused(engine: Engine) {
    let (server, _) = start_with(engine, |s| s.streams_per_second(1)).await;
    let other = user("1", json!({}));
    let _burst = (greeted(&server, &other, "/events").await, greeted(&server, &other, "/events").await);
    let who = bearer(json!({ "object": { "sub": "42" }, "jti": "t" }));
    let asked = hyper::Request::get(format!("http://{}/events", server.addr));
    let asked = asked.header("accept", "text/event-stream").header("authorization", &who);
    let revoke = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        ask(&server, &back_end(), "POST", "/v1/revocations", json!({ "token": "t" })).await
    };
    let mut client = crate::protocols::http2(server.addr).await;
    let (mut refused, revoked) = tokio::join!(crate::protocols::stream_with(&mut client, asked), revoke);
    assert_eq!(revoked.json()["closed"], 0, "{}", revoked.text());
    assert_eq!(unauthorized(&mut refused).await, json!({ "code": "token_revoked" }));
}

async fn whoever_judged_is_asked_again_for_open_streams(engine: Engine) {
    let (server, application) = start(engine).await;
    let says = |answer| *application.answer.lock().unwrap() = Some(answer);
    let yes = json!({ "object": { "sub": "42", "subscribe": ["a"] } }).to_string();
    says(Ok((yes.clone(), 1_500)));
    let mut open = stream(&server, &[("cookie", "app=1")], "/events?channel=a", "").await;
    let hello: Value = serde_json::from_str(&open.hello().await.data).unwrap();
    assert_eq!(hello["expires_at"], Value::Null, "the judgement is renewed, not over");
    let asked = || application.asked.load(std::sync::atomic::Ordering::SeqCst);
    let until_asked = async |count: usize| {
        for _ in 0..500 {
            if asked() >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("asked only {} times", asked());
    };
    until_asked(3).await;
    publish(&server, "a", 1).await;
    assert_eq!(open.numbers(1).await, [1]);
    // Nobody knows for a while: the last word holds until it is too old, then the stream ends and may come back.
    says(Err(tidings::auth::AuthError::Unavailable("away".into())));
    while let Some(event) = open.next().await {
        assert_ne!(event.event, "tidings.unauthorized");
    }
    let refused = stream(&server, &[("cookie", "app=1")], "/events?channel=a", &open.last_id).await;
    assert_eq!(refused.head.status, 200, "as overload: a browser comes back");
    let id = open.last_id.clone();
    says(Ok((yes, 1_500)));
    let mut open = stream(&server, &[("cookie", "app=1")], "/events?channel=a", &id).await;
    open.hello().await;
    says(Ok((json!({ "object": { "sub": "42" } }).to_string(), 1_500)));
    assert_eq!(unauthorized(&mut open).await, json!({ "code": "forbidden", "channels": ["a"] }));
}

async fn channels_join_an_open_stream_where_it_stands(engine: Engine) {
    let (server, _) = start(engine).await;
    let who = user("42", json!({ "subscribe": ["a", "b", "c"] }));
    let (mut open, hello) = greeted(&server, &who, "/events?channel=a").await;
    let target = format!("/v1/connections/{}/channels", hello["connection"].as_str().unwrap());
    let older = publish(&server, "b", 1).await;
    publish(&server, "a", 2).await;
    assert_eq!(open.numbers(1).await, [2]);
    let joined = ask(&server, &who, "POST", &target, json!({ "channels": ["b", "a", "b"] })).await;
    assert_eq!(joined.status, 200, "{}", joined.text());
    assert_eq!(joined.json()["channels"], json!(["a", "b"]));
    let position = joined.json()["position"].as_str().unwrap().to_owned();
    assert!(crate::client::seq(&position) >= crate::client::seq(&older));
    // The stream says it too, so that a client that is cut now comes back with a position behind what is older.
    assert_eq!(joined_at(&mut open).await, (json!(["b"]), position));
    let again = ask(&server, &who, "POST", &target, json!({ "channels": ["b"] })).await;
    assert_eq!(again.status, 200, "it is not told again");
    publish(&server, "b", 3).await;
    publish(&server, "a", 4).await;
    publish(&server, "c", 5).await;
    publish(&server, "b", 6).await;
    for number in ["3", "4", "6"] {
        assert_eq!(open.next().await.unwrap().data, number, "what is older is in history");
    }
    for (who, body, code) in [
        (&who, json!({ "channels": ["secret"] }), "forbidden"),
        (&who, json!({ "channels": [] }), "channels_missing"),
        (&who, json!({ "channels": ["a b"] }), "channel_name_invalid"),
        (&user("43", json!({ "subscribe": ["c"] })), json!({ "channels": ["c"] }), "connection_not_found"),
    ] {
        assert_eq!(ask(&server, who, "POST", &target, body.clone()).await.json()["code"], code, "{body}");
    }
    let many = user("42", json!({ "subscribe": ["*"] }));
    let names: Vec<String> = (0..101).map(|n| format!("x{n}")).collect();
    let (_other, hello) = greeted(&server, &many, "/events?channel=a").await;
    let target = format!("/v1/connections/{}/channels", hello["connection"].as_str().unwrap());
    let answer = ask(&server, &many, "POST", &target, json!({ "channels": names })).await;
    assert_eq!(answer.json()["code"], "channels_too_many");
}

/// Which channels the stream itself says have joined, and its position then.
async fn joined_at(stream: &mut Stream) -> (Value, String) {
    let told = stream.next().await.unwrap();
    assert_eq!(told.event, "tidings.cursor");
    let data: Value = serde_json::from_str(&told.data).unwrap();
    (data["joined"].clone(), told.last_event_id)
}

/// Channels join in the middle of a replay; from the position that the answer names, nothing of any channel is missing.
async fn channels_join_a_stream_that_catches_up(engine: Engine) {
    let (server, _) = start_with(engine, |s| s.tail_bytes(1 << 16)).await;
    let batch = |from: u64| {
        (from..from + 500)
            .map(|n| json!({ "channel": if n % 2 == 0 { "a" } else { "b" }, "data": n }).to_string() + "\n")
            .collect::<String>()
    };
    let key = back_end();
    let headers = [("content-type", "application/x-ndjson"), ("authorization", key.as_str())];
    for from in (0..4_000).step_by(500) {
        assert_eq!(
            request(server.addr, "POST", "/v1/publish", &headers, batch(from).as_bytes()).await.status,
            200
        );
    }
    let who = user("42", json!({ "subscribe": ["a", "b"] }));
    let (mut open, hello) = greeted(&server, &who, "/events?channel=a&from=start").await;
    let target = format!("/v1/connections/{}/channels", hello["connection"].as_str().unwrap());
    let joined = ask(&server, &who, "POST", &target, json!({ "channels": ["b"] })).await;
    assert_eq!(joined.status, 200, "{}", joined.text());
    let position = joined.json()["position"].as_str().unwrap().to_owned();
    let at = crate::client::seq(&position);
    publish(&server, "b", 4_001).await;
    let (mut a, mut b, mut told) = (Vec::new(), Vec::new(), None);
    while b.last() != Some(&4_001) {
        let event = open.next().await.unwrap();
        if event.event == "tidings.cursor" {
            assert_eq!(told.replace(event.last_event_id), None);
            continue;
        }
        assert_eq!(told.is_some(), crate::client::seq(&event.last_event_id) > at, "it comes where they join");
        let list = if event.channel.as_deref() == Some("a") { &mut a } else { &mut b };
        list.push(event.data.parse::<u64>().unwrap());
    }
    assert_eq!(told, Some(position));
    assert_eq!(a, (0..4_000).step_by(2).collect::<Vec<u64>>());
    // Event n has the sequence n + 1.
    let owed: Vec<u64> = (0..4_000).filter(|n| n % 2 == 1 && n + 1 > at).chain([4_001]).collect();
    assert_eq!(b, owed);
}
