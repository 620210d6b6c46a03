//! Jobs of other queues, which only report.

use std::format;
use std::vec;

use super::*;

fn retrying(job: &mut Job, claim: Claim) -> Result<Change, JobError> {
    job.handle_fail(NOW, claim, fail(r#"{"message":"m","retrying":true,"next_attempt_at":1500000}"#), 0)
}

fn at(attempt: u32, n: u64) -> Claim {
    Claim { attempt: Some(attempt), n: Some(n), lease: None }
}

#[test]
fn a_newer_attempt_begins_with_its_first_report() {
    let mut job = external();
    job.handle_progress(NOW, counted(9), progress(r#"{"progress":80,"message":"x"}"#)).unwrap();
    assert_eq!(job.handle_progress(NOW, at(4, 1), Progress::percent(10.0)), Ok(Change::State));
    let document = job.document();
    assert_eq!((document.attempt, document.max_attempts, job.hidden().n), (4, 4, Some(1)));
    assert_eq!((document.message.as_deref(), value(&job)["progress"].as_u64()), (None, Some(10)));
    let stale = Err(JobError::AttemptStale { given: 3, current: 4 });
    assert_eq!(job.handle_progress(NOW, at(3, 9), Progress::percent(90.0)), stale);
    let line = logs(r#"{"message":"m"}"#);
    assert_eq!(job.handle_entries(NOW, at(5, 1), &line), Ok(Change::State), "the attempt is news of its own");
    assert_eq!(job.handle_entries(NOW, at(5, 1), &line), Ok(Change::Duplicate));
    let file = Artifact { name: "f".into(), content_type: None, size: None, url: None };
    let newer = Claim { attempt: Some(6), ..nobody() };
    assert_eq!(job.handle_artifact(NOW, newer, file), Ok(Change::State));
    assert_eq!(standing(&job), (State::Running, None, 6));
    assert_eq!(job.handle_complete(NOW, at(7, 1), Completion::default()), Ok(Change::Complete));
    assert_eq!(
        (job.document().attempt, job.document().artifacts.len()),
        (7, 0),
        "files of an earlier attempt go"
    );
}

#[test]
fn a_queue_that_tries_again_begins_one_attempt_however_often_it_says_so() {
    let mut job = external();
    job.handle_progress(NOW, at(1, 1), Progress::percent(50.0)).unwrap();
    assert_eq!(retrying(&mut job, at(1, 2)), Ok(Change::State));
    assert_eq!(standing(&job), (State::Retrying, Some(Reason::Failed), 2));
    assert_eq!(job.document().run_at, Some(1_500_000));
    let mut job = stored_and_read(&job);
    assert_eq!(retrying(&mut job, at(1, 2)), Ok(Change::Duplicate), "also after a restart");
    assert_eq!(retrying(&mut job, counted(2)), Ok(Change::Duplicate));
    assert_eq!(standing(&job).2, 2);
    assert_eq!(retrying(&mut job, at(1, 3)), Err(JobError::AttemptStale { given: 1, current: 2 }));
    job.handle_progress(NOW, at(2, 1), Progress::percent(5.0)).unwrap();
    assert_eq!((standing(&job), job.document().run_at), ((State::Running, None, 2), None));
    assert_eq!(retrying(&mut job, at(1, 2)), Ok(Change::Duplicate));
    assert_eq!(retrying(&mut job, counted(2)), Ok(Change::State), "it counts within the attempt");
    assert_eq!(standing(&job).2, 3);
    assert_eq!(retrying(&mut job, at(3, 1)), Ok(Change::State));
    assert_eq!(retrying(&mut job, nobody()), Ok(Change::State), "nothing makes it recognisable");
    assert_eq!(standing(&job).2, 5);
}

#[test]
fn a_queue_says_where_its_job_stands() {
    let mut job = external();
    for (state, change) in [
        (State::Queued, Change::Duplicate),
        (State::Scheduled, Change::State),
        (State::Running, Change::State),
        (State::Running, Change::Duplicate),
        (State::Retrying, Change::State),
        (State::Queued, Change::State),
    ] {
        assert_eq!(job.handle_state(NOW, state), Ok(change), "{state:?}");
        assert_eq!(job.document().state, state);
    }
    assert_eq!(job.document().started_at, Some(NOW));
    retrying(&mut job, nobody()).unwrap();
    job.handle_state(NOW, State::Queued).unwrap();
    assert_eq!((standing(&job), job.document().run_at), ((State::Queued, None, 2), None));
    for state in [State::Completed, State::Failed, State::Cancelled, State::Expired] {
        assert_eq!(job.handle_state(NOW, state).unwrap_err().code(), "field_invalid");
    }
    assert_eq!(super::job(|_| {}).handle_state(NOW, State::Running), Err(JobError::Managed));
}

#[test]
fn a_queue_that_is_not_heard_of_has_lost_its_job() {
    let watched = || {
        let mut new = new(Mode::External);
        new.terms.stale_after_ms = Some(5_000);
        Job::create(NOW, new).unwrap()
    };
    let mut job = watched();
    assert_eq!(job.due_ms(), Some(NOW + 5_000));
    let counted_progress =
        |job: &mut Job, at: u64| job.handle_progress(at, counted(1), Progress::percent(1.0)).unwrap();
    type Tell<'a> = &'a dyn Fn(&mut Job, u64) -> Change;
    let reports: [Tell<'_>; 5] = [
        &counted_progress,
        &counted_progress,
        &|job, at| job.handle_entries(at, nobody(), &logs(r#"{"message":"m"}"#)).unwrap(),
        &|job, at| job.handle_heartbeat(at, nobody()).unwrap(),
        &|job, at| job.handle_state(at, State::Running).unwrap(),
    ];
    let expected = [Change::State, Change::Duplicate, Change::Entries, Change::Duplicate, Change::Duplicate];
    for ((report, expected), at) in reports.into_iter().zip(expected).zip((NOW + 1_000..).step_by(1_000)) {
        assert_eq!(report(&mut job, at), expected);
        assert_eq!(job.due_ms(), Some(at + 5_000));
    }
    assert_eq!(job.document().updated_at, NOW + 1_000, "only that changed the document");
    let mut job = stored_and_read(&job);
    job.handle_interrupted(NOW + 60_000).unwrap();
    assert_eq!(job.due_ms(), Some(NOW + 65_000), "it could not report while the server was down");
    assert_eq!(job.handle_due(NOW + 65_000, 0), Change::Error);
    assert_eq!((job.document().state, code(&job)), (State::Failed, "lost"));
}

#[test]
fn a_queue_is_asked_to_stop_and_made_to_only_with_a_grace() {
    let mut job = external();
    assert_eq!(job.handle_cancel(NOW, None, None, "cancelled"), Ok(Change::State));
    assert_eq!((job.document().state, job.due_ms()), (State::Queued, None), "not even one that waits");
    assert_eq!(job.handle_cancel(NOW, None, None, "cancelled"), Ok(Change::Duplicate));
    assert_eq!(job.handle_cancel(NOW, None, Some(500), "cancelled"), Ok(Change::State));
    assert_eq!(job.due_ms(), Some(NOW + 500));
    let mut obeyed = job.clone();
    let change = obeyed.handle_fail(NOW, nobody(), fail(r#"{"message":"m","state":"cancelled"}"#), 0);
    assert_eq!((change, obeyed.document().state), (Ok(Change::Error), State::Cancelled));
    assert_eq!(job.handle_due(NOW + 500, 0), Change::Error);
    assert_eq!((job.document().state, code(&job)), (State::Cancelled, "cancelled"));
}

#[test]
fn the_times_of_managed_jobs_are_not_those_of_another_queue() {
    let mut new = new(Mode::External);
    new.run_at = Some(NOW + 5);
    new.terms.queued_ms = Some(5);
    let job = Job::create(NOW, new).unwrap();
    assert_eq!((job.document().state, job.document().run_at, job.due_ms()), (State::Queued, None, None));
    assert_eq!((job.ready_at(), job.is_ready(NOW)), (None, false));
}

#[test]
fn what_is_announced_again_counts_from_then_on() {
    let mut job = external();
    let queue = QueueName::parse("exports").unwrap();
    assert_eq!(job.update_external(NOW, Some(&queue), Some(vec!["x".into()]), Some(5_000)), Ok(true));
    assert_eq!((job.document().queue.as_str(), job.document().v), ("exports", 2));
    assert_eq!(job.due_ms(), Some(NOW + 5_000));
    assert_eq!(job.update_external(NOW, Some(&queue), None, None), Ok(false));
    assert_eq!(job.document().tags, ["x"], "what is left out stays");
    let before = format!("{job:?}");
    assert_eq!(
        job.update_external(NOW, None, Some(vec![String::new()]), None).unwrap_err().code(),
        "field_invalid"
    );
    assert_eq!(job.update_external(NOW, None, Some(vec![]), Some(5)).unwrap_err().code(), "field_invalid");
    assert_eq!(format!("{job:?}"), before, "a refusal changes nothing");
    let managed = super::job(|_| {}).update_external(NOW, None, None, None);
    assert_eq!(managed, Err(JobError::Managed));
}
