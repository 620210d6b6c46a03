//! Deadlines, the wait between attempts, and calling a job off.

use super::*;

#[test]
fn a_scheduled_job_is_queued_when_its_time_has_come() {
    let mut job = job(|new| new.run_at = Some(NOW + 500));
    assert_eq!(
        (standing(&job), job.due_ms(), job.ready_at()),
        ((State::Scheduled, None, 1), Some(NOW + 500), None)
    );
    assert_eq!(job.handle_due(NOW + 499, 0), Change::Duplicate);
    assert_eq!(job.handle_due(NOW + 500, 0), Change::State);
    assert_eq!((standing(&job), job.due_ms(), job.document().run_at), ((State::Queued, None, 1), None, None));
    let past = super::job(|new| new.run_at = Some(NOW));
    assert_eq!((past.document().state, past.document().run_at), (State::Queued, None));
}

#[test]
fn a_job_that_did_not_begin_in_time_has_expired() {
    let mut waits = job(|new| {
        new.terms.queued_ms = Some(1_000);
        new.run_at = Some(NOW + 500);
    });
    assert_eq!(waits.handle_due(NOW + 9_000, 0), Change::State, "one thing at a time");
    assert_eq!(waits.due_ms(), Some(NOW + 1_500));
    assert_eq!(waits.handle_due(NOW + 9_000, 0), Change::Error);
    assert_eq!((waits.document().state, code(&waits), waits.due_ms()), (State::Expired, "expired", None));
    let mut began = running(|new| new.terms.queued_ms = Some(1_000));
    assert_eq!(began.handle_due(NOW + 1_000, 0), Change::Duplicate);
    began.handle_release(NOW + 1_000, of(RIGHT), 0).unwrap();
    assert_eq!(began.due_ms(), None, "it began in time");
}

#[test]
fn a_run_that_takes_too_long_is_over_however_busy_its_worker() {
    let mut job = running(|new| {
        new.terms.timeout_ms = Some(40_000);
        new.max_attempts = 2;
        new.terms.backoff = Some(Backoff { jitter: 0.0, ..Backoff::default() });
    });
    job.renew(NOW + 29_000, RIGHT).unwrap();
    assert_eq!(job.due_ms(), Some(NOW + 40_000));
    let mut job = stored_and_read(&job);
    job.handle_interrupted(NOW + 35_000).unwrap();
    assert_eq!(job.due_ms(), Some(NOW + 40_000), "also over a restart");
    assert_eq!(job.handle_due(NOW + 40_000, 0), Change::State);
    assert_eq!((standing(&job), code(&job)), ((State::Retrying, Some(Reason::TimedOut), 2), "timed_out"));
    assert_eq!(job.document().run_at, Some(NOW + 41_000), "with the job's backoff");
    let mut handler = stored_and_read(&job);
    lease_locally(&mut handler, NOW + 41_000, 3).unwrap();
    assert_eq!(handler.due_ms(), Some(NOW + 81_000), "of a handler too");
    assert_eq!(handler.handle_due(NOW + 81_000, 0), Change::Error);
    assert_eq!((handler.document().state, code(&handler)), (State::Failed, "timed_out"));
}

#[test]
fn the_wait_between_attempts_grows_and_is_spread() {
    let fail_at = |backoff: Backoff, attempt: u32, random: u64| {
        let mut job = running(|new| {
            new.max_attempts = 100;
            new.terms.backoff = Some(backoff);
        });
        for _ in 1..attempt {
            job.handle_fail(NOW, of(RIGHT), fail(r#"{"message":"m","retry":{"after_ms":0}}"#), 0).unwrap();
            lease(&mut job, NOW, RIGHT).unwrap();
        }
        job.handle_fail(NOW, of(RIGHT), Fail::new("m", "E"), random).unwrap();
        job.document().run_at.unwrap() - NOW
    };
    let plain = Backoff { jitter: 0.0, ..Backoff::default() };
    for (attempt, wait) in [(1, 1_000), (2, 2_000), (6, 32_000), (7, 60_000), (70, 60_000)] {
        assert_eq!(fail_at(plain, attempt, 9), wait, "{attempt}");
    }
    let fixed = Backoff { kind: BackoffKind::Fixed, ..plain };
    assert_eq!(fail_at(fixed, 9, 9), 1_000);
    let least_above_most = Backoff { base_ms: 5_000, max_ms: 100, ..plain };
    assert_eq!(fail_at(least_above_most, 3, 9), 5_000);
    let waits: std::vec::Vec<u64> =
        (0..=1_000).map(|random| fail_at(Backoff::default(), 1, random)).collect();
    assert_eq!((waits.iter().min(), waits.iter().max()), (Some(&500), Some(&1_000)));
    let all = Backoff { jitter: 1.0, ..plain };
    assert_eq!((fail_at(all, 1, 0), fail_at(all, 1, 1_000), fail_at(all, 1, 1_001)), (0, 1_000, 0));
}

#[test]
fn a_failed_run_is_followed_by_another_as_its_report_says() {
    let after = |json: &str, max_attempts: u32| {
        let mut job = running(|new| new.max_attempts = max_attempts);
        let change = job.handle_fail(NOW, of(RIGHT), fail(json), 500).unwrap();
        (change, job.document().state, job.document().run_at.map(|at| at - NOW))
    };
    assert_eq!(after(r#"{"message":"m"}"#, 2), (Change::State, State::Retrying, Some(1_000)));
    assert_eq!(after(r#"{"message":"m"}"#, 1), (Change::Error, State::Failed, None));
    assert_eq!(after(r#"{"message":"m","retry":"never"}"#, 2), (Change::Error, State::Failed, None));
    let wait = r#"{"message":"m","retry":{"after_ms":7}}"#;
    assert_eq!(after(wait, 2), (Change::State, State::Retrying, Some(7)));
    assert_eq!(after(wait, 1), (Change::Error, State::Failed, None));
    let expired = r#"{"message":"m","state":"expired"}"#;
    assert_eq!(after(expired, 2), (Change::Error, State::Expired, None));
}

#[test]
fn a_job_that_waits_is_cancelled_at_once() {
    let scheduled = job(|new| new.run_at = Some(NOW + 5));
    let mut retrying = running(|_| {});
    retrying.handle_fail(NOW, of(RIGHT), Fail::new("m", "E"), 0).unwrap();
    for mut job in [scheduled, job(|_| {}), retrying] {
        let state = job.document().state;
        let cancelled = job.handle_cancel(NOW, Some("not needed".into()), None, "cancelled");
        assert_eq!(cancelled, Ok(Change::Error), "{state:?}");
        assert_eq!((job.document().state, job.due_ms()), (State::Cancelled, None));
        assert!(job.document().cancel_requested);
        assert_eq!(job.document().error.as_ref().unwrap().message, "not needed");
        let again = job.handle_cancel(NOW, None, None, "cancelled");
        assert_eq!(again, Err(JobError::Finished(State::Cancelled)));
    }
}

#[test]
fn a_running_job_is_asked_and_then_cancelled_unless_it_completes() {
    let asked = || {
        let mut job = running(|new| new.terms.max_stalls = 0);
        assert_eq!(job.handle_cancel(NOW, None, Some(50_000), "replaced"), Ok(Change::State));
        assert_eq!((job.document().state, job.document().cancel_requested), (State::Running, true));
        stored_and_read(&job)
    };
    let cancelled = |job: &Job| assert_eq!((job.document().state, code(job)), (State::Cancelled, "replaced"));

    let mut obeyed = asked();
    let stopped = fail(r#"{"message":"stopped","code":"E"}"#);
    assert_eq!(obeyed.handle_fail(NOW, of(RIGHT), stopped, 0), Ok(Change::Error));
    cancelled(&obeyed);
    assert_eq!(obeyed.document().error.as_ref().unwrap().message, "stopped");

    let mut given_back = asked();
    assert_eq!(given_back.handle_release(NOW, of(RIGHT), 500), Ok(Change::Error));
    cancelled(&given_back);

    let mut silent = asked();
    silent.handle_interrupted(NOW).unwrap();
    assert_eq!(
        silent.handle_due(NOW + 30_000, 0),
        Change::Error,
        "the lease expired first, and none may be lost"
    );
    cancelled(&silent);

    let mut busy = asked();
    busy.handle_interrupted(NOW + 25_000).unwrap();
    assert_eq!(busy.due_ms(), Some(NOW + 50_000));
    assert_eq!(busy.handle_due(NOW + 50_000, 0), Change::Error, "the grace has passed");
    cancelled(&busy);
    assert_eq!(busy.renew(NOW + 50_000, RIGHT), Err(JobError::LeaseLost));

    let mut done = asked();
    assert_eq!(done.handle_complete(NOW, of(RIGHT), Completion::default()), Ok(Change::Complete));
    assert_eq!((done.document().state, done.document().error.is_some()), (State::Completed, false));
}

#[test]
fn whoever_asks_again_can_only_make_it_sooner() {
    let mut job = running(|new| new.terms.lease_ms = 3_600_000);
    job.handle_cancel(NOW, Some("first".into()), None, "cancelled").unwrap();
    assert_eq!(job.cancel().unwrap().deadline, Some(NOW + 30_000), "the default");
    let v = job.document().v;
    for later in [None, Some(30_000), Some(60_000)] {
        assert_eq!(job.handle_cancel(NOW + 1, None, later, "replaced"), Ok(Change::Duplicate));
    }
    assert_eq!((job.document().v, job.due_ms()), (v, Some(NOW + 30_000)));
    assert_eq!(job.handle_cancel(NOW + 1, Some("second".into()), Some(5), "replaced"), Ok(Change::State));
    assert_eq!(job.due_ms(), Some(NOW + 6));
    job.handle_due(NOW + 6, 0);
    let error = job.document().error.clone().unwrap();
    assert_eq!((error.message.as_str(), error.code.as_str()), ("first", "cancelled"));
}

#[test]
fn what_has_ended_is_due_for_nothing() {
    let mut job = running(|new| {
        new.terms.timeout_ms = Some(5_000);
        new.terms.queued_ms = Some(5_000);
    });
    job.handle_cancel(NOW, None, None, "cancelled").unwrap();
    job.handle_complete(NOW, of(RIGHT), Completion::default()).unwrap();
    for mut job in [stored_and_read(&job), job] {
        let before = value(&job);
        assert_eq!((job.due_ms(), job.handle_due(u64::MAX, 0)), (None, Change::Duplicate));
        assert_eq!(value(&job), before);
    }
}
