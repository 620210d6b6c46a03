//! `tidings tail`.
//!
//! Owns: how events look in a terminal. Does not know: reconnecting (that is the client's).
//! Flow: channels → the client → a line for each event; what happens to the stream goes to standard error.

use std::io::{ErrorKind, Write};

use anyhow::Result;
use serde_json::json;
use tidings_client::{Event, From, Item};

use crate::cli::TailFlags;

/// Follows channels until the stream is over or the reader goes away.
pub(crate) async fn run(flags: TailFlags) -> Result<()> {
    let client = flags.server.client()?;
    let mut stream = client.subscribe(flags.channels).from(from(&flags.from)).open()?;
    while let Some(item) = stream.next().await? {
        let line = match &item {
            Item::Event(event) if flags.json => json_line(event),
            Item::Event(event) => text_line(event),
            other => {
                note(other)?;
                continue;
            }
        };
        match writeln!(std::io::stdout(), "{line}") {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
    Ok(())
}

fn from(text: &str) -> From {
    match text {
        "now" => From::Now,
        "start" => From::Start,
        other => match other.strip_prefix("last:").and_then(|n| n.parse().ok()) {
            Some(count) => From::LastN(count),
            None => From::Id(other.to_owned()),
        },
    }
}

fn json_line(event: &Event) -> String {
    let data: serde_json::Value =
        serde_json::from_str(&event.data).unwrap_or_else(|_| event.data.clone().into());
    json!({
        "channel": event.channel, "event": event.event, "time": event.time_ms, "id": event.id, "data": data,
    })
    .to_string()
}

/// Control characters are shown, not obeyed: what is published must not steer a terminal.
fn text_line(event: &Event) -> String {
    let data: String = event
        .data
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect();
    let id = event.id.as_deref().unwrap_or("-");
    format!("{id}  {}  {}  {data}", event.channel, event.event)
}

fn note(item: &Item) -> Result<()> {
    let text = match item {
        Item::Reset(reset) => format!("history is gone ({}): what follows is not complete", reset.reason),
        Item::Drain { .. } => "the server is stopping; the stream resumes".to_owned(),
        Item::Disconnected { .. } => "disconnected; the stream resumes".to_owned(),
        _ => return Ok(()),
    };
    writeln!(std::io::stderr(), "tidings: {text}")?;
    Ok(())
}
