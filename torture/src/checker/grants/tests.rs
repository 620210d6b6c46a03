use super::super::{Event, Id, Item, Outcome, Probe, Publish, Revocation, Start, check};
use super::*;

const SECOND: u64 = 1_000_000;

fn id(seq: u64) -> Id {
    Id { epoch: 0, seq }
}

fn event(seq: u64, channel: u16) -> Seen {
    Seen::Event(Event { id: Some(id(seq)), channel, value: Some(100 + seq) })
}

fn shown(token: usize, seconds: u64, answer: Answer) -> Shown {
    let sent = seconds * SECOND;
    Shown { token, is_spent: false, sent, answered: sent + 1_000, answer }
}

fn token(channels: &[u16], issued: u64, expires: u64) -> Token {
    let channels = channels.to_vec();
    Token { subject: 7, session: 3, channels, issued: issued * SECOND, expires: expires * SECOND }
}

fn session(asked: u64, channels: &[u16], shown: &[Shown], seen: &[Seen]) -> Session {
    Session {
        asked: Some(id(asked)),
        channels: channels.to_vec(),
        shown: shown.to_vec(),
        seen: seen.to_vec(),
        is_marked: false,
    }
}

/// Twelve events, one a second from second 1 on, of channel 0 where odd and of channel 1 where even.
///
/// Token 0 covers both and ends at 4: the stream ends behind 3, the same token is told to stop, and token 1, which covers
/// channel 0 only, gets 5 and 7. Token 2 covers both and comes at 8 on a new connection; token 3 takes its place there at 10.
fn good() -> Trace {
    let publish = |n: u64| Publish {
        items: vec![Item { channel: u16::from(n.is_multiple_of(2)), value: 100 + n, key: None }],
        outcome: Outcome::Acked(vec![id(n)]),
        sent: n * SECOND + 1,
        answered: n * SECOND + 2,
    };
    let hello = |seq| Seen::Hello(Some(id(seq)));
    let both = [0, 1];
    let first =
        [hello(0), event(1, 0), event(2, 1), event(3, 0), Seen::Unauthorized(Some(id(3)), 4 * SECOND)];
    let third = [hello(3), event(5, 0), event(7, 0)];
    let last = [hello(7), event(8, 1), event(9, 0), event(10, 1), event(11, 0), event(12, 1)];
    let stopped = Session { is_marked: true, ..session(3, &both, &[shown(0, 5, Answer::Stopped)], &[]) };
    let sessions = vec![
        Session { asked: None, ..session(0, &both, &[shown(0, 0, Answer::Granted)], &first) },
        stopped,
        session(3, &[0], &[shown(1, 5, Answer::Granted)], &third),
        session(7, &both, &[shown(2, 8, Answer::Granted), shown(3, 10, Answer::Granted)], &last),
    ];
    let client = Client {
        name: "she".into(),
        channels: vec![0, 1],
        start: Start::Now,
        sessions,
        ended: false,
        must_end: false,
    };
    Trace {
        publishes: (1..=12).map(publish).collect(),
        clients: vec![client],
        log: (1..=12)
            .map(|n| super::super::Logged {
                id: id(n),
                channel: u16::from(n.is_multiple_of(2)),
                value: Some(100 + n),
            })
            .collect(),
        grants: Grants {
            tokens: vec![token(&both, 0, 4), token(&[0], 4, 60), token(&both, 7, 60), token(&both, 9, 60)],
            ..Grants::default()
        },
        ..Trace::default()
    }
}

/// Breaks a good run and demands exactly this verdict.
fn broken(expected: &str, break_it: impl FnOnce(&mut Trace)) {
    let mut trace = good();
    break_it(&mut trace);
    let report = check(&trace);
    assert_eq!(report.kinds(), expected, "{report}");
}

fn seen(trace: &mut Trace, session: usize) -> &mut Vec<Seen> {
    &mut trace.clients[0].sessions[session].seen
}

fn revoke(trace: &mut Trace, what: Revoked, seconds: u64, answered: bool) {
    let sent = seconds * SECOND;
    let answered = answered.then_some(sent + 1_000);
    trace.grants.revocations.push(Revocation { what, sent, answered });
}

#[test]
fn a_good_run_passes() {
    broken("", |_| {});
}

#[test]
fn an_event_that_was_sent_behind_the_end_of_the_token_is_outside() {
    broken("Outside 1", |trace| {
        seen(trace, 0).insert(4, event(4, 1));
        trace.publishes[3].sent = 4 * SECOND + TOLERANCE;
    });
    // Two readings of one clock: right at the end nobody can say.
    broken("", |trace| {
        seen(trace, 0).insert(4, event(4, 1));
        trace.publishes[3].sent = 4 * SECOND + TOLERANCE - 1;
    });
}

#[test]
fn an_event_that_was_sent_behind_a_revocation_is_outside() {
    for what in [Revoked::Token(0), Revoked::Session(3), Revoked::Subject(7)] {
        broken("Outside 1", |trace| revoke(trace, what, 2, true));
        broken("", |trace| revoke(trace, what, 3, true));
        // Nobody was told that it holds.
        broken("", |trace| revoke(trace, what, 2, false));
    }
    broken("", |trace| revoke(trace, Revoked::Token(9), 2, true));
    broken("", |trace| revoke(trace, Revoked::Session(9), 2, true));
    broken("", |trace| revoke(trace, Revoked::Subject(9), 2, true));
}

#[test]
fn what_is_issued_behind_a_revocation_is_good_but_for_the_token_itself() {
    broken("", |trace| revoke(trace, Revoked::Subject(7), 8, true));
    broken("Outside 2, Opened 1", |trace| revoke(trace, Revoked::Token(3), 8, true));
    broken("Outside 1", |trace| {
        // The third token was the only one from 10 on, and was over at 11.
        trace.clients[0].sessions[3].shown.pop();
        revoke(trace, Revoked::Subject(7), 11, true);
    });
}

#[test]
fn a_token_that_another_has_replaced_lets_nothing_through() {
    broken("Outside 1, Opened 1", |trace| {
        trace.grants.tokens[3].channels.pop();
    });
    broken("Outside 2", |trace| {
        // Refused on the open stream, which then ends; what comes all the same is outside.
        trace.grants.tokens[3].channels.pop();
        trace.clients[0].sessions[3].shown[1].answer = Answer::Refused;
    });
}

#[test]
fn nothing_comes_behind_a_refusal() {
    // What comes there is not taken: the position that the refusal left is behind it.
    broken("Gap 1, Outside 1", |trace| {
        let last = seen(trace, 0).pop().unwrap();
        seen(trace, 0).insert(3, last);
    });
}

#[test]
fn a_channel_that_was_never_granted_or_asked_for_is_foreign_and_outside() {
    broken("Foreign 1, Outside 1", |trace| seen(trace, 2).insert(2, event(6, 1)));
}

#[test]
fn a_stream_is_not_opened_with_a_token_that_is_over_or_too_small() {
    broken("Opened 1", |trace| trace.grants.tokens[2].expires = 8 * SECOND - TOLERANCE);
    broken("Opened 1", |trace| {
        trace.grants.probes.push(Probe { channels: vec![0], shown: shown(0, 9, Answer::Granted) });
    });
    broken("Opened 1", |trace| {
        trace.grants.probes.push(Probe { channels: vec![0, 1], shown: shown(1, 9, Answer::Granted) });
    });
    broken("Opened 1", |trace| {
        let shown = Shown { is_spent: true, ..shown(2, 9, Answer::Granted) };
        trace.grants.probes.push(Probe { channels: vec![0], shown });
    });
    broken("", |trace| {
        trace.grants.probes.push(Probe { channels: vec![0], shown: shown(0, 9, Answer::Refused) });
        trace.grants.probes.push(Probe { channels: vec![0], shown: shown(2, 9, Answer::Granted) });
    });
}

#[test]
fn a_good_token_is_not_refused() {
    for answer in [Answer::Refused, Answer::Stopped] {
        let kinds = if answer == Answer::Stopped { "Protocol 1, Denied 1" } else { "Denied 1" };
        broken(kinds, |trace| {
            let refused = session(7, &[0, 1], &[shown(2, 8, answer)], &[]);
            trace.clients[0].sessions.insert(3, refused);
        });
    }
    broken("Denied 1", |trace| trace.clients[0].sessions[3].shown[1].answer = Answer::Rejected);
    broken("Denied 1", |trace| {
        // The stream of a good token ends.
        let over = Seen::Unauthorized(Some(id(12)), 13 * SECOND);
        seen(trace, 3).push(over);
    });
    broken("", |trace| {
        // The first of its tokens ends behind the second: it is not what the stream goes by.
        trace.grants.tokens[2].expires = 11 * SECOND;
    });
    broken("Denied 1", |trace| {
        trace.grants.tokens[2].expires = 11 * SECOND;
        seen(trace, 3).push(Seen::Unauthorized(Some(id(12)), 13 * SECOND));
    });
}

#[test]
fn who_was_told_why_is_told_to_stop_as_long_as_that_is_so() {
    broken("Protocol 1", |trace| trace.clients[0].sessions[1].shown[0].answer = Answer::Refused);
    broken("Protocol 1", |trace| trace.clients[0].sessions[1].is_marked = false);
}

#[test]
fn what_lies_behind_the_position_is_owed_to_a_better_grant() {
    // 4 was of a channel that the connection did not listen to when it went past; 9 was not.
    broken("Gap 1", |trace| drop(seen(trace, 3).remove(2)));
    broken("Gap 1", |trace| {
        // The refusal left a position behind an event that was not sent.
        seen(trace, 0).remove(3);
    });
    broken("UnseenTail 2", |trace| seen(trace, 3).truncate(4));
    broken("Repeat 1", |trace| seen(trace, 2).insert(1, event(3, 0)));
}

#[test]
fn a_channel_that_was_dropped_at_the_end_is_not_owed() {
    broken("", |trace| {
        trace.clients[0].sessions.pop();
        trace.grants.tokens.truncate(2);
        let rest = [event(9, 0), event(11, 0)];
        seen(trace, 2).extend(rest);
    });
}

/// A slice holds 256 events of the channels that the connection listens to, however many of others stand between.
#[test]
fn a_replaced_event_is_looked_for_in_the_slice_of_its_connection() {
    let keyed = |between: u64, channel: u16| {
        let mut trace = good();
        trace.grants.tokens.push(token(&[0], 12, 1_000));
        let opened = session(12, &[0], &[shown(4, 13, Answer::Granted)], &[Seen::Hello(Some(id(12)))]);
        trace.clients[0].sessions.push(opened);
        let last = 13 + between;
        for n in 13..=last {
            let is_end = n == 13 || n == last;
            let item =
                Item { channel: if is_end { 0 } else { channel }, value: 100 + n, key: is_end.then_some(5) };
            let logged = super::super::Logged { id: id(n), channel: item.channel, value: Some(item.value) };
            trace.log.push(logged);
            trace.publishes.push(Publish {
                items: vec![item],
                outcome: Outcome::Acked(vec![id(n)]),
                sent: n * SECOND + 1,
                answered: n * SECOND + 2,
            });
            if n > 13 && (is_end || channel == 0) {
                trace.clients[0].sessions[4].seen.push(event(n, 0));
            }
        }
        check(&trace).kinds()
    };
    assert_eq!(keyed(300, 1), "");
    assert_eq!(keyed(300, 0), "Gap 1");
    assert_eq!(keyed(200, 0), "");
}
