//! Handlers: functions of the embedding program that run jobs.
//!
//! Owns: running them, one task each, and what becomes of their results, errors and panics. Does not know: the log.
//! Flow: a free slot → the index's next job of a registered type → a lease that ends with the process → the handler →
//! `complete` or `fail`; after a crash, `interrupted` and again.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tidings_core::job::{
    Completion, Entries, EntriesReport, Fail, JobError, JobId, JobType, Level, LogLine, Progress, Retry,
};
use tidings_core::limits;
use tokio::io::AsyncRead;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::index::Next;
use super::lease::Leased;
use super::report::lease_hash;
use super::{Jobs, JobsError, RETRY, Report, Reported};
use crate::hub::{Hub, Inner};

type Work = Pin<Box<dyn Future<Output = Result<Option<Box<RawValue>>, Fail>> + Send>>;

/// A registered function.
#[derive(Clone)]
pub(super) struct Handler(Arc<dyn Fn(JobContext, Box<RawValue>) -> Work + Send + Sync>);

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handler")
    }
}

/// A handler at work.
#[derive(Debug)]
pub(super) struct Running {
    /// The hash of its lease's token.
    pub(super) lease: u128,
    pub(super) cancelled: CancellationToken,
    pub(super) task: tokio::task::AbortHandle,
}

/// What a handler has of its job.
#[derive(Debug, Clone)]
pub struct JobContext {
    jobs: Jobs,
    id: JobId,
    attempt: u32,
    lease: String,
    cancelled: CancellationToken,
}

impl JobContext {
    /// The job's id.
    #[must_use]
    pub fn id(&self) -> &JobId {
        &self.id
    }

    /// Which run this is; the first is 1. A later one follows a crash of the process, or a failure that is tried again.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Reports progress. At most 10 reports a second are stored; in between, the last one wins.
    ///
    /// # Errors
    /// [`JobsError`], such as `lease_lost` when somebody ended the job meanwhile: then stop.
    pub async fn progress(&self, mut progress: Progress) -> Result<Reported, JobsError> {
        progress.lease = Some(self.lease.clone());
        self.jobs.report(&self.id, Report::Progress(progress)).await
    }

    /// Adds a line to the job's log. It is durable when this returns.
    ///
    /// # Errors
    /// [`JobsError`].
    pub async fn log(&self, level: Level, message: impl Into<String>) -> Result<Reported, JobsError> {
        let line = LogLine::new(level, message);
        self.entries(Entries::Logs([line].into())).await
    }

    /// Adds a piece of output, such as the words of a text that is being written. It is durable when this returns.
    ///
    /// # Errors
    /// [`JobsError`].
    pub async fn output<T: Serialize + ?Sized>(&self, chunk: &T) -> Result<Reported, JobsError> {
        let chunk = serde_json::value::to_raw_value(chunk).map_err(|e| JobsError::Input(e.to_string()))?;
        self.entries(Entries::Output([chunk].into())).await
    }

    async fn entries(&self, entries: Entries) -> Result<Reported, JobsError> {
        let report = EntriesReport { entries, attempt: None, n: None, lease: Some(self.lease.clone()) };
        self.jobs.report(&self.id, Report::Entries(report)).await
    }

    /// Stores a file with the job, read from `reader` without holding it in memory. It is durable when this returns, and
    /// can be downloaded once the job is complete. A file of the same name is replaced.
    ///
    /// # Errors
    /// [`JobsError`] for an unusable name, a file that is too large, one too many, or a failing disk.
    pub async fn artifact(&self, name: &str, reader: impl AsyncRead + Send) -> Result<(), JobsError> {
        self.jobs.store_file(&self.id, self.lease.clone(), name, reader).await
    }

    /// Returns when somebody asked to call the job off, or the run is over for another reason. Whoever does not stop within
    /// the grace is stopped.
    pub async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }

    /// Whether [`JobContext::cancelled`] would return at once.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }
}

/// What handlers are called in leases.
const WORKER: &str = "in-process";

impl Jobs {
    /// Registers the handler of a job type, which then runs the jobs of that type in every queue. Call it inside a tokio
    /// runtime.
    ///
    /// A panic of the handler is an error with the code `panicked`. An error ends the job with `error`, unless the job was
    /// made with a backoff: then it is tried again, while attempts are left. After a crash of the process the job runs
    /// again, with `attempt + 1`, up to its limit.
    pub fn register<In, Out, E, F, W>(&self, job_type: &str, run: F)
    where
        In: DeserializeOwned,
        Out: Serialize,
        E: fmt::Display,
        F: Fn(JobContext, In) -> W + Send + Sync + 'static,
        W: Future<Output = Result<Out, E>> + Send + 'static,
    {
        let handler = Handler(Arc::new(move |context, input: Box<RawValue>| {
            let work = serde_json::from_str(input.get()).map(|input| run(context, input));
            Box::pin(async move {
                let unusable = |e| Fail {
                    retry: Retry::Never,
                    ..Fail::new(format!("the input cannot be used: {e}"), "input_invalid")
                };
                let out = work.map_err(unusable)?.await.map_err(|e| Fail::new(e.to_string(), "failed"))?;
                let result = serde_json::value::to_raw_value(&out);
                result
                    .map(Some)
                    .map_err(|e| Fail::new(format!("the result is no JSON: {e}"), "result_invalid"))
            })
        }));
        let state = &self.hub.0.jobs;
        let Ok(job_type) = JobType::parse(job_type) else {
            tracing::error!(job_type, "a handler has a type that no job can have");
            return;
        };
        let is_first = {
            let mut handlers = state.handlers.write().unwrap_or_else(PoisonError::into_inner);
            handlers.insert(job_type, handler);
            handlers.len() == 1
        };
        self.start();
        state.handlers_changed.notify_waiters();
        if is_first {
            tokio::spawn(run_handlers(Arc::downgrade(&self.hub.0)));
        }
    }

    fn handler(&self, job_type: &str) -> Option<Handler> {
        let handlers = self.hub.0.jobs.handlers.read().unwrap_or_else(PoisonError::into_inner);
        handlers.get(job_type).cloned()
    }

    /// Runs a job; what is to be reported of the end of the run, if that is not known already.
    async fn run(&self, id: &JobId) -> Result<Option<Report>, JobsError> {
        let Some(leased) = self.begin_lease(id, WORKER.to_owned(), None, true).await? else {
            return Ok(None);
        };
        let Some(handler) = self.handler(&leased.job_type) else { return Ok(None) };
        let Some(entry) = self.hub.0.jobs.live(id) else { return Ok(None) };
        let context = JobContext {
            jobs: self.clone(),
            id: id.clone(),
            attempt: leased.attempt,
            lease: leased.token.clone(),
            cancelled: CancellationToken::new(),
        };
        let cancelled = context.cancelled.clone();
        let input = leased.input.clone().unwrap_or_else(|| RawValue::NULL.to_owned());
        // A task of its own, so that a panic of the handler is its end and not ours.
        let task = tokio::spawn(async move { (handler.0)(context, input).await });
        let running = Running { lease: lease_hash(&leased.token), cancelled, task: task.abort_handle() };
        *entry.handler.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
        // What became of the lease before the handler stood there.
        entry.tell_handler(&entry.turn().await.job);
        Ok(report_of(leased, task.await))
    }

    /// Reports the end of a run of this process, again and again while the log does not take it: nobody else would end the
    /// run before the next start. The hub may close or go meanwhile.
    pub(super) async fn end_run(mut self, id: &JobId, end: Report) {
        let hub = Arc::downgrade(&self.hub.0);
        loop {
            match self.report(id, end.clone()).await {
                // Somebody else ended the run meanwhile; it stays so.
                Ok(_)
                | Err(JobsError::Job(JobError::Finished(_) | JobError::LeaseLost) | JobsError::NotFound(_)) =>
                {
                    return;
                }
                Err(error) if error.may_pass() => {
                    tracing::warn!(%error, job = id.as_str(), "the end of a run could not be stored; tried again soon");
                }
                Err(error) => {
                    tracing::warn!(%error, job = id.as_str(), "the end of a run could not be stored");
                    return;
                }
            }
            drop(self);
            tokio::time::sleep(RETRY).await;
            let Some(inner) = hub.upgrade() else { return };
            self = Self { hub: Hub(inner) };
        }
    }
}

/// What a handler's end says of its job.
fn report_of(
    leased: Leased,
    ended: Result<Result<Option<Box<RawValue>>, Fail>, tokio::task::JoinError>,
) -> Option<Report> {
    let lease = Some(leased.token);
    let result_max = limits::JOB_RESULT_BYTES_MAX;
    let retry = if leased.has_backoff { Retry::Auto } else { Retry::Never };
    Some(match ended {
        Ok(Ok(result)) if result.as_ref().is_some_and(|r| r.get().len() > result_max) => {
            let message = format!("the result is larger than {result_max} bytes");
            Report::Fail(Fail { lease, retry: Retry::Never, ..Fail::new(message, "result_too_large") })
        }
        Ok(Ok(result)) => Report::Complete(Completion { result, lease, ..Completion::default() }),
        Ok(Err(error)) => {
            let retry = if error.retry == Retry::Auto { retry } else { error.retry };
            Report::Fail(Fail { lease, retry, ..error })
        }
        Err(error) if error.is_panic() => {
            Report::Fail(Fail { lease, retry, ..Fail::new("the handler panicked", "panicked") })
        }
        // It was stopped: the job has ended, or the runtime is ending and the job runs again after the start.
        Err(_) => return None,
    })
}

/// Takes the next job of a registered type whenever a slot is free, as long as the hub lives.
async fn run_handlers(hub: Weak<Inner>) {
    let Some(slots) = hub.upgrade().map(|inner| Arc::clone(&inner.jobs.slots)) else { return };
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let Some(id) = next_job(&hub).await else { return };
        let Some(jobs) = hub.upgrade().map(|inner| Jobs { hub: Hub(inner) }) else { return };
        tokio::spawn(async move {
            let _slot = slot;
            match jobs.run(&id).await {
                Ok(Some(end)) => jobs.end_run(&id, end).await,
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, job = id.as_str(), "a job could not be run");
                    tokio::time::sleep(RETRY).await;
                }
            }
        });
    }
}

/// Waits for a job of a registered type without keeping the hub alive.
async fn next_job(hub: &Weak<Inner>) -> Option<JobId> {
    loop {
        let (waiting, changed, draining) = {
            let inner = hub.upgrade()?;
            let draining = inner.jobs.draining.clone();
            if draining.is_cancelled() {
                return None;
            }
            let changed = Arc::clone(&inner.jobs.handlers_changed);
            let types: Vec<JobType> = {
                let handlers = inner.jobs.handlers.read().unwrap_or_else(PoisonError::into_inner);
                handlers.keys().cloned().collect()
            };
            let waiting = match inner.jobs.index.pick_or_wait(None, Some(types)) {
                Next::Job(id) => return Some(id),
                Next::Wait(turn) => Some(turn),
                Next::Crowded => None,
            };
            (waiting, changed, draining)
        };
        let Some(waiting) = waiting else {
            tokio::time::sleep(RETRY).await;
            continue;
        };
        tokio::select! {
            picked = waiting => {
                if let Some(entry) = picked.ok().and_then(super::lease::Picked::keep) {
                    return Some(entry.id.clone());
                }
            }
            // Another type may be run from now on; or the hub may be gone.
            () = changed.notified() => {}
            () = draining.cancelled() => return None,
            () = tokio::time::sleep(IDLE) => {}
        }
    }
}

/// How long the runner waits before it looks whether the hub is still there.
const IDLE: Duration = Duration::from_secs(1);

/// Handlers that run at once in this process; others wait in order.
pub(super) const HANDLERS_MAX: usize = 8;

/// So many slots.
pub(super) fn slots() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(HANDLERS_MAX))
}
