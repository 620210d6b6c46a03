//! What workers were answered against the streams, and against each other's leases.
//!
//! Owns: acknowledged is there, refused is not, stale is refused. Does not know: runs.
//! Flow: in ← writes with all their repeats, leases, streams · out → violations.

use std::collections::{HashMap, HashSet};

use super::super::trace::{Document, Kind as EventKind, Lease, Op, Stream, Trace, Try};
use super::{Kind, Report};

/// How late the server's timer may be on a busy machine, in µs: until it has run, a lease that has expired is its holder's,
/// and nobody else's.
const MARGIN: u64 = 2_000_000;

pub(super) fn check(
    trace: &Trace,
    streams: &HashMap<&str, &Stream>,
    leases: &HashMap<&str, Vec<&Lease>>,
    report: &mut Report,
) {
    let marks: HashMap<&str, Marks<'_>> =
        streams.iter().map(|(job, stream)| (*job, Marks::of(stream))).collect();
    let none = Marks::default();
    for tries in trace.writes.values() {
        let Some(first) = tries.first() else { continue };
        effect(tries, marks.get(first.job.as_str()).unwrap_or(&none), report);
    }
    let mut by_lease: HashMap<(&str, &str), Vec<&Try>> = HashMap::new();
    for write in trace.writes.values().flatten() {
        by_lease.entry((&write.job, &write.token)).or_default().push(write);
    }
    for ((job, token), mut writes) in by_lease {
        let of_job = leases.get(job).map(Vec::as_slice).unwrap_or_default();
        let Some(lease) = of_job.iter().find(|lease| lease.token == token) else {
            report.add(Kind::Phantom, || format!("{job}: nobody leased {token}"));
            continue;
        };
        writes.sort_by_key(|write| write.sent);
        replaced(lease, of_job, &writes, report);
        ended(&writes, report);
        expired(lease, &writes, &trace.starts, report);
        held(&writes, report);
    }
}

/// The marks of a stream: how often each is there, and in which version.
#[derive(Default)]
struct Marks<'a> {
    logs: HashMap<&'a str, usize>,
    progress: HashSet<(&'a str, u64)>,
    data: HashSet<&'a str>,
    end: Option<&'a str>,
    failures: HashSet<&'a str>,
    state: &'a str,
}

impl<'a> Marks<'a> {
    fn of(stream: &'a Stream) -> Self {
        let mut marks = Self::default();
        for event in &stream.events {
            match &event.kind {
                EventKind::Progress(Document { data_mark, error_mark, v, .. }) => {
                    marks.progress.insert((data_mark, *v));
                    marks.data.insert(data_mark);
                    marks.failures.insert(error_mark);
                }
                EventKind::Log { mark } => *marks.logs.entry(mark).or_default() += 1,
                EventKind::Complete { mark, .. } => marks.end = mark.as_deref(),
                EventKind::Error { mark, state, .. } => {
                    marks.failures.insert(mark);
                    marks.state = state;
                }
                EventKind::Other(_) => {}
            }
        }
        marks
    }

    fn has(&self, op: Op, mark: &str) -> bool {
        match op {
            Op::Log => self.logs.contains_key(mark),
            Op::Progress => self.data.contains(mark),
            Op::Complete => self.end == Some(mark),
            Op::Fail => self.failures.contains(mark),
            Op::Release | Op::Heartbeat | Op::Renew => false,
        }
    }
}

/// One write with its repeats against the stream.
fn effect(tries: &[Try], marks: &Marks<'_>, report: &mut Report) {
    let Some(write) = tries.first() else { return };
    let (op, mark) = (write.op, write.mark.as_str());
    for one in tries {
        match one.status {
            0 => report.count("writes without an answer"),
            409 if one.code == "lease_lost" => report.count("stale writes refused"),
            _ if one.is_accepted() && one.is_duplicate => report.count("repeats recognised"),
            _ if one.is_accepted() => report.count("writes acknowledged"),
            _ => report.add(Kind::Answer, || format!("{one:?}")),
        }
    }
    if op == Op::Log && marks.logs.get(mark).is_some_and(|&count| count > 1) {
        report.add(Kind::Twice, || format!("{write:?}"));
    }
    let accepted = tries.iter().find(|one| one.is_accepted());
    let is_there = marks.has(op, mark);
    if let Some(accepted) = accepted {
        let is_lost = match (op, accepted.v) {
            (Op::Log | Op::Complete, _) => !is_there,
            // A report that was stored is the document of its version; one that was held back may have been replaced.
            (Op::Progress, Some(v)) if !accepted.is_duplicate => !marks.progress.contains(&(mark, v)),
            // What fails after a cancel is cancelled, with the cancel's words.
            (Op::Fail, _) => !is_there && marks.state != "cancelled",
            _ => false,
        };
        if is_lost {
            report.add(Kind::LostWrite, || format!("{accepted:?}"));
        }
    } else if is_there && tries.iter().all(Try::is_refused) {
        report.add(Kind::RefusedWrite, || format!("{write:?}"));
    }
    if op == Op::Complete && is_there && tries.last().is_some_and(Try::is_refused) {
        report.add(Kind::RefusedRepeat, || format!("{:?}", tries.last()));
    }
}

/// Nothing is accepted under a lease once another one of the job was answered.
fn replaced(lease: &Lease, of_job: &[&Lease], writes: &[&Try], report: &mut Report) {
    let next = of_job.iter().filter(|other| other.token != lease.token && other.sent >= lease.answered);
    let Some(next) = next.min_by_key(|other| other.answered) else { return };
    for write in writes.iter().filter(|w| w.is_accepted() && !w.is_duplicate && w.sent > next.answered) {
        report.add(Kind::StaleWrite, || format!("{write:?} behind {next:?}"));
    }
}

/// Nothing is accepted under a lease that its holder gave back.
fn ended(writes: &[&Try], report: &mut Report) {
    let gives_back = |w: &&&Try| w.is_accepted() && matches!(w.op, Op::Complete | Op::Fail | Op::Release);
    let Some(end) = writes.iter().find(gives_back) else { return };
    let later = writes.iter().filter(|w| w.sent > end.answered && w.mark != end.mark);
    for write in later.filter(|w| w.is_accepted() && !w.is_duplicate) {
        report.add(Kind::StaleWrite, || format!("{write:?} behind {end:?}"));
    }
}

/// Nothing is accepted when the holder was silent for longer than the lease, and the server was not restarted meanwhile.
fn expired(lease: &Lease, writes: &[&Try], starts: &[u64], report: &mut Report) {
    let (mut since, mut until) = (lease.sent, lease.answered);
    for write in writes {
        let silence_end = until + lease.lease_ms * 1_000 + MARGIN;
        let is_restarted = starts.iter().any(|&start| start >= since && start <= write.answered);
        if write.is_accepted() && !write.is_duplicate && write.sent > silence_end && !is_restarted {
            report.add(Kind::StaleWrite, || format!("{write:?} when {lease:?} had expired"));
        }
        // One without an answer may have renewed it.
        if !write.is_refused() {
            (since, until) = (write.sent, until.max(write.answered));
        }
    }
}

/// Who was refused is not the holder any more.
fn held(writes: &[&Try], report: &mut Report) {
    let Some(refused) = writes.iter().find(|w| w.is_refused()) else { return };
    let later = writes.iter().filter(|w| w.sent > refused.answered && w.is_accepted() && !w.is_duplicate);
    for write in later {
        report.add(Kind::RefusedHolder, || format!("{write:?} behind {refused:?}"));
    }
}
