//! The Rust client's jobs and worker against a real server.
//!
//! Owns: the two ends together. Does not know: the inside of either.

#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected has to fail")]

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tidings::{Hub, Settings};
use tidings_client::jobs::{
    Artifact, External, JobItem, Jobs, Level, List, NewJob, Progress, RetryPolicy, Unique, Upload,
};
use tidings_client::worker::{Fail, JobContext, Stop, Worker};
use tidings_client::{Client, State};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

const PATIENCE: Duration = Duration::from_secs(30);

/// A server in memory, or on disk where it is to be restarted.
struct Server {
    client: Client,
    stop: oneshot::Sender<()>,
    serving: tokio::task::JoinHandle<()>,
    hub: Hub,
    address: SocketAddr,
}

impl Server {
    async fn start() -> Self {
        Self::start_with(Settings::in_memory(), "127.0.0.1:0".parse().unwrap()).await
    }

    async fn start_with(settings: Settings, address: SocketAddr) -> Self {
        let settings = settings.dev(true).drain(Duration::from_millis(50));
        let hub = Hub::open(settings).unwrap();
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (router, served) = (hub.router(), hub.clone());
        let serving = tokio::spawn(async move {
            tidings::serve(listener, router, &served, async { stopped.await.unwrap_or_default() }).await;
        });
        let client = Client::new(&format!("http://{address}")).unwrap();
        Self { client, stop, serving, hub, address }
    }

    fn jobs(&self) -> Jobs {
        self.client.jobs()
    }

    fn worker(&self) -> Worker {
        self.client.worker("q").id("w1").grace(Duration::ZERO)
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        self.serving.await.unwrap();
        self.hub.close().unwrap();
    }
}

fn new_job(job_type: &str) -> NewJob {
    NewJob::new(job_type).queue("q")
}

/// Runs the worker beside the test, and shuts it down at the test's end.
async fn with<T>(worker: Worker, test: impl Future<Output = T>) -> T {
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = worker.run_until(async { stopped.await.unwrap_or_default() });
    let test = Box::pin(test);
    let test = async {
        let result = test.await;
        stop.send(()).unwrap();
        result
    };
    let both = async { tokio::join!(worker, test) };
    let (worker, result) = tokio::time::timeout(PATIENCE, both).await.unwrap();
    worker.unwrap();
    result
}

#[tokio::test]
async fn a_worker_takes_a_job_to_its_end_and_everybody_sees_it() {
    let server = Server::start().await;
    let jobs = server.jobs();
    let worker = server.worker().handle("export", |job: JobContext, rows: u32| async move {
        job.progress(Progress::of(1.0, f64::from(rows)).unit("rows").message("reading")).await?;
        job.log(Level::Info, "half way").await?;
        job.output("a piece").await?;
        job.artifact("report.csv", Upload::bytes("a,b\n1,2\n").content_type("text/csv")).await?;
        Ok(rows)
    });
    let items = with(worker, async {
        let made = jobs.create(&new_job("export").input(4).tag("t")).await.unwrap();
        let mut watch = jobs.watch(&made.id).unwrap().from_start().open().unwrap();
        let mut items = Vec::new();
        while let Some(item) = watch.next().await.unwrap() {
            items.push(item);
        }
        items
    })
    .await;
    let word = |item: &JobItem| match item {
        JobItem::Progress(job) => format!("{} {}", job.state.as_str(), job.progress),
        JobItem::Log(line) => line.message.clone(),
        JobItem::Output(chunk) => chunk.to_string(),
        JobItem::Complete(job) => format!("complete {} {}", job.progress, job.result),
        other => format!("{other:?}"),
    };
    let words: Vec<_> = items.iter().map(word).collect();
    let expected = [
        "queued 0",
        "running 0",
        "running 25",
        "half way",
        "\"a piece\"",
        "running 25",
        "completed 100",
        "complete 100 4",
    ];
    assert_eq!(words, expected);
    let Some(JobItem::Complete(done)) = items.last() else { panic!("{words:?}") };
    assert_eq!(done.artifacts.first().map(|file| file.name.as_str()), Some("report.csv"));
    let mut file = Vec::new();
    jobs.download(&done.id, None).await.unwrap().copy_to(&mut file).await.unwrap();
    assert_eq!(file, b"a,b\n1,2\n");
    let page = jobs.list(&List::new().queue("q").tag("t").state(State::Completed)).await.unwrap();
    assert_eq!((page.jobs.len(), page.next), (1, None));
    jobs.delete(&done.id).await.unwrap();
    assert_eq!(jobs.get(&done.id).await.unwrap_err().code(), "job_not_found");
    server.end().await;
}

#[tokio::test]
async fn a_failed_run_is_tried_again_and_one_that_cannot_help_is_not() {
    let server = Server::start().await;
    let jobs = server.jobs();
    let worker = server
        .worker()
        .handle("flaky", |job: JobContext, (): ()| async move {
            if job.attempt() < 3 {
                Err(Fail::new("not yet").after(Duration::ZERO))
            } else {
                Ok(job.attempt())
            }
        })
        .handle("hopeless", |_: JobContext, (): ()| async move {
            Err::<(), _>(Fail::new("no such customer").code("customer_gone").never())
        })
        .handle("panics", |job: JobContext, (): ()| async move {
            assert_eq!(job.attempt(), 0, "never");
            Ok(())
        });
    with(worker, async {
        let retry = || RetryPolicy::attempts(3).fixed(Duration::ZERO);
        let flaky = jobs.create(&new_job("flaky").retry(retry())).await.unwrap();
        let flaky = jobs.wait(&flaky.id).await.unwrap();
        assert_eq!((flaky.state, flaky.attempt, flaky.result.as_u64()), (State::Completed, 3, Some(3)));
        let hopeless = jobs.create(&new_job("hopeless").retry(retry())).await.unwrap();
        let hopeless = jobs.wait(&hopeless.id).await.unwrap();
        let error = hopeless.error.unwrap();
        assert_eq!(
            (hopeless.state, hopeless.attempt, error.code.as_str()),
            (State::Failed, 1, "customer_gone")
        );
        let panics = jobs.create(&new_job("panics").retry(RetryPolicy::attempts(1))).await.unwrap();
        let panics = jobs.wait(&panics.id).await.unwrap();
        assert_eq!(panics.error.map(|error| error.code).as_deref(), Some("panicked"));
        let again = jobs.retry(&panics.id).await.unwrap();
        let again = jobs.wait(&again.id).await.unwrap();
        assert_eq!((again.state, again.retry_of.as_deref()), (State::Failed, Some(panics.id.as_str())));
    })
    .await;
    server.end().await;
}

#[tokio::test]
async fn a_cancelled_run_is_told_and_ends_cancelled() {
    let server = Server::start().await;
    let jobs = server.jobs();
    let (told, mut tell) = mpsc::channel(1);
    let worker = server.worker().handle("long", move |job: JobContext, (): ()| {
        let told = told.clone();
        async move {
            job.progress(1).await?;
            told.send(job.cancelled().await).await?;
            Err::<(), _>(Fail::cancelled())
        }
    });
    with(worker, async {
        let made = jobs.create(&new_job("long").lease(Duration::from_secs(1))).await.unwrap();
        let mut watch = jobs.watch(&made.id).unwrap().open().unwrap();
        loop {
            match watch.next().await.unwrap() {
                Some(JobItem::Progress(job)) if job.progress > 0.0 => break,
                Some(_) => {}
                None => panic!("the job ended"),
            }
        }
        assert_eq!(jobs.cancel(&made.id, Some("not needed"), None).await, Ok(State::Running));
        assert!(matches!(tell.recv().await, Some(Stop::Cancelled(cancel)) if cancel.reason.as_deref() == Some("not needed")));
        assert_eq!(jobs.wait(&made.id).await.unwrap().state, State::Cancelled);
    })
    .await;
    server.end().await;
}

#[tokio::test]
async fn what_a_worker_gives_back_at_shutdown_is_run_by_another_as_the_same_attempt() {
    let server = Server::start().await;
    let jobs = server.jobs();
    let made = jobs.create(&new_job("work")).await.unwrap();
    let (began, mut begin) = mpsc::channel(1);
    let first = server.worker().handle("work", move |_: JobContext, (): ()| {
        let began = began.clone();
        async move {
            began.send(()).await?;
            std::future::pending::<()>().await;
            Ok(())
        }
    });
    with(first, async { begin.recv().await }).await;
    let given_back = jobs.get(&made.id).await.unwrap();
    assert_eq!((given_back.state, given_back.reason.as_deref()), (State::Queued, Some("released")));
    let second = server.worker().handle("work", |job: JobContext, (): ()| async move {
        job.progress(50).await?;
        Ok(job.attempt())
    });
    let done = with(second, async { jobs.wait(&made.id).await.unwrap() }).await;
    assert_eq!((done.state, done.attempt, done.result.as_u64()), (State::Completed, 1, Some(1)));
    server.end().await;
}

#[tokio::test]
async fn a_silent_run_that_is_longer_than_its_lease_keeps_it() {
    const LEASE: Duration = Duration::from_secs(2);
    let server = Server::start().await;
    let jobs = server.jobs();
    // Only time that passes makes a lease expire, so this one test waits.
    let worker = server.worker().handle("work", |job: JobContext, (): ()| async move {
        tokio::select! {
            () = tokio::time::sleep(LEASE.mul_f64(1.6)) => Ok(()),
            stop = job.cancelled() => Err(Fail::new(format!("{stop:?}")).never()),
        }
    });
    let done = with(worker, async {
        let made = jobs.create(&new_job("work").lease(LEASE)).await.unwrap();
        jobs.wait(&made.id).await.unwrap()
    })
    .await;
    assert_eq!((done.state, done.attempt, done.error), (State::Completed, 1, None));
    server.end().await;
}

#[tokio::test]
async fn a_worker_that_ends_while_it_waits_takes_no_job_with_it() {
    let server = Server::start().await;
    let jobs = server.jobs();
    for _ in 0..20 {
        let idle = server.worker().handle("work", |_: JobContext, (): ()| async move { Ok(()) });
        // It waits for jobs when it has done one.
        with(idle, async {
            let first = jobs.create(&new_job("work")).await.unwrap();
            jobs.wait(&first.id).await.unwrap()
        })
        .await;
        let made = jobs.create(&new_job("work")).await.unwrap();
        let next = server.worker().handle("work", |_: JobContext, (): ()| async move { Ok(()) });
        let done = with(next, async { jobs.wait(&made.id).await.unwrap() }).await;
        assert_eq!((done.state, done.attempt), (State::Completed, 1), "nobody's lease had to expire first");
    }
    server.end().await;
}

#[tokio::test]
async fn a_run_outlives_a_restart_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let settings =
        || Settings::on_disk(folder.path().join("data")).segment_bytes(1 << 20).disk_reserve_bytes(0);
    let server = Server::start_with(settings(), "127.0.0.1:0".parse().unwrap()).await;
    let (address, jobs) = (server.address, server.jobs());
    let runs = Arc::new(AtomicU32::new(0));
    let (began, mut begin) = mpsc::channel(1);
    let go_on = Arc::new(tokio::sync::Notify::new());
    let (counted, gone_on) = (Arc::clone(&runs), Arc::clone(&go_on));
    let worker = server.worker().handle("work", move |job: JobContext, (): ()| {
        let (began, runs, go_on) = (began.clone(), Arc::clone(&counted), Arc::clone(&gone_on));
        async move {
            runs.fetch_add(1, Ordering::SeqCst);
            job.progress(10).await?;
            began.send(()).await?;
            go_on.notified().await;
            job.progress(90).await?;
            Ok(())
        }
    });
    with(worker, async {
        let made = jobs.create(&new_job("work")).await.unwrap();
        begin.recv().await.unwrap();
        server.end().await;
        go_on.notify_one();
        let server = Server::start_with(settings(), address).await;
        let done = jobs.wait(&made.id).await.unwrap();
        assert_eq!((done.state, done.attempt), (State::Completed, 1));
        server.end().await;
    })
    .await;
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_worker_that_the_operator_stops_gives_back_what_it_has_and_ends() {
    let server = Server::start().await;
    let jobs = server.jobs();
    let made = jobs.create(&new_job("work").lease(Duration::from_secs(1))).await.unwrap();
    let (began, mut begin) = mpsc::channel(1);
    let worker = server.worker().handle("work", move |_: JobContext, (): ()| {
        let began = began.clone();
        async move {
            began.send(()).await?;
            std::future::pending::<()>().await;
            Ok(())
        }
    });
    let stop = async {
        begin.recv().await.unwrap();
        let body = br#"{"state":"stop"}"#;
        let request = http::Request::put("/v1/workers/w1").header("content-type", "application/json");
        let request = request.header("host", server.address.to_string());
        let mut router = server.hub.router();
        let answer =
            tower::Service::call(&mut router, request.body(axum::body::Body::from(&body[..])).unwrap());
        assert_eq!(answer.await.unwrap().status(), 200);
    };
    let (ended, ()) =
        tokio::time::timeout(PATIENCE, async { tokio::join!(worker.run(), stop) }).await.unwrap();
    ended.unwrap();
    assert_eq!(jobs.get(&made.id).await.unwrap().state, State::Queued);
    server.end().await;
}

#[tokio::test]
async fn many_jobs_run_at_once_and_each_once() {
    const JOBS: u32 = 60;
    let server = Server::start().await;
    let jobs = server.jobs();
    let sum = Arc::new(AtomicU32::new(0));
    let summed = Arc::clone(&sum);
    let worker = server.worker().concurrency(8).handle("add", move |job: JobContext, n: u32| {
        let sum = Arc::clone(&summed);
        async move {
            job.progress(50).await?;
            sum.fetch_add(n, Ordering::SeqCst);
            Ok(())
        }
    });
    with(worker, async {
        let mut ids = Vec::new();
        for n in 1..=JOBS {
            ids.push(jobs.create(&new_job("add").input(n)).await.unwrap().id);
        }
        for id in ids {
            assert_eq!(jobs.wait(&id).await.unwrap().state, State::Completed);
        }
    })
    .await;
    assert_eq!(sum.load(Ordering::SeqCst), JOBS * (JOBS + 1) / 2);
    server.end().await;
}

#[tokio::test]
async fn the_job_of_another_queue_is_reported_and_hears_of_a_cancellation() {
    let server = Server::start().await;
    let jobs = server.jobs();
    let job = External::new("bull:exports:1", "export").queue("exports").tag("t").state(State::Running);
    let report = jobs.external(&job).await.unwrap().attempt(1);
    assert!(!report.progress(Progress::of(1.0, 2.0)).await.unwrap().cancel_requested);
    report.log(Level::Warn, "careful").await.unwrap();
    report.artifact("own.txt", Upload::bytes("own")).await.unwrap();
    report.retrying("lost a connection", None).await.unwrap();
    assert_eq!(jobs.get("bull:exports:1").await.unwrap().state, State::Retrying);
    let report = report.attempt(2);
    report.progress(10).await.unwrap();
    jobs.cancel("bull:exports:1", None, None).await.unwrap();
    assert!(report.progress(20).await.unwrap().cancel_requested);
    let file = Artifact::elsewhere("a.csv", "https://cdn.example/a.csv");
    report.complete("done", &[file]).await.unwrap();
    let done = jobs.get("bull:exports:1").await.unwrap();
    assert_eq!((done.state, done.attempt, done.result.as_str()), (State::Completed, 2, Some("done")));
    let elsewhere = jobs.download("bull:exports:1", Some("a.csv")).await.unwrap_err();
    assert_eq!(elsewhere.code(), "artifact_elsewhere");
    assert_eq!(report.progress(30).await.unwrap_err().code(), "job_finished");
    server.end().await;
}

#[tokio::test]
async fn options_of_a_new_job_reach_the_server() {
    let server = Server::start().await;
    let jobs = server.jobs();
    let parent = jobs.create(&new_job("p").id("own-id").delay(Duration::from_secs(600))).await.unwrap();
    assert_eq!((parent.id.as_str(), parent.state), ("own-id", State::Scheduled));
    let unique = || Unique::key("k").ttl(Duration::from_secs(60));
    let job = new_job("c")
        .parent("own-id")
        .priority(7)
        .tag("a")
        .timeout(Duration::from_secs(60))
        .max_stalls(1)
        .retry(
            RetryPolicy::attempts(2)
                .exponential(Duration::from_millis(10), Duration::from_secs(1))
                .jitter(0.1),
        )
        .expires_after(Duration::from_secs(60))
        .keep(Duration::from_secs(60))
        .publish_to("user:1");
    let one = jobs.create(&job.clone().unique(unique())).await.unwrap();
    let same = jobs.create(&job.clone().unique(unique())).await.unwrap();
    assert_eq!((one.duplicate, same.duplicate, &same.id), (false, true, &one.id));
    let refused = jobs.create(&job.clone().unique(unique().reject())).await.unwrap_err();
    assert_eq!(refused.code(), "unique_conflict");
    let other = jobs.create(&job.unique(unique().replace())).await.unwrap();
    let replaced = jobs.get(&one.id).await.unwrap();
    assert_eq!((replaced.state, replaced.priority, replaced.max_attempts), (State::Cancelled, 7, 2));
    let of_parent = jobs.list(&List::new().parent("own-id").limit(1)).await.unwrap();
    assert_eq!(of_parent.jobs.first().map(|job| &job.id), Some(&other.id));
    let rest = jobs.list(&List::new().parent("own-id").cursor(of_parent.next.unwrap())).await.unwrap();
    assert_eq!(rest.jobs.iter().map(|job| &job.id).collect::<Vec<_>>(), [&one.id]);
    server.end().await;
}
