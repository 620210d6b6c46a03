use std::format;
use std::vec;

use serde_json::Value;

use super::*;
use crate::Epoch;

const HEAD: u64 = 100;
const OWN: u64 = 50;
const LAST: u64 = 40;

fn table() -> Vec<Value> {
    let fixture: Value = serde_json::from_str(include_str!("../../../../spec/fixtures/resume.json")).unwrap();
    fixture["rows"].as_array().unwrap().clone()
}

fn channel(first: u64, head: u64, floor: u64, finished: bool, deleted: u64) -> Retained {
    let some = |seq: u64| (seq > 0).then_some(Seq(seq));
    let finished = finished.then_some(Seq(head));
    Retained { first: some(first), head: Seq(head), floor: Seq(floor), finished, deleted: some(deleted) }
}

/// Every state of a channel that makes a difference to a client at 50.
fn channel_states() -> Vec<Retained> {
    vec![
        Retained::default(),
        channel(10, 45, 5, false, 0),  // quiet since
        channel(10, 70, 5, false, 0),  // has news
        channel(60, 70, 50, false, 0), // trimmed up to the very position: nothing is missing
        channel(60, 70, 51, false, 0), // one event more is gone
        channel(0, 70, 70, false, 0),  // all is gone
        channel(0, 70, 70, false, 70), // deleted
        channel(80, 80, 70, false, 70),
        channel(35, 70, 30, false, 30), // deleted before the client's time
        channel(80, 80, 75, false, 50), // and trimmed after it
        channel(45, 45, 20, true, 0),   // finished before the position
        channel(50, 50, 20, true, 0),   // finished at it
        channel(0, 45, 45, true, 45),   // finished and deleted before it
        channel(10, 75, 5, true, 0),    // finished behind it
        channel(75, 75, 74, true, 0),   // only the final event is left
        channel(0, 75, 75, true, 75),   // not even that
        channel(10, 200, 5, true, 0),   // finished after the head was loaded
    ]
}

fn channel_sets(most: usize) -> Vec<Vec<Retained>> {
    let mut sets: Vec<Vec<Retained>> = vec![vec![]];
    let mut all = vec![];
    for _ in 0..most {
        sets = sets
            .iter()
            .flat_map(|set| channel_states().into_iter().map(|c| [set.clone(), vec![c]].concat()))
            .collect();
        all.extend(sets.clone());
    }
    all
}

fn positions() -> Vec<Asked> {
    let mut all = vec![Asked::Now, Asked::Start, Asked::Last(Seq(LAST)), Asked::Malformed];
    for stopped in [false, true] {
        for standing in [Standing::Known(Seq(OWN)), Standing::Ahead, Standing::Foreign] {
            all.push(Asked::Id { standing, stopped });
        }
    }
    all
}

/// The facts of a request under the names that the table uses, found independently of the code under test.
fn facts(request: &Request<'_>) -> Vec<(&'static str, &'static str)> {
    let yes = |fact: bool| if fact { "yes" } else { "no" };
    let (asked, stopped) = match request.asked {
        Asked::Now => ("now", "-"),
        Asked::Start => ("start", "-"),
        Asked::Last(_) => ("last", "-"),
        Asked::Malformed => ("malformed", "-"),
        Asked::Id { standing: Standing::Known(_), stopped } => ("known", yes(stopped)),
        Asked::Id { standing: Standing::Ahead, stopped } => ("ahead", yes(stopped)),
        Asked::Id { standing: Standing::Foreign, stopped } => ("foreign", yes(stopped)),
    };
    let channels = request.channels;
    let ended = channels.iter().all(|c| c.finished.is_some());
    let past = ended && channels.iter().all(|c| c.finished.unwrap().0 <= OWN);
    let floors: Vec<bool> = channels.iter().map(|c| c.floor.0 > OWN).collect();
    let trimmed = channels.iter().any(|c| c.floor.0 > OWN && c.deleted.is_none_or(|at| at.0 <= OWN));
    let gone = match (floors.contains(&true), trimmed) {
        (false, _) => "none",
        (true, true) => "expired",
        (true, false) => "deleted",
    };
    let cursor = match asked {
        "last" => LAST,
        "known" => OWN,
        _ => 0,
    };
    let left = channels.iter().any(|c| c.first.is_some() && c.head.0 > cursor);
    let document = match request.document.map(|at| at.0) {
        None => "-",
        Some(at) if at <= OWN => "behind",
        Some(at) if at <= channels[0].floor.0 => "trimmed",
        Some(_) => "retained",
    };
    vec![
        ("access", if request.refused { "refused" } else { "granted" }),
        ("asked", asked),
        ("stopped", stopped),
        ("stream", if request.document.is_some() { "job" } else { "channels" }),
        ("ended", yes(ended)),
        ("past", yes(past)),
        ("horizon", if OWN < request.horizon.0 { "below" } else { "above" }),
        ("gone", gone),
        ("left", yes(left)),
        ("document", document),
    ]
}

fn matches_row(row: &Value, facts: &[(&'static str, &'static str)]) -> bool {
    row["when"].as_object().unwrap().iter().all(|(key, allowed)| {
        let (_, fact) = facts.iter().find(|(name, _)| name == key).expect("the table names known facts");
        allowed.as_array().unwrap().iter().any(|value| value == fact)
    })
}

fn seq(name: &Value, request: &Request<'_>) -> Option<Seq> {
    let finals = || request.channels.iter().filter_map(|c| c.finished);
    let readable = || request.channels.iter().filter(|c| c.first.is_some()).filter_map(|c| c.finished);
    Some(match name.as_str()? {
        "zero" => Seq(0),
        "own" => Seq(OWN),
        "last" => Seq(LAST),
        "head" => Seq(HEAD),
        "end" => finals().max().unwrap(),
        "before_finals" => Seq(readable().min().unwrap().0 - 1),
        "document" => request.document.unwrap(),
        other => panic!("the table names a position {other}"),
    })
}

/// What a row's `then` means for this request.
fn expected(then: &Value, request: &Request<'_>, facts: &[(&'static str, &'static str)]) -> Decision {
    let fact = |name| facts.iter().find(|(key, _)| *key == name).unwrap().1;
    match then["do"].as_str().unwrap() {
        "stop" => return Decision::Stop,
        "refuse" if then["id"] == "own" => return Decision::Refuse(RefusedAt::Own),
        "refuse" => return Decision::Refuse(RefusedAt::Seq(seq(&then["id"], request).unwrap())),
        _ => {}
    }
    let reset = then["reset"].as_object().map(|reset| {
        let word = if reset["reason"] == "gone" { fact("gone") } else { reset["reason"].as_str().unwrap() };
        let lost = |c: &Retained| reset["channels"] == "all" || c.floor.0 > OWN;
        let all = request.channels.iter().all(lost);
        let meant = request.channels.iter().enumerate().filter(|(_, c)| lost(c));
        let first = meant.clone().filter_map(|(_, c)| c.first).filter(|f| f.0 > OWN).min();
        Reset {
            reason: *[
                Reason::Expired,
                Reason::Epoch,
                Reason::Ahead,
                Reason::Malformed,
                Reason::Deleted,
                Reason::Corrupt,
            ]
            .iter()
            .find(|r| r.as_str() == word)
            .unwrap(),
            channels: if all { vec![] } else { meant.map(|(index, _)| index).collect() },
            first: first.filter(|_| fact("asked") == "known"),
            id: seq(&reset["id"], request).unwrap(),
        }
    });
    Decision::Stream(Start {
        cursor: seq(&then["cursor"], request).unwrap(),
        hello: seq(&then["hello"], request),
        reset,
        replay: match then["replay"].as_str().unwrap() {
            "finals" => Replay::Finals,
            "document" => Replay::Document,
            _ => Replay::Events,
        },
        end_after: (fact("ended") == "yes")
            .then(|| request.channels.iter().filter_map(|c| c.finished).max().unwrap()),
    })
}

fn every_request(mut check: impl FnMut(&Request<'_>)) {
    let jobs = [30, 50, 60, 70, 72].map(|at| Some(Seq(at)));
    let streams = channel_sets(3)
        .into_iter()
        .map(|set| (set, None))
        .chain(jobs.into_iter().flat_map(|at| channel_sets(1).into_iter().map(move |set| (set, at))));
    for (channels, document) in streams {
        for asked in positions() {
            for (refused, horizon) in [(false, 50), (false, 51), (true, 50), (true, 51)] {
                let (head, horizon) = (Seq(HEAD), Seq(horizon));
                check(&Request { asked, refused, head, horizon, channels: &channels, document });
            }
        }
    }
}

#[test]
fn every_combination_matches_exactly_one_row_and_gets_what_it_says() {
    let rows = table();
    let mut hits = vec![0_u32; rows.len()];
    every_request(|request| {
        let facts = facts(request);
        let matching: Vec<usize> = (0..rows.len()).filter(|&i| matches_row(&rows[i], &facts)).collect();
        let [row] = matching[..] else { panic!("{facts:?} matches rows {matching:?}") };
        hits[row] += 1;
        let expected = expected(&rows[row]["then"], request, &facts);
        assert_eq!(decide(request), expected, "{}\n{request:?}", rows[row]["name"]);
    });
    for (row, hits) in rows.iter().zip(hits) {
        assert!(hits > 0, "no combination reaches the row {}", row["name"]);
    }
}

/// Follows a stream to its end with a client that got everything, and reconnects until it is told to stop.
#[test]
fn a_finished_stream_ends_in_204_after_at_most_four_reconnects() {
    every_request(|request| {
        let channels = request.channels;
        if request.refused || end_of(channels).is_none_or(|end| end.0 > HEAD) {
            return;
        }
        let mut asked = request.asked;
        for _ in 0..5 {
            let Decision::Stream(start) = decide(&Request { asked, ..*request }) else { return };
            let shown = channels.iter().filter(|c| c.first.is_some()).map(|c| c.head);
            let document = (start.replay == Replay::Document).then_some(start.cursor);
            let ids = [start.hello, start.reset.as_ref().map(|r| r.id), document];
            let newest = ids.into_iter().flatten().chain(shown.filter(|&id| id > start.cursor)).max();
            let own = newest.expect("a stream that ends has sent an id");
            asked = Asked::Id { standing: Standing::Known(own), stopped: false };
        }
        panic!("never told to stop: {request:?}");
    });
}

#[test]
fn ids_on_a_stream_never_go_down() {
    every_request(|request| {
        let Decision::Stream(start) = decide(request) else { return };
        let reset = start.reset.as_ref().map(|r| r.id);
        let ids: Vec<Seq> = [start.hello, reset, Some(start.cursor)].into_iter().flatten().collect();
        assert!(ids.is_sorted(), "{request:?} {start:?}");
    });
}

#[test]
fn the_header_wins_over_the_query_and_both_over_from_but_a_malformed_from_is_always_refused() {
    let id = |text| Position::Id(EventId::parse(text).unwrap());
    assert_eq!(position(Some("a-1"), Some("a-2"), Some("start")), Ok(id("a-1")));
    assert_eq!(position(Some(""), Some("a-2"), Some("start")), Ok(id("a-2")));
    assert_eq!(position(None, Some(""), Some("start")), Ok(Position::Start));
    assert_eq!(position(None, None, Some("a-3~s")), Ok(id("a-3~s")));
    assert_eq!(position(Some("a-01"), Some("a-2"), None), Ok(Position::Malformed));
    assert_eq!(position(Some("ä"), None, None), Ok(Position::Malformed));
    for none in [None, Some(""), Some("now")] {
        assert_eq!(position(None, None, none), Ok(Position::Now));
    }
    for bad in [
        "NOW",
        " now",
        "last",
        "last:",
        "last:0",
        "last:+5",
        "last:05",
        "last:10001",
        "last:-1",
        "a",
        "-",
        "0",
    ] {
        assert_eq!(position(Some("a-1"), None, Some(bad)).unwrap_err().code(), "from_invalid", "{bad:?}");
    }
    assert_eq!(position(None, None, Some("last:1")), Ok(Position::Last(1)));
    assert_eq!(position(None, None, Some("last:10000")), Ok(Position::Last(10_000)));
}

#[test]
fn a_position_is_put_to_the_log_once() {
    let epochs = Epochs::first(Epoch::parse("a").unwrap());
    let ask = |position: Position| position.ask(&epochs, Seq(9), |n| Ok::<_, ()>(Seq(9 - n as u64)));
    assert_eq!(ask(Position::Last(2)), Ok(Asked::Last(Seq(7))));
    let id = |text| Position::Id(EventId::parse(text).unwrap());
    let stopped = Asked::Id { standing: Standing::Known(Seq(9)), stopped: true };
    assert_eq!(ask(id("a-9~s")), Ok(stopped));
    assert_eq!(ask(id("a-10")), Ok(Asked::Id { standing: Standing::Ahead, stopped: false }));
    assert_eq!(ask(id("b-1")), Ok(Asked::Id { standing: Standing::Foreign, stopped: false }));
    assert_eq!(Position::Last(1).ask(&epochs, Seq(9), |_| Err(())), Err(()));
    assert!(format!("{}", FromError("x".into())).contains("last:10000"));
}
