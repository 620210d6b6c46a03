//! Jobs from the inside: what a black box cannot time, or cannot see.

mod refusing;

mod ends;

use std::task::Poll;
use std::time::Duration;

use tidings_core::job::{JobId, Progress, QueueName};

use super::lease::Leased;
use super::{Jobs, NewJob, OnConflict, Report, Told, Wanted};
use crate::{Hub, Settings};

/// Waits until something is so.
async fn until(is_so: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    });
    waited.await.unwrap();
}

fn hub() -> Hub {
    Hub::open(Settings::in_memory().shards(1)).unwrap()
}

async fn make(jobs: &Jobs, queue: &str, kind: &str, priority: i32) -> JobId {
    jobs.create(NewJob::new(kind).unwrap().queue(queue).unwrap().priority(priority)).await.unwrap()
}

async fn lease(jobs: &Jobs, queue: &str) -> Leased {
    let wanted = Wanted {
        queue: QueueName::parse(queue).unwrap(),
        worker: tidings_core::job::WorkerId::parse("w").unwrap(),
        types: None,
        max: 1,
        wait: Duration::from_secs(5),
        lease_ms: None,
    };
    jobs.lease(wanted).await.unwrap().0.remove(0).told().unwrap()
}

#[tokio::test]
async fn queues_take_turns_and_a_busy_type_starves_no_other() {
    let jobs = hub().jobs();
    for _ in 0..6 {
        make(&jobs, "busy", "a", 0).await;
    }
    let late = make(&jobs, "busy", "b", 0).await;
    let quiet = make(&jobs, "quiet", "a", 0).await;
    let urgent = make(&jobs, "quiet", "c", 1).await;
    let index = &jobs.hub.0.jobs.index;
    let order: Vec<JobId> = std::iter::from_fn(|| index.pick(None, None)).collect();
    assert_eq!(order.len(), 9);
    assert_eq!(order[0], urgent);
    let place = |id: &JobId| order.iter().position(|other| other == id).unwrap();
    assert!(place(&late) <= 3 && place(&quiet) <= 3, "{order:?}");
}

#[tokio::test]
async fn a_type_that_comes_in_drops_takes_turns_with_one_that_is_always_there() {
    let jobs = hub().jobs();
    for _ in 0..10 {
        make(&jobs, "q", "steady", 0).await;
    }
    let index = &jobs.hub.0.jobs.index;
    let (mut drops, mut taken) = (Vec::new(), 0);
    for _ in 0..10 {
        drops.push(make(&jobs, "q", "drops", 0).await);
        taken += u32::from(drops.contains(&index.pick(None, None).unwrap()));
    }
    assert!((4..=6).contains(&taken), "{taken} of 10 were of the lane that is often empty");
}

/// Polls a future so often, then drops it, as a server drops the handler of a request whose connection is gone.
async fn begun<F: Future>(work: F, polls: usize) -> Option<F::Output> {
    let mut work = std::pin::pin!(work);
    for _ in 0..polls {
        let polled = std::future::poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
        if let Poll::Ready(output) = polled {
            return Some(output);
        }
        // The writer is a thread of its own: it takes the request meanwhile, or it does not.
        std::thread::sleep(Duration::from_micros(60));
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_whose_reporter_goes_away_at_any_moment_leaves_the_job_usable() {
    let jobs = hub().jobs();
    let id = make(&jobs, "q", "t", 0).await;
    let leased = lease(&jobs, "q").await;
    let report = |percent: u32| {
        let progress =
            Progress { lease: Some(leased.token.clone()), reset: true, ..Progress::percent(percent.into()) };
        jobs.report(&id, Report::Progress(progress))
    };
    for polls in 0..60 {
        // Past the time in which progress is held, so that each is an append.
        let entry = jobs.hub.0.jobs.live(&id).unwrap();
        entry.turn().await.stored_ms = None;
        drop(begun(report(polls), usize::try_from(polls).unwrap() % 6).await);
        report(polls).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_goes_away_at_any_moment_leaves_no_job_behind() {
    let jobs = hub().jobs();
    for polls in 0..60_usize {
        let id = make(&jobs, "q", "t", 0).await;
        if let Some(leased) = begun(lease(&jobs, "q"), polls % 5).await {
            jobs.report(&id, Report::Release { told: Told::of(Some(leased.token)), delay_ms: 0 })
                .await
                .unwrap();
        }
        // Whether it was given back or never taken, it is the next worker's.
        let leased = lease(&jobs, "q").await;
        assert_eq!((leased.id, leased.attempt), (id.clone(), 1));
        jobs.report(&id, Report::Release { told: Told::of(Some(leased.token)), delay_ms: 0 }).await.unwrap();
        jobs.cancel(&id, None, None).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_whose_time_is_over_is_refused_though_the_timer_is_late() {
    let jobs = hub().jobs();
    let id = make(&jobs, "q", "t", 0).await;
    let leased = lease(&jobs, "q").await;
    let entry = jobs.hub.0.jobs.live(&id).unwrap();
    {
        // Until when it lasts is not stored, so this one is over; and no timer is set.
        let mut live = entry.turn().await;
        let stored = serde_json::to_string(live.job.hidden()).unwrap();
        let hidden = serde_json::from_str(&stored).unwrap();
        live.job = tidings_core::job::Job::restore(live.job.document().clone(), hidden);
        jobs.hub.0.jobs.index.take_due(u64::MAX, 1_000);
    }
    let lost = jobs.renew(&id, &leased.token).await.unwrap_err();
    assert_eq!(lost.code(), "lease_lost");
    let lost = jobs.report(&id, Report::Heartbeat(Told::of(Some(leased.token)))).await.unwrap_err();
    assert_eq!(lost.code(), "lease_lost");
    assert_eq!(lease(&jobs, "q").await.attempt, 2);
}

#[tokio::test]
async fn a_unique_key_has_one_job_though_the_maker_of_the_first_goes_away_while_it_is_stored() {
    let jobs = hub().jobs();
    let unique = |name: &str| {
        let new = NewJob::new("t").unwrap().id(JobId::parse(name).unwrap());
        new.unique("only", OnConflict::Return)
    };
    // An input that gets a file waits for those of the same id, so this test says when the first job is stored.
    let storing = jobs.hub.0.jobs.inputs.of("first").await;
    let first = unique("first").input(&"x".repeat(100_000)).unwrap();
    assert!(begun(jobs.create_or_find(first), 1).await.is_none());
    let second = tokio::spawn({
        let (jobs, second) = (jobs.clone(), unique("second"));
        async move { jobs.create_or_find(second).await }
    });
    // All that can be done is done: the runtime has one thread, and takes its tasks in turn.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    drop(storing);
    let second = second.await.unwrap().unwrap();
    assert_eq!((second.id.as_str(), second.duplicate), ("first", true));
    assert!(jobs.hub.0.jobs.live(&JobId::parse("second").unwrap()).is_none());
}
