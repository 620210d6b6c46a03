//! What a report changes, and what a repeat of one does not.

use std::format;

use super::*;
use crate::limits;

#[test]
fn progress_comes_from_the_number_or_the_counts_and_does_not_fall() {
    let mut job = running(|_| {});
    let mut check = |report: &str, expected: f64| {
        job.handle_progress(NOW, of(RIGHT), progress(report)).unwrap();
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
    check(r#"{"current": 1e308, "total": 5e-324}"#, 100.0);
    check(r#"{"reset": true}"#, 0.0);
}

#[test]
fn a_field_that_is_left_out_stays_and_null_clears_it() {
    let mut job = running(|_| {});
    let all = r#"{"unit":"u","step":"s","message":"m","eta_ms":5,"current":1,"total":2,"data":{"k":1}}"#;
    job.handle_progress(NOW, of(RIGHT), progress(all)).unwrap();
    job.handle_progress(NOW, of(RIGHT), Progress::percent(60.0)).unwrap();
    let kept = value(&job);
    for (name, expected) in serde_json::from_str::<Value>(all).unwrap().as_object().unwrap() {
        assert_eq!(&kept[name], expected, "{name}");
        job.handle_progress(NOW, of(RIGHT), progress(&format!(r#"{{"{name}": null}}"#))).unwrap();
        assert!(value(&job)[name].is_null(), "{name}");
    }
}

#[test]
fn a_repeated_report_is_taken_once() {
    let mut job = external();
    let report = |n: u64| (counted(n), Progress::percent(n as f64));
    let tell = |job: &mut Job, n: u64| job.handle_progress(NOW, report(n).0, report(n).1);
    assert_eq!(tell(&mut job, 5), Ok(Change::State));
    assert_eq!(tell(&mut job, 5), Ok(Change::Duplicate));
    assert_eq!(tell(&mut job, 4), Ok(Change::Duplicate), "one that came late");
    assert_eq!(tell(&mut job, 6), Ok(Change::Progress));
    let line = logs(r#"{"message":"m"}"#);
    assert_eq!(job.handle_entries(NOW, counted(6), &line), Ok(Change::Duplicate));
    assert_eq!(job.handle_entries(NOW, counted(7), &line), Ok(Change::Entries));
    assert_eq!(tell(&mut stored_and_read(&job), 7), Ok(Change::Duplicate), "also after a restart");
    let end = |job: &mut Job, claim| job.handle_complete(NOW, claim, Completion::default());
    assert_eq!(end(&mut job, counted(3)), Ok(Change::Complete), "an end is never missed");
    assert_eq!(end(&mut job, counted(3)), Ok(Change::Duplicate));
    assert_eq!(tell(&mut job, 6), Ok(Change::Duplicate), "one of before");
    assert_eq!(tell(&mut job, 8), Err(JobError::Finished(State::Completed)));
    assert_eq!(end(&mut job, nobody()), Err(JobError::Finished(State::Completed)));
    let newer = Claim { attempt: Some(2), ..nobody() };
    assert_eq!(end(&mut job, newer), Err(JobError::Finished(State::Completed)), "it never reopens");
}

#[test]
fn counters_are_those_of_one_run() {
    let mut job = running(|_| {});
    let tell = |job: &mut Job, lease, n| {
        job.handle_progress(NOW, Claim { n: Some(n), ..of(lease) }, Progress::percent(1.0))
    };
    assert_eq!(tell(&mut job, RIGHT, 9), Ok(Change::Progress));
    assert_eq!(tell(&mut job, RIGHT, 9), Ok(Change::Duplicate));
    assert_eq!(tell(&mut job, WRONG, 9), Err(JobError::LeaseLost), "nobody repeats what another said");
    assert_eq!(job.handle_progress(NOW, counted(9), Progress::percent(1.0)), Err(JobError::LeaseLost));
    job.handle_release(NOW, of(RIGHT), 0).unwrap();
    lease(&mut job, NOW, 3).unwrap();
    assert_eq!(tell(&mut job, 3, 1), Ok(Change::Progress));
    assert_eq!(tell(&mut job, RIGHT, 1), Err(JobError::LeaseLost));
    job.handle_cancel(NOW, None, Some(0), "cancelled").unwrap();
    assert_eq!(job.handle_due(NOW, 0), Change::Error);
    let late = job.handle_progress(NOW, counted(1), Progress::percent(1.0));
    assert_eq!(late, Err(JobError::Finished(State::Cancelled)), "it has no lease to repeat anything with");
}

#[test]
fn a_report_of_another_attempt_of_a_leased_job_is_stale() {
    let mut job = running(|_| {});
    for given in [0, 2] {
        let claim = Claim { attempt: Some(given), ..of(RIGHT) };
        let stale = Err(JobError::AttemptStale { given, current: 1 });
        assert_eq!(job.handle_progress(NOW, claim, Progress::percent(1.0)), stale);
        assert_eq!(job.handle_complete(NOW, claim, Completion::default()), stale);
        assert_eq!(job.handle_fail(NOW, claim, Fail::new("m", "c"), 0), stale);
        assert_eq!(job.handle_entries(NOW, claim, &logs(r#"{"message":"m"}"#)), stale);
    }
    let claim = Claim { attempt: Some(1), ..of(RIGHT) };
    assert_eq!(job.handle_progress(NOW, claim, Progress::percent(1.0)), Ok(Change::Progress));
}

#[test]
fn log_lines_come_alone_in_a_list_or_in_an_object_and_are_cut() {
    let long = "ä".repeat(limits::JOB_LOG_BYTES_MAX);
    let line = format!(r#"{{"message":"x{long}","level":"warn","ts":5}}"#);
    for report in [line.clone(), format!("[{line}]"), format!(r#"{{"logs":[{line}]}}"#)] {
        let Entries::Logs(lines) = logs(&report) else { panic!("log lines are log lines") };
        assert_eq!((lines.len(), lines[0].level, lines[0].ts), (1, Level::Warn, Some(5)));
        assert_eq!(lines[0].message.len(), limits::JOB_LOG_BYTES_MAX - 1, "no character is cut in two");
    }
    assert_eq!(LogLine::new(Level::Info, long.as_str()).message.len(), limits::JOB_LOG_BYTES_MAX);
    let Entries::Logs(lines) = logs(r#"{"message":""}"#) else { panic!("log lines are log lines") };
    assert_eq!((lines[0].level, lines[0].ts), (Level::Info, None));
    let counted = r#"{"logs":[{"message":"m"}],"attempt":2,"n":3,"lease":"1.a"}"#;
    let report = EntriesReport::logs_from_json(counted).unwrap();
    assert_eq!((report.attempt, report.n, report.lease.as_deref()), (Some(2), Some(3), Some("1.a")));
}

#[test]
fn entries_leave_the_document_as_it_is() {
    let mut job = running(|_| {});
    let before = value(&job);
    assert_eq!(job.handle_entries(NOW + 5, of(RIGHT), &logs(r#"{"message":"m"}"#)), Ok(Change::Entries));
    assert_eq!(value(&job), before);
}

#[test]
fn files_of_the_same_name_are_replaced_and_their_number_is_bounded() {
    let mut job = running(|_| {});
    let file =
        |name: &str, size| Artifact { name: name.into(), content_type: None, size: Some(size), url: None };
    for number in 0..limits::JOB_ARTIFACTS_MAX {
        let change = job.handle_artifact(NOW, of(RIGHT), file(&format!("f{number}"), 1));
        assert_eq!(change, Ok(Change::State));
    }
    assert_eq!(job.handle_artifact(NOW, of(RIGHT), file("f0", 2)), Ok(Change::State));
    assert_eq!(job.document().artifacts[0].size, Some(2));
    assert_eq!(job.handle_artifact(NOW, of(RIGHT), file("g", 1)).unwrap_err().code(), "field_invalid");
    let one_more = Completion { artifacts: [file("g", 1)].into(), ..Completion::default() };
    assert_eq!(job.clone().handle_complete(NOW, of(RIGHT), one_more).unwrap_err().code(), "field_invalid");
    let known = Completion { artifacts: [file("f1", 3)].into(), ..Completion::default() };
    assert_eq!(job.clone().handle_complete(NOW, of(RIGHT), known), Ok(Change::Complete));
    job.handle_fail(NOW, of(RIGHT), Fail::new("m", "c"), 0).unwrap();
    assert!(job.document().artifacts.is_empty(), "files of an earlier attempt go");
}

#[test]
fn messages_and_codes_are_cut_rather_than_refused() {
    let long = "ä".repeat(limits::JOB_TEXT_BYTES_MAX);
    let mut job = running(|_| {});
    let report = progress(&format!(r#"{{"message":"x{long}"}}"#));
    job.handle_progress(NOW, of(RIGHT), report).unwrap();
    assert_eq!(job.document().message.as_ref().unwrap().len(), limits::JOB_TEXT_BYTES_MAX - 1);
    job.handle_fail(NOW, of(RIGHT), Fail::new(long.as_str(), &long), 0).unwrap();
    let error = job.document().error.clone().unwrap();
    assert_eq!(
        (error.message.len(), error.code.len()),
        (limits::JOB_TEXT_BYTES_MAX, limits::JOB_TEXT_BYTES_MAX)
    );
    let mut job = running(|_| {});
    job.handle_cancel(NOW, Some(long), None, "cancelled").unwrap();
    assert_eq!(job.cancel().unwrap().reason.as_ref().unwrap().len(), limits::JOB_TEXT_BYTES_MAX);
}

#[test]
fn a_failure_has_a_message_or_an_error_and_a_code_in_any_case() {
    let ended = |json: &str| {
        let mut job = running(|_| {});
        job.handle_fail(NOW, of(RIGHT), fail(json), 0).unwrap();
        let error = job.document().error.clone().unwrap();
        (error.message, error.code)
    };
    assert_eq!(ended(r#"{"message":"m"}"#), ("m".into(), "failed".into()));
    assert_eq!(ended(r#"{"message":"m","code":"","retry":"never"}"#), ("m".into(), "failed".into()));
    assert_eq!(ended(r#"{"error":{"message":"m","code":"E","stack":"at x"}}"#), ("m".into(), "E".into()));
    assert_eq!(ended(r#"{"error":{"message":"m"},"state":"expired"}"#), ("m".into(), "expired".into()));
}
