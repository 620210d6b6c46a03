//! Where a stream starts: the resume decision, one answer for every combination of what is asked and what is retained.
//!
//! Owns: positions, resets, stops and refusals. Does not know: grants (only whether they refuse), HTTP, how a log is read.
//! Flow: header and query → `position` → `Position::ask` (against the log) → `decide` → cursor, hello, reset, end.
//!
//! `spec/fixtures/resume.json` declares the same decision as rows of data; a test runs every combination against both.

use alloc::string::String;
use alloc::vec::Vec;

use crate::id::{Epochs, EventId, Seq, Standing};
use crate::limits;

/// Why `from` was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("from={0:?} is not `now`, `start`, `last:1` to `last:{max}` or an event id", max = limits::FROM_LAST_MAX)]
pub struct FromError(String);

impl FromError {
    /// The stable code used in problem bodies.
    #[must_use]
    pub fn code(&self) -> &'static str {
        "from_invalid"
    }
}

/// The position that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// None: live from here on.
    Now,
    /// Everything that is retained.
    Start,
    /// The newest so many events over all channels.
    Last(usize),
    /// Behind this event.
    Id(EventId),
    /// A `Last-Event-ID` that is not one of ours.
    Malformed,
}

impl Position {
    /// Whether it is an id with the mark of an answer that told the client to stop.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        matches!(self, Self::Id(id) if id.stopped)
    }
}

/// Reads the position of a request: the header wins over the query's id, which wins over `from`. An empty one is none.
///
/// ```
/// use tidings_core::resume::{Position, position};
/// assert_eq!(position(None, Some(""), Some("last:5"))?, Position::Last(5));
/// assert_eq!(position(Some("what?"), None, None)?, Position::Malformed);
/// assert!(position(None, None, Some("yesterday")).is_err());
/// # Ok::<(), tidings_core::resume::FromError>(())
/// ```
///
/// # Errors
/// [`FromError`] for a malformed `from`, also where another position wins.
pub fn position(
    header: Option<&str>,
    query: Option<&str>,
    from: Option<&str>,
) -> Result<Position, FromError> {
    let from = from.filter(|text| !text.is_empty()).map_or(Ok(Position::Now), parse_from)?;
    let id = [header, query].into_iter().flatten().find(|text| !text.is_empty());
    Ok(id.map_or(from, |text| EventId::parse(text).map_or(Position::Malformed, Position::Id)))
}

fn parse_from(text: &str) -> Result<Position, FromError> {
    let parsed = match text {
        "now" => Some(Position::Now),
        "start" => Some(Position::Start),
        _ => match text.strip_prefix("last:") {
            Some(count) => parse_last(count),
            None => EventId::parse(text).map(Position::Id),
        },
    };
    parsed.ok_or_else(|| FromError(text.chars().take(64).collect()))
}

fn parse_last(count: &str) -> Option<Position> {
    let plain = !count.starts_with('0') && count.bytes().all(|b| b.is_ascii_digit());
    let count = count.parse().ok().filter(|n| plain && (1..=limits::FROM_LAST_MAX).contains(n))?;
    Some(Position::Last(count))
}

impl Position {
    /// Puts the position to a log. `before_last` finds the position right before the n-th newest event.
    ///
    /// # Errors
    /// What `before_last` fails with.
    pub fn ask<E>(
        self,
        epochs: &Epochs,
        head: Seq,
        before_last: impl FnOnce(usize) -> Result<Seq, E>,
    ) -> Result<Asked, E> {
        Ok(match self {
            Self::Now => Asked::Now,
            Self::Start => Asked::Start,
            Self::Last(count) => Asked::Last(before_last(count)?),
            Self::Id(id) => Asked::Id { standing: epochs.standing(id, head), stopped: id.stopped },
            Self::Malformed => Asked::Malformed,
        })
    }
}

/// A position as the log sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Live from here on; on a job's stream, from the job's state now.
    Now,
    /// Everything that is retained.
    Start,
    /// Everything behind this, which `last:N` was resolved to.
    Last(Seq),
    /// Behind the last event that the client got.
    Id {
        /// What the log says to the id.
        standing: Standing,
        /// The id bears the mark of a refused stream (`~s`).
        stopped: bool,
    },
    /// Not an id.
    Malformed,
}

/// What is retained of one channel; the default is a channel that the log has no record of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retained {
    /// The oldest event that can still be read, if any.
    pub first: Option<Seq>,
    /// The newest event ever appended.
    pub head: Seq,
    /// Everything up to here may be gone, except a final event.
    pub floor: Seq,
    /// The final event, if the channel is finished.
    pub finished: Option<Seq>,
    /// Everything up to here was deleted rather than trimmed.
    pub deleted: Option<Seq>,
}

/// All that the decision depends on. Load `head` first, the channels after it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What the client asks for.
    pub asked: Asked,
    /// The stream is refused: no, bad or insufficient credentials, or a job that does not exist.
    pub refused: bool,
    /// The log's newest sequence.
    pub head: Seq,
    /// The log cannot judge ids below this.
    pub horizon: Seq,
    /// The channels of the stream, at least one.
    pub channels: &'a [Retained],
    /// On a job's stream, the event that last changed the job's document other than the terminal event.
    pub document: Option<Seq>,
}

/// What becomes of a request for a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// `200` and a stream.
    Stream(Start),
    /// `204`: every browser stops.
    Stop,
    /// The refusal, with this position and the mark `~s` as its id.
    Refuse(RefusedAt),
}

/// The position that a refused client keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedAt {
    /// The id that it sent.
    Own,
    /// This one.
    Seq(Seq),
}

/// How a stream begins and whether it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Everything up to here counts as delivered.
    pub cursor: Seq,
    /// The id of `tidings.hello`. Left out where a client that is cut right behind it has to ask the same again.
    pub hello: Option<Seq>,
    /// Comes right behind hello.
    pub reset: Option<Reset>,
    /// What comes then.
    pub replay: Replay,
    /// All channels are finished: the response ends once everything up to here was sent.
    pub end_after: Option<Seq>,
}

/// What a stream sends behind its cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// All events, and then what is published.
    Events,
    /// Only the final event of each channel.
    Finals,
    /// The job's document with the cursor as its id, then all events.
    Document,
}

/// A `tidings.reset`: something that the client has not seen cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reset {
    /// Why.
    pub reason: Reason,
    /// Indexes of the channels that are meant; empty if all are.
    pub channels: Vec<usize>,
    /// The oldest event that can still be sent of those channels.
    pub first: Option<Seq>,
    /// The id of the reset event.
    pub id: Seq,
}

/// Why a client cannot get everything behind its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Retention trimmed it, or the position is too old to be judged.
    Expired,
    /// The id is of a run that this log does not know, or saw events that are gone.
    Epoch,
    /// The id lies behind the head.
    Ahead,
    /// Not an id.
    Malformed,
    /// Somebody deleted it.
    Deleted,
    /// It turned out unreadable.
    Corrupt,
}

impl Reason {
    /// The reason as it stands on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Epoch => "epoch",
            Self::Ahead => "ahead",
            Self::Malformed => "malformed",
            Self::Deleted => "deleted",
            Self::Corrupt => "corrupt",
        }
    }
}

/// Decides what a request for a stream gets.
///
/// ```
/// use tidings_core::Seq;
/// use tidings_core::resume::{Asked, Decision, Request, Retained, decide};
/// let orders = Retained { first: Some(Seq(3)), head: Seq(9), ..Retained::default() };
/// let request = Request {
///     asked: Asked::Now, refused: false, head: Seq(12), horizon: Seq::ZERO, channels: &[orders], document: None,
/// };
/// let Decision::Stream(start) = decide(&request) else { panic!("nothing refuses or stops this") };
/// assert_eq!((start.cursor, start.hello), (Seq(12), Some(Seq(12))));
/// ```
#[must_use]
pub fn decide(request: &Request<'_>) -> Decision {
    if request.refused {
        return refuse(request);
    }
    match request.asked {
        Asked::Now => now(request),
        Asked::Start => replay(request, Seq::ZERO),
        Asked::Last(cursor) => replay(request, cursor),
        Asked::Id { standing: Standing::Known(own), .. } => resume(request, own),
        Asked::Id { standing: Standing::Ahead, .. } => live_after_reset(request, Reason::Ahead),
        Asked::Id { standing: Standing::Foreign, .. } => live_after_reset(request, Reason::Epoch),
        Asked::Malformed => live_after_reset(request, Reason::Malformed),
    }
}

/// The newest final event, if all channels are finished: a stream that has passed it is over.
#[must_use]
pub fn end_of(channels: &[Retained]) -> Option<Seq> {
    let finals: Option<Vec<Seq>> = channels.iter().map(|c| c.finished).collect();
    finals?.into_iter().max()
}

/// The reset that a client at `own` is owed, if retention or a deletion took events behind it. Also asked in mid-stream,
/// when a connection that is behind was overtaken.
#[must_use]
pub fn gone(own: Seq, channels: &[Retained]) -> Option<Reset> {
    let lost: Vec<usize> =
        channels.iter().enumerate().filter(|(_, c)| c.floor > own).map(|(index, _)| index).collect();
    if lost.is_empty() {
        return None;
    }
    let meant = || channels.iter().filter(|c| c.floor > own);
    // One reset has one reason; `deleted` would hide that others were trimmed.
    let deleted = meant().all(|c| c.deleted.is_some_and(|upto| upto > own));
    let first = first_behind(own, meant());
    let channels = if lost.len() == channels.len() { Vec::new() } else { lost };
    Some(Reset { reason: if deleted { Reason::Deleted } else { Reason::Expired }, channels, first, id: own })
}

fn refuse(request: &Request<'_>) -> Decision {
    Decision::Refuse(match request.asked {
        Asked::Id { stopped: true, .. } => return Decision::Stop,
        Asked::Id { .. } => RefusedAt::Own,
        Asked::Now if request.document.is_none() => RefusedAt::Seq(request.head),
        Asked::Last(cursor) => RefusedAt::Seq(cursor),
        // Whoever is let in later from here gets all that is retained, so nothing is skipped silently.
        Asked::Now | Asked::Start | Asked::Malformed => RefusedAt::Seq(Seq::ZERO),
    })
}

fn now(request: &Request<'_>) -> Decision {
    let end_after = end_of(request.channels);
    if let Some(document) = request.document {
        let replay = Replay::Document;
        return Decision::Stream(Start { cursor: document, hello: None, reset: None, replay, end_after });
    }
    if end_after.is_none() {
        let (cursor, hello) = (request.head, Some(request.head));
        return Decision::Stream(Start { cursor, hello, reset: None, replay: Replay::Events, end_after });
    }
    let readable = request.channels.iter().filter(|c| c.first.is_some()).filter_map(|c| c.finished);
    let Some(oldest) = readable.min() else { return Decision::Stop };
    let cursor = Seq(oldest.0.saturating_sub(1));
    Decision::Stream(Start { cursor, hello: None, reset: None, replay: Replay::Finals, end_after })
}

fn replay(request: &Request<'_>, cursor: Seq) -> Decision {
    let end_after = end_of(request.channels);
    // A stream that ends without having sent an id would be asked for again and again.
    if end_after.is_some() && !any_behind(cursor, request.channels) {
        return Decision::Stop;
    }
    Decision::Stream(Start { cursor, hello: None, reset: None, replay: Replay::Events, end_after })
}

fn resume(request: &Request<'_>, own: Seq) -> Decision {
    let end_after = end_of(request.channels);
    if end_after.is_some_and(|end| own >= end) {
        return Decision::Stop;
    }
    let mut start = Start { cursor: own, hello: Some(own), reset: None, replay: Replay::Events, end_after };
    start.reset = if own < request.horizon {
        let first = first_behind(own, request.channels.iter());
        Some(Reset { reason: Reason::Expired, channels: Vec::new(), first, id: own })
    } else {
        gone(own, request.channels)
    };
    // The job's state is sent where the event that held it is gone; nothing readable stands before it.
    let floor = request.channels.iter().map(|c| c.floor).max().unwrap_or_default();
    if let Some(document) = request.document.filter(|&at| own < at && at <= floor) {
        (start.cursor, start.replay) = (document, Replay::Document);
    } else if let (Some(reset), Some(end)) = (&mut start.reset, end_after) {
        // With nothing left to send, the reset itself moves the client to the end; else it would come back for ever.
        if !any_behind(own, request.channels) {
            (start.cursor, reset.id) = (end, end);
        }
    }
    Decision::Stream(start)
}

/// Hello has no id: a client that is cut between hello and the reset has to be told again.
fn live_after_reset(request: &Request<'_>, reason: Reason) -> Decision {
    let (cursor, replay) = match request.document {
        Some(document) => (document, Replay::Document),
        None => (request.head, Replay::Events),
    };
    let reset = Some(Reset { reason, channels: Vec::new(), first: None, id: cursor });
    let end_after = end_of(request.channels);
    Decision::Stream(Start { cursor, hello: None, reset, replay, end_after })
}

fn any_behind(cursor: Seq, channels: &[Retained]) -> bool {
    channels.iter().any(|c| c.first.is_some() && c.head > cursor)
}

fn first_behind<'a>(own: Seq, channels: impl Iterator<Item = &'a Retained>) -> Option<Seq> {
    channels.filter_map(|c| c.first).filter(|&first| first > own).min()
}

#[cfg(test)]
mod tests;
