//! What a run leaves behind: every publish, everything every client got, and the log at the end.
//!
//! Owns: the trace as plain values. Does not know: how it was made, what is right.
//! Flow: in ← publishers, readers, a fresh reader · out → `check`.

/// An event id: which run of the log (numbered in the order met) and the sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id {
    pub(crate) epoch: u16,
    pub(crate) seq: u64,
}

/// An event that one publish makes. `value` is unique in the whole run, but that one request to several channels has one
/// for all of them; a retry uses it again.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) channel: u16,
    pub(crate) value: u64,
    /// The conflation key.
    pub(crate) key: Option<u8>,
}

/// What the publisher was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// 2xx, with one id for each item.
    Acked(Vec<Id>),
    /// No answer, or one that leaves it open.
    Unknown,
    /// Surely nothing was stored.
    Refused,
}

/// One logical publish: its items are adjacent, all or none.
#[derive(Debug, Clone)]
pub(crate) struct Publish {
    pub(crate) items: Vec<Item>,
    pub(crate) outcome: Outcome,
    /// When it was first sent and when it was answered, on one clock that only grows.
    pub(crate) sent: u64,
    pub(crate) answered: u64,
}

/// An event as a client's parser dispatched it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: Option<Id>,
    pub(crate) channel: u16,
    /// `None` if its data is nothing that was ever published.
    pub(crate) value: Option<u64>,
}

/// A `tidings.reset`.
#[derive(Debug, Clone)]
pub(crate) struct Reset {
    pub(crate) reason: String,
    /// Empty: all channels of the stream.
    pub(crate) channels: Vec<u16>,
    pub(crate) id: Option<Id>,
}

/// What came on a connection.
#[derive(Debug, Clone)]
pub(crate) enum Seen {
    /// `tidings.hello` with its id.
    Hello(Option<Id>),
    Event(Event),
    Reset(Reset),
    /// `tidings.unauthorized` with its id, and when it came.
    Unauthorized(Option<Id>, u64),
}

/// One connection of a client.
#[derive(Debug, Clone, Default)]
pub(crate) struct Session {
    /// The last id that was sent along.
    pub(crate) asked: Option<Id>,
    /// That id had the mark of a refusal.
    pub(crate) is_marked: bool,
    pub(crate) seen: Vec<Seen>,
    /// What was asked for, where that changes from connection to connection; empty: all channels of the client.
    pub(crate) channels: Vec<u16>,
    /// The tokens that were shown for it: the first to open it, the others on the open stream. None where nobody asks.
    pub(crate) shown: Vec<Shown>,
}

/// Where a client began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Now,
    Oldest,
    Last(u64),
}

/// A client over all its connections.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) channels: Vec<u16>,
    pub(crate) start: Start,
    pub(crate) sessions: Vec<Session>,
    /// It was answered 204.
    pub(crate) ended: bool,
    /// All its channels are finished, so it has to be.
    pub(crate) must_end: bool,
}

/// An event as the fresh reader found it at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Logged {
    pub(crate) id: Id,
    pub(crate) channel: u16,
    pub(crate) value: Option<u64>,
}

/// A token. Times are microseconds, on the clock of the trace.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) subject: u16,
    /// The log-in that it belongs to.
    pub(crate) session: u32,
    /// The channels that it covers.
    pub(crate) channels: Vec<u16>,
    pub(crate) issued: u64,
    pub(crate) expires: u64,
}

/// What is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Revoked {
    /// A token, by its number.
    Token(usize),
    Session(u32),
    Subject(u16),
}

/// One request to revoke something; one that was not answered may have done it all the same.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Revocation {
    pub(crate) what: Revoked,
    pub(crate) sent: u64,
    pub(crate) answered: Option<u64>,
}

/// How a token was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Not at all.
    None,
    /// A stream with hello, or 200 for one that is open.
    Granted,
    /// `tidings.unauthorized` in place of hello; for an open stream 403, and it ends.
    Refused,
    /// The token itself was not taken: 401 for an open stream.
    Rejected,
    /// 204.
    Stopped,
    /// There is no such stream, or too many are.
    Gone,
}

/// A token that somebody showed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown {
    pub(crate) token: usize,
    /// It was a ticket made with the token, and the ticket had been used.
    pub(crate) is_spent: bool,
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    pub(crate) answer: Answer,
}

/// An attempt to open a stream, by somebody who would not have read it.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    pub(crate) channels: Vec<u16>,
    pub(crate) shown: Shown,
}

/// Who might hear what, and when.
#[derive(Debug, Clone, Default)]
pub(crate) struct Grants {
    pub(crate) tokens: Vec<Token>,
    pub(crate) revocations: Vec<Revocation>,
    pub(crate) probes: Vec<Probe>,
}

/// Something the run had planned to do at least so often.
#[derive(Debug, Clone)]
pub(crate) struct Fact {
    pub(crate) name: &'static str,
    pub(crate) planned: u64,
    pub(crate) done: u64,
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trace {
    pub(crate) publishes: Vec<Publish>,
    pub(crate) clients: Vec<Client>,
    pub(crate) log: Vec<Logged>,
    pub(crate) facts: Vec<Fact>,
    /// Nothing was trimmed or deleted, and no store was replaced: then no reset is right.
    pub(crate) may_reset: bool,
    pub(crate) grants: Grants,
}
