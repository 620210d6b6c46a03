//! Ends of runs of this process that the log does not take at once.

use std::sync::Arc;
use std::time::Duration;

use tidings_core::job::{Completion, JobId};
use tokio::sync::Semaphore;

use super::refusing::Refusing;
use super::until;
use crate::jobs::{JobContext, Jobs, NewJob, Report};
use crate::{Hub, Settings};

fn start(log: &Arc<Refusing>) -> Hub {
    Hub::start(Settings::in_memory().shards(1), Arc::clone(log) as _).unwrap()
}

/// A job whose handler runs, until there is a permit.
async fn running(jobs: &Jobs, handler_may_end: &Arc<Semaphore>) -> JobId {
    let (may_end, began) = (Arc::clone(handler_may_end), Arc::new(Semaphore::new(0)));
    let begins = Arc::clone(&began);
    jobs.register("t", move |_: JobContext, _: Option<u8>| {
        let (may_end, began) = (Arc::clone(&may_end), Arc::clone(&begins));
        async move {
            began.add_permits(1);
            may_end.acquire().await.map(drop)
        }
    });
    let id = jobs.create(NewJob::new("t").unwrap()).await.unwrap();
    began.acquire().await.unwrap().forget();
    id
}

/// Lets the pause go by before something is tried again.
async fn next_try() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(1)).await;
    tokio::time::resume();
}

async fn standing(jobs: &Jobs, id: &JobId) -> (String, u64) {
    let document = jobs.document_at_end(id, Duration::from_secs(20)).await.unwrap().unwrap();
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    (document["state"].as_str().unwrap().to_owned(), document["attempt"].as_u64().unwrap())
}

#[tokio::test]
async fn the_end_of_a_handler_that_the_log_does_not_take_is_stored_when_it_does() {
    let (log, may_end) = (Arc::new(Refusing::new()), Arc::new(Semaphore::new(0)));
    let hub = start(&log);
    let jobs = hub.jobs();
    let id = running(&jobs, &may_end).await;
    log.refuse(true);
    may_end.add_permits(1);
    log.refused(1).await;
    next_try().await;
    log.refused(2).await;
    log.refuse(false);
    next_try().await;
    assert_eq!(standing(&jobs, &id).await, ("completed".to_owned(), 1));
    hub.close().unwrap();
}

#[tokio::test]
async fn a_job_whose_process_is_gone_runs_again_though_the_log_takes_nothing_at_the_start() {
    let (log, may_end) = (Arc::new(Refusing::new()), Arc::new(Semaphore::new(0)));
    let first = start(&log);
    let id = running(&first.jobs(), &may_end).await;
    log.refuse(true);
    let hub = start(&log);
    let jobs = hub.jobs();
    jobs.register("t", |_: JobContext, _: Option<u8>| async { Ok::<_, std::convert::Infallible>(()) });
    log.refused(1).await;
    next_try().await;
    log.refused(2).await;
    log.refuse(false);
    next_try().await;
    assert_eq!(standing(&jobs, &id).await, ("completed".to_owned(), 2));
    hub.close().unwrap();
    first.close().unwrap();
}

#[tokio::test]
async fn an_end_that_is_tried_again_does_not_keep_the_hub() {
    let (log, may_end) = (Arc::new(Refusing::new()), Arc::new(Semaphore::new(0)));
    let hub = start(&log);
    let jobs = hub.jobs();
    running(&jobs, &may_end).await;
    log.refuse(true);
    may_end.add_permits(1);
    log.refused(1).await;
    let kept = Arc::downgrade(&hub.0);
    drop((hub, jobs));
    until(|| kept.strong_count() == 0).await;
}

#[tokio::test]
async fn a_run_that_begins_while_the_start_looks_for_dead_ones_goes_on() {
    let hub = start(&Arc::new(Refusing::new()));
    let jobs = hub.jobs();
    let id = jobs.create(NewJob::new("t").unwrap()).await.unwrap();
    // As a handler does it, which stands there a moment later.
    let leased = jobs.begin_lease(&id, "handler".to_owned(), None, true).await.unwrap().unwrap();
    let entry = jobs.hub.0.jobs.live(&id).unwrap();
    assert!(jobs.interrupted(vec![entry]).await.is_empty());
    jobs.end_run(&id, Report::Complete(Completion { lease: Some(leased.token), ..Completion::default() }))
        .await;
    let jobs = hub.jobs();
    assert_eq!(standing(&jobs, &id).await, ("completed".to_owned(), 1));
    hub.close().unwrap();
}
