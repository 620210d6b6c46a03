//! What is published is what history and streams give back; what is refused leaves nothing behind.

use std::collections::HashMap;

use axum::http::Request;
use bytes::Bytes;
use serde_json::Value;

use crate::hub::{PATIENT, ask, holds};
use crate::input::Input;
use crate::oracle::{Said, read};

/// `kind, key\n, body`: JSON or, with an odd kind, NDJSON.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.byte();
    let key = input.line().to_vec();
    let body = input.rest();
    let is_batch = kind & 1 != 0;
    let mut request = Request::post("/v1/publish").header("host", "localhost");
    request =
        request.header("content-type", if is_batch { "application/x-ndjson" } else { "application/json" });
    if !key.is_empty() {
        request = request.header("idempotency-key", key.as_slice());
    }
    let Ok(request) = request.body(Bytes::copy_from_slice(body)) else { return };
    let Some(answer) = ask(request, PATIENT) else { panic!("a publish waits") };
    holds(&answer);
    let text = String::from_utf8(answer.body).expect("answers are text");
    match answer.status.as_u16() {
        200 if is_batch => {
            let lines: Vec<&[u8]> =
                body.split(|&b| b == b'\n').filter(|l| !l.trim_ascii().is_empty()).collect();
            let results: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(lines.len(), results.len(), "one result for each line");
            for (line, result) in lines.iter().zip(&results) {
                if let Some(id) = result["id"].as_str().filter(|_| result["duplicate"] != true) {
                    kept(line, id);
                }
            }
        }
        201 => {
            let result: Value = serde_json::from_str(&text).unwrap();
            for id in result["id"].as_str().into_iter().chain(ids(&result).values().copied()) {
                kept(body, id);
            }
        }
        200 | 202 | 400..=499 => {}
        503 | 507 => {}
        other => panic!("{other}: {text}"),
    }
}

fn ids(result: &Value) -> HashMap<&str, &str> {
    let ids = result["ids"].as_object();
    ids.into_iter().flatten().filter_map(|(channel, id)| Some((channel.as_str(), id.as_str()?))).collect()
}

/// The event with this id has the data and the type that were published.
fn kept(published: &[u8], id: &str) {
    // Numbers keep their spelling, so some that are taken fit into no `Value`.
    let Ok(published) = serde_json::from_slice::<Value>(published) else { return };
    let names = published["channel"].as_str().into_iter();
    let names = names.chain(published["channels"].as_array().into_iter().flatten().filter_map(Value::as_str));
    let Some((epoch, seq)) = id.split_once('-') else { panic!("{id} is no id") };
    let before = format!("{epoch}-{}", seq.parse::<u64>().unwrap() - 1);
    let mut seen = 0;
    for channel in names {
        let query: String = form_urlencoded::Serializer::new(String::new())
            .append_pair("channel", channel)
            .append_pair("from", &before)
            .finish();
        let request =
            Request::get(format!("/events?{query}")).header("host", "localhost").body(Bytes::new()).unwrap();
        let Some(answer) = ask(request, PATIENT) else { continue };
        if answer.status != 200 {
            // All of its channels are finished, or it is full.
            continue;
        }
        for said in read(&answer.body, "").0 {
            let Said::Event { event, data, last_event_id, channel: on, .. } = said else { continue };
            if last_event_id != id || on.as_deref() != Some(channel) {
                continue;
            }
            seen += 1;
            assert_eq!(event, published["event"].as_str().unwrap_or("message"));
            match published["text"].as_str() {
                Some(text) => assert_eq!(data, text.replace("\r\n", "\n").replace('\r', "\n")),
                None => assert_eq!(serde_json::from_str::<Value>(&data).unwrap(), published["data"]),
            }
        }
    }
    assert!(seen <= 1, "{id} is an event of one channel");
}
