//! Jobs: making them, asking for them, following them, calling them off, and reporting those of other queues.
//!
//! Owns: a typed call for each request about jobs, and which of them may be repeated. Does not know: who runs a job.
//! Flow: in ← ids, new jobs, filters, reports · out → documents, pages, items of a stream that resumes by itself.
//!
//! ```no_run
//! use tidings_client::Client;
//! use tidings_client::jobs::{JobItem, NewJob};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new("http://127.0.0.1:4080")?;
//! let jobs = client.jobs();
//! let export = jobs.create(&NewJob::new("generate-report").input(1_000)).await?;
//! let mut watch = jobs.watch(&export.id)?.open()?;
//! while let Some(item) = watch.next().await? {
//!     match item {
//!         JobItem::Progress(job) => println!("{} {} %", job.state.as_str(), job.progress),
//!         JobItem::Complete(job) => println!("done: {:?}", job.download_url),
//!         JobItem::Error(end) => println!("{}: {}", end.state.as_str(), end.message),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```

use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tidings_core::job::{JobId, State};
use tidings_core::limits;
use tokio::time::Instant;

use crate::backoff::{Backoff, Retry};
use crate::call::{ATTEMPT, Call, CallError, Repeats};
use crate::client::Client;
use crate::random;
use crate::subscribe::Subscribe;
use crate::transport::Answer;

mod error;
pub use error::JobsError;

mod document;
pub use document::{Artifact, Cancel, Document, Ended, Level, LogLine, Reported};

mod new_job;
pub use new_job::{Created, NewJob, RetryPolicy, Unique, Urls};

mod list;
pub use list::{List, Page};

mod watch;
pub use watch::{JobItem, Watch, WatchJob};

mod progress;
pub use progress::{Field, Progress};

pub(crate) mod reporter;

mod external;
pub use external::{External, Report};

pub use crate::upload::Upload;

mod download;
pub use download::Download;

/// How long one request waits for the end of a job: what the server allows.
const WAIT: Duration = Duration::from_secs(25);
/// An answer that was to wait and came earlier than this came too early.
const WAIT_MIN: Duration = Duration::from_secs(1);
/// A page of a list: 1,000 documents that are nearly all empty, or a few at their largest.
const PAGE_BYTES_MAX: usize = 64 * limits::DATA_BYTES_MAX;

/// The jobs of a server: [`Client::jobs`].
#[derive(Debug, Clone)]
pub struct Jobs {
    client: Client,
    repeats: Repeats,
}

impl Client {
    /// The jobs of this server.
    #[must_use]
    pub fn jobs(&self) -> Jobs {
        Jobs { client: self.clone(), repeats: Repeats::Few }
    }
}

#[derive(Deserialize)]
struct Cancelled {
    state: State,
}

impl Jobs {
    /// Sends each request once, for a caller who would rather know at once that it failed.
    #[must_use]
    pub fn once(self) -> Self {
        Self { repeats: Repeats::Never, ..self }
    }

    /// Makes a job; when this returns it survives a crash.
    ///
    /// It is repeated after a failure that may pass, and makes one job all the same: it carries an idempotency key.
    ///
    /// # Errors
    /// [`JobsError`]: refused, or nobody knows whether it was made.
    pub async fn create(&self, job: &NewJob) -> Result<Created, JobsError> {
        let mut call = Call::new(Method::POST, "/v1/jobs").json(job.body()?);
        if let Some(key) = job.key()? {
            call = call.header(new_job::IDEMPOTENCY_KEY, key).repeats(self.repeats);
        }
        read(call.send(&self.client).await?)
    }

    /// The job's document.
    ///
    /// # Errors
    /// [`JobsError`], such as `job_not_found`.
    pub async fn get(&self, id: &str) -> Result<Document, JobsError> {
        let id = JobId::parse(id)?;
        let call = Call::new(Method::GET, format!("/v1/jobs/{id}")).repeats(self.repeats);
        read(call.send(&self.client).await?)
    }

    /// Waits until the job has ended, however long that takes, and gives its document.
    ///
    /// # Errors
    /// [`JobsError`], such as `job_not_found`.
    pub async fn wait(&self, id: &str) -> Result<Document, JobsError> {
        let id = JobId::parse(id)?;
        let path = format!("/v1/jobs/{id}?wait={}s&until=terminal", WAIT.as_secs());
        let mut backoff = Backoff::new(Retry::default());
        loop {
            let begun = Instant::now();
            let call = Call::new(Method::GET, path.clone()).limit(ATTEMPT + WAIT).repeats(self.repeats);
            let document: Document = read(call.send(&self.client).await?)?;
            if document.state.is_finished() {
                return Ok(document);
            }
            if begun.elapsed() < WAIT_MIN {
                tokio::time::sleep(backoff.poll_wait(None, random::unit())).await;
            }
        }
    }

    /// A page of jobs.
    ///
    /// # Errors
    /// [`JobsError`].
    pub async fn list(&self, list: &List) -> Result<Page, JobsError> {
        let call = Call::new(Method::GET, list.path()).answer_bytes_max(PAGE_BYTES_MAX);
        read(call.repeats(self.repeats).send(&self.client).await?)
    }

    /// Asks for a job to be called off, and gives the state that it is in then: one that waits is cancelled at once, one
    /// that runs is asked to stop, and cancelled by the server when `grace` (30 s) has passed.
    ///
    /// # Errors
    /// [`JobsError`], such as `job_finished`.
    pub async fn cancel(
        &self,
        id: &str,
        reason: Option<&str>,
        grace: Option<Duration>,
    ) -> Result<State, JobsError> {
        let id = JobId::parse(id)?;
        let mut body = reporter::object(json!({}));
        if let Some(reason) = reason {
            body.insert("reason".to_owned(), reason.into());
        }
        if let Some(grace) = grace {
            body.insert("grace_ms".to_owned(), millis(grace).into());
        }
        let body = serde_json::Value::Object(body).to_string();
        let call = Call::new(Method::POST, format!("/v1/jobs/{id}/cancel")).json(body);
        match call.repeats(self.repeats).send(&self.client).await {
            Ok(answer) => Ok(read::<Cancelled>(answer)?.state),
            // An earlier attempt may be what cancelled it.
            Err(CallError::Refused { problem, is_repeat: true, .. }) if problem.code == "job_finished" => {
                match self.get(id.as_str()).await?.state {
                    State::Cancelled => Ok(State::Cancelled),
                    _ => Err(JobsError::Refused(problem)),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a new job like a finished one.
    ///
    /// # Errors
    /// [`JobsError`], such as `job_not_finished`. It is not repeated by itself, since each one makes a job.
    pub async fn retry(&self, id: &str) -> Result<Created, JobsError> {
        let id = JobId::parse(id)?;
        let call = Call::new(Method::POST, format!("/v1/jobs/{id}/retry")).json("{}");
        read(call.send(&self.client).await?)
    }

    /// Deletes a finished job: its events and files are gone.
    ///
    /// # Errors
    /// [`JobsError`], such as `job_not_finished`.
    pub async fn delete(&self, id: &str) -> Result<(), JobsError> {
        let id = JobId::parse(id)?;
        let call = Call::new(Method::DELETE, format!("/v1/jobs/{id}")).repeats(self.repeats);
        match call.send(&self.client).await {
            Ok(_) => Ok(()),
            // An earlier attempt deleted it.
            Err(CallError::Refused { problem, is_repeat: true, .. }) if problem.code == "job_not_found" => {
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Follows a job to its end.
    ///
    /// # Errors
    /// [`JobsError::Id`].
    pub fn watch(&self, id: &str) -> Result<WatchJob, JobsError> {
        Ok(WatchJob(Subscribe::job(self.client.clone(), JobId::parse(id)?)))
    }

    /// Makes the job of another queue known, or changes what is known of it, and gives what reports on it.
    ///
    /// # Errors
    /// [`JobsError`], such as `job_exists` if the job has another type.
    pub async fn external(&self, job: &External) -> Result<Report, JobsError> {
        job.put(&self.client).await
    }

    /// Reports on the job of another queue that is known already.
    ///
    /// # Errors
    /// [`JobsError::Id`].
    pub fn report(&self, id: &str) -> Result<Report, JobsError> {
        Ok(Report::new(self.client.clone(), JobId::parse(id)?))
    }
}

/// Reads the answer to a request.
pub(crate) fn read<T: DeserializeOwned>(answer: Answer) -> Result<T, JobsError> {
    serde_json::from_slice(&answer.body).map_err(|_| JobsError::answer(&answer))
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
