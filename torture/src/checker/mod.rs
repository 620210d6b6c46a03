//! The checker: compares what every client got with what was acknowledged and with the log.
//!
//! Owns: the rules of no loss, no repeat, no reorder, nothing foreign. Does not know: servers, sockets, time.
//! Flow: in ← a `Trace` · out → a `Report`; one violation, or a run that did not do what it planned, fails it.

mod client;
mod grants;
mod log;
mod trace;
mod verdict;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;

pub(crate) use trace::{
    Answer, Client, Event, Fact, Grants, Id, Item, Logged, Outcome, Probe, Publish, Reset, Revocation,
    Revoked, Seen, Session, Shown, Start, Token, Trace,
};
pub(crate) use verdict::Verdict;

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// Acknowledged, but not in the log.
    Lost,
    /// More than once in the log.
    Twice,
    /// In the log or at a client, but never published, or not with this content.
    Phantom,
    /// Refused with certainty, but in the log.
    Refused,
    /// A publish of several events of which only some are there, or not adjacent, or not in their order.
    HalfBatch,
    /// The same id stands for different events.
    IdReused,
    /// The answer named another id than the log.
    WrongId,
    /// The log's sequences do not grow.
    LogOrder,
    /// A publish that was answered before another was sent stands behind it.
    RealTime,
    /// A client did not get an event of its channels.
    Gap,
    /// A client did not get the newest events.
    UnseenTail,
    /// A client got an event again.
    Repeat,
    /// A client got an older event after a newer one.
    Reorder,
    /// A client got an event of another channel.
    Foreign,
    /// A reset where nothing was trimmed, deleted or replaced.
    Reset,
    /// Hello or the end of a stream is not what the contract says.
    Protocol,
    /// A client got an event that the grant of that moment did not cover.
    Outside,
    /// A stream was opened, or went on, with a grant that was over, was revoked or did not cover it.
    Opened,
    /// A grant that was good was refused.
    Denied,
}

/// The verdict.
pub(crate) type Report = Verdict<Kind, Figures>;

/// What was looked at.
#[derive(Debug, Default, Clone)]
pub(crate) struct Figures {
    pub(crate) acked: usize,
    pub(crate) unknown: usize,
    pub(crate) unknown_found: usize,
    pub(crate) logged: usize,
    pub(crate) clients: usize,
    pub(crate) sessions: usize,
    pub(crate) delivered: usize,
    pub(crate) conflated: usize,
    pub(crate) resets: usize,
}

/// What was published: value and channel, with the conflation key. One request to several channels has one value.
type Sources = HashMap<(u64, u16), Option<u8>>;

/// Judges a run.
pub(crate) fn check(trace: &Trace) -> Report {
    let mut report = Report::default();
    let sources: Sources = trace
        .publishes
        .iter()
        .flat_map(|p| &p.items)
        .map(|item| ((item.value, item.channel), item.key))
        .collect();
    let mut log = trace.log.clone();
    log.sort_by_key(|logged| logged.id.seq);
    log::check(trace, &log, &sources, &mut report);
    for client in &trace.clients {
        client::check(client, &log, &sources, trace.may_reset, &mut report);
    }
    grants::check(trace, &mut report);
    report.figures.clients = trace.clients.len();
    for fact in &trace.facts {
        report.demand(fact, fact.done);
    }
    report
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures {
            acked,
            unknown,
            unknown_found,
            logged,
            clients,
            sessions,
            delivered,
            conflated,
            resets,
        } = self.figures;
        writeln!(
            f,
            "events: {acked} acknowledged, {unknown} without an answer ({unknown_found} of them stored), {logged} in the log"
        )?;
        writeln!(
            f,
            "clients: {clients} over {sessions} connections, {delivered} deliveries, {conflated} conflated, {resets} resets"
        )?;
        let lost = self.of(&[Kind::Lost, Kind::Gap, Kind::UnseenTail]);
        let repeated = self.of(&[Kind::Twice, Kind::Repeat]);
        let reordered = self.of(&[Kind::Reorder, Kind::RealTime, Kind::LogOrder]);
        let foreign = self.of(&[Kind::Foreign, Kind::Phantom, Kind::Outside]);
        let others = self.all() - lost - repeated - reordered - foreign;
        writeln!(
            f,
            "lost {lost}, repeated {repeated}, reordered {reordered}, foreign {foreign}, other violations {others}"
        )?;
        self.tell(f)
    }
}
