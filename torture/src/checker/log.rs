//! What was published against what the log holds.
//!
//! Owns: acknowledged means once, unknown means at most once, a batch is whole. Does not know: clients.
//! Flow: in ← publishes and the final log · out → violations.

use std::collections::{HashMap, HashSet};

use super::{Kind, Logged, Outcome, Publish, Report, Sources, Trace};

/// Where each value of each channel stands.
type Places<'a> = HashMap<(u64, u16), Vec<&'a Logged>>;

pub(super) fn check(trace: &Trace, log: &[Logged], sources: &Sources, report: &mut Report) {
    report.figures.logged = log.len();
    order(log, report);
    let mut places = Places::with_capacity(log.len());
    for logged in log {
        let what =
            logged.value.map(|value| (value, logged.channel)).filter(|what| sources.contains_key(what));
        match what {
            Some(what) => places.entry(what).or_default().push(logged),
            None => {
                report.add(Kind::Phantom, || format!("{logged:?} stands in the log but was never published"))
            }
        }
    }
    for publish in &trace.publishes {
        one(publish, &places, report);
    }
    real_time(trace, &places, report);
}

fn order(log: &[Logged], report: &mut Report) {
    let mut over = HashSet::new();
    for (before, after) in log.iter().zip(log.iter().skip(1)) {
        if before.id.seq == after.id.seq {
            report.add(Kind::IdReused, || format!("{before:?} and {after:?}"));
        }
        if before.id.epoch != after.id.epoch {
            over.insert(before.id.epoch);
        }
        if over.contains(&after.id.epoch) {
            report.add(Kind::LogOrder, || format!("the run of {after:?} was over before {before:?}"));
        }
    }
}

fn one(publish: &Publish, places: &Places<'_>, report: &mut Report) {
    let empty = Vec::new();
    let found: Vec<&Vec<&Logged>> =
        publish.items.iter().map(|item| places.get(&(item.value, item.channel)).unwrap_or(&empty)).collect();
    for (item, found) in publish.items.iter().zip(&found) {
        if found.len() > 1 {
            report.add(Kind::Twice, || format!("{item:?} at {found:?}"));
        }
    }
    let first: Vec<Option<&Logged>> = found.iter().map(|f| f.first().copied()).collect();
    let present = first.iter().flatten().count();
    match &publish.outcome {
        Outcome::Acked(ids) => {
            report.figures.acked += publish.items.len();
            for (item, (found, id)) in publish.items.iter().zip(first.iter().zip(ids)) {
                match found {
                    None => report.add(Kind::Lost, || format!("{item:?} was acknowledged as {id:?}")),
                    Some(found) if found.id != *id => {
                        report
                            .add(Kind::WrongId, || format!("{item:?} was acknowledged as {id:?}: {found:?}"));
                    }
                    Some(_) => {}
                }
            }
        }
        Outcome::Unknown => {
            report.figures.unknown += publish.items.len();
            report.figures.unknown_found += present;
        }
        Outcome::Refused => {
            if present > 0 {
                report.add(Kind::Refused, || format!("{publish:?} was refused: {first:?}"));
            }
        }
    }
    let whole = present == 0 || present == publish.items.len();
    let start = first.first().copied().flatten().map_or(0, |logged| logged.id.seq);
    let adjacent = (start..).zip(first.iter().flatten()).all(|(seq, logged)| logged.id.seq == seq);
    if !whole || !adjacent {
        report.add(Kind::HalfBatch, || {
            let seqs: Vec<Option<u64>> = first.iter().map(|f| f.map(|l| l.id.seq)).collect();
            format!("{} events, {:?}: {seqs:?}", publish.items.len(), publish.outcome)
        });
    }
}

/// If one was answered before another was sent, it stands before it.
fn real_time(trace: &Trace, places: &Places<'_>, report: &mut Report) {
    let seq_of = |publish: &Publish| {
        let found = publish.items.first().and_then(|item| places.get(&(item.value, item.channel)));
        found.and_then(|found| found.first()).map(|logged| logged.id.seq)
    };
    let acked = |p: &&Publish| matches!(p.outcome, Outcome::Acked(_));
    let mut by_answer: Vec<(u64, u64)> =
        trace.publishes.iter().filter(acked).filter_map(|p| Some((p.answered, seq_of(p)?))).collect();
    let mut by_sent: Vec<(u64, u64)> =
        trace.publishes.iter().filter_map(|p| Some((p.sent, seq_of(p)?))).collect();
    by_answer.sort_unstable();
    by_sent.sort_unstable();
    let mut answered = by_answer.into_iter().peekable();
    let mut newest = 0;
    for (sent, seq) in by_sent {
        while let Some((_, earlier)) = answered.next_if(|(at, _)| *at < sent) {
            newest = newest.max(earlier);
        }
        if seq < newest {
            report.add(Kind::RealTime, || format!("{seq} was sent after {newest} was answered"));
        }
    }
}
