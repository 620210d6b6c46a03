use super::*;

fn id(seq: u64) -> Id {
    Id { epoch: 0, seq }
}

fn publish(values: &[(u16, u64, Option<u8>)], outcome: Outcome) -> Publish {
    let items = values.iter().map(|&(channel, value, key)| Item { channel, value, key }).collect();
    let at = values[0].1 * 10;
    Publish { items, outcome, sent: at, answered: at + 1 }
}

fn event(seq: u64, channel: u16, value: u64) -> Seen {
    Seen::Event(Event { id: Some(id(seq)), channel, value: Some(value) })
}

fn session(asked: Option<u64>, seen: &[Seen]) -> Session {
    let mut all = vec![Seen::Hello(asked.map(id))];
    all.extend(seen.iter().cloned());
    Session { asked: asked.map(id), seen: all, ..Session::default() }
}

/// Eight events: values 101–108 at 1–8, channel 0 where odd and 1 where even; 103 and 105 have the key 7. A batch of two
/// at 5 and 6. One client of both channels with two connections, one of channel 0 that came later.
fn good() -> Trace {
    let mut publishes: Vec<Publish> = [1_u64, 2, 3, 4, 7, 8]
        .iter()
        .map(|&n| {
            let key = (n == 3).then_some(7);
            publish(&[(u16::from(n % 2 == 0), 100 + n, key)], Outcome::Acked(vec![id(n)]))
        })
        .collect();
    publishes.push(publish(&[(0, 105, Some(7)), (1, 106, None)], Outcome::Acked(vec![id(5), id(6)])));
    publishes.push(publish(&[(0, 200, None), (1, 201, None)], Outcome::Unknown));
    let all = |range: std::ops::RangeInclusive<u64>| -> Vec<Seen> {
        range.map(|n| event(n, u16::from(n % 2 == 0), 100 + n)).collect()
    };
    let both = Client {
        name: "both".into(),
        channels: vec![0, 1],
        start: Start::Oldest,
        sessions: vec![session(None, &all(1..=3)), session(Some(3), &all(4..=8))],
        ended: false,
        must_end: false,
    };
    let mut first = session(None, &[event(5, 0, 105), event(7, 0, 107)]);
    first.seen[0] = Seen::Hello(Some(id(4)));
    let late = Client {
        name: "late".into(),
        channels: vec![0],
        start: Start::Now,
        sessions: vec![first],
        ..both.clone()
    };
    let log =
        (1..=8).map(|n| Logged { id: id(n), channel: u16::from(n % 2 == 0), value: Some(100 + n) }).collect();
    Trace { publishes, clients: vec![both, late], log, ..Trace::default() }
}

/// Breaks a good run and demands exactly this verdict.
fn broken(expected: &str, break_it: impl FnOnce(&mut Trace)) {
    let mut trace = good();
    break_it(&mut trace);
    let report = check(&trace);
    assert_eq!(report.kinds(), expected, "{report}");
    assert_eq!(report.passed(), expected.is_empty());
}

fn seen(trace: &mut Trace, client: usize, session: usize) -> &mut Vec<Seen> {
    &mut trace.clients[client].sessions[session].seen
}

#[test]
fn a_good_run_passes() {
    broken("", |_| {});
    let report = check(&good());
    assert_eq!((report.figures.acked, report.figures.unknown, report.figures.delivered), (8, 2, 10));
}

#[test]
fn an_acknowledged_event_that_is_not_in_the_log_is_lost() {
    broken("Lost 1, Phantom 1", |trace| {
        // Who got it saw something that the server then forgot.
        trace.log.remove(1);
    });
}

#[test]
fn an_event_that_a_client_did_not_get_is_a_gap() {
    broken("Gap 1", |trace| drop(seen(trace, 0, 1).remove(2)));
    broken("Gap 1", |trace| drop(seen(trace, 1, 0).remove(1)));
}

#[test]
fn the_newest_events_are_owed_too() {
    broken("UnseenTail 1", |trace| drop(seen(trace, 0, 1).pop()));
    broken("UnseenTail 2", |trace| seen(trace, 1, 0).truncate(1));
}

#[test]
fn an_event_that_comes_again_is_a_repeat() {
    broken("Repeat 1", |trace| seen(trace, 0, 1).insert(1, event(3, 0, 103)));
    broken("Repeat 1", |trace| seen(trace, 1, 0).insert(1, event(3, 0, 103)));
}

#[test]
fn an_older_event_after_a_newer_one_is_a_reorder() {
    broken("Gap 1, Reorder 1", |trace| seen(trace, 0, 1).swap(1, 2));
}

#[test]
fn an_event_of_another_channel_is_foreign() {
    broken("Foreign 1", |trace| seen(trace, 1, 0).insert(2, event(6, 1, 106)));
}

#[test]
fn an_event_that_nobody_published_is_a_phantom() {
    broken("Phantom 1", |trace| seen(trace, 0, 1).push(event(9, 0, 999)));
    broken("Phantom 1", |trace| {
        seen(trace, 0, 1).push(Seen::Event(Event { id: None, channel: 0, value: Some(107) }));
    });
    broken("Phantom 1, UnseenTail 1", |trace| {
        trace.log.push(Logged { id: id(9), channel: 1, value: Some(999) });
    });
    broken("IdReused 1, Gap 1", |trace| {
        // Altered on its way.
        seen(trace, 0, 1)[1] = Seen::Event(Event { id: Some(id(4)), channel: 1, value: None });
    });
}

#[test]
fn a_batch_is_whole_and_adjacent() {
    broken("HalfBatch 1, UnseenTail 2", |trace| {
        trace.log.push(Logged { id: id(9), channel: 0, value: Some(200) });
    });
    broken("HalfBatch 1, UnseenTail 3", |trace| {
        trace.log.push(Logged { id: id(9), channel: 0, value: Some(200) });
        trace.log.push(Logged { id: id(11), channel: 1, value: Some(201) });
    });
    broken("HalfBatch 1, UnseenTail 3", |trace| {
        trace.log.push(Logged { id: id(9), channel: 1, value: Some(201) });
        trace.log.push(Logged { id: id(10), channel: 0, value: Some(200) });
    });
}

#[test]
fn an_event_without_an_answer_may_be_there_once() {
    let both = |trace: &mut Trace| {
        trace.log.push(Logged { id: id(9), channel: 0, value: Some(200) });
        trace.log.push(Logged { id: id(10), channel: 1, value: Some(201) });
        seen(trace, 0, 1).extend([event(9, 0, 200), event(10, 1, 201)]);
        seen(trace, 1, 0).push(event(9, 0, 200));
    };
    broken("", both);
    broken("Twice 1", |trace| {
        both(trace);
        trace.log.push(Logged { id: id(11), channel: 1, value: Some(201) });
        seen(trace, 0, 1).push(event(11, 1, 201));
    });
    broken("Refused 1", |trace| {
        both(trace);
        trace.publishes[7].outcome = Outcome::Refused;
    });
}

#[test]
fn an_id_stands_for_one_event() {
    broken("IdReused 1, Gap 1", |trace| seen(trace, 0, 0)[2] = event(2, 1, 999));
    broken("IdReused 2, RealTime 1, Gap 1, UnseenTail 1", |trace| {
        // The log holds something else at 7 than what clients got and publishers were told.
        trace.log[6].value = Some(200);
        trace.publishes[4].outcome = Outcome::Unknown;
        trace.publishes[7].items.pop();
    });
    broken("WrongId 1", |trace| trace.publishes[0].outcome = Outcome::Acked(vec![id(3)]));
    let mut trace = good();
    trace.log.push(Logged { id: id(8), channel: 0, value: Some(999) });
    assert!(check(&trace).of(&[Kind::IdReused]) > 0);
}

#[test]
fn what_was_answered_before_stands_before() {
    broken("RealTime 1", |trace| {
        // 107 was answered before 101 was sent.
        (trace.publishes[4].sent, trace.publishes[4].answered) = (1, 2);
        for publish in &mut trace.publishes[1..4] {
            (publish.sent, publish.answered) = (1, 2);
        }
        (trace.publishes[6].sent, trace.publishes[6].answered) = (1, 2_000);
    });
}

#[test]
fn a_replaced_event_may_be_left_out_and_its_replacement_not() {
    broken("", |trace| drop(seen(trace, 0, 0).remove(3)));
    assert_eq!(
        {
            let mut trace = good();
            seen(&mut trace, 0, 0).remove(3);
            check(&trace).figures.conflated
        },
        1
    );
    broken("Gap 1", |trace| drop(seen(trace, 0, 1).remove(2)));
    broken("Gap 2", |trace| {
        seen(trace, 0, 0).remove(3);
        seen(trace, 0, 1).remove(2);
    });
}

#[test]
fn a_replacement_of_another_slice_replaces_nothing() {
    let mut trace = good();
    for n in 9..9 + 300 {
        trace.publishes.push(publish(&[(0, 1_000 + n, None)], Outcome::Acked(vec![id(n)])));
        trace.log.push(Logged { id: id(n), channel: 0, value: Some(1_000 + n) });
        seen(&mut trace, 0, 1).push(event(n, 0, 1_000 + n));
        seen(&mut trace, 1, 0).push(event(n, 0, 1_000 + n));
    }
    trace.publishes.push(publish(&[(0, 2_000, Some(7))], Outcome::Acked(vec![id(309)])));
    trace.log.push(Logged { id: id(309), channel: 0, value: Some(2_000) });
    seen(&mut trace, 0, 1).push(event(309, 0, 2_000));
    seen(&mut trace, 1, 0).push(event(309, 0, 2_000));
    assert!(check(&trace).passed());
    seen(&mut trace, 0, 1).remove(2);
    assert_eq!(check(&trace).kinds(), "Gap 1");
}

#[test]
fn a_reset_is_a_violation_where_nothing_was_taken_away() {
    let reset = |reason: &str, channels: &[u16], at| {
        Seen::Reset(Reset { reason: reason.into(), channels: channels.to_vec(), id: Some(id(at)) })
    };
    broken("Reset 1", |trace| seen(trace, 0, 1).insert(1, reset("expired", &[], 3)));
    let gap = |reason: &str, channels: &[u16]| {
        let mut trace = good();
        trace.may_reset = true;
        let items = seen(&mut trace, 0, 1);
        items.drain(1..3);
        items.insert(1, reset(reason, channels, 3));
        check(&trace).kinds()
    };
    assert_eq!(gap("expired", &[]), "", "4 and 5 are forgiven");
    assert_eq!(gap("expired", &[1]), "Gap 1", "5 was of another channel");
    assert_eq!(gap("epoch", &[]), "Gap 2", "only what stands up to its id");
}

#[test]
fn hello_names_the_position_that_was_asked_for() {
    broken("Protocol 1", |trace| seen(trace, 0, 1)[0] = Seen::Hello(Some(id(4))));
    broken("Protocol 1", |trace| seen(trace, 1, 0)[0] = Seen::Hello(None));
    broken("Protocol 1", |trace| trace.clients[1].ended = true);
    broken("Protocol 1", |trace| trace.clients[1].must_end = true);
}

#[test]
fn a_run_that_did_too_little_is_invalid() {
    let mut trace = good();
    trace.facts.push(Fact { name: "kills", planned: 10, done: 9 });
    let report = check(&trace);
    assert!(!report.passed() && !report.caught());
    assert_eq!(report.invalid, ["kills: 9 of 10 planned"]);
}
