//! What a run of jobs leaves behind: who made what, what workers leased and wrote, and every job's stream.
//!
//! Owns: the trace as plain values. Does not know: how it was made, what is right.
//! Flow: in ← the producer, the workers' journals, a fresh reader · out → `check`.
//!
//! Times are Unix microseconds of one machine. A *mark* is a text that one write of one worker carries and no other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::checker::Fact;

/// A job that was asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Made {
    /// Its tag; no other request has it.
    pub(super) tag: String,
    /// What was answered with 201, or with a 200 that repeats an answer that got lost.
    pub(super) id: Option<String>,
    /// The answer was that another job holds the unique key, so this one must not exist.
    pub(super) is_refused: bool,
    pub(super) max_attempts: u64,
    /// No worker may have it before.
    pub(super) not_before: u64,
    /// A unique key whose next job is never made before the one that holds it has ended.
    pub(super) solo: Option<String>,
}

/// A lease as a worker got it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Lease {
    pub(super) job: String,
    pub(super) token: String,
    pub(super) attempt: u64,
    pub(super) lease_ms: u64,
    pub(super) sent: u64,
    pub(super) answered: u64,
}

/// What a write says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Op {
    #[default]
    Progress,
    Log,
    Complete,
    Fail,
    Release,
    Heartbeat,
    Renew,
}

/// One request for a write, or one line of a batch; a repeat has the same mark.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Try {
    pub(super) mark: String,
    pub(super) job: String,
    pub(super) token: String,
    pub(super) op: Op,
    pub(super) sent: u64,
    /// When it was answered, or given up.
    pub(super) answered: u64,
    /// 0: no answer, or one that leaves it open.
    pub(super) status: u16,
    pub(super) code: String,
    /// The document's version in the answer, if the report was stored.
    pub(super) v: Option<u64>,
    pub(super) is_duplicate: bool,
}

impl Try {
    pub(super) fn is_accepted(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(super) fn is_refused(&self) -> bool {
        (400..500).contains(&self.status)
    }
}

/// A line of a worker's journal.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "lowercase")]
pub(super) enum Line {
    Lease(Lease),
    /// Written before the request, so that what a killed worker wrote is known.
    Sent(Try),
    Answered(Try),
}

/// An event of a job's stream.
#[derive(Debug, Clone, Default)]
pub(super) struct Event {
    pub(super) seq: u64,
    pub(super) kind: Kind,
}

/// What it says.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    Progress(Document),
    Log {
        mark: String,
    },
    Complete {
        document: Document,
        mark: Option<String>,
    },
    Error {
        state: String,
        code: String,
        mark: String,
        attempt: u64,
    },
    /// Nothing that a job's stream may hold.
    Other(String),
}

impl Default for Kind {
    fn default() -> Self {
        Self::Other(String::new())
    }
}

/// The document, as far as it is looked at.
#[derive(Debug, Clone, Default)]
pub(super) struct Document {
    pub(super) state: String,
    pub(super) attempt: u64,
    pub(super) reason: String,
    pub(super) v: u64,
    pub(super) tag: String,
    /// The mark in its `data`, of the newest progress.
    pub(super) data_mark: String,
    /// The mark in its error.
    pub(super) error_mark: String,
}

/// A job's stream from its start, read at the end.
#[derive(Debug, Clone, Default)]
pub(super) struct Stream {
    pub(super) job: String,
    /// It was there: the answer was a stream that ended.
    pub(super) is_found: bool,
    pub(super) events: Vec<Event>,
}

/// A cancel that was acknowledged with this state.
#[derive(Debug, Clone)]
pub(super) struct Cancel {
    pub(super) job: String,
    pub(super) state: String,
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Trace {
    pub(super) made: Vec<Made>,
    pub(super) cancels: Vec<Cancel>,
    pub(super) leases: Vec<Lease>,
    /// By mark, each in the order sent.
    pub(super) writes: BTreeMap<String, Vec<Try>>,
    pub(super) streams: Vec<Stream>,
    /// When the server was started again: each lease began anew after that.
    pub(super) starts: Vec<u64>,
    pub(super) facts: Vec<Fact>,
}

impl Trace {
    /// Takes the lines of a journal. The last one of a worker that was killed may be half there.
    pub(super) fn take_journal(&mut self, text: &str) {
        for line in text.lines().filter_map(|line| serde_json::from_str(line).ok()) {
            match line {
                Line::Lease(lease) => self.leases.push(lease),
                Line::Sent(attempt) => self.writes.entry(attempt.mark.clone()).or_default().push(attempt),
                Line::Answered(attempt) => {
                    let tries = self.writes.entry(attempt.mark.clone()).or_default();
                    tries.retain(|known| known.sent != attempt.sent);
                    tries.push(attempt);
                }
            }
        }
    }
}
