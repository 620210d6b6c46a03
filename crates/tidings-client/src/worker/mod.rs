//! A worker: leases jobs of a queue over HTTP and runs them.
//!
//! Owns: the settings of a worker and its handlers. Does not know: how jobs are made.
//! Flow: in ← handlers by type · out → leased jobs go to them, and what becomes of those back to the server.
//!
#![doc = include_str!("example.md")]
//!
//! Several jobs run at once, each in a task of its own. Their leases are renewed together. What a handler returns completes
//! its job; an error fails it, and it runs again while attempts are left; so does a panic. A handler that computes without
//! awaiting belongs into `tokio::task::spawn_blocking`, so that renewals go on beside it.
//!
//! A job can run twice where its worker went silent: the server then gives it to another one. Nothing that the first one
//! still reports counts, but what it does elsewhere does. A run that is cut off by a network failure is not told until the
//! network is back; a restart of the server does not end it.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;
use tidings_core::limits;

use crate::client::Client;
use crate::problem::Problem;
use crate::random;

mod fail;
pub use fail::Fail;

mod context;
pub use context::{JobContext, Stop};

mod lease;

mod drive;

mod renew;

mod run;

/// Jobs that a worker runs at once: one renewal has room for all.
const CONCURRENCY_MAX: usize = limits::RENEW_LEASES_MAX;

type Work = Pin<Box<dyn Future<Output = Result<Value, Fail>> + Send>>;
type Handler = Arc<dyn Fn(JobContext, Option<Box<RawValue>>) -> Work + Send + Sync>;

/// Leases jobs of a queue and runs them: [`Client::worker`] … [`Worker::run`].
#[derive(Clone)]
#[must_use]
pub struct Worker {
    client: Client,
    queue: String,
    id: String,
    handlers: BTreeMap<String, Handler>,
    concurrency: usize,
    lease: Option<Duration>,
    grace: Duration,
}

/// Why a worker cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The server refused to lease, and would refuse again.
    #[error("the server does not lease: {0}")]
    Refused(Problem),
    /// No handler, or more than 100 types.
    #[error("a worker has handlers for 1 to 100 job types, not for {0}")]
    Types(usize),
}

impl WorkerError {
    /// The stable code: the server's own for a refusal.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Refused(problem) => &problem.code,
            Self::Types(_) => "job_types_invalid",
        }
    }
}

impl Client {
    /// A worker of a queue.
    pub fn worker(&self, queue: impl Into<String>) -> Worker {
        let name = random::name().unwrap_or_default();
        let short: String = name.chars().take(8).collect();
        Worker {
            client: self.clone(),
            queue: queue.into(),
            id: format!("rust-{}-{short}", std::process::id()),
            handlers: BTreeMap::new(),
            concurrency: 1,
            lease: None,
            grace: Duration::from_secs(30),
        }
    }
}

impl Worker {
    /// Runs jobs of a type with `run`. Its input is read from the job's; one that does not fit fails the job for good, with
    /// the code `input_invalid`.
    pub fn handle<In, Out, F, W>(mut self, job_type: impl Into<String>, run: F) -> Self
    where
        In: DeserializeOwned,
        Out: Serialize,
        F: Fn(JobContext, In) -> W + Send + Sync + 'static,
        W: Future<Output = Result<Out, Fail>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |context, input: Option<Box<RawValue>>| {
            let input = input.as_deref().map_or("null", RawValue::get);
            let work = serde_json::from_str(input).map(|input| run(context, input));
            Box::pin(async move {
                let refused = |what: &str, code: &str, error: serde_json::Error| {
                    Fail::new(format!("{what}: {error}")).code(code).never()
                };
                let work = work.map_err(|e| refused("the input cannot be used", "input_invalid", e))?;
                let out = work.await?;
                serde_json::to_value(out).map_err(|e| refused("the result is no JSON", "result_invalid", e))
            })
        });
        self.handlers.insert(job_type.into(), handler);
        self
    }

    /// How many jobs run at once, 1–1,000 (1).
    pub fn concurrency(self, jobs: usize) -> Self {
        Self { concurrency: jobs.clamp(1, CONCURRENCY_MAX), ..self }
    }

    /// The worker's name, as `GET /v1/workers` shows it (made up).
    pub fn id(self, id: impl Into<String>) -> Self {
        Self { id: id.into(), ..self }
    }

    /// How long this worker may be silent before its jobs go to others (what each job says).
    pub fn lease(self, lease: Duration) -> Self {
        Self { lease: Some(lease), ..self }
    }

    /// How long running jobs may take to end when the worker shuts down (30 s). Those that do not are given back.
    pub fn grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// Leases and runs jobs until the operator says `stop`. While the server is away it goes on trying.
    ///
    /// # Errors
    /// [`WorkerError`] when trying again cannot help.
    pub async fn run(self) -> Result<(), WorkerError> {
        self.run_until(std::future::pending()).await
    }

    /// Leases and runs jobs until `shutdown` is done or the operator says `stop`. Then it leases no more, gives running jobs
    /// the grace to end (none after `stop`), and gives the others back: they run again as the same attempt, elsewhere.
    ///
    /// # Errors
    /// [`WorkerError`] when trying again cannot help.
    pub async fn run_until(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), WorkerError> {
        match self.handlers.len() {
            // On the heap: a worker lives long, and its future goes through many hands.
            1..=limits::LEASE_TYPES_MAX => Box::pin(run::run(&self, shutdown)).await,
            other => Err(WorkerError::Types(other)),
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("queue", &self.queue)
            .field("id", &self.id)
            .field("types", &self.handlers.keys())
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    /// The README cannot compile it: its examples are built with the library, which does not know this crate.
    #[test]
    fn the_readme_shows_the_example_that_is_compiled_here() {
        let example = include_str!("example.md").replace("```no_run", "```rust,ignore");
        assert!(include_str!("../../../../README.md").contains(&example));
    }
}
