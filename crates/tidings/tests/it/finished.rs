//! Finished and deleted channels.

use serde_json::{Value, json};

use crate::client::Stream;
use crate::http::Answer;
use crate::server::{Engine, Server};

on_each_engine! {
    a_final_event_ends_the_stream_and_a_reconnect_stops,
    a_finished_channel_takes_nothing_more,
    a_stream_ends_only_when_all_its_channels_are_finished,
    without_a_position_finished_channels_send_their_final_events,
    start_and_last_on_finished_channels_replay_and_end,
    a_position_inside_a_finished_channel_gets_the_rest_and_ends,
    a_deleted_finished_channel_stops_everybody,
    a_reset_with_nothing_left_moves_to_the_end,
    a_finished_channel_beside_an_open_one_makes_no_difference,
    a_large_final_event_ends_the_stream_of_a_slow_reader,
    a_final_event_that_is_deleted_unread_ends_the_stream_of_a_slow_reader,
    the_final_event_of_several_channels_comes_once_per_channel,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finished_channel_stays_finished_over_a_restart() {
    let server = Server::start(Engine::Disk).await;
    let id = finish(&server, "a", 9).await;
    let server = server.restart().await;
    server.post(r#"{"channel":"a","data":1}"#).await.is_refusal(409, "channel_finished");
    assert_eq!(stopped(&server, "channel=a", &id).await.status, 204);
    let mut stream = server.stream("channel=a").await;
    assert_eq!(stream.numbers(1).await, [9]);
    stream.ends().await;
}

async fn finish(server: &Server, channel: &str, number: u64) -> String {
    server.publish(json!({"channel": channel, "data": number, "final": true})).await
}

async fn stopped(server: &Server, query: &str, id: &str) -> Answer {
    let headers = [("accept", "text/event-stream"), ("last-event-id", id)];
    crate::http::request(server.addr, "GET", &format!("/events?{query}"), &headers, b"").await
}

async fn rest_of(mut stream: Stream) -> Vec<u64> {
    let mut numbers = Vec::new();
    while let Some(event) = stream.next().await {
        assert_ne!(event.event, "tidings.reset");
        numbers.extend(event.channel.map(|_| event.data.parse::<u64>().unwrap()));
    }
    numbers
}

async fn a_final_event_ends_the_stream_and_a_reconnect_stops(engine: Engine) {
    let server = Server::start(engine).await;
    let mut stream = server.stream("channel=a").await;
    stream.hello().await;
    server.numbers("a", 0..3).await;
    let id = finish(&server, "a", 3).await;
    assert_eq!(stream.numbers(4).await, [0, 1, 2, 3]);
    stream.ends().await;
    assert_eq!(stream.last_id, id);
    let answer = stopped(&server, "channel=a", &id).await;
    assert_eq!((answer.status, answer.header("cache-control")), (204, Some("no-store")));
    assert_eq!(stopped(&server, &format!("channel=a&last_event_id={id}"), "").await.status, 204);
    // Positions behind the final event, such as of a stream that had other channels too.
    let later = server.publish(json!({"channel": "other", "data": 1})).await;
    assert_eq!(stopped(&server, "channel=a", &later).await.status, 204);
    server.until_metric("tidings_connections", 0.0).await;
}

async fn a_finished_channel_takes_nothing_more(engine: Engine) {
    let server = Server::start(engine).await;
    let id = finish(&server, "a", 1).await;
    for body in [
        r#"{"channel":"a","data":1}"#,
        r#"{"channel":"a","data":1,"final":true}"#,
        r#"{"channel":"a","data":1,"ephemeral":true}"#,
        r#"{"channels":["b","a"],"data":1}"#,
        r#"{"channel":"a","data":1,"idempotency_key":"k"}"#,
    ] {
        server.post(body).await.is_refusal(409, "channel_finished");
    }
    let b = server.get("/v1/channels?channel=b").await.json();
    assert_eq!(b["head"], Value::Null, "all or none: {b}");
    let lines =
        server.batch("{\"channel\":\"a\",\"data\":1}\n{\"channel\":\"b\",\"data\":1}\n").await.lines();
    assert_eq!((&lines[0]["code"], &lines[0]["line"]), (&json!("channel_finished"), &json!(1)));
    assert!(lines[1]["id"].is_string());
    let a = server.get("/v1/channels?channel=a").await.json();
    assert_eq!((&a["finished"], &a["head"]), (&json!(id), &json!(id)));
}

async fn a_stream_ends_only_when_all_its_channels_are_finished(engine: Engine) {
    let server = Server::start(engine).await;
    let mut stream = server.stream("channel=a&channel=b&channel=c").await;
    stream.hello().await;
    finish(&server, "b", 1).await;
    server.numbers("a", 2..3).await;
    finish(&server, "a", 3).await;
    server.numbers("c", 4..5).await;
    finish(&server, "c", 5).await;
    assert_eq!(stream.numbers(5).await, [1, 2, 3, 4, 5]);
    stream.ends().await;
}

async fn without_a_position_finished_channels_send_their_final_events(engine: Engine) {
    let server = Server::start(engine).await;
    server.numbers("a", 0..3).await;
    let first = finish(&server, "b", 10).await;
    server.numbers("a", 3..5).await;
    let last = finish(&server, "a", 11).await;
    let mut stream = server.stream("channel=a&channel=b").await;
    assert_eq!(stream.hello().await.last_event_id, "");
    assert_eq!(stream.numbers(2).await, [10, 11]);
    stream.ends().await;
    assert_eq!(stopped(&server, "channel=a&channel=b", &last).await.status, 204);
    // Cut between the two, it gets the other.
    assert_eq!(rest_of(server.resume("channel=a&channel=b", &first).await).await, [3, 4, 11]);
    let mut wrapped = server.stream("channel=a&envelope=json").await;
    wrapped.hello().await;
    let event: Value = serde_json::from_str(&wrapped.event().await.data).unwrap();
    assert_eq!((&event["data"], &event["id"]), (&json!(11), &json!(last)));
}

async fn start_and_last_on_finished_channels_replay_and_end(engine: Engine) {
    let server = Server::start(engine).await;
    server.numbers("a", 0..5).await;
    finish(&server, "a", 5).await;
    assert_eq!(rest_of(server.stream("channel=a&from=start").await).await, [0, 1, 2, 3, 4, 5]);
    assert_eq!(rest_of(server.stream("channel=a&from=last:2").await).await, [4, 5]);
}

async fn a_position_inside_a_finished_channel_gets_the_rest_and_ends(engine: Engine) {
    let server = Server::start(engine).await;
    let ids = server.numbers("a", 0..5).await;
    finish(&server, "a", 5).await;
    assert_eq!(rest_of(server.resume("channel=a", &ids[2]).await).await, [3, 4, 5]);
    let mut unknown = server.resume("channel=a", "zzz-1").await;
    unknown.hello().await;
    assert_eq!(unknown.reset().await["reason"], "epoch");
    unknown.ends().await;
    assert_eq!(stopped(&server, "channel=a", &unknown.last_id).await.status, 204);
}

async fn a_deleted_finished_channel_stops_everybody(engine: Engine) {
    let server = Server::start(engine).await;
    server.numbers("a", 0..5).await;
    finish(&server, "a", 5).await;
    assert_eq!(server.delete("/v1/channels?channel=a").await.status, 204);
    for query in ["channel=a", "channel=a&from=start", "channel=a&from=last:3"] {
        assert_eq!(stopped(&server, query, "").await.status, 204, "{query}");
    }
    server.post(r#"{"channel":"a","data":1}"#).await.is_refusal(409, "channel_finished");
}

async fn a_reset_with_nothing_left_moves_to_the_end(engine: Engine) {
    let server = Server::start(engine).await;
    let ids = server.numbers("a", 0..5).await;
    let end = finish(&server, "a", 5).await;
    server.delete("/v1/channels?channel=a").await;
    let mut stream = server.resume("channel=a", &ids[1]).await;
    stream.hello().await;
    assert_eq!(stream.reset().await["reason"], "deleted");
    assert_eq!(stream.last_id, end);
    stream.ends().await;
    assert_eq!(stopped(&server, "channel=a", &end).await.status, 204);
}

async fn a_finished_channel_beside_an_open_one_makes_no_difference(engine: Engine) {
    let server = Server::start(engine).await;
    let id = finish(&server, "a", 1).await;
    let mut fresh = server.stream("channel=a&channel=b").await;
    let mut resumed = server.resume("channel=a&channel=b", &id).await;
    fresh.hello().await;
    resumed.hello().await;
    server.numbers("b", 2..3).await;
    assert_eq!((fresh.numbers(1).await, resumed.numbers(1).await), (vec![2], vec![2]));
}

async fn a_large_final_event_ends_the_stream_of_a_slow_reader(engine: Engine) {
    let server = Server::start(engine).await;
    let mut stream = crate::slow::reader(server.addr, "channel=a", None).await;
    stream.hello().await;
    server.until_metric("tidings_connections_behind", 0.0).await;
    // Far more than socket buffers hold, in one event.
    let text = "x".repeat(250_000);
    server.publish(json!({"channel": "a", "text": text, "final": true})).await;
    server.until_metric("tidings_connections_behind", 1.0).await;
    assert_eq!(stream.event().await.data.len(), text.len());
    stream.ends().await;
}

async fn a_final_event_that_is_deleted_unread_ends_the_stream_of_a_slow_reader(engine: Engine) {
    let server = Server::start(engine).await;
    let mut stream = crate::slow::reader(server.addr, "channel=a", None).await;
    stream.hello().await;
    server.until_metric("tidings_connections_behind", 0.0).await;
    server.publish(json!({"channel": "a", "text": "x".repeat(250_000)})).await;
    server.until_metric("tidings_connections_behind", 1.0).await;
    let end = finish(&server, "a", 1).await;
    server.delete("/v1/channels?channel=a").await;
    let at = stream.event().await.last_event_id;
    assert_eq!(stream.reset().await["reason"], "deleted");
    assert_eq!(stream.last_id, at);
    stream.ends().await;
    let mut again = server.resume("channel=a", &at).await;
    again.hello().await;
    assert_eq!(again.reset().await["reason"], "deleted");
    again.ends().await;
    assert_eq!(again.last_id, end);
    assert_eq!(stopped(&server, "channel=a", &end).await.status, 204);
}

async fn the_final_event_of_several_channels_comes_once_per_channel(engine: Engine) {
    let server = Server::start(engine).await;
    let mut stream = server.stream("channel=a&channel=b").await;
    stream.hello().await;
    let body = json!({"channels": ["a", "b"], "data": 1, "final": true}).to_string();
    assert_eq!(server.post(&body).await.status, 201);
    assert_eq!(stream.numbers(2).await, [1, 1]);
    stream.ends().await;
}
