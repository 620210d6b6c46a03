//! The loop of a worker.
//!
//! Owns: how many jobs run, when more are asked for, and the way to the end. Does not know: handlers, reports.
//! Flow: in ← leased jobs, ends of runs, the operator's word, shutdown · out → runs; at the end, none.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tidings_core::job::JobId;
use tidings_core::limits;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::context::Run;
use super::drive::drive;
use super::lease::{self, LeaseRequest, Leased, LeasedJob, WorkerState};
use super::renew::{Runs, renew};
use super::{Worker, WorkerError};
use crate::backoff::{Backoff, Retry};
use crate::call::{CallError, passes};
use crate::jobs::millis;
use crate::random;

/// An answer without jobs that came earlier than this came too early, and the next one is asked for later.
const EMPTY_MIN: Duration = Duration::from_secs(1);
/// How much later, at most: a worker that was told to be quiet hears within this time that it may go on.
const EMPTY_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long giving jobs back may take at the end.
const GIVE_BACK: Duration = Duration::from_secs(10);

/// What the parts of a running worker share.
struct Shared {
    runs: watch::Sender<Runs>,
    state: watch::Sender<WorkerState>,
    /// Handlers are told that the worker ends.
    ending: watch::Sender<bool>,
    /// Runs that have not ended are given back now.
    give_back: watch::Sender<bool>,
}

/// A run is among those whose lease is renewed for as long as this lives.
struct Held {
    runs: watch::Sender<Runs>,
    id: JobId,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.runs.send_modify(|runs| drop(runs.remove(&self.id)));
    }
}

type Drivers = JoinSet<()>;
type Poll<'a> = Pin<Box<dyn Future<Output = (Instant, Result<Leased, CallError>)> + Send + 'a>>;

pub(super) async fn run(
    worker: &Worker,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), WorkerError> {
    let shared = Shared {
        runs: watch::Sender::new(Runs::new()),
        state: watch::Sender::new(WorkerState::Run),
        ending: watch::Sender::new(false),
        give_back: watch::Sender::new(false),
    };
    let work = async {
        let mut drivers = Drivers::new();
        let result = lease_until(worker, &shared, &mut drivers, shutdown).await;
        let is_stopped = *shared.state.borrow() == WorkerState::Stop;
        let grace = if is_stopped { Duration::ZERO } else { worker.grace };
        end(&shared, &mut drivers, grace).await;
        result
    };
    tokio::select! {
        result = work => result,
        () = renew(&worker.client, &worker.id, shared.runs.subscribe(), &shared.state) => Ok(()),
    }
}

/// Leases and starts jobs until it is time to end.
async fn lease_until(
    worker: &Worker,
    shared: &Shared,
    drivers: &mut Drivers,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), WorkerError> {
    let mut shutdown = pin!(shutdown);
    let mut state = shared.state.subscribe();
    let begin = || (Backoff::new(Retry::default()), Backoff::new(Retry::default().max(EMPTY_WAIT_MAX)));
    let (mut failures, mut empties) = begin();
    let mut wait = Duration::ZERO;
    let mut poll: Option<Poll<'_>> = None;
    loop {
        let free = worker.concurrency.saturating_sub(drivers.len());
        if poll.is_none() && free > 0 {
            poll = Some(Box::pin(ask(worker, free.min(limits::LEASE_JOBS_MAX), std::mem::take(&mut wait))));
        }
        let asked = async {
            match &mut poll {
                Some(poll) => poll.await,
                None => std::future::pending().await,
            }
        };
        let (asked, answer) = tokio::select! {
            biased;
            () = &mut shutdown => return Ok(()),
            // The sender lives in `shared`.
            _ = state.wait_for(|state| *state == WorkerState::Stop) => return Ok(()),
            Some(_) = drivers.join_next() => continue,
            answer = asked => answer,
        };
        poll = None;
        wait = match answer {
            Ok(leased) => {
                let is_early = leased.jobs.is_empty() && asked.elapsed() < EMPTY_MIN;
                if !is_early {
                    (failures, empties) = begin();
                }
                shared.state.send_replace(leased.worker.state);
                for job in leased.jobs {
                    start(worker, shared, drivers, job, asked);
                }
                if is_early { empties.poll_wait(None, random::unit()) } else { Duration::ZERO }
            }
            Err(error) => {
                let retry_after = judge(error)?;
                failures.poll_wait(retry_after, random::unit())
            }
        };
    }
}

/// Asks for up to `max` jobs, after `wait`.
async fn ask(worker: &Worker, max: usize, wait: Duration) -> (Instant, Result<Leased, CallError>) {
    sleep(wait).await;
    let request = LeaseRequest {
        worker_id: &worker.id,
        types: worker.handlers.keys().map(String::as_str).collect(),
        max,
        wait_ms: limits::LEASE_WAIT_MS_MAX,
        lease_ms: worker.lease.map(millis),
    };
    let asked = Instant::now();
    (asked, lease::lease(&worker.client, &worker.queue, &request).await)
}

/// What a failed request for jobs means: an error, or when to try again at the earliest.
fn judge(error: CallError) -> Result<Option<Duration>, WorkerError> {
    match error {
        CallError::Refused { problem, retry_after, .. } => {
            let status = http::StatusCode::from_u16(problem.status).unwrap_or_default();
            if !passes(status) {
                return Err(WorkerError::Refused(problem));
            }
            tracing::warn!(%problem, "no lease; trying again");
            Ok(retry_after)
        }
        CallError::NoAnswer(reason) => {
            tracing::warn!(reason, "no lease; trying again");
            Ok(None)
        }
    }
}

fn start(worker: &Worker, shared: &Shared, drivers: &mut Drivers, mut job: LeasedJob, asked: Instant) {
    let handler = worker.handlers.get(&job.job_type);
    let (Some(handler), Ok(id)) = (handler.map(Arc::clone), JobId::parse(&job.id)) else {
        // Not what was asked for. Its lease expires, and others get it.
        tracing::error!(job = job.id, job_type = job.job_type, "leased a job that has no handler here");
        return;
    };
    let run = Arc::new(Run::new(worker.client.clone(), id.clone(), &job, asked, shared.ending.subscribe()));
    shared.runs.send_modify(|runs| drop(runs.insert(id.clone(), Arc::clone(&run))));
    let held = Held { runs: shared.runs.clone(), id };
    let (input, give_back) = (job.input.take(), shared.give_back.subscribe());
    drivers.spawn(async move {
        drive(run, handler, input, give_back).await;
        drop(held);
    });
}

/// Waits for running jobs, and has those given back that take longer than `grace`.
async fn end(shared: &Shared, drivers: &mut Drivers, grace: Duration) {
    shared.ending.send_replace(true);
    if timeout(grace, join_all(drivers)).await.is_err() {
        shared.give_back.send_replace(true);
        // What is left then could not be reported: the leases of those jobs expire.
        timeout(GIVE_BACK, join_all(drivers)).await.ok();
    }
}

async fn join_all(drivers: &mut Drivers) {
    while drivers.join_next().await.is_some() {}
}
