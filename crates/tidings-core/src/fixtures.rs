//! The fixtures of `spec/` that several modules share: names, ids, frames and codes.
//!
//! Owns: reading them. Does not know: how a module meets them.
//! Flow: `spec/fixtures/*.json` → the public functions of this crate. TypeScript reads the same files.

use std::collections::BTreeSet;
use std::string::{String, ToString};
use std::vec::Vec;

use serde_json::Value;

use crate::job::{JobError, State};
use crate::wire::problem::Code;
use crate::wire::sse::encode;
use crate::{ChannelName, Epoch, Epochs, EventId, EventName, Key, NameError, Payload, Seq, Standing, resume};

macro_rules! fixture {
    ($name:literal) => {
        serde_json::from_str::<Value>(include_str!(concat!("../../../spec/fixtures/", $name))).unwrap()
    };
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

#[test]
fn names() {
    let fixture = fixture!("names.json");
    let mut checked = 0;
    let mut check = |kind: &str, judge: &dyn Fn(&str) -> Result<(), NameError>| {
        for case in list(&fixture, kind) {
            let repeat = case["repeat"].as_u64().unwrap_or(1);
            let name = text(case, "text").repeat(usize::try_from(repeat).unwrap());
            let code = judge(&name).err().map(|e| e.code());
            assert_eq!(code, case["code"].as_str(), "{kind} {name:?}");
            checked += 1;
        }
    };
    check("channels", &|name| ChannelName::parse(name)?.publishable().map(drop));
    check("events", &|name| EventName::parse(name)?.publishable().map(drop));
    check("keys", &|name| Key::parse(name).map(drop));
    assert!(checked > 70);
}

#[test]
fn ids() {
    let fixture = fixture!("ids.json");
    assert!(list(&fixture, "ids").len() > 30);
    for case in list(&fixture, "ids") {
        let id = EventId::parse(text(case, "text"));
        let expected = case["id"].as_object().map(|id| EventId {
            epoch: Epoch::parse(id["epoch"].as_str().unwrap()).unwrap(),
            seq: Seq(id["seq"].as_str().unwrap().parse().unwrap()),
            stopped: id["stopped"].as_bool().unwrap(),
        });
        assert_eq!(id, expected, "{case}");
        if let Some(id) = id {
            assert_eq!(id.to_string(), text(case, "text"));
        }
    }
    let log = &fixture["log"];
    let run = |run: &Value| (Epoch::parse(run[0].as_str().unwrap()).unwrap(), Seq(run[1].as_u64().unwrap()));
    let epochs = Epochs::from_list(list(log, "runs").iter().map(run).collect()).unwrap();
    let head = Seq(log["head"].as_u64().unwrap());
    assert!(!list(log, "standings").is_empty() && !list(log, "written").is_empty());
    for case in list(log, "standings") {
        let id = EventId::parse(text(case, "id")).unwrap();
        let expected = match text(case, "standing") {
            "known" => Standing::Known(id.seq),
            "ahead" => Standing::Ahead,
            _ => Standing::Foreign,
        };
        assert_eq!(epochs.standing(id, head), expected, "{case}");
    }
    for case in list(log, "written") {
        assert_eq!(epochs.id(Seq(case[0].as_u64().unwrap())).to_string(), case[1].as_str().unwrap());
    }
}

#[test]
fn frames() {
    let fixture = fixture!("sse-encode.json");
    assert!(list(&fixture, "events").len() > 10 && !list(&fixture, "controls").is_empty());
    for case in list(&fixture, "events") {
        let channel = ChannelName::parse(text(case, "channel")).unwrap();
        let event = EventName::parse(text(case, "event")).unwrap();
        let payload = match case["data"].as_str() {
            Some(json) => Payload::json(json).unwrap(),
            None => Payload::text(text(case, "text")).unwrap(),
        };
        let from = case["from"].as_str().map(|sub| crate::grant::Subject::parse(sub).unwrap());
        let body =
            encode::body_from(&event, &channel, from.as_ref(), case["time"].as_u64().unwrap(), &payload);
        let frame = encode::frame(&body, EventId::parse(text(case, "id")).unwrap());
        assert_eq!(String::from_utf8(frame).unwrap(), text(case, "frame"), "{}", case["name"]);
    }
    for case in list(&fixture, "controls") {
        let mut out = Vec::new();
        let id = case["id"].as_str().and_then(EventId::parse);
        encode::control(&mut out, text(case, "event"), text(case, "data"), id);
        assert_eq!(String::from_utf8(out).unwrap(), text(case, "frame"), "{}", case["name"]);
    }
}

#[test]
fn codes_are_the_same_in_the_fixture_the_contract_and_here() {
    let fixture = fixture!("errors.json");
    let declared: Vec<(String, u64, String)> = list(&fixture, "codes")
        .iter()
        .map(|c| (text(c, "code").into(), c["status"].as_u64().unwrap(), text(c, "title").into()))
        .collect();
    let ours: Vec<(String, u64, String)> = Code::ALL
        .iter()
        .map(|code| (code.as_str().into(), u64::from(code.status()), code.title().into()))
        .collect();
    assert_eq!(ours, declared);
    assert_eq!(ours.iter().map(|(code, ..)| code).collect::<BTreeSet<_>>().len(), ours.len());
    let contract = include_str!("../../../spec/wire.md");
    let rows: Vec<&str> =
        contract.lines().skip_while(|line| *line != "| code | status | meaning |").collect();
    let rows: Vec<String> =
        rows.iter().skip(2).take_while(|l| l.starts_with('|')).map(|&l| l.into()).collect();
    let expected: Vec<String> =
        ours.iter().map(|(code, status, title)| std::format!("| `{code}` | {status} | {title} |")).collect();
    assert_eq!(rows, expected);
}

#[test]
fn every_error_of_this_crate_has_a_known_code() {
    let channel = ChannelName::parse("job:1").unwrap();
    let codes = [
        NameError::Channel(String::new()).code(),
        NameError::ChannelReserved(channel).code(),
        NameError::Event(String::new()).code(),
        NameError::EventReserved(EventName::message()).code(),
        NameError::Key(String::new()).code(),
        Payload::json("{").unwrap_err().code(),
        Payload::text(&"x".repeat(crate::limits::DATA_BYTES_MAX + 1)).unwrap_err().code(),
        resume::position(None, None, Some("?")).unwrap_err().code(),
    ];
    let jobs = [
        JobError::Id(String::new()),
        JobError::Type(String::new()),
        JobError::Queue(String::new()),
        JobError::Worker(String::new()),
        JobError::Schedule(String::new()),
        JobError::Parent(String::new()),
        JobError::LeaseLost,
        JobError::NotReady(State::Running),
        JobError::Managed,
        JobError::Finished(State::Failed),
        JobError::AttemptStale { given: 1, current: 2 },
        JobError::Progress(String::new()),
        JobError::Field(String::new()),
        JobError::Json(String::new()),
        JobError::TooLarge { field: "data", bytes: 2, max: 1 },
    ];
    for code in codes.into_iter().chain(jobs.iter().map(JobError::code)) {
        assert!(Code::parse(code).is_some(), "{code}");
    }
}
