//! Grants against their fixture, and patterns against a naive oracle.

use alloc::vec::Vec;
use std::format;
use std::string::{String, ToString};

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Fixture {
    valid: Vec<Row>,
    invalid: Vec<Invalid>,
}

#[derive(Deserialize)]
struct Invalid {
    name: String,
    grant: Object,
}

#[derive(Deserialize)]
struct Row {
    name: String,
    key: Option<String>,
    grant: Object,
    allows: Cases,
    refuses: Cases,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Cases {
    subscribe: Vec<String>,
    publish: Vec<String>,
    jobs: Vec<String>,
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("../../../../spec/fixtures/grants.json")).unwrap()
}

fn may(grant: &Grant, case: &str) -> bool {
    let (verb, job) = case.split_once(' ').unwrap();
    let parts: Vec<&str> = job.splitn(4, '/').collect();
    let subject = Some(parts[3]).filter(|s| !s.is_empty());
    let job = JobFacts { id: parts[0], job_type: parts[1], queue: parts[2], subject };
    match verb {
        "read" => grant.may_read_job(job),
        "cancel" => grant.may_cancel_job(job),
        "create" => grant.may_create_job(job.job_type),
        "manage" => grant.may_manage_jobs(job.job_type),
        "work" => grant.may_work(job.queue),
        other => panic!("{other} is no verb"),
    }
}

#[test]
fn grants_cover_what_the_fixture_says_and_nothing_else() {
    for row in fixture().valid {
        let mut grant = Grant::of(&row.grant).unwrap();
        if let Some(key) = &row.key {
            grant.holder = Holder::Key(key.as_str().into());
        }
        for (cases, wanted) in [(&row.allows, true), (&row.refuses, false)] {
            for channel in &cases.subscribe {
                let name = ChannelName::parse(channel).unwrap();
                assert_eq!(grant.may_subscribe(&name), wanted, "{}: subscribe {channel}", row.name);
            }
            for channel in &cases.publish {
                let name = ChannelName::parse(channel).unwrap();
                assert_eq!(grant.may_publish(&name), wanted, "{}: publish {channel}", row.name);
            }
            for case in &cases.jobs {
                assert_eq!(may(&grant, case), wanted, "{}: {case}", row.name);
            }
        }
    }
}

#[test]
fn grants_that_say_nonsense_are_refused() {
    for row in fixture().invalid {
        assert!(Grant::of(&row.grant).is_err(), "{}", row.name);
    }
    let many = Object { subscribe: (0..101).map(|n| n.to_string()).collect(), ..Object::default() };
    assert_eq!(Grant::of(&many), Err(GrantError::TooMany(101)));
    assert!(serde_json::from_str::<Object>(r#"{"subcribe":["a"]}"#).is_err(), "a misspelt field");
}

#[test]
fn a_holder_hears_of_the_end_in_the_last_fifth_and_at_most_a_minute_before() {
    assert_eq!(Grant::expiring_at_ms(10_000, 0), 8_000);
    assert_eq!(Grant::expiring_at_ms(3_600_000, 0), 3_540_000);
    assert_eq!(Grant::expiring_at_ms(5, 10), 5, "one that is over has no time left");
}

#[test]
fn principals_of_different_kinds_are_different() {
    let of = |holder| Grant::empty(holder).principal();
    let key = of(Holder::Key("42".into()));
    let subject = of(Holder::Subject(Subject::parse("42").unwrap()));
    let tricky = of(Holder::Subject(Subject::parse("key:42").unwrap()));
    assert_eq!([key.as_str(), &subject, &tricky], ["key:42", "sub:42", "sub:key:42"]);
}

proptest! {
    /// The oracle knows no prefix, only equality of beginnings of the same length.
    #[test]
    fn a_pattern_covers_what_a_naive_oracle_says(begin in "[ab:]{0,4}", star in any::<bool>(), name in "[ab:]{1,6}") {
        prop_assume!(star || !begin.is_empty());
        let pattern = Pattern::parse(&format!("{begin}{}", if star { "*" } else { "" })).unwrap();
        let oracle = match star {
            true => (0..=name.len()).any(|n| name[..n] == begin),
            false => name == begin,
        };
        prop_assert_eq!(pattern.covers(&name), oracle);
    }

    #[test]
    fn no_text_makes_reading_a_pattern_or_a_right_panic(text in ".{0,40}") {
        if let Ok(pattern) = Pattern::parse(&text) {
            prop_assert_eq!(pattern.to_string(), text.clone());
        }
        if let Ok(subject) = Subject::parse(&text) {
            prop_assert_eq!(subject.as_str(), text.clone());
        }
        prop_assert!(Right::parse(&text).is_err() || text == "*" || text.contains(':'));
    }
}
