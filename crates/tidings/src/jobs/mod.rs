//! Jobs: long work whose state and progress are events on the job's own channel.
//!
//! Owns: turning reports into compare-and-set appends on `job:<id>`, the fold of live jobs, running handlers.
//! Does not know: sockets, HTTP.
//! Flow: create / report → the core's state machine on a copy → one append that expects the previous event → the copy counts.

mod record;

mod store;

mod artifact;

mod handler;

mod routes;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde_json::value::RawValue;
use tidings_core::job::{Completion, Fail, Job, JobId, JobType, Mode, New, Progress};
use tidings_core::{ChannelName, Seq, limits};

pub use artifact::ArtifactError;
pub(crate) use artifact::{Artifacts, Stored};
use handler::Handler;
pub use handler::JobContext;
use record::Live;
pub use routes::{JobRoute, RouteError};
pub use store::{JobsError, Reported};

use crate::Hub;

/// The jobs of a hub.
///
/// ```no_run
/// # async fn run(hub: tidings::Hub) -> Result<(), Box<dyn std::error::Error>> {
/// use tidings::jobs::{JobContext, NewJob};
/// let jobs = hub.jobs();
/// jobs.register("generate-report", |ctx: JobContext, rows: u64| async move {
///     for row in 0..rows {
///         ctx.progress(tidings::core::job::Progress::percent(100.0 * row as f64 / rows as f64)).await?;
///     }
///     ctx.artifact("report.csv", &b"a,b\n"[..]).await?;
///     Ok::<_, Box<dyn std::error::Error + Send + Sync>>(rows)
/// });
/// let id = jobs.create(NewJob::new("generate-report")?.input(&1_000)?).await?;
/// println!("watch /v1/jobs/{}/events", id.as_str());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Jobs {
    pub(crate) hub: Hub,
}

/// What a hub remembers of its jobs.
#[derive(Debug)]
pub(crate) struct State {
    /// Jobs that have not ended.
    live: Mutex<HashMap<JobId, Arc<tokio::sync::Mutex<Live>>>>,
    handlers: RwLock<HashMap<String, Handler>>,
    /// How many handlers run at once.
    slots: Arc<tokio::sync::Semaphore>,
    pub(crate) artifacts: Arc<Artifacts>,
}

/// Handlers that run at once in this process; others wait in order.
const HANDLERS_MAX: usize = 8;

impl State {
    /// Folds what the log holds of jobs that have not ended.
    pub(crate) fn open(log: &dyn crate::log::Log, artifacts: Arc<Artifacts>) -> Self {
        let live =
            record::restore(log).into_iter().map(|(id, live)| (id, Arc::new(tokio::sync::Mutex::new(live))));
        Self {
            live: Mutex::new(live.collect()),
            handlers: RwLock::default(),
            slots: Arc::new(tokio::sync::Semaphore::new(HANDLERS_MAX)),
            artifacts,
        }
    }

    fn live(&self, id: &JobId) -> Option<Arc<tokio::sync::Mutex<Live>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }
}

/// A job that is to be made.
#[derive(Debug, Clone)]
#[must_use]
pub struct NewJob {
    pub(crate) id: Option<JobId>,
    pub(crate) job_type: JobType,
    pub(crate) queue: Option<String>,
    pub(crate) mode: Mode,
    pub(crate) input: Option<Box<RawValue>>,
    pub(crate) max_attempts: u32,
    pub(crate) tags: Vec<String>,
    pub(crate) publish_to: Vec<ChannelName>,
    pub(crate) alias: Option<String>,
    pub(crate) idempotency_key: Option<String>,
}

impl NewJob {
    /// A job of a type that a handler is registered for, with up to three attempts.
    ///
    /// # Errors
    /// [`tidings_core::job::JobError::Type`].
    pub fn new(job_type: &str) -> Result<Self, JobsError> {
        Ok(Self {
            id: None,
            job_type: JobType::parse(job_type)?,
            queue: None,
            mode: Mode::Managed,
            input: None,
            max_attempts: limits::JOB_ATTEMPTS_DEFAULT,
            tags: Vec::new(),
            publish_to: Vec::new(),
            alias: None,
            idempotency_key: None,
        })
    }

    /// What the handler gets, up to 256 KiB of JSON.
    ///
    /// # Errors
    /// [`JobsError::Input`] when it is no JSON or too large.
    pub fn input<T: serde::Serialize + ?Sized>(mut self, input: &T) -> Result<Self, JobsError> {
        let raw = serde_json::value::to_raw_value(input).map_err(|e| JobsError::Input(e.to_string()))?;
        if raw.get().len() > limits::DATA_BYTES_MAX {
            return Err(JobsError::Input(format!("it is larger than {} bytes", limits::DATA_BYTES_MAX)));
        }
        self.input = Some(raw);
        Ok(self)
    }

    /// An id of one's own.
    pub fn id(mut self, id: JobId) -> Self {
        self.id = Some(id);
        self
    }

    /// How many runs there may be, 1 to 3.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts.clamp(1, limits::JOB_ATTEMPTS_MAX);
        self
    }

    /// Texts for filters.
    pub fn tags(mut self, tags: Vec<String>) -> Self {
        self.tags = tags;
        self
    }

    /// Channels that get the same events; nothing ends there.
    pub fn publish_to(mut self, channels: Vec<ChannelName>) -> Self {
        self.publish_to = channels;
        self
    }

    /// A repeat with the same key makes one job.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    fn core(&self, id: &JobId, now_ms: u64) -> Result<Job, JobsError> {
        let new = New {
            id: id.clone(),
            job_type: self.job_type.clone(),
            queue: self.queue.clone(),
            mode: self.mode,
            max_attempts: self.max_attempts,
            tags: self.tags.clone(),
        };
        Ok(Job::create(now_ms, new)?)
    }
}

/// The state of a job now, as its stream begins.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// The event that last changed the document, other than the terminal one.
    pub(crate) seq: Seq,
    /// The frame of that `progress` event without its last line.
    pub(crate) body: bytes::Bytes,
    /// The document, JSON.
    pub(crate) document: String,
}

impl Hub {
    /// The jobs of this hub.
    #[must_use]
    pub fn jobs(&self) -> Jobs {
        Jobs { hub: self.clone() }
    }
}

/// A report about a job.
#[derive(Debug)]
pub(crate) enum Report {
    Start(u32),
    Progress(Progress),
    Complete(Completion),
    Fail(Fail),
    Interrupted,
}
