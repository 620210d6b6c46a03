//! The final read: every job there is, by the list and by the ids that were answered, each from the start of its stream.
//!
//! Owns: requests and what they say as plain values. Does not know: what should be there.
//! Flow: ids → streams, read by several connections at once → `Stream`s; some are asked for again behind their end.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tidings_core::EventId;
use tidings_core::limits::EVENT_PARSE_BYTES_MAX;
use tidings_core::wire::sse::parse::{self, Item, Parser};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::Run;
use super::connection::Connection;
use super::producer::settle;
use super::trace::{Document, Event, Kind, Stream};

/// Streams that are read at once.
const READERS: usize = 8;
/// Of so many streams one is asked for again behind its end.
const AGAIN: usize = 10;
/// How long after a start the list may be without some that have ended.
const LISTED: Duration = Duration::from_secs(20);

/// How many managed jobs have not ended.
pub(super) async fn waiting(connection: &mut Connection) -> Result<u64> {
    let answer = connection.get("/v1/queues").await?;
    let body: Value = serde_json::from_str(&answer.body).context(answer.body)?;
    let queues = body.get("queues").and_then(Value::as_array).context("no queues")?;
    let states = ["scheduled", "queued", "retrying", "running"];
    Ok(queues.iter().flat_map(|queue| states.iter().filter_map(|state| queue.get(state)?.as_u64())).sum())
}

/// Reads everything.
pub(super) async fn everything(run: &Rc<Run>) -> Result<Vec<Stream>> {
    let acknowledged: BTreeSet<String> =
        run.made.borrow().iter().filter_map(|made| made.id.clone()).collect();
    let until = Instant::now() + LISTED;
    let mut ids = loop {
        let ids = listed(run).await?;
        // After a start, jobs that have ended come into the list behind everything else.
        match acknowledged.iter().find(|id| !ids.contains(*id)) {
            Some(id) if Instant::now() > until => {
                run.complain(format!("{id} is not in the list of jobs"));
                break ids;
            }
            Some(_) => sleep(Duration::from_millis(50)).await,
            None => break ids,
        }
    };
    ids.extend(acknowledged);
    let left = Rc::new(RefCell::new(ids.into_iter().collect::<Vec<_>>()));
    let mut readers: JoinSet<Result<Vec<Stream>>> = JoinSet::new();
    for _ in 0..READERS {
        let (run, left) = (Rc::clone(run), Rc::clone(&left));
        readers.spawn_local(async move {
            let mut streams = Vec::new();
            loop {
                let next = left.borrow_mut().pop();
                let Some(job) = next else { return Ok(streams) };
                streams.push(stream(&run, job).await?);
            }
        });
    }
    let mut streams = Vec::new();
    while let Some(read) = readers.join_next().await {
        streams.extend(read??);
    }
    Ok(streams)
}

async fn listed(run: &Run) -> Result<BTreeSet<String>> {
    let mut connection = Connection::new(run.address);
    let (mut ids, mut cursor) = (BTreeSet::new(), String::new());
    loop {
        let path = format!("/v1/jobs?limit=1000{cursor}");
        let answer = settle(&mut connection, "GET", &path, "", "").await?;
        let page: Value = serde_json::from_str(&answer.body).context(answer.body)?;
        let jobs = page.get("jobs").and_then(Value::as_array).context("a list without jobs")?;
        for job in jobs {
            let id = job.get("id").and_then(Value::as_str).context("a job without an id")?;
            ensure!(ids.insert(id.to_owned()), "{id} is in the list twice");
        }
        let Some(next) = page.get("next").and_then(Value::as_str) else { return Ok(ids) };
        cursor = format!("&cursor={}", crate::torture::http::escape(next));
    }
}

async fn stream(run: &Run, job: String) -> Result<Stream> {
    let mut connection = Connection::new(run.address);
    let path = format!("/v1/jobs/{job}/events");
    let first = connection.call("GET", &format!("{path}?from=start"), ACCEPT, "").await;
    let answer = first.with_context(|| format!("the stream of {job}"))?;
    if answer.status == 404 {
        return Ok(Stream { job, ..Stream::default() });
    }
    if answer.status != 200 {
        bail!("the stream of {job} was answered {} {}", answer.status, answer.body);
    }
    let mut parser = Parser::new("", EVENT_PARSE_BYTES_MAX);
    let mut input = answer.body.as_bytes();
    let mut events = Vec::new();
    while let Some(item) = parser.next(&mut input)? {
        let Item::Event(parsed) = item else { continue };
        if !parsed.event.starts_with("tidings.hello") {
            events.push(event(&parsed)?);
        }
    }
    let last = parser.last_event_id().to_owned();
    if run.number(&job).is_multiple_of(AGAIN) {
        let lines = format!("{ACCEPT}last-event-id: {last}\r\n");
        let again = Connection::new(run.address).call("GET", &path, &lines, "").await?;
        if again.status == 204 {
            run.count("streams that ended for good");
        } else {
            run.complain(format!("{job} behind its end was answered {}", again.status));
        }
    }
    Ok(Stream { job, is_found: true, events })
}

const ACCEPT: &str = "accept: text/event-stream, application/problem+json\r\n";

fn event(parsed: &parse::Event) -> Result<Event> {
    let seq = EventId::parse(&parsed.last_event_id).map(|id| id.seq.0);
    let seq = seq.with_context(|| format!("no id: {parsed:?}"))?;
    let data: Value = serde_json::from_str(&parsed.data).with_context(|| parsed.data.clone())?;
    let text = |at: &str| data.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    let kind = match parsed.event.as_str() {
        "progress" => Kind::Progress(document(&data)),
        "log" => Kind::Log { mark: text("/message") },
        "complete" => {
            let mark = data.pointer("/result/w").and_then(Value::as_str).map(str::to_owned);
            Kind::Complete { document: document(&data), mark }
        }
        "error" => Kind::Error {
            state: text("/state"),
            code: text("/code"),
            mark: text("/message"),
            attempt: data.get("attempt").and_then(Value::as_u64).unwrap_or_default(),
        },
        other => Kind::Other(format!("{other} {data}")),
    };
    Ok(Event { seq, kind })
}

fn document(data: &Value) -> Document {
    let text = |at: &str| data.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |at: &str| data.pointer(at).and_then(Value::as_u64).unwrap_or_default();
    Document {
        state: text("/state"),
        attempt: number("/attempt"),
        reason: text("/reason"),
        v: number("/v"),
        tag: text("/tags/0"),
        data_mark: text("/data/w"),
        error_mark: text("/error/message"),
    }
}
