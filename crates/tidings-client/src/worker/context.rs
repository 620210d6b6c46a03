//! What a handler has of its job.
//!
//! Owns: the run's identity, what it is told to do, and its reports. Does not know: how it was leased, other runs.
//! Flow: in ← a leased job; what answers say of its lease · out → reports, a signal to stop.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;
use tidings_core::job::JobId;
use tokio::sync::watch;
use tokio::time::Instant;

use super::lease::LeasedJob;
use crate::call::Repeats;
use crate::client::Client;
use crate::jobs::reporter::Reporter;
use crate::jobs::{Cancel, JobsError, Level, LogLine, Progress, Reported, Upload};
use crate::problem::Problem;

/// How long a report is repeated while the server does not answer. A server that comes back gives every lease a whole
/// period again, so a run outlives its restart; after this, a server is not restarting but gone.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);
/// Renewals are not made more often than this, whatever an answer says.
const RENEW_MIN: Duration = Duration::from_millis(200);

/// Why a handler is to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// Somebody asked for it. The server cancels the job itself at the deadline.
    Cancelled(Cancel),
    /// The job is no longer this worker's: it was silent for too long, the run took too long, or the job has ended.
    /// What the handler still makes is discarded.
    LeaseLost,
}

/// What a handler has of its job. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct JobContext(pub(super) Arc<Run>);

/// One run of a leased job.
#[derive(Debug)]
pub(super) struct Run {
    reporter: Reporter,
    token: String,
    job_type: String,
    max_attempts: u32,
    tags: Vec<String>,
    deadline: Option<u64>,
    renew_every: Duration,
    /// When the lease was last known to hold.
    renewed: watch::Sender<Instant>,
    stop: watch::Sender<Option<Stop>>,
    /// Its end is being reported, so a lease that is lost is what was asked for.
    is_concluding: AtomicBool,
    /// The worker is about to end.
    ending: watch::Receiver<bool>,
}

impl Run {
    /// A run that was leased by a request sent at `asked`.
    pub(super) fn new(
        client: Client,
        id: JobId,
        job: &LeasedJob,
        asked: Instant,
        ending: watch::Receiver<bool>,
    ) -> Self {
        let token = job.lease.token.clone();
        let repeats = Repeats::For(PATIENCE);
        Self {
            reporter: Reporter::new(client, id, job.attempt, Some(token.clone()), repeats),
            token,
            job_type: job.job_type.clone(),
            max_attempts: job.max_attempts,
            tags: job.tags.clone(),
            deadline: job.deadline,
            renew_every: Duration::from_millis(job.lease.renew_every_ms).max(RENEW_MIN),
            renewed: watch::Sender::new(asked),
            stop: watch::Sender::new(None),
            is_concluding: AtomicBool::new(false),
            ending,
        }
    }

    pub(super) fn id(&self) -> &JobId {
        self.reporter.id()
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) fn reporter(&self) -> &Reporter {
        &self.reporter
    }

    pub(super) fn job_type(&self) -> &str {
        &self.job_type
    }

    /// When its lease is to be renewed.
    pub(super) fn due(&self) -> Instant {
        *self.renewed.borrow() + self.renew_every
    }

    pub(super) fn renew_every(&self) -> Duration {
        self.renew_every
    }

    pub(super) fn is_lost(&self) -> bool {
        matches!(*self.stop.borrow(), Some(Stop::LeaseLost))
    }

    /// The server confirmed the lease in an answer to a request that was sent at `asked`.
    pub(super) fn handle_renewed(&self, asked: Instant, cancel: Option<Cancel>) {
        self.renewed.send_if_modified(|renewed| {
            let is_later = asked > *renewed;
            *renewed = asked.max(*renewed);
            is_later
        });
        if let Some(cancel) = cancel {
            self.stop.send_if_modified(|stop| {
                let is_first = stop.is_none();
                if is_first {
                    *stop = Some(Stop::Cancelled(cancel));
                }
                is_first
            });
        }
    }

    pub(super) fn handle_lost(&self) {
        if !self.is_concluding.load(Ordering::Relaxed) && !self.is_lost() {
            tracing::warn!(job = %self.id(), "the lease is lost; the run stops and its result is discarded");
            self.stop.send_replace(Some(Stop::LeaseLost));
        }
    }

    /// Waits until the lease is lost.
    pub(super) async fn lost(&self) {
        // The sender lives in `self`.
        self.stop.subscribe().wait_for(|stop| matches!(stop, Some(Stop::LeaseLost))).await.ok();
    }

    /// Sends the last report. That its lease is lost meanwhile is no reason to stop: it may be lost by this very report.
    pub(super) async fn conclude<T>(
        &self,
        report: impl Future<Output = Result<T, JobsError>> + Send,
    ) -> Result<T, JobsError> {
        self.is_concluding.store(true, Ordering::Relaxed);
        report.await
    }

    /// Sends a report, unless the lease is lost before it is answered, and learns from its answer.
    pub(super) async fn report(
        &self,
        report: impl Future<Output = Result<Reported, JobsError>> + Send,
    ) -> Result<Reported, JobsError> {
        let asked = Instant::now();
        let result = tokio::select! {
            biased;
            () = self.lost() => return Err(lease_lost()),
            result = report => result,
        };
        match &result {
            Ok(reported) => self.handle_renewed(asked, reported.cancel.clone()),
            Err(error) if LOST.contains(&error.code()) => self.handle_lost(),
            Err(_) => {}
        }
        result
    }
}

/// Refusals that say that a run is over.
pub(super) const LOST: [&str; 4] = ["lease_lost", "attempt_stale", "job_finished", "job_not_found"];

fn lease_lost() -> JobsError {
    let body = br#"{"code":"lease_lost","title":"The lease is not, or no longer, the job's"}"#;
    JobsError::Refused(Problem::read(409, body))
}

impl JobContext {
    /// The job's id.
    #[must_use]
    pub fn id(&self) -> &str {
        self.0.id().as_str()
    }

    /// The job's type.
    #[must_use]
    pub fn job_type(&self) -> &str {
        &self.0.job_type
    }

    /// Which run this is; the first is 1. A later one follows a failure, or a worker that went silent.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.0.reporter.attempt()
    }

    /// How many runs there may be.
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        self.0.max_attempts
    }

    /// The job's tags.
    #[must_use]
    pub fn tags(&self) -> &[String] {
        &self.0.tags
    }

    /// When the job's timeout ends this run, Unix milliseconds of the server.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.0.deadline
    }

    /// Reports progress: a percentage or a [`Progress`]. The server stores up to 10 a second; in between, the last one wins.
    ///
    /// Reports of a run take effect in order, and each once, however often it had to be sent. While the server is away they
    /// wait for it, for up to 10 minutes.
    ///
    /// # Errors
    /// [`JobsError`]; `lease_lost` when the job is no longer this worker's: then stop, which `?` does.
    pub async fn progress(&self, progress: impl Into<Progress> + Send) -> Result<Reported, JobsError> {
        let progress = progress.into();
        self.0.report(self.0.reporter.progress(progress)).await
    }

    /// Adds a line to the job's log.
    ///
    /// # Errors
    /// As [`JobContext::progress`].
    pub async fn log(&self, level: Level, message: impl Into<String> + Send) -> Result<Reported, JobsError> {
        self.logs(&[LogLine::new(level, message)]).await
    }

    /// Adds up to 100 lines to the job's log.
    ///
    /// # Errors
    /// As [`JobContext::progress`].
    pub async fn logs(&self, lines: &[LogLine]) -> Result<Reported, JobsError> {
        self.0.report(self.0.reporter.logs(lines)).await
    }

    /// Hands a piece of what the job produces to whoever watches: a token of text, a row.
    ///
    /// # Errors
    /// As [`JobContext::progress`].
    pub async fn output(&self, chunk: impl Serialize + Send) -> Result<Reported, JobsError> {
        self.0.report(self.0.reporter.output(chunk)).await
    }

    /// Stores a file with the job, to be downloaded when it is complete. It is durable when this returns.
    ///
    /// # Errors
    /// As [`JobContext::progress`], and for a file that cannot be read or is too large.
    pub async fn artifact(&self, name: &str, upload: Upload) -> Result<Reported, JobsError> {
        self.0.report(self.0.reporter.artifact(name, upload)).await
    }

    /// Waits until the handler is to stop, and says why. A handler that does not listen is dropped some time later.
    pub async fn cancelled(&self) -> Stop {
        let mut stop = self.0.stop.subscribe();
        let stop = stop.wait_for(Option::is_some).await.ok().and_then(|stop| stop.clone());
        // The sender lives in `self`.
        stop.unwrap_or(Stop::LeaseLost)
    }

    /// Whether, and why, the handler is to stop; for handlers that look now and then.
    #[must_use]
    pub fn stop(&self) -> Option<Stop> {
        self.0.stop.borrow().clone()
    }

    /// Waits until the worker is about to end: a handler that cannot finish within the grace may save its place and return
    /// [`super::Fail::release`].
    pub async fn ending(&self) {
        // A worker that is gone has ended.
        self.0.ending.clone().wait_for(|ending| *ending).await.ok();
    }
}
