//! Handlers: functions of the embedding program that run jobs.
//!
//! Owns: running them, one task each, and what becomes of their results, errors and panics. Does not know: the log.
//! Flow: a job that waits → a slot → `start` → the handler → `complete` or `fail`; after a crash, `interrupted` and again.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tidings_core::job::{Artifact, Completion, Fail, FailState, JobId, Mode, Progress, State};
use tidings_core::limits;
use tokio::io::AsyncRead;

use super::{ArtifactError, Jobs, JobsError, Report, Reported};

type Work = Pin<Box<dyn Future<Output = Result<Option<Box<RawValue>>, Fail>> + Send>>;

/// A registered function.
#[derive(Clone)]
pub(super) struct Handler(Arc<dyn Fn(JobContext, Box<RawValue>) -> Work + Send + Sync>);

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handler")
    }
}

/// What a handler has of its job.
#[derive(Debug, Clone)]
pub struct JobContext {
    jobs: Jobs,
    id: JobId,
    attempt: u32,
    artifacts: Arc<Mutex<Vec<Artifact>>>,
}

impl JobContext {
    /// The job's id.
    #[must_use]
    pub fn id(&self) -> &JobId {
        &self.id
    }

    /// Which run this is; the first is 1. A later one follows a crash of the process.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Reports progress. At most 10 reports a second are stored; in between, the last one wins.
    ///
    /// # Errors
    /// [`JobsError`], such as `job_finished` when somebody ended the job meanwhile: then stop.
    pub async fn progress(&self, mut progress: Progress) -> Result<Reported, JobsError> {
        progress.attempt = Some(self.attempt);
        self.jobs.report(&self.id, Report::Progress(progress)).await
    }

    /// Stores a file with the job, read from `reader` without holding it in memory. It is durable when this returns, and
    /// can be downloaded once the job is complete. One file per job.
    ///
    /// # Errors
    /// [`ArtifactError`] for an unusable name, more than 1 GiB, a second file, or a failing disk.
    pub async fn artifact(&self, name: &str, reader: impl AsyncRead + Send) -> Result<(), ArtifactError> {
        let count = self.files().len();
        if count >= FILES_MAX {
            return Err(ArtifactError::TooMany(count));
        }
        let artifact = self.jobs.hub.0.jobs.artifacts.store(&self.id, name, reader).await?;
        self.artifacts.lock().unwrap_or_else(PoisonError::into_inner).push(artifact);
        Ok(())
    }

    fn files(&self) -> Vec<Artifact> {
        self.artifacts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Files that a handler may store with its job.
const FILES_MAX: usize = 1;

impl Jobs {
    /// Registers the handler of a job type, and takes up jobs of that type which wait or were interrupted. Call it inside a
    /// tokio runtime.
    ///
    /// An error or a panic of the handler ends the job with `error`. After a crash of the process the job runs again, with
    /// `attempt + 1`, up to its limit.
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
                let failed = |message: String, code: &str| Fail {
                    message,
                    code: Some(code.to_owned()),
                    state: FailState::Failed,
                    attempt: None,
                    n: None,
                };
                let work =
                    work.map_err(|e| failed(format!("the input cannot be used: {e}"), "input_invalid"))?;
                let out = work.await.map_err(|e| failed(e.to_string(), "failed"))?;
                let result = serde_json::value::to_raw_value(&out);
                result.map(Some).map_err(|e| failed(format!("the result is no JSON: {e}"), "result_invalid"))
            })
        }));
        let state = &self.hub.0.jobs;
        state.handlers.write().unwrap_or_else(PoisonError::into_inner).insert(job_type.to_owned(), handler);
        self.take_up(job_type);
    }

    /// Whether a handler is registered for a type.
    pub(super) fn runs(&self, job_type: &str) -> bool {
        self.handler(job_type).is_some()
    }

    fn handler(&self, job_type: &str) -> Option<Handler> {
        let handlers = self.hub.0.jobs.handlers.read().unwrap_or_else(PoisonError::into_inner);
        handlers.get(job_type).cloned()
    }

    fn take_up(&self, job_type: &str) {
        let live: Vec<_> = {
            let live = self.hub.0.jobs.live.lock().unwrap_or_else(PoisonError::into_inner);
            live.iter().map(|(id, live)| (id.clone(), Arc::clone(live))).collect()
        };
        for (id, live) in live {
            // A job that is just being changed is already in this process's hands.
            let Ok(live) = live.try_lock() else { continue };
            let document = live.job.document();
            if document.mode == Mode::Managed && document.job_type == job_type && !live.running {
                drop(live);
                self.run_soon(&id);
            }
        }
    }

    /// Runs a job as soon as a slot is free.
    pub(super) fn run_soon(&self, id: &JobId) {
        let (jobs, id) = (self.clone(), id.clone());
        tokio::spawn(async move {
            let Ok(_slot) = Arc::clone(&jobs.hub.0.jobs.slots).acquire_owned().await else { return };
            if let Err(error) = jobs.run(&id).await {
                tracing::warn!(%error, job = id.as_str(), "a job could not be run to its end");
            }
        });
    }

    async fn run(&self, id: &JobId) -> Result<(), JobsError> {
        let Some(live) = self.hub.0.jobs.live(id) else { return Ok(()) };
        let (job_type, was_running, private) = {
            let mut live = live.lock().await;
            if std::mem::replace(&mut live.running, true) {
                return Ok(());
            }
            let document = live.job.document();
            (document.job_type.clone(), document.state == State::Running, live.private.clone())
        };
        if was_running {
            // The process that ran it is gone.
            self.report(id, Report::Interrupted).await?;
        }
        let attempt = {
            let live = live.lock().await;
            if live.job.document().state.is_finished() {
                return Ok(());
            }
            live.job.document().attempt
        };
        let Some(handler) = self.handler(&job_type) else { return Ok(()) };
        self.report(id, Report::Start(attempt)).await?;
        let input = match private.input {
            Some(input) => Some(input),
            None => {
                let stored = self.hub.0.jobs.artifacts.input(id).await;
                stored.and_then(|text| RawValue::from_string(text).ok())
            }
        };
        let input = input.unwrap_or_else(|| RawValue::NULL.to_owned());
        let context = JobContext { jobs: self.clone(), id: id.clone(), attempt, artifacts: Arc::default() };
        let files = Arc::clone(&context.artifacts);
        // A task of its own, so that a panic of the handler is its end and not ours.
        let ended = tokio::spawn((handler.0)(context, input)).await;
        let files = files.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.end(id, attempt, ended, files, private.alias.as_deref()).await
    }

    async fn end(
        &self,
        id: &JobId,
        attempt: u32,
        ended: Result<Result<Option<Box<RawValue>>, Fail>, tokio::task::JoinError>,
        artifacts: Vec<Artifact>,
        alias: Option<&str>,
    ) -> Result<(), JobsError> {
        let report = match ended {
            Ok(Ok(result))
                if result.as_ref().is_some_and(|r| r.get().len() > limits::JOB_RESULT_BYTES_MAX) =>
            {
                let message = format!("the result is larger than {} bytes", limits::JOB_RESULT_BYTES_MAX);
                fail(message, "result_too_large", attempt)
            }
            Ok(Ok(result)) => {
                let download_url = (!artifacts.is_empty()).then(|| self.urls(id, alias).download);
                let attempt = Some(attempt);
                Report::Complete(Completion { result, artifacts, attempt, n: None, download_url })
            }
            Ok(Err(error)) => Report::Fail(Fail { attempt: Some(attempt), ..error }),
            Err(error) if error.is_panic() => fail("the handler panicked".to_owned(), "panicked", attempt),
            // The runtime is ending: the job runs again after the start.
            Err(_) => return Ok(()),
        };
        match self.report(id, report).await {
            // Somebody else ended it meanwhile; it stays so.
            Err(JobsError::Job(tidings_core::job::JobError::Finished(_))) => Ok(()),
            ended => ended.map(drop),
        }
    }
}

fn fail(message: String, code: &str, attempt: u32) -> Report {
    let code = Some(code.to_owned());
    Report::Fail(Fail { message, code, state: FailState::Failed, attempt: Some(attempt), n: None })
}
