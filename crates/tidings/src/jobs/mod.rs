//! Jobs: long work whose state and progress are events on the job's own channel.
//!
//! Owns: turning reports into compare-and-set appends on `job:<id>`, the fold of live jobs, running handlers.
//! Does not know: sockets, HTTP.
//! Flow: create / report → the core's state machine on a copy → one append that expects the previous event → the copy counts.

mod new;

mod create;

mod turns;

mod make;

mod unique;

mod report;

mod store;

mod record;

mod index;

mod lease;

mod workers;

mod handler;

mod timer;

mod schedule;

mod artifact;

mod upload;

mod control;

mod ended;

mod list;

mod routes;

mod error;

mod facts;

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tidings_core::Seq;
use tidings_core::job::{JobId, JobType, Mode, QueueName};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

pub use artifact::ArtifactError;
pub(crate) use artifact::{Artifacts, Bounds, Stored};
pub(crate) use control::Upsert;
pub(crate) use create::{Create, channels};
pub use error::JobsError;
pub(crate) use facts::Facts;
pub use handler::JobContext;
use handler::{Handler, Running};
pub(crate) use index::JobFigures;
use index::{Index, Lane};
pub(crate) use lease::{Handover, Leased, Wanted};
pub(crate) use list::{Cursor, Filter};
pub(crate) use make::Created;
pub use new::{NewJob, OnConflict};
pub use report::Reported;
pub(crate) use report::{Report, Told};
pub use routes::{JobRoute, RouteError};
pub(crate) use schedule::Wanted as WantedSchedule;
use store::{Live, Turn};
pub(crate) use upload::NewFile;
pub(crate) use workers::WorkerState;

use crate::Hub;
use crate::clock;

/// How soon something is tried again that the log did not take.
const RETRY: Duration = Duration::from_millis(RETRY_MS);
const RETRY_MS: u64 = 1_000;

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
    live: Mutex<HashMap<JobId, Arc<Entry>>>,
    index: Arc<Index>,
    ended: ended::Ended,
    unique: unique::Unique,
    /// Of ids whose jobs are being made.
    inputs: turns::Turns,
    workers: workers::Workers,
    schedules: Arc<schedule::Schedules>,
    /// Streams that wait for a job of another queue.
    arrivals: Mutex<HashMap<JobId, Arc<Notify>>>,
    handlers: RwLock<HashMap<JobType, Handler>>,
    handlers_changed: Arc<Notify>,
    /// How many handlers run at once.
    slots: Arc<Semaphore>,
    /// The clockwork runs.
    started: AtomicBool,
    /// The server is about to stop: nobody waits any longer, and no handler begins.
    pub(crate) draining: CancellationToken,
    pub(crate) artifacts: Arc<Artifacts>,
}

/// A job that has not ended, and who waits for it.
#[derive(Debug)]
struct Entry {
    id: JobId,
    lane: Lane,
    live: Arc<tokio::sync::Mutex<Live>>,
    /// Told when the job has ended.
    ended: Notify,
    /// The handler of this process that runs it.
    handler: Mutex<Option<Running>>,
    /// The attempt that it was found in at the start: whoever ran it here is gone. `None` if it was made since.
    found: Option<u32>,
}

impl Entry {
    fn new(id: JobId, live: Live, found: Option<u32>) -> Self {
        let document = live.job.document();
        let lane = Lane {
            // Both were checked when the job was made.
            queue: QueueName::parse(&document.queue).unwrap_or_else(|_| QueueName::default_queue()),
            job_type: JobType::parse(&document.job_type).unwrap_or_else(|_| JobType::unknown()),
        };
        Self {
            id,
            lane,
            live: Arc::new(tokio::sync::Mutex::new(live)),
            ended: Notify::new(),
            handler: Mutex::default(),
            found,
        }
    }

    /// Waits until nobody else changes the job.
    async fn turn(&self) -> Turn {
        Arc::clone(&self.live).lock_owned().await
    }

    /// The same, if nobody does now.
    fn turn_now(&self) -> Option<Turn> {
        Arc::clone(&self.live).try_lock_owned().ok()
    }
}

impl State {
    /// Folds what the log holds of jobs that have not ended.
    pub(crate) fn open(log: &dyn crate::log::Log, artifacts: Arc<Artifacts>) -> Self {
        let unique = unique::Unique::open(log);
        let now_ms = clock::unix_ms();
        let mut live = HashMap::new();
        for (id, mut restored) in record::restore(log) {
            unique.hold(&id, restored.job.hidden());
            let is_elsewhere = restored.job.document().mode == Mode::External
                || restored.job.lease().is_some_and(|lease| !lease.is_local);
            if is_elsewhere {
                // Nobody could be heard of while the server was down.
                restored.job.handle_interrupted(now_ms).unwrap_or(tidings_core::job::Change::Duplicate);
            }
            let found = Some(restored.job.document().attempt);
            live.insert(id.clone(), Arc::new(Entry::new(id, restored.into(), found)));
        }
        Self {
            live: Mutex::new(live),
            index: Arc::default(),
            ended: ended::Ended::default(),
            unique,
            inputs: turns::Turns::new(),
            schedules: Arc::new(schedule::Schedules::open(log)),
            workers: workers::Workers::default(),
            arrivals: Mutex::default(),
            handlers: RwLock::default(),
            handlers_changed: Arc::default(),
            slots: handler::slots(),
            started: AtomicBool::new(false),
            draining: CancellationToken::new(),
            artifacts,
        }
    }

    fn live(&self, id: &JobId) -> Option<Arc<Entry>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }
}

/// The state of a job now, as its stream begins.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// The event that last changed the document, other than the terminal one.
    pub(crate) seq: Seq,
    /// The frame of that `progress` event without its last line.
    pub(crate) body: bytes::Bytes,
}

impl Hub {
    /// The jobs of this hub.
    #[must_use]
    pub fn jobs(&self) -> Jobs {
        let jobs = Jobs { hub: self.clone() };
        jobs.start();
        jobs
    }
}

#[cfg(test)]
mod tests;
