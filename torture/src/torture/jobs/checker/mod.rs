//! The checker of jobs: compares every job's stream with what was acknowledged to its maker and its workers.
//!
//! Owns: the rules of one end, no loss, one lease at a time, attempts. Does not know: servers, sockets, time passing.
//! Flow: in ← a `Trace` · out → a `Report`; one violation, or a run that did not do what it planned, fails it.

mod making;
mod stream;
mod writes;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use super::trace::{Lease, Stream, Trace};
use crate::checker::Verdict;

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    /// A job whose making was acknowledged is not there.
    Lost,
    /// A job that nobody made, or one that was refused, or content that nobody wrote.
    Phantom,
    /// One making made two jobs, or one write stands twice in a stream.
    Twice,
    /// A job without an end.
    NoEnd,
    /// More than one `complete` or `error`.
    TwoEnds,
    /// Something behind the end.
    AfterEnd,
    /// Two leases of one job at the same time.
    Overlap,
    /// A write under a lease that had expired, was replaced or had ended took effect, or was acknowledged.
    StaleWrite,
    /// A write that was acknowledged is not there.
    LostWrite,
    /// A write that was refused is there.
    RefusedWrite,
    /// The repeat of what ended the job was refused.
    RefusedRepeat,
    /// The holder of a lease was refused, and held it all the same.
    RefusedHolder,
    /// More attempts than the job may have.
    Attempts,
    /// Attempts or versions that go back, or a step that no job makes.
    Order,
    /// Leased before its time.
    Early,
    /// Two jobs held a unique key at the same time.
    Unique,
    /// A job was cancelled at once and did not end so.
    Cancel,
    /// An answer that the contract does not know.
    Answer,
}

/// The verdict, with how often what was seen.
pub(crate) type Report = Verdict<Kind, BTreeMap<&'static str, u64>>;

impl Report {
    fn count(&mut self, what: &'static str) {
        *self.figures.entry(what).or_default() += 1;
    }
}

/// Judges a run.
pub(super) fn check(trace: &Trace) -> Report {
    let mut report = Report::default();
    let streams: HashMap<&str, &Stream> = trace.streams.iter().map(|s| (s.job.as_str(), s)).collect();
    let mut leases: HashMap<&str, Vec<&Lease>> = HashMap::new();
    for lease in &trace.leases {
        leases.entry(&lease.job).or_default().push(lease);
        report.count("leases");
    }
    for of_job in leases.values_mut() {
        of_job.sort_by_key(|lease| lease.answered);
    }
    making::check(trace, &streams, &leases, &mut report);
    for stream in trace.streams.iter().filter(|stream| stream.is_found) {
        let of_job = leases.get(stream.job.as_str()).map(Vec::as_slice).unwrap_or_default();
        stream::check(trace, stream, of_job, &mut report);
    }
    writes::check(trace, &streams, &leases, &mut report);
    for fact in &trace.facts {
        let done = fact.done + report.figures.get(fact.name).copied().unwrap_or_default();
        report.demand(fact, done);
    }
    report
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures: Vec<String> =
            self.figures.iter().map(|(what, count)| format!("{count} {what}")).collect();
        writeln!(f, "seen: {}", figures.join(", "))?;
        let lost = self.of(&[Kind::Lost, Kind::LostWrite]);
        let ends = self.of(&[Kind::NoEnd, Kind::TwoEnds, Kind::AfterEnd]);
        let leases = self.of(&[Kind::Overlap, Kind::StaleWrite]);
        let attempts = self.of(&[Kind::Attempts]);
        writeln!(
            f,
            "lost {lost}, not one end {ends}, overlapping leases and stale writes {leases}, attempts over the limit {attempts}, other violations {}",
            self.all() - lost - ends - leases - attempts
        )?;
        self.tell(f)
    }
}
