//! The checker sees every fault that it is there for: a good run, and then the same with one thing wrong.

use super::super::trace::{Cancel, Document, Event, Kind as EventKind, Lease, Made, Op, Stream, Trace, Try};
use super::{Kind, check};
use crate::checker::Fact;

const JOB: &str = "job-1";

fn document(v: u64, state: &str, attempt: u64) -> Document {
    Document { state: state.into(), attempt, v, tag: "k:1".into(), ..Document::default() }
}

fn progress(document: Document) -> EventKind {
    EventKind::Progress(document)
}

fn wrote(v: u64, attempt: u64, mark: &str) -> EventKind {
    progress(Document { data_mark: mark.into(), ..document(v, "running", attempt) })
}

fn write(mark: &str, token: &str, op: Op, at: u64, status: u16) -> Try {
    let code = if status == 409 { "lease_lost" } else { "" };
    Try {
        mark: mark.into(),
        job: JOB.into(),
        token: token.into(),
        op,
        sent: at,
        answered: at + 10,
        status,
        code: code.into(),
        ..Try::default()
    }
}

fn lease(token: &str, attempt: u64, at: u64) -> Lease {
    let (job, token) = (JOB.into(), token.into());
    Lease { job, token, attempt, lease_ms: 1_000, sent: at, answered: at + 10 }
}

fn enter(trace: &mut Trace, write: Try) {
    trace.writes.entry(write.mark.clone()).or_default().push(write);
}

/// A first lease that wrote and fell silent, and a second one that completed.
fn good() -> Trace {
    let done = document(9, "completed", 2);
    let kinds = vec![
        progress(document(1, "queued", 1)),
        progress(document(2, "running", 1)),
        wrote(3, 1, "a1"),
        EventKind::Log { mark: "a2".into() },
        progress(Document { reason: "stalled".into(), data_mark: "a1".into(), ..document(5, "retrying", 2) }),
        progress(Document { data_mark: "a1".into(), ..document(6, "running", 2) }),
        wrote(7, 2, "b1"),
        EventKind::Log { mark: "b2".into() },
        progress(Document { data_mark: "b1".into(), ..document(9, "completed", 2) }),
        EventKind::Complete { document: done, mark: Some("b3".into()) },
    ];
    let events = (100..).zip(kinds).map(|(seq, kind)| Event { seq, kind }).collect();
    let made = Made { tag: "k:1".into(), id: Some(JOB.into()), max_attempts: 2, ..Made::default() };
    let mut trace = Trace {
        made: vec![made],
        leases: vec![lease("1.x", 1, 1_000), lease("2.y", 2, 9_000_000)],
        streams: vec![Stream { job: JOB.into(), is_found: true, events }],
        facts: vec![Fact { name: "stale writes refused", planned: 1, done: 0 }],
        ..Trace::default()
    };
    enter(&mut trace, Try { v: Some(3), ..write("a1", "1.x", Op::Progress, 2_000, 200) });
    enter(&mut trace, write("a2", "1.x", Op::Log, 3_000, 200));
    enter(&mut trace, write("a3", "1.x", Op::Progress, 9_500_000, 409));
    enter(&mut trace, Try { v: Some(7), ..write("b1", "2.y", Op::Progress, 9_100_000, 200) });
    enter(&mut trace, write("b2", "2.y", Op::Log, 9_200_000, 200));
    enter(&mut trace, write("b3", "2.y", Op::Complete, 9_300_000, 0));
    enter(&mut trace, Try { is_duplicate: true, ..write("b3", "2.y", Op::Complete, 9_400_000, 200) });
    trace
}

/// What is found in the good run once `change` has made it wrong.
fn found(change: impl FnOnce(&mut Trace)) -> Vec<Kind> {
    let mut trace = good();
    change(&mut trace);
    check(&trace).met()
}

fn events(trace: &mut Trace) -> &mut Vec<Event> {
    &mut trace.streams[0].events
}

fn at(trace: &mut Trace, index: usize) -> &mut EventKind {
    &mut events(trace)[index].kind
}

#[test]
fn a_good_run_passes() {
    let report = check(&good());
    assert!(report.passed(), "{report}");
    assert_eq!(report.figures["runs"], 2);
    assert_eq!(report.figures["repeats recognised"], 1);
}

#[test]
fn a_lost_job_is_found() {
    assert_eq!(
        found(|t| {
            t.streams[0].is_found = false;
            t.streams[0].events.clear();
            t.writes.clear();
        }),
        [Kind::Lost]
    );
}

#[test]
fn a_job_that_nobody_made_or_that_was_refused_is_found() {
    assert_eq!(
        found(|t| {
            let stream = Stream { job: "other".into(), ..t.streams[0].clone() };
            let mut stream = stream;
            for event in &mut stream.events {
                if let EventKind::Progress(document) = &mut event.kind {
                    document.tag = "k:2".into();
                    (document.data_mark, document.error_mark) = (String::new(), String::new());
                }
            }
            let waits = |kind: &EventKind| matches!(kind, EventKind::Progress(d) if d.state != "completed");
            stream.events.retain(|event| waits(&event.kind));
            stream.events.push(error("cancelled", "", 2));
            t.streams.push(stream);
        }),
        [Kind::Phantom]
    );
    assert_eq!(
        found(|t| {
            t.made[0].is_refused = true;
            t.made[0].id = None;
        }),
        [Kind::Phantom]
    );
}

fn error(state: &str, mark: &str, attempt: u64) -> Event {
    let (state, mark) = (state.into(), mark.into());
    Event { seq: 900, kind: EventKind::Error { state, code: String::new(), mark, attempt } }
}

#[test]
fn one_making_that_made_two_jobs_is_found() {
    let kinds = found(|t| {
        let events =
            vec![Event { seq: 300, kind: progress(document(1, "queued", 1)) }, error("cancelled", "", 1)];
        t.streams.push(Stream { job: "job-2".into(), is_found: true, events });
    });
    assert_eq!(kinds, [Kind::Twice]);
}

#[test]
fn no_end_two_ends_and_more_behind_the_end_are_found() {
    assert_eq!(
        found(|t| {
            events(t).pop();
            t.writes.remove("b3");
        }),
        [Kind::NoEnd]
    );
    assert_eq!(found(|t| events(t).push(error("cancelled", "", 2))), [Kind::TwoEnds, Kind::Order]);
    let behind = Event { seq: 901, kind: progress(document(10, "running", 2)) };
    assert_eq!(found(|t| events(t).push(behind)), [Kind::AfterEnd]);
    let late = found(|t| {
        let at = events(t).len() - 1;
        let log = events(t).remove(7);
        events(t).insert(at - 1, log);
    });
    assert_eq!(late, [Kind::AfterEnd]);
    assert_eq!(found(|t| *at(t, 8) = progress(document(9, "failed", 2))), [Kind::Order]);
}

#[test]
fn two_leases_in_one_run_are_found() {
    assert_eq!(
        found(|t| t.writes.get_mut("b2").unwrap()[0].token = "2.z".into()),
        [Kind::Phantom, Kind::Overlap]
    );
    // Both were given out, and there was one run only.
    let kinds = found(|t| t.leases.push(lease("2.z", 2, 9_100_000)));
    assert!(kinds.contains(&Kind::Overlap), "{kinds:?}");
    let kinds = found(|t| t.leases.push(lease("2.y", 2, 9_100_000)));
    assert!(kinds.contains(&Kind::Overlap), "{kinds:?}");
    let begins = |t: &mut Trace| *at(t, 4) = progress(document(5, "running", 2));
    assert!(found(begins).contains(&Kind::Overlap));
}

#[test]
fn a_stale_write_that_was_accepted_is_found() {
    // Behind the answer of the next lease.
    let accept = |t: &mut Trace| t.writes.get_mut("a3").unwrap()[0].status = 202;
    assert_eq!(found(accept), [Kind::StaleWrite]);
    // Behind the end of the lease, while nobody else has one.
    let behind_the_end = |t: &mut Trace| {
        t.leases.pop();
        t.writes.retain(|mark, _| mark.starts_with('a'));
        accept(t);
        events(t).truncate(5);
        events(t).push(error("cancelled", "", 2));
    };
    assert_eq!(found(behind_the_end), [Kind::StaleWrite]);
    // The same is right if the server was started again meanwhile.
    let kinds = found(|t| {
        behind_the_end(t);
        t.starts.push(9_000_000);
    });
    assert_eq!(kinds, []);
}

#[test]
fn a_stale_write_that_took_effect_is_found() {
    // In the run of the next lease.
    let kinds = found(|t| *at(t, 7) = EventKind::Log { mark: "a3".into() });
    assert!(kinds.contains(&Kind::StaleWrite), "{kinds:?}");
    // While nobody runs it.
    let kinds = found(|t| {
        let late = Event { seq: 104, kind: EventKind::Log { mark: "a2".into() } };
        events(t).remove(3);
        events(t).insert(4, late);
    });
    assert_eq!(kinds, [Kind::StaleWrite]);
    // Behind what gave the lease back.
    let kinds = found(|t| enter(t, write("b4", "2.y", Op::Heartbeat, 9_600_000, 200)));
    assert_eq!(kinds, [Kind::StaleWrite]);
}

#[test]
fn writes_that_are_lost_twice_or_there_though_refused_are_found() {
    let lose = |t: &mut Trace| drop(events(t).remove(3));
    assert_eq!(found(lose), [Kind::LostWrite]);
    let again = Event { seq: 104, kind: EventKind::Log { mark: "a2".into() } };
    assert_eq!(found(|t| events(t).insert(4, again)), [Kind::Twice]);
    assert_eq!(found(|t| t.writes.get_mut("a1").unwrap()[0].v = Some(4)), [Kind::LostWrite]);
    let refuse = |t: &mut Trace| {
        let write = &mut t.writes.get_mut("b2").unwrap()[0];
        (write.status, write.code) = (409, "lease_lost".into());
    };
    let kinds = found(refuse);
    assert!(kinds.contains(&Kind::RefusedWrite), "{kinds:?}");
    let other = |t: &mut Trace| {
        *at(t, 8) = progress(document(9, "failed", 2));
        *at(t, 9) = error("failed", "", 2).kind;
    };
    assert_eq!(found(other), [Kind::LostWrite]);
    let unknown = Event { seq: 104, kind: EventKind::Log { mark: "nobody's".into() } };
    assert_eq!(found(|t| events(t).insert(4, unknown)), [Kind::Phantom]);
}

#[test]
fn a_holder_and_a_repeat_that_are_refused_are_found() {
    let kinds = found(|t| {
        let repeat = &mut t.writes.get_mut("b3").unwrap()[1];
        (repeat.status, repeat.is_duplicate, repeat.code) = (409, false, "lease_lost".into());
    });
    assert_eq!(kinds, [Kind::RefusedRepeat]);
    let kinds = found(|t| enter(t, write("b0", "2.y", Op::Heartbeat, 9_050_000, 409)));
    assert_eq!(kinds, [Kind::RefusedHolder]);
    let kinds = found(|t| enter(t, write("b0", "2.y", Op::Heartbeat, 9_250_000, 404)));
    assert!(kinds.contains(&Kind::Answer), "{kinds:?}");
}

#[test]
fn attempts_over_the_limit_and_steps_back_are_found() {
    let kinds = found(|t| t.made[0].max_attempts = 1);
    assert_eq!(kinds, [Kind::Attempts]);
    let kinds = found(|t| *at(t, 5) = progress(document(6, "running", 1)));
    assert!(kinds.contains(&Kind::Order), "{kinds:?}");
    let kinds = found(|t| {
        let EventKind::Progress(document) = at(t, 4) else { return };
        document.v = 2;
    });
    assert_eq!(kinds, [Kind::Order]);
}

#[test]
fn a_job_before_its_time_and_a_key_held_twice_are_found() {
    assert_eq!(found(|t| t.made[0].not_before = 2_000), [Kind::Early]);
    let kinds = found(|t| {
        t.made[0].solo = Some("s".into());
        let solo = Some("s".into());
        t.made.push(Made {
            tag: "k:2".into(),
            id: Some("job-2".into()),
            solo,
            max_attempts: 1,
            ..Made::default()
        });
        let queued = Document { tag: "k:2".into(), ..document(1, "queued", 1) };
        let events = vec![Event { seq: 105, kind: progress(queued) }, error("cancelled", "", 1)];
        t.streams.push(Stream { job: "job-2".into(), is_found: true, events });
    });
    assert_eq!(kinds, [Kind::Unique]);
}

#[test]
fn a_cancel_that_was_answered_and_forgotten_is_found() {
    let cancel = Cancel { job: JOB.into(), state: "cancelled".into() };
    assert_eq!(found(|t| t.cancels.push(cancel)), [Kind::Cancel]);
}

#[test]
fn a_run_that_did_less_than_planned_does_not_pass() {
    let mut trace = good();
    trace.facts[0].planned = 2;
    let report = check(&trace);
    assert!(!report.passed() && report.kinds().is_empty(), "{report}");
}
