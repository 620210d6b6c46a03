//! What was made against what is there.
//!
//! Owns: every job acknowledged is there once, unique keys, times to wait for, cancels. Does not know: runs.
//! Flow: in ← requests that made jobs, streams · out → violations.

use std::collections::HashMap;

use super::super::trace::{Kind as EventKind, Lease, Made, Stream, Trace};
use super::{Kind, Report};

pub(super) fn check(
    trace: &Trace,
    streams: &HashMap<&str, &Stream>,
    leases: &HashMap<&str, Vec<&Lease>>,
    report: &mut Report,
) {
    let mut by_tag: HashMap<&str, Vec<&Stream>> = HashMap::new();
    for stream in trace.streams.iter().filter(|stream| stream.is_found) {
        by_tag.entry(tag(stream)).or_default().push(stream);
        report.count("jobs found");
    }
    for made in &trace.made {
        one(made, streams, leases, &by_tag, report);
        if let Some(of_tag) = by_tag.remove(made.tag.as_str())
            && of_tag.len() > 1
        {
            report.add(Kind::Twice, || format!("{} made {} jobs", made.tag, of_tag.len()));
        }
    }
    for (tag, of_tag) in by_tag {
        let job = of_tag.first().map_or("", |stream| stream.job.as_str());
        report.add(Kind::Phantom, || format!("nobody made {job} ({tag})"));
    }
    unique(trace, streams, report);
    cancels(trace, streams, report);
}

fn one(
    made: &Made,
    streams: &HashMap<&str, &Stream>,
    leases: &HashMap<&str, Vec<&Lease>>,
    by_tag: &HashMap<&str, Vec<&Stream>>,
    report: &mut Report,
) {
    let tag = made.tag.as_str();
    if made.is_refused && by_tag.contains_key(tag) {
        report.add(Kind::Phantom, || format!("{tag} was refused and is there"));
    }
    let Some(id) = &made.id else { return };
    report.count("jobs acknowledged");
    if !streams.get(id.as_str()).is_some_and(|stream| stream.is_found) {
        return report.add(Kind::Lost, || format!("{id} ({tag}) was acknowledged and is not there"));
    }
    for lease in leases.get(id.as_str()).into_iter().flatten() {
        if lease.answered < made.not_before {
            report.add(Kind::Early, || {
                format!("{id} was leased {} µs before its time", made.not_before - lease.answered)
            });
        }
        if lease.attempt > made.max_attempts {
            report.add(Kind::Attempts, || format!("{id}: {lease:?} of {} attempts", made.max_attempts));
        }
    }
}

/// The tag of a job's first document.
pub(super) fn tag(stream: &Stream) -> &str {
    let documents = stream.events.iter().filter_map(|event| match &event.kind {
        EventKind::Progress(document) | EventKind::Complete { document, .. } => Some(document),
        _ => None,
    });
    documents.map(|document| document.tag.as_str()).next().unwrap_or_default()
}

/// From a job's first event to its last, nobody else holds its key.
fn unique(trace: &Trace, streams: &HashMap<&str, &Stream>, report: &mut Report) {
    let mut by_key: HashMap<&str, Vec<(u64, u64, &str)>> = HashMap::new();
    for made in &trace.made {
        let (Some(key), Some(id)) = (&made.solo, &made.id) else { continue };
        let Some(stream) = streams.get(id.as_str()) else { continue };
        let (Some(first), Some(last)) = (stream.events.first(), stream.events.last()) else { continue };
        by_key.entry(key).or_default().push((first.seq, last.seq, id));
    }
    for (key, mut held) in by_key {
        held.sort_unstable();
        for pair in held.windows(2) {
            if let [(_, last, one), (first, _, other)] = pair
                && first < last
            {
                report.add(Kind::Unique, || format!("{other} was made while {one} held {key}"));
            }
        }
    }
}

fn cancels(trace: &Trace, streams: &HashMap<&str, &Stream>, report: &mut Report) {
    for cancel in trace.cancels.iter().filter(|cancel| cancel.state == "cancelled") {
        let last = streams.get(cancel.job.as_str()).and_then(|stream| stream.events.last());
        let state = last.map(|event| match &event.kind {
            EventKind::Error { state, .. } => state.as_str(),
            _ => "another",
        });
        if state != Some("cancelled") {
            report.add(Kind::Cancel, || {
                format!("{} was answered cancelled and ended as {state:?}", cancel.job)
            });
        }
    }
}
