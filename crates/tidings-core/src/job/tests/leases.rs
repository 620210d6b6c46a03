//! Leases: who may speak for a job, and what becomes of it when they fall silent.

use super::*;

/// What a report with each lease is answered.
fn may_speak(job: &Job, hashes: &[u128]) -> std::vec::Vec<u128> {
    let speaks = |hash: &u128| {
        let progress = job.clone().handle_progress(NOW, of(*hash), Progress::percent(1.0)).is_ok();
        let heartbeat = job.clone().handle_heartbeat(NOW, of(*hash)).is_ok();
        let renewed = job.clone().renew(NOW, *hash).is_ok();
        let ended = job.clone().handle_complete(NOW, of(*hash), Completion::default()).is_ok();
        assert!(progress == heartbeat && progress == renewed && progress == ended, "{hash}");
        progress
    };
    hashes.iter().copied().filter(speaks).collect()
}

#[test]
fn a_lease_fences_all_earlier_ones() {
    let mut job = job(|new| new.max_attempts = 100);
    assert_eq!(may_speak(&job, &[1, 2, 3]), []);
    lease(&mut job, NOW, 1).unwrap();
    assert_eq!(lease(&mut job, NOW, 2), Err(JobError::NotReady(State::Running)));
    assert_eq!(may_speak(&job, &[1, 2, 3]), [1]);
    assert_eq!(job.handle_due(NOW + 30_000, 0), Change::State);
    assert_eq!(standing(&job), (State::Retrying, Some(Reason::Stalled), 2));
    assert_eq!(may_speak(&job, &[1, 2, 3]), []);
    lease(&mut job, NOW + 30_000, 2).unwrap();
    assert_eq!(may_speak(&job, &[1, 2, 3]), [2]);
    job.handle_release(NOW + 30_000, of(2), 0).unwrap();
    assert_eq!(job.handle_release(NOW + 30_000, of(2), 0), Err(JobError::LeaseLost));
    lease(&mut job, NOW + 30_000, 3).unwrap();
    assert_eq!(may_speak(&job, &[1, 2, 3]), [3], "the same attempt, but another run");
}

#[test]
fn whoever_is_heard_of_keeps_the_lease() {
    let mut job = running(|_| {});
    assert_eq!(job.due_ms(), Some(NOW + 30_000));
    let v = job.document().v;
    job.renew(NOW + 10_000, RIGHT).unwrap();
    assert_eq!(job.due_ms(), Some(NOW + 40_000));
    assert_eq!(job.handle_heartbeat(NOW + 20_000, of(RIGHT)), Ok(Change::Duplicate));
    assert_eq!((job.due_ms(), job.document().v), (Some(NOW + 50_000), v), "nothing of it is stored");
    assert_eq!(job.handle_due(NOW + 49_999, 0), Change::Duplicate);
    job.renew(5_000, RIGHT).unwrap();
    assert_eq!(job.due_ms(), Some(35_000), "the clock was set back");
    assert_eq!(job.renew(NOW, WRONG), Err(JobError::LeaseLost));
}

#[test]
fn a_queued_job_is_leased_though_the_clock_was_set_back() {
    let mut early = job(|_| {});
    assert!(early.is_ready(5));
    assert_eq!(lease(&mut early, 5, RIGHT), Ok(Change::State));
    early.handle_progress(6, of(RIGHT), Progress::percent(1.0)).unwrap();
    assert_eq!(early.document().updated_at, NOW, "its times do not turn round");
    let mut later = job(|new| new.run_at = Some(NOW + 5));
    assert!(!later.is_ready(NOW + 5), "first it is queued");
    later.handle_due(NOW + 5, 0);
    assert!(later.is_ready(NOW + 5));
    assert_eq!(coalesce(5, Some(90_000)), Coalesced::Store, "nor is its progress held");
}

#[test]
fn a_job_survives_as_many_lost_leases_as_it_may() {
    for (max_attempts, max_stalls, survived) in [(10, 2, 2), (10, 0, 0), (2, 5, 1), (1, 5, 0)] {
        let mut job = job(|new| {
            new.max_attempts = max_attempts;
            new.terms.max_stalls = max_stalls;
        });
        let mut now = NOW;
        for _ in 0..survived {
            lease(&mut job, now, RIGHT).unwrap();
            now += 30_000;
            assert_eq!(job.handle_due(now, 0), Change::State);
            job = stored_and_read(&job);
        }
        assert_eq!(job.document().attempt, survived + 1);
        lease(&mut job, now, RIGHT).unwrap();
        assert_eq!(job.handle_due(now + 30_000, 0), Change::Error, "{max_attempts} {max_stalls}");
        assert_eq!((standing(&job), code(&job)), ((State::Failed, None, survived + 1), "stalled"));
    }
}

#[test]
fn the_report_that_ended_a_job_is_repeated_and_no_other() {
    let complete = |job: &mut Job, hash| job.handle_complete(NOW, of(hash), Completion::default());
    let failed = |job: &mut Job, hash| job.handle_fail(NOW, of(hash), Fail::new("m", "E"), 0);
    let mut job = running(|_| {});
    assert_eq!(complete(&mut job, RIGHT), Ok(Change::Complete));
    let mut job = stored_and_read(&job);
    let before = value(&job);
    assert_eq!(complete(&mut job, RIGHT), Ok(Change::Duplicate));
    assert_eq!(complete(&mut job, WRONG), Err(JobError::LeaseLost));
    assert_eq!(failed(&mut job, RIGHT), Err(JobError::LeaseLost));
    assert_eq!(
        job.handle_complete(NOW, nobody(), Completion::default()),
        Err(JobError::Finished(State::Completed))
    );
    assert_eq!(value(&job), before);
    let mut job = running(|new| new.max_attempts = 1);
    assert_eq!(failed(&mut job, RIGHT), Ok(Change::Error));
    assert_eq!(failed(&mut job, RIGHT), Ok(Change::Duplicate));
    assert_eq!(complete(&mut job, RIGHT), Err(JobError::LeaseLost));
    let mut job = running(|_| {});
    job.handle_cancel(NOW, None, Some(0), "cancelled").unwrap();
    job.handle_due(NOW, 0);
    assert_eq!(failed(&mut job, RIGHT), Err(JobError::LeaseLost), "the server ended it");
}

#[test]
fn what_is_given_back_is_the_same_attempt() {
    let mut job = running(|_| {});
    job.handle_progress(NOW, of(RIGHT), progress(r#"{"progress":60,"message":"x"}"#)).unwrap();
    assert_eq!(job.handle_release(NOW + 5, of(RIGHT), 0), Ok(Change::State));
    assert_eq!(standing(&job), (State::Queued, Some(Reason::Released), 1));
    assert_eq!((job.document().message.as_deref(), job.due_ms()), (None, None));
    assert_eq!(job.ready_at(), Some(NOW), "it was made first, and comes first");
    lease(&mut job, NOW + 6, 3).unwrap();
    assert_eq!(standing(&job), (State::Running, None, 1));
    assert_eq!(job.handle_release(NOW + 7, of(3), 500), Ok(Change::State));
    assert_eq!(standing(&job), (State::Retrying, Some(Reason::Released), 1));
    assert_eq!((job.document().run_at, job.ready_at()), (Some(NOW + 507), Some(NOW + 507)));
    assert_eq!(lease(&mut job, NOW + 506, 4), Err(JobError::NotReady(State::Retrying)));
    assert_eq!(lease(&mut job, NOW + 507, 4), Ok(Change::State));
    assert_eq!((job.document().started_at, job.document().run_at), (Some(NOW), None));
}

#[test]
fn after_a_restart_a_lease_has_a_whole_period_and_a_handler_none() {
    let mut remote = stored_and_read(&running(|_| {}));
    assert_eq!(remote.handle_interrupted(NOW + 90_000), Ok(Change::Duplicate));
    assert_eq!(remote.due_ms(), Some(NOW + 120_000));
    assert_eq!(remote.handle_complete(NOW + 91_000, of(RIGHT), Completion::default()), Ok(Change::Complete));

    let mut local = job(|new| new.max_attempts = 2);
    lease_locally(&mut local, NOW, 1).unwrap();
    assert_eq!(local.due_ms(), None, "a handler of the process does not stall");
    let mut local = stored_and_read(&local);
    assert_eq!(local.due_ms(), None);
    assert_eq!(local.handle_interrupted(NOW + 1), Ok(Change::State));
    assert_eq!(
        (standing(&local), code(&local)),
        ((State::Retrying, Some(Reason::Interrupted), 2), "interrupted")
    );
    assert_eq!(local.renew(NOW, 1), Err(JobError::LeaseLost));
    lease_locally(&mut local, NOW + 1, 2).unwrap();
    assert_eq!(local.handle_interrupted(NOW + 2), Ok(Change::Error));
    assert_eq!((standing(&local), code(&local)), ((State::Failed, None, 2), "interrupted"));
    assert_eq!(local.handle_interrupted(NOW + 3), Err(JobError::Finished(State::Failed)));
}

#[test]
fn a_run_that_follows_begins_with_nothing_of_the_one_before() {
    let mut job = running(|_| {});
    let all = r#"{"progress":60,"unit":"u","step":"s","message":"m","eta_ms":5,"current":1,"total":2,"data":{"k":1}}"#;
    job.handle_progress(NOW, Claim { n: Some(7), ..of(RIGHT) }, progress(all)).unwrap();
    job.handle_fail(NOW, of(RIGHT), Fail::new("m", "E"), 0).unwrap();
    let after = value(&job);
    for name in ["unit", "step", "message", "eta_ms", "current", "total", "data"] {
        assert!(after[name].is_null(), "{name}");
    }
    assert_eq!((after["progress"].as_u64(), job.hidden().n), (Some(0), None));
    assert_eq!(code(&job), "E", "why it waits is still there");
    let ready_at = job.ready_at().unwrap();
    lease(&mut job, ready_at, 3).unwrap();
    assert_eq!(code(&job), "");
}
