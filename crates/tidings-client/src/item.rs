//! What a subscription hands out.
//!
//! Owns: the items and the meaning of control events. Does not know: connections, when to reconnect.
//! Flow: in ← a parsed frame · out → an item, or a control event that only the subscription needs.

use std::time::Duration;

use serde::Deserialize;

/// What [`crate::Subscription::next`] returns.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Item {
    /// A stream began; the first item of every connection.
    Hello(Hello),
    /// An event of one of the channels.
    Event(Event),
    /// History that this client had not seen is gone: what is shown may be stale and should be fetched again.
    Reset(Reset),
    /// The server is about to restart. The stream will end and resume.
    Drain {
        /// Clients are asked to come back spread over this time.
        spread: Duration,
    },
    /// The connection is gone, or could not be made. The subscription goes on by itself.
    Disconnected {
        /// Why.
        reason: Disconnect,
        /// When the next attempt is made.
        retry_in: Duration,
    },
    /// The connection is back, behind the last id that was handed out.
    Reconnected {
        /// How many attempts it took.
        attempts: u32,
    },
}

/// The start of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Hello {
    /// The server's name of this connection.
    #[serde(default)]
    pub connection: String,
    /// A byte arrives at least this often, in milliseconds.
    #[serde(default)]
    pub keepalive_ms: Option<u64>,
    /// When the grant of this stream ends, Unix milliseconds.
    #[serde(default)]
    pub expires_at: Option<u64>,
    /// The position this stream starts from; none with `from` start or last.
    #[serde(skip)]
    pub id: Option<String>,
}

/// An event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// Its type, `message` if none was given.
    pub event: String,
    /// Its channel.
    pub channel: String,
    /// When it was published, Unix milliseconds.
    pub time_ms: u64,
    /// Its id; none for an ephemeral event.
    pub id: Option<String>,
    /// JSON text, or the text that was published.
    pub data: String,
}

/// History is gone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Reset {
    /// `expired`, `epoch`, `ahead`, `malformed`, `deleted` or `corrupt`.
    #[serde(default)]
    pub reason: String,
    /// The channels that are meant; all of the stream if empty.
    #[serde(default)]
    pub channels: Vec<String>,
    /// The position from which the stream goes on.
    #[serde(skip)]
    pub id: Option<String>,
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disconnect {
    /// The server ended the stream.
    Ended,
    /// The connection broke, or could not be made.
    Network(String),
    /// The server answered with a status that may pass, or something that is not a stream.
    Status(u16),
    /// Nothing came for 2.5 times the keep-alive.
    Stalled,
    /// The stream cannot be read: a line or an event above every limit.
    Unreadable(String),
}

#[derive(Deserialize)]
struct DrainData {
    spread_ms: u64,
}

#[derive(Deserialize)]
struct Unauthorized {
    code: String,
}

/// The code in the data of `tidings.unauthorized`.
pub(crate) fn code(data: &str) -> String {
    serde_json::from_str(data).map_or_else(|_| "unauthorized".to_owned(), |data: Unauthorized| data.code)
}

/// The item of a control event; `None` for one that only moves the position, or that this version does not know.
pub(crate) fn control(event: &str, data: &str, id: Option<String>) -> Option<Item> {
    match event {
        "tidings.hello" => {
            let hello: Hello = serde_json::from_str(data).unwrap_or_default();
            Some(Item::Hello(Hello { id, ..hello }))
        }
        // A reset must be told even if its data is not understood: a silent gap is the one thing that cannot be undone.
        "tidings.reset" => {
            let reset: Reset = serde_json::from_str(data).unwrap_or_default();
            Some(Item::Reset(Reset { id, ..reset }))
        }
        "tidings.drain" => {
            let spread_ms = serde_json::from_str(data).map_or(0, |drain: DrainData| drain.spread_ms);
            Some(Item::Drain { spread: Duration::from_millis(spread_ms) })
        }
        _ => None,
    }
}
