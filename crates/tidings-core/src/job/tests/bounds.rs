//! What is refused, and that the values at the bounds are not.

use std::format;
use std::vec;

use super::*;
use crate::limits;

fn refused(change: impl FnOnce(&mut New)) -> &'static str {
    let mut new = new(Mode::Managed);
    change(&mut new);
    Job::create(NOW, new).map_or_else(|error| error.code(), |_| "made")
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
        let mut job = running(|_| {});
        let v = job.document().v;
        let percent = job.handle_progress(NOW, of(RIGHT), Progress::percent(bad));
        assert_eq!(percent.unwrap_err().code(), "progress_invalid");
        let report = Progress { current: Some(Some(bad)), ..Progress::default() };
        assert_eq!(job.handle_progress(NOW, of(RIGHT), report).unwrap_err().code(), "progress_invalid");
        assert_eq!(job.document().v, v);
    }
}

#[test]
fn ends_that_make_no_sense_are_refused_with_a_code() {
    assert!(Completion::from_json("").is_ok());
    let result = format!(r#"{{"result": "{}"}}"#, "x".repeat(limits::JOB_RESULT_BYTES_MAX));
    assert_eq!(Completion::from_json(&result).unwrap_err().code(), "data_too_large");
    for name in ["", ".", "..", ".a", "../a", "a/b", "/a", "a\\\\b", "a\\nb", "a\\u0000", &"x".repeat(251)] {
        let report = format!(r#"{{"artifacts": [{{"name": "{name}"}}]}}"#);
        assert_eq!(Completion::from_json(&report).unwrap_err().code(), "field_invalid", "{report}");
    }
    assert_eq!(Completion::from_json("[]").unwrap_err().code(), "field_invalid");
    for report in [
        "{}",
        r#"["x"]"#,
        r#"{"message": "x", "state": "running"}"#,
        r#"{"message": "x", "error": {"message": "y"}}"#,
        r#"{"error": {"message": "y"}, "code": "E"}"#,
        r#"{"message": "x", "state": "expired", "retrying": true}"#,
        r#"{"message": "x", "retry": "soon"}"#,
        r#"{"message": "x", "retry": {"after_ms": -1}}"#,
        r#"{"message": "x", "retry": {"after_ms": 86400001}}"#,
    ] {
        assert_eq!(Fail::from_json(report).unwrap_err().code(), "field_invalid", "{report}");
    }
    assert_eq!(
        fail(r#"{"message":"x","retry":{"after_ms":86400000}}"#).retry,
        Retry::After { after_ms: 86_400_000 }
    );
    assert_eq!(fail(r#"{"message":"x","retry":"auto"}"#).retry, Retry::Auto);
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
fn entries_that_make_no_sense_are_refused_with_a_code() {
    let list = |count: usize| format!("[{}]", vec![r#"{"message":"m"}"#; count].join(","));
    assert!(EntriesReport::logs_from_json(&list(limits::JOB_ENTRIES_MAX)).is_ok());
    for (report, code) in [
        ("[]", "field_invalid"),
        (&*list(limits::JOB_ENTRIES_MAX + 1), "field_invalid"),
        (r#"{"logs":[]}"#, "field_invalid"),
        (r#"{"logs":null}"#, "field_invalid"),
        (r#"{"logs":[{"message":"m"}],"message":"m"}"#, "field_invalid"),
        (r#"{"message":5}"#, "field_invalid"),
        (r#"{"message":"m","level":"fatal"}"#, "field_invalid"),
        (r#"{"message":"m","time":5}"#, "field_invalid"),
        (r#""m""#, "field_invalid"),
        ("{}", "field_invalid"),
        ("", "json_invalid"),
        ("{", "json_invalid"),
    ] {
        assert_eq!(EntriesReport::logs_from_json(report).unwrap_err().code(), code, "{report:.60}");
    }
    let chunks = |count: usize| format!(r#"{{"chunks":[{}]}}"#, vec!["1"; count].join(","));
    assert!(EntriesReport::output_from_json(&chunks(limits::JOB_ENTRIES_MAX)).is_ok());
    for report in [&*chunks(0), &chunks(limits::JOB_ENTRIES_MAX + 1), "{}", "[1]", r#"{"chunks":1}"#] {
        assert_eq!(
            EntriesReport::output_from_json(report).unwrap_err().code(),
            "field_invalid",
            "{report:.60}"
        );
    }
    let mut job = running(|_| {});
    let none = job.handle_entries(NOW, of(RIGHT), &Entries::Logs(vec![]));
    assert_eq!(none.unwrap_err().code(), "field_invalid");
}

#[test]
fn a_new_job_has_its_bounds() {
    let tag = || "x".repeat(limits::JOB_TAG_BYTES_MAX);
    assert_eq!(refused(|new| new.tags = vec![tag(); limits::JOB_TAGS_MAX]), "made");
    assert_eq!(refused(|new| new.tags = vec![tag(); limits::JOB_TAGS_MAX + 1]), "field_invalid");
    assert_eq!(refused(|new| new.tags = vec![tag() + "x"]), "field_invalid");
    assert_eq!(refused(|new| new.tags = vec![String::new()]), "field_invalid");
    for (priority, expected) in
        [(-100, "made"), (100, "made"), (-101, "field_invalid"), (101, "field_invalid")]
    {
        assert_eq!(refused(|new| new.priority = priority), expected, "{priority}");
    }
    assert_eq!(refused(|new| new.priority = i32::MIN), "field_invalid");
    for (attempts, expected) in [(1, "made"), (100, "made"), (0, "field_invalid"), (101, "field_invalid")] {
        assert_eq!(refused(|new| new.max_attempts = attempts), expected, "{attempts}");
    }
    let year = limits::JOB_DELAY_MS_MAX;
    assert_eq!(refused(|new| new.run_at = Some(NOW + year)), "made");
    assert_eq!(refused(|new| new.run_at = Some(NOW + year + 1)), "field_invalid");
    assert_eq!(refused(|new| new.parent = Some("7".into())), "parent_invalid", "itself");
    assert_eq!(refused(|new| new.parent = Some("8".into())), "made");
}

#[test]
fn terms_have_their_bounds() {
    type Set = fn(&mut Terms, u64);
    let settings: [(&str, Set, u64, u64); 6] = [
        ("lease_ms", |terms, ms| terms.lease_ms = ms, 1_000, 3_600_000),
        ("timeout_ms", |terms, ms| terms.timeout_ms = Some(ms), 1_000, *limits::JOB_RUN_MS.end()),
        ("stale_after_ms", |terms, ms| terms.stale_after_ms = Some(ms), 1_000, *limits::JOB_RUN_MS.end()),
        ("queued_ms", |terms, ms| terms.queued_ms = Some(ms), 1, limits::JOB_DELAY_MS_MAX),
        ("result_ms", |terms, ms| terms.result_ms = ms, 1, limits::RESULT_MS_MAX),
        ("max_stalls", |terms, count| terms.max_stalls = u32::try_from(count).unwrap(), 0, 100),
    ];
    for (name, set, least, most) in settings {
        assert_eq!(refused(|new| set(&mut new.terms, least)), "made", "{name}");
        assert_eq!(refused(|new| set(&mut new.terms, most)), "made", "{name}");
        assert_eq!(refused(|new| set(&mut new.terms, most + 1)), "field_invalid", "{name}");
        if let Some(below) = least.checked_sub(1) {
            assert_eq!(refused(|new| set(&mut new.terms, below)), "field_invalid", "{name}");
        }
    }
    let key = "x".repeat(limits::JOB_UNIQUE_KEY_BYTES_MAX);
    for (key, expected) in [
        (key.clone(), "made"),
        ("Größe: 5 €".into(), "made"),
        (key + "x", "field_invalid"),
        (String::new(), "field_invalid"),
        ("a\nb".into(), "field_invalid"),
        ("a\u{85}b".into(), "field_invalid"),
    ] {
        assert_eq!(refused(|new| new.terms.unique = Some(key.clone())), expected, "{key:?}");
    }
    for (jitter, expected) in [
        (0.0, "made"),
        (1.0, "made"),
        (-0.1, "field_invalid"),
        (1.1, "field_invalid"),
        (f64::NAN, "field_invalid"),
    ] {
        let backoff = Backoff { jitter, ..Backoff::default() };
        assert_eq!(refused(|new| new.terms.backoff = Some(backoff)), expected, "{jitter}");
    }
    let too_long = Backoff { base_ms: limits::BACKOFF_MS_MAX + 1, ..Backoff::default() };
    assert_eq!(refused(|new| new.terms.backoff = Some(too_long)), "field_invalid");
}

#[test]
fn a_lease_and_a_grace_have_their_bounds() {
    let new =
        |lease_ms| NewLease { hash: RIGHT, worker: "w".into(), lease_ms: Some(lease_ms), is_local: false };
    for (lease_ms, is_fine) in [(999, false), (1_000, true), (3_600_000, true), (3_600_001, false)] {
        assert_eq!(job(|_| {}).handle_lease(NOW, new(lease_ms)).is_ok(), is_fine, "{lease_ms}");
    }
    let mut job = running(|_| {});
    let most = limits::CANCEL_GRACE_MS_MAX;
    assert_eq!(
        job.handle_cancel(NOW, None, Some(most + 1), "cancelled").unwrap_err().code(),
        "field_invalid"
    );
    assert_eq!(job.handle_cancel(NOW, None, Some(most), "cancelled"), Ok(Change::State));
}

#[test]
fn a_job_given_back_for_later_comes_back_within_a_year() {
    let mut job = running(|_| {});
    job.handle_release(NOW, of(RIGHT), u64::MAX).unwrap();
    assert_eq!(job.document().run_at, Some(NOW + limits::JOB_DELAY_MS_MAX));
}
