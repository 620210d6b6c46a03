use std::boxed::Box;
use std::format;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use serde_json::Value;
use serde_json::value::RawValue;

use super::*;
use crate::{ChannelName, Payload};

fn new(mode: Mode, max_attempts: u32) -> Job {
    let (id, job_type) = (JobId::parse("7").unwrap(), JobType::parse("t").unwrap());
    Job::create(1_000, New { id, job_type, queue: None, mode, max_attempts, tags: vec![] }).unwrap()
}

fn progress(json: &str) -> Progress {
    Progress::from_json(json).unwrap()
}

fn fail(json: &str) -> Fail {
    Fail::from_json(json).unwrap()
}

fn value(job: &Job) -> Value {
    serde_json::to_value(job.document()).unwrap()
}

#[test]
fn the_document_has_the_names_that_pages_read() {
    let mut job = new(Mode::Managed, 3);
    job.handle_progress(
        1_500,
        progress(r#"{"current": 42, "total": 100, "unit": "rows", "data": {"a" : 1}}"#),
    )
    .unwrap();
    let data = job.event(Change::State, Audience::Job).unwrap().data;
    expect_test::expect![[r#"{"id":"7","jobId":"7","type":"t","queue":null,"mode":"managed","state":"running","progress":42,"current":42,"total":100,"unit":"rows","step":null,"message":null,"eta_ms":null,"data":{"a" : 1},"attempt":1,"max_attempts":3,"cancel_requested":false,"created_at":1000,"started_at":1500,"updated_at":1500,"finished_at":null,"result":null,"error":null,"artifacts":[],"downloadUrl":null,"tags":[],"v":2}"#]]
    .assert_eq(&data);
}

#[test]
fn the_end_is_complete_or_error_and_error_is_called_failed_elsewhere() {
    let mut job = new(Mode::Managed, 3);
    let artifacts = vec![Artifact { name: "r.csv".into(), content_type: None, size: Some(3), url: None }];
    let download_url = Some("/d".into());
    let report =
        Completion { artifacts, download_url, ..Completion::from_json(r#"{"result": [1]}"#).unwrap() };
    let change = job.handle_complete(2_000, report).unwrap();
    let event = job.event(change, Audience::Job).unwrap();
    assert_eq!((event.event, event.is_final), ("complete", true));
    let data: Value = serde_json::from_str(&event.data).unwrap();
    assert_eq!(data["downloadUrl"], "/d");
    assert_eq!(data["result"][0], 1);
    assert_eq!(data["progress"].to_string(), "100");
    assert_eq!(data["artifacts"][0].to_string(), r#"{"content_type":null,"name":"r.csv","size":3}"#);

    let mut job = new(Mode::Managed, 3);
    let change = job.handle_fail(2_000, fail(r#"{"message": "no", "state": "cancelled"}"#)).unwrap();
    let own = job.event(change, Audience::Job).unwrap();
    assert_eq!((own.event, own.is_final), ("error", true));
    assert_eq!(
        own.data,
        r#"{"jobId":"7","state":"cancelled","message":"no","code":"cancelled","attempt":1}"#
    );
    let elsewhere = job.event(change, Audience::PublishTo).unwrap();
    assert_eq!((elsewhere.event, elsewhere.is_final), ("failed", false));
    assert_eq!(job.event(Change::Duplicate, Audience::Job), None);
}

#[test]
fn progress_comes_from_the_number_or_the_counts_and_does_not_fall() {
    let mut job = new(Mode::Managed, 3);
    let mut check = |report: &str, expected: f64| {
        job.handle_progress(1, progress(report)).unwrap();
        assert!((job.document().progress - expected).abs() < 1e-9, "{report}: {}", job.document().progress);
    };
    check("12.5", 12.5);
    check("-0", 12.5);
    check(r#"{"current": 1}"#, 12.5);
    check(r#"{"total": 4}"#, 25.0);
    check(r#"{"current": 3}"#, 75.0);
    check(r#"{"current": 1}"#, 75.0);
    check(r#"{"message": "x"}"#, 75.0);
    check(r#"{"current": 8, "progress": 80}"#, 80.0);
    check(r#"{"current": 8}"#, 100.0);
    check(r#"{"progress": 20, "reset": true}"#, 20.0);
    check(r#"{"current": 2, "reset": true}"#, 50.0);
    check(r#"{"total": 0}"#, 50.0);
    check(r#"{"reset": true}"#, 0.0);
}

#[test]
fn a_field_that_is_left_out_stays_and_null_clears_it() {
    let mut job = new(Mode::Managed, 3);
    let all = r#"{"unit":"u","step":"s","message":"m","eta_ms":5,"current":1,"total":2,"data":{"k":1}}"#;
    job.handle_progress(1, progress(all)).unwrap();
    job.handle_progress(2, Progress::percent(60.0)).unwrap();
    let kept = value(&job);
    for (name, expected) in serde_json::from_str::<Value>(all).unwrap().as_object().unwrap() {
        assert_eq!(kept[name].as_f64(), expected.as_f64(), "{name}");
        assert_eq!(kept[name].as_str(), expected.as_str(), "{name}");
        assert!(!kept[name].is_null());
        job.handle_progress(3, progress(&format!(r#"{{"{name}": null}}"#))).unwrap();
        assert!(value(&job)[name].is_null(), "{name}");
    }
}

#[test]
fn reports_that_make_no_sense_are_refused_with_a_code() {
    let data = |bytes: usize| format!(r#"{{"data": "{}"}}"#, "x".repeat(bytes - 2));
    assert!(Progress::from_json(&data(limits::JOB_DATA_BYTES_MAX)).is_ok());
    for (report, code) in [
        ("-1", "progress_invalid"),
        ("100.1", "progress_invalid"),
        ("1e999", "json_invalid"),
        ("", "json_invalid"),
        ("4 2", "json_invalid"),
        ("NaN", "json_invalid"),
        ("\"42\"", "progress_invalid"),
        ("[]", "progress_invalid"),
        ("true", "progress_invalid"),
        (r#"{"progress": "42"}"#, "progress_invalid"),
        (r#"{"percent": 42}"#, "progress_invalid"),
        (r#"{"current": -1}"#, "progress_invalid"),
        (r#"{"eta_ms": -1}"#, "progress_invalid"),
        (&data(limits::JOB_DATA_BYTES_MAX + 1), "data_too_large"),
    ] {
        assert_eq!(Progress::from_json(report).unwrap_err().code(), code, "{report:.40}");
    }
    for bad in [f64::NAN, f64::INFINITY, -0.1] {
        let mut job = new(Mode::Managed, 3);
        assert_eq!(job.handle_progress(1, Progress::percent(bad)).unwrap_err().code(), "progress_invalid");
        let report = Progress { current: Some(Some(bad)), ..Progress::default() };
        assert_eq!(job.handle_progress(1, report).unwrap_err().code(), "progress_invalid");
        assert_eq!(job.document().v, 1);
    }
    assert!(Completion::from_json("").is_ok());
    let result = format!(r#"{{"result": "{}"}}"#, "x".repeat(limits::JOB_RESULT_BYTES_MAX));
    assert_eq!(Completion::from_json(&result).unwrap_err().code(), "data_too_large");
    for name in ["", ".", "..", ".a", "../a", "a/b", "/a", "a\\\\b", "a\\nb", "a\\u0000", &"x".repeat(251)] {
        let report = format!(r#"{{"artifacts": [{{"name": "{name}"}}]}}"#);
        assert_eq!(Completion::from_json(&report).unwrap_err().code(), "field_invalid", "{report}");
    }
    assert_eq!(Completion::from_json("[]").unwrap_err().code(), "field_invalid");
    assert_eq!(Fail::from_json(r#"["x"]"#).unwrap_err().code(), "field_invalid");
    assert_eq!(Fail::from_json("{}").unwrap_err().code(), "field_invalid");
    assert_eq!(
        Fail::from_json(r#"{"message": "x", "state": "running"}"#).unwrap_err().code(),
        "field_invalid"
    );
    let (id, job_type) = (JobId::parse("7").unwrap(), JobType::parse("t").unwrap());
    let tags = vec![String::new()];
    let refused = New { id, job_type, queue: None, mode: Mode::Managed, max_attempts: 3, tags };
    assert_eq!(Job::create(1, refused).unwrap_err().code(), "field_invalid");
}

#[test]
fn ids_fit_a_path_and_name_their_channel() {
    for good in ["7", "job_01J", "bull:exports:123", "celery:6f-1", "...", &"x".repeat(128)] {
        let id = JobId::parse(good).unwrap();
        assert_eq!(id.as_str(), good);
        assert_eq!(JobId::of_channel(id.channel()), Some(id.clone()));
        assert!(id.channel().is_job());
    }
    for bad in ["", ".", "..", "a/b", "a b", "a\n", "ä", "a%2f", "a?b", "a~s", &"x".repeat(129)] {
        assert_eq!(JobId::parse(bad).unwrap_err().code(), "job_id_invalid", "{bad:?}");
    }
    assert_eq!(JobId::of_channel(&ChannelName::parse("orders").unwrap()), None);
    assert_eq!(JobType::parse("a b").unwrap_err().code(), "job_type_invalid");
}

#[test]
fn an_interrupted_job_runs_again_up_to_its_limit_and_then_fails() {
    let mut job = new(Mode::Managed, 2);
    assert_eq!(job.handle_interrupted(1), Ok(Change::Duplicate), "it did not run");
    assert_eq!(job.handle_start(2, 2).unwrap_err().code(), "attempt_stale");
    assert_eq!(job.handle_start(2, 1), Ok(Change::State));
    assert_eq!(job.handle_start(3, 1), Ok(Change::Duplicate));
    job.handle_progress(4, progress(r#"{"progress": 60, "message": "x", "n": 5}"#)).unwrap();
    assert_eq!(job.handle_interrupted(5), Ok(Change::State));
    let document = job.document();
    assert_eq!((document.state, document.attempt, document.message.as_deref()), (State::Retrying, 2, None));
    assert!(document.progress.abs() < f64::EPSILON);
    assert_eq!(
        job.handle_progress(6, progress(r#"{"attempt": 1, "progress": 70}"#)).unwrap_err().code(),
        "attempt_stale"
    );
    assert_eq!(
        job.handle_progress(6, progress(r#"{"attempt": 3, "progress": 70}"#)).unwrap_err().code(),
        "attempt_stale"
    );
    assert_eq!(
        job.handle_progress(7, progress(r#"{"n": 1, "progress": 10}"#)),
        Ok(Change::State),
        "counters begin anew"
    );
    assert_eq!(job.handle_interrupted(8), Ok(Change::Error));
    assert_eq!(job.document().error.as_ref().unwrap().code, "interrupted");
    assert_eq!(job.handle_interrupted(9), Err(JobError::Finished(State::Failed)));
}

#[test]
fn a_repeated_report_is_taken_once() {
    let mut job = new(Mode::External, 3);
    let report = |n: u64| progress(&format!(r#"{{"progress": {n}, "n": {n}}}"#));
    assert_eq!(job.handle_progress(1, report(5)), Ok(Change::State));
    assert_eq!(job.handle_progress(2, report(5)), Ok(Change::Duplicate));
    assert_eq!(job.handle_progress(3, report(4)), Ok(Change::Duplicate));
    assert_eq!(job.handle_progress(4, report(6)), Ok(Change::Progress));
    let end = || Completion::from_json(r#"{"n": 3}"#).unwrap();
    let mut restarted = Job::restore(job.document().clone(), job.n());
    assert_eq!(restarted.handle_progress(5, report(6)), Ok(Change::Duplicate), "also after a restart");
    assert_eq!(job.handle_complete(6, end()), Ok(Change::Complete), "an end is never missed");
    assert_eq!(job.handle_complete(7, end()), Ok(Change::Duplicate));
    assert_eq!(job.handle_progress(8, report(6)), Ok(Change::Duplicate), "a late one of before");
    assert_eq!(job.handle_progress(8, report(7)), Err(JobError::Finished(State::Completed)));
    assert_eq!(job.handle_complete(9, Completion::default()), Err(JobError::Finished(State::Completed)));
    let newer = Completion { attempt: Some(2), ..Completion::default() };
    assert_eq!(job.handle_complete(9, newer), Err(JobError::Finished(State::Completed)), "it never reopens");
}

#[test]
fn a_newer_attempt_of_another_queue_begins_with_its_first_report() {
    let mut job = new(Mode::External, 1);
    job.handle_progress(1, progress(r#"{"progress": 80, "n": 9}"#)).unwrap();
    assert_eq!(
        job.handle_progress(2, progress(r#"{"progress": 10, "n": 1, "attempt": 4}"#)),
        Ok(Change::State)
    );
    let document = job.document();
    assert_eq!((document.attempt, document.max_attempts, job.n()), (4, 4, Some(1)));
    assert!((document.progress - 10.0).abs() < 1e-9);
}

#[test]
fn a_file_that_is_elsewhere_has_an_address_on_the_web() {
    let long = format!("http://a/{}", "x".repeat(limits::ARTIFACT_URL_BYTES_MAX));
    let cases = [
        ("https://files.example/a%20b.csv?x=1#y", true),
        ("HTTP://127.0.0.1:9000/a", true),
        ("https://[::1]", true),
        ("javascript:alert(1)", false),
        ("javascript://a/%0aalert(1)", false),
        ("data:text/html,x", false),
        ("ftp://a/b", false),
        ("/a/b", false),
        ("//a/b", false),
        ("https:a", false),
        ("https://", false),
        ("https:///a", false),
        ("https://?a", false),
        (" https://a/", false),
        ("https://a/ b", false),
        ("https://a\\\\b", false),
        ("https://a/\\n", false),
        ("https://a/ä", false),
        ("", false),
        (long.as_str(), false),
    ];
    for (url, is_allowed) in cases {
        let report = format!(r#"{{"artifacts": [{{"name": "a", "url": "{url}"}}]}}"#);
        let refused = Completion::from_json(&report).map(drop).map_err(|e| e.code());
        assert_eq!(refused, if is_allowed { Ok(()) } else { Err("field_invalid") }, "{url}");
    }
}

#[test]
fn the_largest_document_is_an_event() {
    let mut job = new(Mode::Managed, 3);
    let text = "\u{1}".repeat(limits::JOB_TEXT_BYTES_MAX + 9);
    let json = |bytes: usize| RawValue::from_string(format!("\"{}\"", "x".repeat(bytes - 2))).unwrap();
    let some = || Some(Some(text.clone()));
    let (unit, step, message) = (some(), some(), some());
    let data = Some(Some(json(limits::JOB_DATA_BYTES_MAX)));
    job.handle_progress(1, Progress { unit, step, message, data, ..Progress::default() }).unwrap();
    let artifact = || Artifact {
        name: "\"".repeat(limits::ARTIFACT_NAME_BYTES_MAX),
        content_type: Some("\"".repeat(limits::ARTIFACT_CONTENT_TYPE_BYTES_MAX)),
        size: Some(u64::MAX),
        url: Some(format!("http://{}", "x".repeat(limits::ARTIFACT_URL_BYTES_MAX - 7))),
    };
    let artifacts = (0..limits::JOB_ARTIFACTS_MAX).map(|_| artifact()).collect();
    let result: Option<Box<RawValue>> = Some(json(limits::JOB_RESULT_BYTES_MAX));
    let change = job.handle_complete(2, Completion { result, artifacts, ..Completion::default() }).unwrap();
    let data = job.event(change, Audience::Job).unwrap().data;
    assert!(data.len() > limits::DATA_BYTES_MAX / 2);
    assert!(Payload::json(&data).is_ok());
    let cut = job.document().message.as_ref().unwrap().len();
    assert_eq!(cut, limits::JOB_TEXT_BYTES_MAX);
    let umlauts = format!("x{}", "ä".repeat(limits::JOB_TEXT_BYTES_MAX));
    assert_eq!(report::cut(umlauts).len(), limits::JOB_TEXT_BYTES_MAX - 1, "no character is cut in two");
}

#[test]
fn a_clock_that_is_set_back_neither_silences_a_job_nor_turns_its_times_round() {
    assert_eq!(coalesce(5, Some(90_000)), Coalesced::Store);
    let mut job = new(Mode::Managed, 3);
    job.handle_progress(5, Progress::percent(1.0)).unwrap();
    assert_eq!(job.document().updated_at, 1_000);
}

#[derive(Debug, Clone)]
enum Step {
    Start(u32),
    Progress {
        percent: f64,
        reset: bool,
        attempt: Option<u32>,
        n: Option<u64>,
    },
    Complete {
        attempt: Option<u32>,
        n: Option<u64>,
    },
    Fail {
        state: u8,
        attempt: Option<u32>,
        n: Option<u64>,
    },
    Interrupt,
    /// The process restarts: the job is read back from what was stored.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let attempt = || prop::option::weighted(0.3, 1_u32..5);
    let n = || prop::option::weighted(0.5, 1_u64..8);
    let step = prop_oneof![
        2 => (1_u32..4).prop_map(Step::Start),
        6 => (0.0..=100.0, prop::bool::weighted(0.1), attempt(), n())
            .prop_map(|(percent, reset, attempt, n)| Step::Progress { percent, reset, attempt, n }),
        1 => (attempt(), n()).prop_map(|(attempt, n)| Step::Complete { attempt, n }),
        1 => (0_u8..3, attempt(), n()).prop_map(|(state, attempt, n)| Step::Fail { state, attempt, n }),
        2 => Just(Step::Interrupt),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 0..60)
}

/// What has to hold of a job, whatever is reported: a few words of state, no document.
#[derive(Debug, Clone, Copy)]
struct Model {
    external: bool,
    max: u32,
    attempt: u32,
    state: State,
    percent: f64,
    n: Option<u64>,
}

impl Model {
    /// Whether a report of this attempt with this counter is a repeat, refused, or taken (and then begins an attempt).
    fn judge(&mut self, attempt: Option<u32>, n: Option<u64>, ends: bool) -> Result<bool, ()> {
        let own = attempt.is_none() || attempt == Some(self.attempt);
        let old = n.is_some() && self.n.is_some() && n <= self.n;
        if own && old && (!ends || self.state.is_finished()) {
            return Ok(false);
        }
        if self.state.is_finished() || (!own && (!self.external || attempt < Some(self.attempt))) {
            return Err(());
        }
        if !own {
            (self.attempt, self.percent, self.n) = (attempt.unwrap(), 0.0, None);
            self.max = self.max.max(self.attempt);
        }
        self.n = if ends { self.n.max(n) } else { n.or(self.n) };
        Ok(true)
    }

    fn step(&mut self, step: &Step) -> Result<bool, ()> {
        match *step {
            Step::Start(_) | Step::Interrupt if self.state.is_finished() => Err(()),
            Step::Start(attempt) if attempt != self.attempt => Err(()),
            Step::Start(_) => Ok(std::mem::replace(&mut self.state, State::Running) != State::Running),
            Step::Progress { percent, reset, attempt, n } => {
                let taken = self.judge(attempt, n, false)?;
                if taken {
                    self.state = State::Running;
                    self.percent = if reset { percent } else { self.percent.max(percent) };
                }
                Ok(taken)
            }
            Step::Complete { attempt, n } => {
                let taken = self.judge(attempt, n, true)?;
                if taken {
                    (self.state, self.percent) = (State::Completed, 100.0);
                }
                Ok(taken)
            }
            Step::Fail { state, attempt, n } => {
                let taken = self.judge(attempt, n, true)?;
                if taken {
                    self.state = [State::Failed, State::Cancelled, State::Expired][usize::from(state)];
                }
                Ok(taken)
            }
            Step::Interrupt if self.state != State::Running => Ok(false),
            Step::Interrupt if self.attempt >= self.max => {
                self.state = State::Failed;
                Ok(true)
            }
            Step::Interrupt => {
                (self.state, self.attempt, self.percent, self.n) =
                    (State::Retrying, self.attempt + 1, 0.0, None);
                Ok(true)
            }
            Step::Restart => Ok(false),
        }
    }
}

fn apply(job: &mut Job, now: u64, step: &Step) -> Result<Change, JobError> {
    match *step {
        Step::Start(attempt) => job.handle_start(now, attempt),
        Step::Progress { percent, reset, attempt, n } => {
            job.handle_progress(now, Progress { reset, attempt, n, ..Progress::percent(percent) })
        }
        Step::Complete { attempt, n } => {
            job.handle_complete(now, Completion { attempt, n, ..Completion::default() })
        }
        Step::Fail { state, attempt, n } => {
            let state = [FailState::Failed, FailState::Cancelled, FailState::Expired][usize::from(state)];
            job.handle_fail(now, Fail { message: "m".into(), code: None, state, attempt, n })
        }
        Step::Interrupt => job.handle_interrupted(now),
        Step::Restart => {
            let stored = serde_json::to_string(job.document()).unwrap();
            *job = Job::restore(serde_json::from_str(&stored).unwrap(), job.n());
            Ok(Change::Duplicate)
        }
    }
}

fn may_follow(from: State, to: State) -> bool {
    use State::{Queued, Retrying, Running};
    match (from, to) {
        (from, _) if from.is_finished() => false,
        (Queued | Retrying | Running, to) if to.is_finished() => true,
        (Queued | Retrying, Running) | (Running, Retrying) => true,
        _ => from == to,
    }
}

proptest! {
    #[test]
    fn a_job_never_leaves_its_states_and_ends_with_exactly_one_event(
        steps in steps(), external: bool, max in 1_u32..4,
    ) {
        let mut job = new(if external { Mode::External } else { Mode::Managed }, max);
        let mut model = Model { external, max, attempt: 1, state: State::Queued, percent: 0.0, n: None };
        let mut ends = vec![];
        let end = [Step::Complete { attempt: None, n: None }, Step::Fail { state: 0, attempt: None, n: None }];
        for (now, step) in (2_000..).zip(steps.into_iter().chain(end)) {
            let (before, known) = (value(&job), job.document().state);
            let (was, expected) = (model, model.step(&step));
            let got = apply(&mut job, now, &step);
            prop_assert_eq!(got.as_ref().map(|c| *c != Change::Duplicate).map_err(drop), expected);
            let Ok(change @ (Change::Progress | Change::State | Change::Complete | Change::Error)) = got else {
                prop_assert_eq!(before, value(&job), "a refusal or a repeat changes nothing");
                continue;
            };
            let document = job.document();
            prop_assert!(may_follow(known, document.state), "{:?} to {:?}", known, document.state);
            prop_assert!(document.v > before["v"].as_u64().unwrap());
            prop_assert_eq!(document.finished_at.is_some(), document.state.is_finished());
            prop_assert_eq!((document.state, document.attempt, job.n()), (model.state, model.attempt, model.n));
            prop_assert!((document.progress - model.percent).abs() < 1e-9);
            let moved = was.attempt != model.attempt || known != document.state;
            prop_assert_eq!(change == Change::Progress, !moved && !document.state.is_finished());
            let event = job.event(change, Audience::Job).unwrap();
            prop_assert_eq!(event.is_final, document.state.is_finished());
            ends.extend(event.is_final.then_some(event.event));
        }
        prop_assert_eq!(ends.len(), 1);
        let completed = job.document().state == State::Completed;
        prop_assert_eq!(ends[0], if completed { "complete" } else { "error" });
    }
}
