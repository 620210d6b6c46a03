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
use tidings_core::resume::{Position, Reason, Retained, gone, position};
use tidings_core::{ChannelName, Epochs, EventId, Seq, Standing};

use super::caller::Caller;
use super::params::Params;
use super::problem::{Code, Problem};
use crate::Hub;
use crate::frame::{event_json, fields};
use crate::log::{ReadLimit, ReadOutcome, Record, Want};
use crate::shard::retained;

/// Bytes in one answer of history, beyond its last event.
const BYTES_MAX: usize = 4 << 20;

pub(super) async fn show(State(hub): State<Hub>, caller: Caller, uri: Uri) -> Result<Json<Value>, Problem> {
    let channel = Params::of(&uri).channel()?;
    caller.require_readable(&hub, &channel).await?;
    // How many listen is more than a reader of the channel knows.
    let streams = caller.grant().admin.then(|| hub.0.registry.listening(&channel));
    let window = hub.window(&channel);
    let epochs = hub.0.log.epochs();
    let id = |seq: Option<Seq>| seq.map(|s| epochs.id(s).to_string());
    Ok(Json(json!({
        "channel": channel.as_str(),
        "head": id(window.map(|w| w.head)),
        "first": id(window.and_then(|w| w.first)),
        "streams": streams,
        "finished": id(window.and_then(|w| w.finished)),
    })))
}

pub(super) async fn delete(State(hub): State<Hub>, caller: Caller, uri: Uri) -> Result<StatusCode, Problem> {
    caller.require_admin()?;
    let channel = Params::of(&uri).channel()?.publishable()?;
    hub.delete(&channel).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn history(State(hub): State<Hub>, caller: Caller, uri: Uri) -> Result<Response, Problem> {
    let params = Params::of(&uri);
    let channels = params.channels()?;
    if channels.is_empty() {
        return Err(Problem::new(Code::ChannelsMissing, "name a channel"));
    }
    for channel in &channels {
        caller.require_readable(&hub, channel).await?;
    }
    let limit = params.limit()?;
    let asked = match (params.one("after").filter(|t| !t.is_empty()), last(params.one("from"))?) {
        (Some(_), Some(_)) => {
            return Err(Problem::new(Code::FromInvalid, "history takes either `after` or `from`"));
        }
        (Some(text), None) => Asked::After(id_of(text)?),
        (None, Some(count)) => Asked::Last(count),
        (None, None) => Asked::Start,
    };
    let until = params.one("until").filter(|t| !t.is_empty()).map(id_of).transpose()?;
    let range = Range { asked, until, limit };
    let answer = tokio::task::spawn_blocking(move || page(&hub, &channels, range)).await;
    let answer = answer.map_err(|e| Problem::new(Code::Internal, e.to_string()))??;
    Ok(([(header::CONTENT_TYPE, "application/json")], answer).into_response())
}

/// Which part of history a page is to hold.
#[derive(Debug, Clone, Copy)]
struct Range {
    asked: Asked,
    /// Nothing behind this one.
    until: Option<EventId>,
    limit: usize,
}

/// Where a page of history begins.
#[derive(Debug, Clone, Copy)]
enum Asked {
    Start,
    /// With the newest so many.
    Last(usize),
    After(EventId),
}

fn id_of(text: &str) -> Result<EventId, Problem> {
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
        Some(text) => Asked::After(id_of(text)?),
        None => Asked::Start,
    };
    let (hub, channel) = (hub.clone(), id.channel().clone());
    let answer = tokio::task::spawn_blocking(move || {
        let range = Range { asked, until: None, limit };
        let page = read(&hub, std::slice::from_ref(&channel), range)?;
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

/// A part of the history of some channels.
struct Page<'a> {
    records: Vec<Record>,
    epochs: &'a Epochs,
    reset: Option<Missing>,
    next: EventId,
    more: bool,
}

/// What is gone of what was asked for.
struct Missing {
    reason: Reason,
    first: Option<Seq>,
    /// Indexes of the channels that are meant; none means all of them.
    channels: Vec<usize>,
}

impl Missing {
    fn of_all(reason: Reason, first: Option<Seq>) -> Self {
        Self { reason, first, channels: Vec::new() }
    }
}

/// One page of history, oldest first.
fn page(hub: &Hub, channels: &[ChannelName], range: Range) -> Result<String, Problem> {
    let Page { records, epochs, reset, next, more } = read(hub, channels, range)?;
    let now = crate::clock::unix_ms();
    let live = |r: &&Record| r.expires_at_ms.is_none_or(|at| at > now);
    let events: Vec<String> = records
        .iter()
        .filter(live)
        .map(|r| event_json(&r.body, r.flags.is_text, Some(epochs.id(r.seq))))
        .collect();
    let names: Vec<&str> = channels.iter().map(ChannelName::as_str).collect();
    let mut tail = format!(r#""next":"{next}","more":{more}"#);
    if let Some(Missing { reason, first, channels }) = reset {
        let first = first.map(|s| epochs.id(s).to_string());
        let mut reset = json!({ "reason": reason.as_str(), "first": first });
        let meant: Vec<&&str> = channels.iter().filter_map(|c| names.get(*c)).collect();
        if let Some(object) = reset.as_object_mut().filter(|_| !meant.is_empty()) {
            object.insert("channels".into(), json!(meant));
        }
        tail.push_str(&format!(r#","reset":{reset}"#));
    }
    let of = match names.as_slice() {
        [name] => format!(r#""channel":{}"#, json!(name)),
        names => format!(r#""channels":{}"#, json!(names)),
    };
    Ok(format!(r#"{{{of},"events":[{}],{tail}}}"#, events.join(",")))
}

fn read<'a>(hub: &'a Hub, channels: &[ChannelName], range: Range) -> Result<Page<'a>, Problem> {
    let log = &hub.0.log;
    let head = hub.0.tail.head();
    let epochs = log.epochs();
    let states: Vec<Retained> = channels.iter().map(|c| retained(log.window(c))).collect();
    // An end that this log does not know bounds nothing: whoever has it is told as if it had asked behind it.
    let (upto, mut reset) = match range.until.map(|id| epochs.standing(id, head)) {
        None => (head, None),
        Some(Standing::Known(seq)) => (seq, None),
        Some(Standing::Ahead) => (Seq::ZERO, Some(Missing::of_all(Reason::Ahead, None))),
        Some(Standing::Foreign) => (Seq::ZERO, Some(Missing::of_all(Reason::Epoch, None))),
    };
    let own = match range.asked {
        Asked::Start => None,
        Asked::Last(count) => Some(log.before_last(channels, count, upto)?),
        Asked::After(id) => match epochs.standing(id, head) {
            Standing::Known(own) => {
                reset = reset.or_else(|| missing(own, log.horizon(), &states));
                Some(own)
            }
            Standing::Ahead => {
                reset = Some(Missing::of_all(Reason::Ahead, None));
                Some(head)
            }
            Standing::Foreign => {
                reset = Some(Missing::of_all(Reason::Epoch, None));
                Some(head)
            }
        },
    };
    let own = own.unwrap_or(Seq::ZERO);
    let mut after: Vec<Seq> = states.iter().map(|s| own.max(s.floor)).collect();
    let bound = ReadLimit { upto, events_max: range.limit, bytes_max: BYTES_MAX };
    let (records, to) = read_behind(hub, channels, &mut after, bound, &mut reset)?;
    let more = channels.iter().any(|c| log.window(c).is_some_and(|w| w.head.min(upto) > to));
    let begin = after.iter().min().copied().unwrap_or(own);
    let next = epochs.id(records.last().map_or(begin, |r| r.seq));
    Ok(Page { records, epochs, reset, next, more })
}

/// Reads behind the positions in `after`, and moves them past what turns out to be gone.
fn read_behind(
    hub: &Hub,
    channels: &[ChannelName],
    after: &mut [Seq],
    bound: ReadLimit,
    reset: &mut Option<Missing>,
) -> Result<(Vec<Record>, Seq), Problem> {
    loop {
        // A read that begins at its end has nothing to find.
        let wanted: Vec<Want<'_>> = channels
            .iter()
            .zip(after.iter())
            .filter(|(_, after)| **after < bound.upto)
            .map(|(channel, after)| Want { channel, after: *after })
            .collect();
        if wanted.is_empty() {
            return Ok((Vec::new(), bound.upto));
        }
        match hub.0.log.read(&wanted, bound)? {
            ReadOutcome::Events { records, to } => return Ok((records, to)),
            ReadOutcome::Truncated { channels: lost } => {
                let floors: Vec<(ChannelName, Seq)> = lost
                    .iter()
                    .filter_map(|(index, floor)| Some((wanted.get(*index)?.channel.clone(), *floor)))
                    .collect();
                for (channel, after) in channels.iter().zip(after.iter_mut()) {
                    if let Some((_, floor)) = floors.iter().find(|(name, _)| name == channel) {
                        *after = (*floor).max(after.next());
                    }
                }
                *reset = reset.take().or_else(|| Some(Missing::of_all(Reason::Expired, None)));
            }
            ReadOutcome::Corrupt { resume_after } => {
                for after in after.iter_mut() {
                    *after = resume_after.max(after.next());
                }
                *reset = Some(Missing::of_all(Reason::Corrupt, None));
            }
        }
    }
}

/// What a reader at `own` is told of, in the words of a stream.
fn missing(own: Seq, horizon: Seq, states: &[Retained]) -> Option<Missing> {
    if own < horizon {
        let first = states.iter().filter_map(|s| s.first).min();
        return Some(Missing::of_all(Reason::Expired, first));
    }
    gone(own, states).map(|r| Missing { reason: r.reason, first: r.first, channels: r.channels })
}
