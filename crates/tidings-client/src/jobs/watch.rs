//! Following a job to its end.
//!
//! Owns: what the events of a job mean. Does not know: reconnecting (that is the subscription's).
//! Flow: in ← events of a job's stream · out → typed items, the last of which ends it.

use serde::Deserialize;
use serde_json::Value;

use super::{Document, Ended, JobsError, LogLine};
use crate::backoff::Retry;
use crate::item::{Disconnect, Event, Item, Reset};
use crate::subscribe::{From, Subscribe};
use crate::subscription::Subscription;

/// What happens to a job.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum JobItem {
    /// Where it stands: first of all now, then with every change.
    Progress(Box<Document>),
    /// A line of its log.
    Log(LogLine),
    /// A piece of what it produces.
    Output(Value),
    /// It has ended, with a result. The last item.
    Complete(Box<Document>),
    /// It has ended without. The last item.
    Error(Ended),
    /// Events are gone that were not seen; the state that follows is right again.
    Reset(Reset),
    /// The connection is gone, or could not be made. The watch goes on by itself.
    Disconnected {
        /// Why.
        reason: Disconnect,
        /// When the next attempt is made.
        retry_in: std::time::Duration,
    },
    /// The connection is back, behind the last event that was seen.
    Reconnected,
}

/// How to watch a job: [`super::Jobs::watch`] … [`WatchJob::open`].
#[derive(Debug, Clone)]
#[must_use]
pub struct WatchJob(pub(super) Subscribe);

impl WatchJob {
    /// Begins with the first event that is retained, instead of the state now.
    pub fn from_start(self) -> Self {
        Self(self.0.from(From::Start))
    }

    /// Goes on behind an event that was seen earlier: [`Watch::last_id`].
    pub fn after(self, id: impl Into<String>) -> Self {
        Self(self.0.from(From::Id(id.into())))
    }

    /// How to come back after a disconnect.
    pub fn retry(self, retry: Retry) -> Self {
        Self(self.0.retry(retry))
    }

    /// The watch. It connects when its first item is asked for.
    ///
    /// # Errors
    /// [`JobsError::Invalid`] for an id to begin behind that cannot be sent.
    pub fn open(self) -> Result<Watch, JobsError> {
        Ok(Watch { stream: self.0.open()?, is_over: false })
    }
}

/// The events of a job over any number of connections. Dropping it closes the connection.
#[derive(Debug)]
pub struct Watch {
    stream: Subscription,
    is_over: bool,
}

impl Watch {
    /// The next item; `None` behind [`JobItem::Complete`] or [`JobItem::Error`].
    ///
    /// Cancel-safe: it may be dropped at any time, and the next call goes on.
    ///
    /// # Errors
    /// [`JobsError::Refused`] when trying again cannot help: `job_not_found`, for example.
    pub async fn next(&mut self) -> Result<Option<JobItem>, JobsError> {
        while !self.is_over {
            let Some(item) = self.stream.next().await? else {
                // Resumed behind the end: everything was seen before.
                self.is_over = true;
                break;
            };
            let item = match item {
                Item::Event(event) => read(&event)?,
                Item::Reset(reset) => Some(JobItem::Reset(reset)),
                Item::Disconnected { reason, retry_in } => Some(JobItem::Disconnected { reason, retry_in }),
                Item::Reconnected { .. } => Some(JobItem::Reconnected),
                Item::Hello(_) | Item::Drain { .. } => None,
            };
            self.is_over = matches!(item, Some(JobItem::Complete(_) | JobItem::Error(_)));
            if item.is_some() {
                return Ok(item);
            }
        }
        Ok(None)
    }

    /// The id of the last event that was handed out: what [`WatchJob::after`] takes to go on from here later.
    #[must_use]
    pub fn last_id(&self) -> Option<&str> {
        self.stream.last_id()
    }
}

#[derive(Deserialize)]
struct Output {
    #[serde(default)]
    chunk: Value,
}

/// An event of a job's stream; `None` for one that this version does not know.
fn read(event: &Event) -> Result<Option<JobItem>, JobsError> {
    fn parse<'a, T: Deserialize<'a>>(event: &'a Event) -> Result<T, JobsError> {
        serde_json::from_str(&event.data).map_err(|error| {
            JobsError::Answer(format!("event {} of {}: {error}", event.event, event.channel))
        })
    }
    Ok(Some(match event.event.as_str() {
        "progress" => JobItem::Progress(parse(event)?),
        "log" => JobItem::Log(parse(event)?),
        "output" => JobItem::Output(parse::<Output>(event)?.chunk),
        "complete" => JobItem::Complete(parse(event)?),
        "error" => JobItem::Error(parse(event)?),
        _ => return Ok(None),
    }))
}
