//! `/v1/channels` and `/v1/history`.
//!
//! Owns: the JSON of a channel and of its history. Does not know: how the log reads.
//! Flow: a request → a window or a read of the log → JSON.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri, header};
use serde_json::{Value, json};
use tidings_core::job::JobId;
use tidings_core::resume::{Position, Reason, gone, position};
use tidings_core::{ChannelName, Epochs, EventId, Seq, Standing};

use super::params::Params;
use super::problem::{Code, Problem};
use crate::Hub;
use crate::frame::{event_json, fields};
use crate::log::{ReadLimit, ReadOutcome, Record, Want};
use crate::shard::retained;

/// Bytes in one answer of history, beyond its last event.
const BYTES_MAX: usize = 4 << 20;

pub(super) async fn show(State(hub): State<Hub>, uri: Uri) -> Result<Json<Value>, Problem> {
    let channel = Params::of(&uri).channel()?;
    let window = hub.window(&channel);
    let epochs = hub.0.log.epochs();
    let id = |seq: Option<Seq>| seq.map(|s| epochs.id(s).to_string());
    Ok(Json(json!({
        "channel": channel.as_str(),
        "head": id(window.map(|w| w.head)),
        "first": id(window.and_then(|w| w.first)),
        "streams": hub.0.registry.listening(&channel),
        "finished": id(window.and_then(|w| w.finished)),
    })))
}

pub(super) async fn delete(State(hub): State<Hub>, uri: Uri) -> Result<StatusCode, Problem> {
    let channel = Params::of(&uri).channel()?.publishable()?;
    hub.delete(&channel).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn history(State(hub): State<Hub>, uri: Uri) -> Result<Response, Problem> {
    let params = Params::of(&uri);
    let channel = params.channel()?;
    let limit = params.limit()?;
    let asked = match (params.one("after").filter(|t| !t.is_empty()), last(params.one("from"))?) {
        (Some(_), Some(_)) => {
            return Err(Problem::new(Code::FromInvalid, "history takes either `after` or `from`"));
        }
        (Some(text), None) => Asked::After(after(text)?),
        (None, Some(count)) => Asked::Last(count),
        (None, None) => Asked::Start,
    };
    let answer = tokio::task::spawn_blocking(move || page(&hub, &channel, asked, limit)).await;
    let answer = answer.map_err(|e| Problem::new(Code::Internal, e.to_string()))??;
    Ok(([(header::CONTENT_TYPE, "application/json")], answer).into_response())
}

/// Where a page of history begins.
#[derive(Debug, Clone, Copy)]
enum Asked {
    Start,
    /// With the newest so many.
    Last(usize),
    After(EventId),
}

fn after(text: &str) -> Result<EventId, Problem> {
    EventId::parse(text)
        .ok_or_else(|| Problem::new(Code::AfterInvalid, format!("{text:.64?} is not an event id")))
}

/// `from=last:N`; `start`, which is the default, may be said too.
fn last(text: Option<&str>) -> Result<Option<usize>, Problem> {
    match position(None, None, text) {
        Ok(Position::Last(count)) => Ok(Some(count)),
        Ok(Position::Start) => Ok(None),
        Ok(Position::Now) if text.is_none_or(str::is_empty) => Ok(None),
        _ => Err(Problem::new(Code::FromInvalid, "history begins with `start` or `last:N`")),
    }
}

/// The log lines of a job among one page of its history, oldest first.
pub(super) async fn logs_of(hub: &Hub, id: &JobId, uri: &Uri) -> Result<Response, Problem> {
    let params = Params::of(uri);
    let limit = params.limit()?;
    let asked = match params.one("after").filter(|t| !t.is_empty()) {
        Some(text) => Asked::After(after(text)?),
        None => Asked::Start,
    };
    let (hub, channel) = (hub.clone(), id.channel().clone());
    let answer = tokio::task::spawn_blocking(move || {
        let page = read(&hub, &channel, asked, limit)?;
        let logs: Vec<Value> =
            page.records.iter().filter_map(|r| log_line(r, page.epochs.id(r.seq))).collect();
        Ok::<_, Problem>(json!({ "logs": logs, "next": page.next.to_string(), "more": page.more }))
    });
    let answer = answer.await.map_err(|e| Problem::new(Code::Internal, e.to_string()))??;
    Ok(Json(answer).into_response())
}

fn log_line(record: &Record, id: EventId) -> Option<Value> {
    let fields = fields(&record.body);
    if fields.event != "log" {
        return None;
    }
    let data: Value = serde_json::from_str(&fields.data).ok()?;
    let part = |name| data.get(name).cloned().unwrap_or_default();
    Some(json!({
        "id": id.to_string(), "level": part("level"), "message": part("message"), "ts": part("ts"),
    }))
}

/// A part of a channel's history.
struct Page {
    records: Vec<Record>,
    epochs: Epochs,
    reset: Option<(Reason, Option<Seq>)>,
    next: EventId,
    more: bool,
}

/// One page of history, oldest first.
fn page(hub: &Hub, channel: &ChannelName, asked: Asked, limit: usize) -> Result<String, Problem> {
    let Page { records, epochs, reset, next, more } = read(hub, channel, asked, limit)?;
    let now = crate::clock::unix_ms();
    let live = |r: &&Record| r.expires_at_ms.is_none_or(|at| at > now);
    let events: Vec<String> = records
        .iter()
        .filter(live)
        .map(|r| event_json(&r.body, r.flags.is_text, Some(epochs.id(r.seq))))
        .collect();
    let mut tail = format!(r#""next":"{next}","more":{more}"#);
    if let Some((reason, first)) = reset {
        let first = first.map(|s| epochs.id(s).to_string());
        tail.push_str(&format!(r#","reset":{}"#, json!({ "reason": reason.as_str(), "first": first })));
    }
    let name = json!(channel.as_str());
    Ok(format!(r#"{{"channel":{name},"events":[{}],{tail}}}"#, events.join(",")))
}

fn read(hub: &Hub, channel: &ChannelName, asked: Asked, limit: usize) -> Result<Page, Problem> {
    let log = &hub.0.log;
    let head = hub.0.tail.head();
    let epochs = log.epochs();
    let state = retained(log.window(channel));
    let id = match asked {
        Asked::After(id) => Some(epochs.standing(id, head)),
        Asked::Start | Asked::Last(_) => None,
    };
    let (mut after, mut reset) = match (id, asked) {
        (None, Asked::Last(count)) => (log.before_last(std::slice::from_ref(channel), count, head)?, None),
        (None, _) => (state.floor, None),
        (Some(Standing::Known(own)), _) if own < log.horizon() => (own, Some((Reason::Expired, state.first))),
        (Some(Standing::Known(own)), _) => (own, gone(own, &[state]).map(|r| (r.reason, r.first))),
        (Some(Standing::Ahead), _) => (head, Some((Reason::Ahead, None))),
        (Some(Standing::Foreign), _) => (head, Some((Reason::Epoch, None))),
    };
    after = after.max(state.floor);
    let bound = ReadLimit { upto: head, events_max: limit, bytes_max: BYTES_MAX };
    let (records, to) = loop {
        match log.read(&[Want { channel, after }], bound)? {
            ReadOutcome::Events { records, to } => break (records, to),
            ReadOutcome::Truncated { channels } => {
                let floor = channels.first().map_or(after.next(), |(_, floor)| *floor);
                after = floor.max(after.next());
                reset = reset.or(Some((Reason::Expired, None)));
            }
            ReadOutcome::Corrupt { resume_after } => {
                after = resume_after.max(after.next());
                reset = Some((Reason::Corrupt, None));
            }
        }
    };
    let more = log.window(channel).is_some_and(|w| w.head > to);
    let next = epochs.id(records.last().map_or(after, |r| r.seq));
    Ok(Page { records, epochs, reset, next, more })
}
