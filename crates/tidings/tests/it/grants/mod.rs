//! Grants: who may hear and say what, on open streams too.

mod believer;

mod live;

mod routes;

mod jobs;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpStream;

use self::believer::{Application, Believer};
use crate::client::Stream;
use crate::http::{Answer, head, request};
use crate::server::{Engine, Server};

/// A server that asks who it is, and the application that it may ask.
async fn start(engine: Engine) -> (Server, Arc<Application>) {
    start_with(engine, |settings| settings).await
}

async fn start_with(
    engine: Engine,
    change: impl FnOnce(tidings::Settings) -> tidings::Settings,
) -> (Server, Arc<Application>) {
    let believer = Believer::default();
    let application = Arc::clone(&believer.application);
    let server = Server::start_with(engine, |settings| {
        change(settings.dev(false).authorize(Arc::new(believer)).keepalive(Duration::from_secs(2)))
    });
    (server.await, application)
}

/// A user, with what they may do beside hearing their own channel.
fn user(sub: &str, more: Value) -> String {
    let mut object = json!({ "sub": sub });
    for (name, value) in more.as_object().unwrap() {
        object[name] = value.clone();
    }
    bearer(json!({ "object": object }))
}

fn bearer(claims: Value) -> String {
    format!("Bearer {claims}")
}

/// A back end that may do everything.
fn back_end() -> String {
    let object = json!({ "subscribe": ["*"], "publish": ["*"], "jobs": ["*"] });
    bearer(json!({ "object": object, "key": "back-end", "admin": true }))
}

async fn ask(server: &Server, who: &str, method: &str, target: &str, body: Value) -> Answer {
    let mut headers = vec![("content-type", "application/json")];
    if !who.is_empty() {
        headers.push(("authorization", who));
    }
    let body = if body.is_null() { String::new() } else { body.to_string() };
    request(server.addr, method, target, &headers, body.as_bytes()).await
}

async fn publish(server: &Server, channel: &str, data: u64) -> String {
    let answer =
        ask(server, &back_end(), "POST", "/v1/publish", json!({ "channel": channel, "data": data })).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["id"].as_str().unwrap().to_owned()
}

/// A stream as a browser asks for it, with the name of its connection once it says hello.
async fn stream(server: &Server, headers: &[(&str, &str)], target: &str, id: &str) -> Stream {
    let mut socket = TcpStream::connect(server.addr).await.unwrap();
    let mut all = vec![("accept", "text/event-stream")];
    all.extend_from_slice(headers);
    if !id.is_empty() {
        all.push(("last-event-id", id));
    }
    tokio::io::AsyncWriteExt::write_all(&mut socket, head(server.addr, "GET", target, &all).as_bytes())
        .await
        .unwrap();
    Stream::answered(socket, id).await
}

async fn greeted(server: &Server, who: &str, target: &str) -> (Stream, Value) {
    let mut stream = stream(server, &[("authorization", who)], target, "").await;
    let hello = serde_json::from_str(&stream.hello().await.data).unwrap();
    (stream, hello)
}

/// The stream's last event: it is refused, and why. Nothing comes behind it.
async fn unauthorized(stream: &mut Stream) -> Value {
    let event = stream.next().await.expect("something comes");
    assert_eq!(event.event, "tidings.unauthorized", "{event:?}");
    assert!(event.last_event_id.ends_with("~s"), "{event:?}");
    stream.ends().await;
    serde_json::from_str(&event.data).unwrap()
}
