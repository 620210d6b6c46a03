//! The final read: a fresh reader, after one more restart, reads the whole log; a second way of reading has to agree.
//!
//! Owns: reading everything by stream and by history. Does not know: what should be there.
//! Flow: channels → streams from the start, and `/v1/history` → the log as both have it.

use std::collections::BTreeSet;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tidings_core::limits::{EVENT_PARSE_BYTES_MAX, STREAM_CHANNELS_MAX};
use tidings_core::wire::sse::parse::{Item, Parser};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Duration, timeout};

use super::http;
use super::reader::{self, Pace, Plan};
use super::world::{World, data};
use crate::checker::{Logged, Session, Start};

/// A stream that is silent for so long has sent everything: the server is at rest.
const REST: Duration = Duration::from_millis(1_500);

/// Reads all channels by history, which leaves nothing out: that is the log. Fresh readers of streams from the start are
/// clients like any other.
pub(crate) async fn everything(world: &Rc<World>) -> Result<Vec<Logged>> {
    // Not every name that came over a stream: a broken server may have invented some.
    let published: BTreeSet<u16> =
        world.publishes.borrow().iter().flat_map(|p| p.items.iter().map(|item| item.channel)).collect();
    let channels: Vec<u16> = published.into_iter().collect();
    let (regular, once): (Vec<u16>, Vec<u16>) = channels.iter().partition(|c| world.regular.contains(c));
    for some in regular.chunks(STREAM_CHANNELS_MAX).chain(once.chunks(STREAM_CHANNELS_MAX)) {
        stream(world, some).await?;
    }
    let mut log = Vec::new();
    for channel in channels {
        log.extend(one_history(world, channel).await?);
    }
    Ok(log)
}

/// A fresh reader, until its stream rests or ends.
async fn stream(world: &Rc<World>, channels: &[u16]) -> Result<()> {
    let names = channels.iter().map(|&c| format!("channel={}", http::escape(&world.channel_name(c))));
    let query = names.collect::<Vec<_>>().join("&");
    let plan = Plan {
        name: format!("fresh reader of {} channels", channels.len()),
        channels: channels.to_vec(),
        start: Start::Oldest,
        pace: Pace::Fast,
        must_end: false,
        cuts: false,
    };
    let number = reader::enter(world, &plan);
    let mut socket = TcpStream::connect(world.address).await?;
    let (host, who) = (world.address, world.authorization());
    let request = format!("GET /events?{query}&from=start HTTP/1.1\r\nhost: {host}\r\n{who}\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    // Keep-alive comments come every 2 s: shorter silence means that nothing is owed.
    while let Ok(count) = timeout(REST, socket.read(&mut buffer)).await {
        let count = count?;
        if count == 0 {
            break;
        }
        bytes.extend_from_slice(buffer.get(..count).unwrap_or_default());
    }
    let (status, body) = http::head(&bytes).context("no head")?;
    if status != 200 {
        bail!("a fresh reader was answered {status}");
    }
    if let Some(client) = world.clients.borrow_mut().get_mut(number) {
        client.sessions.push(Session::default());
    }
    let mut parser = Parser::new("", EVENT_PARSE_BYTES_MAX);
    let mut input = bytes.get(body..).unwrap_or_default();
    while let Some(item) = parser.next(&mut input)? {
        let Item::Event(parsed) = item else { continue };
        if let Some(seen) = reader::seen(world, &parsed) {
            reader::note(world, number, seen);
        }
    }
    Ok(())
}

async fn one_history(world: &World, channel: u16) -> Result<Vec<Logged>> {
    let name = http::escape(&world.channel_name(channel));
    let mut log = Vec::new();
    let mut after = String::new();
    loop {
        let path = format!("/v1/history?channel={name}&limit=1000&after={after}");
        let (status, body) = http::ask(world.address, ("GET", &path), &world.authorization(), "").await?;
        let body = if body.starts_with('{') { body } else { unchunk(&body) };
        let page: Value =
            serde_json::from_str(&body).with_context(|| format!("history {status}: {body:.200}"))?;
        for event in page.get("events").and_then(Value::as_array).into_iter().flatten() {
            let id = event.get("id").and_then(Value::as_str).and_then(|id| world.id(id)).context("no id")?;
            let value = event.get("data").and_then(|found| {
                let value = found.get("v")?.as_u64()?;
                let published: Value = serde_json::from_str(&data(value)).ok()?;
                (published == *found).then_some(value)
            });
            log.push(Logged { id, channel, value });
        }
        if page.get("more") != Some(&Value::Bool(true)) {
            return Ok(log);
        }
        after = page.get("next").and_then(Value::as_str).unwrap_or_default().to_owned();
    }
}

/// Takes the chunk sizes out of a chunked body.
fn unchunk(body: &str) -> String {
    let mut out = String::new();
    let mut rest = body;
    while let Some((size, after)) = rest.split_once("\r\n") {
        let Some(piece) = usize::from_str_radix(size.trim(), 16).ok().and_then(|n| after.get(..n)) else {
            break;
        };
        if piece.is_empty() {
            break;
        }
        out.push_str(piece);
        rest = after.get(piece.len() + 2..).unwrap_or_default();
    }
    out
}
