//! Making jobs and taking reports.
//!
//! Owns: the compare-and-set appends and what counts as stored. Does not know: who reports, HTTP.
//! Flow: a report → the live job's copy → commit → the copy counts; progress may be held until its time.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tidings_core::job::{Change, Coalesced, Document, Job, JobError, JobId, Mode, coalesce};
use tidings_core::{ChannelName, Seq, limits};
use tokio::sync::Mutex;

use super::record::{self, Live, Private};
use super::{ArtifactError, Jobs, NewJob, Report, Snapshot};
use crate::clock;
use crate::frame::fields;
use crate::log::{Group, Idempotency, LogError, Outcome, Refusal};
use crate::publish::{key_hash, text_hash};
use crate::writer::CommitError;

/// An input up to this size travels with every event of its job; a larger one has a file.
const INPUT_INLINE_BYTES: usize = 4 * 1024;

/// Why a job could not be made or a report was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobsError {
    /// The rules of jobs.
    #[error(transparent)]
    Job(#[from] JobError),
    /// There is no such job.
    #[error("there is no job {0}")]
    NotFound(String),
    /// There is a job with this id.
    #[error("there is already a job {0}")]
    Exists(String),
    /// No handler is registered.
    #[error("nothing runs jobs of type {0}")]
    TypeUnknown(String),
    /// The input cannot be used.
    #[error("the input cannot be used: {0}")]
    Input(String),
    /// The key was used for another job.
    #[error("the idempotency key was used before with another body")]
    KeyReused,
    /// More than eight channels.
    #[error("publish_to names {0} channels; at most {max} are allowed", max = limits::JOB_PUBLISH_TO_MAX)]
    PublishTo(usize),
    /// A file could not be stored.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The change was not acknowledged.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl JobsError {
    /// The stable code used in problem bodies.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Job(error) => error.code(),
            Self::NotFound(_) => "job_not_found",
            Self::Exists(_) => "job_exists",
            Self::TypeUnknown(_) => "job_type_invalid",
            Self::Input(_) => "field_invalid",
            Self::KeyReused => "idempotency_key_reused",
            Self::PublishTo(_) => "channels_too_many",
            Self::Artifact(error) => error.code(),
            Self::Commit(error) => error.code(),
            Self::Log(_) => "log_unreadable",
        }
    }
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reported {
    /// It is durable; else it is only held in memory, until its time.
    pub stored: bool,
    /// It repeats what was taken before.
    pub duplicate: bool,
    /// Somebody asked to call the job off.
    pub cancel_requested: bool,
    /// The version of the document.
    pub v: u64,
}

/// A job that was made, or that a repeated key names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Created {
    pub(crate) id: JobId,
    pub(crate) duplicate: bool,
}

impl Jobs {
    /// Makes a job. When this returns, the job survives a crash, and a handler will run it.
    ///
    /// # Errors
    /// [`JobsError`]; its `code()` is what HTTP callers see.
    pub async fn create(&self, new: NewJob) -> Result<JobId, JobsError> {
        Ok(self.create_or_find(new).await?.id)
    }

    pub(crate) async fn create_or_find(&self, new: NewJob) -> Result<Created, JobsError> {
        let is_managed = new.mode == Mode::Managed;
        if is_managed && !self.runs(new.job_type.as_str()) {
            return Err(JobsError::TypeUnknown(new.job_type.as_str().to_owned()));
        }
        if new.publish_to.len() > limits::JOB_PUBLISH_TO_MAX {
            return Err(JobsError::PublishTo(new.publish_to.len()));
        }
        let id = new.id.clone().map_or_else(|| fresh_id(new.idempotency_key.as_deref()), Ok)?;
        let now_ms = clock::unix_ms();
        let job = new.core(&id, now_ms)?;
        let private = self.private(&new, &id).await?;
        let events = record::events(&job, &private, Change::State, Seq::ZERO, now_ms).map_err(too_large)?;
        let body = events.first().map(|e| e.body.clone()).unwrap_or_default();
        let idempotency = new.idempotency_key.as_deref().map(|key| idempotency(key, &new, now_ms));
        let outcome = self.commit(Group { events, idempotency }).await?;
        let place = match outcome {
            Outcome::Appended(places) => places.first().map(|p| p.seq).unwrap_or_default(),
            Outcome::Duplicate { .. } => return Ok(Created { id, duplicate: true }),
            Outcome::Refused(Refusal::KeyReused) => return Err(JobsError::KeyReused),
            Outcome::Refused(Refusal::PrevMismatch { .. } | Refusal::Finished { .. }) => {
                return Err(JobsError::Exists(id.as_str().to_owned()));
            }
            Outcome::Refused(_) => return Err(CommitError::Overloaded.into()),
        };
        let document = fields(&body).data;
        let snapshot = Snapshot { seq: place, body, document };
        let live = Live { job, private, head: place, snapshot, stored_ms: None, held: false, running: false };
        let live = Arc::new(Mutex::new(live));
        let state = &self.hub.0.jobs;
        state.live.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), live);
        if is_managed {
            self.run_soon(&id);
        }
        Ok(Created { id, duplicate: false })
    }

    /// The job of another queue, which only reports: made if it is new. Says whether it was.
    ///
    /// # Errors
    /// [`JobsError`].
    pub async fn upsert_external(&self, id: JobId, mut new: NewJob) -> Result<bool, JobsError> {
        if self.snapshot(&id)?.is_some() {
            return Ok(false);
        }
        (new.id, new.mode) = (Some(id), Mode::External);
        match self.create_or_find(new).await {
            Ok(_) => Ok(true),
            // Another reporter was faster.
            Err(JobsError::Exists(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The document of a job, as JSON. `None` if there is no such job.
    ///
    /// # Errors
    /// [`JobsError::Log`].
    pub async fn document(&self, id: &JobId) -> Result<Option<String>, JobsError> {
        if let Some(live) = self.hub.0.jobs.live(id) {
            // With what is held: it is the newest that is known.
            let live = live.lock().await;
            return Ok(serde_json::to_string(live.job.document()).ok());
        }
        Ok(record::ended(&*self.hub.0.log, id)?.map(|s| s.document))
    }

    /// The state that a stream of the job begins with.
    pub(crate) fn snapshot(&self, id: &JobId) -> Result<Option<Snapshot>, JobsError> {
        if let Some(live) = self.hub.0.jobs.live(id) {
            // A change under way holds the lock only while it commits; its stream then gets it as an event.
            if let Ok(live) = live.try_lock() {
                return Ok(Some(live.snapshot.clone()));
            }
            let read = record::stored(&*self.hub.0.log, id)?;
            return Ok(read);
        }
        Ok(record::ended(&*self.hub.0.log, id)?)
    }

    /// Takes a report.
    ///
    /// # Errors
    /// [`JobsError`].
    pub(crate) async fn report(&self, id: &JobId, report: Report) -> Result<Reported, JobsError> {
        let Some(live) = self.hub.0.jobs.live(id) else { return self.report_to_ended(id, report) };
        let mut guard = live.lock().await;
        let now_ms = clock::unix_ms();
        let mut job = guard.job.clone();
        let change = apply(&mut job, report, now_ms)?;
        let answer = |job: &Job, stored, duplicate| {
            let document = job.document();
            Reported { stored, duplicate, cancel_requested: document.cancel_requested, v: document.v }
        };
        if change == Change::Duplicate {
            // A repeat of what is only held is not durable yet.
            return Ok(answer(&job, !guard.held, !guard.held));
        }
        if change == Change::Progress
            && let Coalesced::Hold { until_ms } = coalesce(now_ms, guard.stored_ms)
        {
            let first = !std::mem::replace(&mut guard.held, true);
            guard.job = job;
            let answer = answer(&guard.job, false, false);
            drop(guard);
            if first {
                self.flush_at(id.clone(), until_ms.saturating_sub(now_ms));
            }
            return Ok(answer);
        }
        self.store(id, &mut guard, job, change, now_ms).await?;
        Ok(answer(&guard.job, true, false))
    }

    /// Appends a change; only then it counts.
    async fn store(
        &self,
        id: &JobId,
        live: &mut Live,
        job: Job,
        change: Change,
        now_ms: u64,
    ) -> Result<(), JobsError> {
        let events = record::events(&job, &live.private, change, live.head, now_ms).map_err(too_large)?;
        let own = events.iter().take_while(|e| e.channel == *id.channel()).count();
        let body = events.first().map(|e| e.body.clone()).unwrap_or_default();
        match self.commit(Group { events, idempotency: None }).await? {
            Outcome::Appended(places) => {
                let seq = places.first().map(|p| p.seq).unwrap_or_default();
                live.head = places.get(own.saturating_sub(1)).map_or(seq, |p| p.seq);
                live.snapshot = Snapshot { seq, document: fields(&body).data, body };
            }
            Outcome::Refused(Refusal::Finished { .. }) => {
                return Err(JobError::Finished(job.document().state).into());
            }
            Outcome::Refused(_) | Outcome::Duplicate { .. } => return Err(CommitError::OutcomeUnknown.into()),
        }
        (live.job, live.stored_ms, live.held) = (job, Some(now_ms), false);
        if live.job.document().state.is_finished() {
            self.hub.0.jobs.live.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        }
        Ok(())
    }

    /// Stores held progress when its time has come, unless another change did so before.
    fn flush_at(&self, id: JobId, wait_ms: u64) {
        let jobs = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            let Some(live) = jobs.hub.0.jobs.live(&id) else { return };
            let mut guard = live.lock().await;
            if guard.held {
                let job = guard.job.clone();
                let stored = jobs.store(&id, &mut guard, job, Change::Progress, clock::unix_ms()).await;
                if let Err(error) = stored {
                    tracing::warn!(%error, job = id.as_str(), "held progress could not be stored");
                    guard.held = false;
                }
            }
        });
    }

    /// A report to a job that has ended repeats the one that ended it, or comes too late.
    fn report_to_ended(&self, id: &JobId, report: Report) -> Result<Reported, JobsError> {
        let not_found = || JobsError::NotFound(id.as_str().to_owned());
        let (document, n) = record::ended_job(&*self.hub.0.log, id)?.ok_or_else(not_found)?;
        let mut job = Job::restore(document, n);
        apply(&mut job, report, clock::unix_ms())?;
        let document: &Document = job.document();
        Ok(Reported {
            stored: true,
            duplicate: true,
            cancel_requested: document.cancel_requested,
            v: document.v,
        })
    }

    async fn commit(&self, group: Group) -> Result<Outcome, JobsError> {
        let outcomes = self.hub.commit(vec![group]).await?;
        outcomes.into_iter().next().ok_or_else(|| CommitError::OutcomeUnknown.into())
    }

    async fn private(&self, new: &NewJob, id: &JobId) -> Result<Private, JobsError> {
        let mut private = Private {
            alias: new.alias.clone(),
            publish_to: new.publish_to.iter().map(ToString::to_string).collect(),
            ..Private::default()
        };
        match &new.input {
            Some(input) if input.get().len() > INPUT_INLINE_BYTES => {
                self.hub.0.jobs.artifacts.store_input(id, input.get()).await?;
            }
            input => private.input.clone_from(input),
        }
        Ok(private)
    }
}

fn apply(job: &mut Job, report: Report, now_ms: u64) -> Result<Change, JobError> {
    match report {
        Report::Start(attempt) => job.handle_start(now_ms, attempt),
        Report::Progress(progress) => job.handle_progress(now_ms, progress),
        Report::Complete(completion) => job.handle_complete(now_ms, completion),
        Report::Fail(fail) => job.handle_fail(now_ms, fail),
        Report::Interrupted => job.handle_interrupted(now_ms),
    }
}

/// An id that sorts by time; with a key, the same for every repeat of it.
fn fresh_id(key: Option<&str>) -> Result<JobId, JobError> {
    match key {
        Some(key) => JobId::parse(&format!("job_{:032x}", key_hash("jobs", key))),
        None => JobId::parse(&format!("job_{:012x}{:016x}", clock::unix_ms(), clock::random())),
    }
}

fn idempotency(key: &str, new: &NewJob, time_ms: u64) -> Idempotency {
    let input = new.input.as_ref().map_or("", |i| i.get());
    let channels: Vec<&str> = new.publish_to.iter().map(ChannelName::as_str).collect();
    let what = format!("{:?} {} {:?} {:?}", new.id, new.max_attempts, new.tags, channels);
    let fingerprint = text_hash(&[new.job_type.as_str(), input, &what]);
    Idempotency { key: key_hash("jobs", key), fingerprint, time_ms }
}

fn too_large(error: tidings_core::PayloadError) -> JobsError {
    JobsError::Input(error.to_string())
}
