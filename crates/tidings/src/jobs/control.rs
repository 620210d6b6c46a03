//! What operators and pages ask of a job, beside watching it.
//!
//! Owns: the document, waiting for the end, cancelling, repeating, deleting, and announcing jobs of other queues. Does not
//! know: HTTP.
//! Flow: an id → the live job or the ended one → an answer.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tidings_core::job::{Change, JobError, JobId, Mode, QueueName, State};
use tokio::sync::Notify;

use super::make::{Created, is_made_here};
use super::new::NewJob;
use super::record::{self, EndedJob};
use super::report::{Report, Reported, Told};
use super::{Jobs, JobsError, Snapshot};
use crate::clock;

/// Streams that wait for a job that is not there yet.
const ARRIVALS_MAX: usize = 10_000;

impl Jobs {
    /// The document of a job, as JSON. `None` if there is no such job.
    ///
    /// # Errors
    /// [`JobsError::Log`].
    pub async fn document(&self, id: &JobId) -> Result<Option<String>, JobsError> {
        if let Some(entry) = self.hub.0.jobs.live(id) {
            // With what is held: it is the newest that is known.
            let live = entry.turn().await;
            return Ok(serde_json::to_string(live.job.document()).ok());
        }
        Ok(record::ended(&*self.hub.0.log, id)?.map(|ended| ended.json))
    }

    /// Waits for the end of a job, at most so long; then its document, whether or not it has ended.
    ///
    /// # Errors
    /// [`JobsError::Log`].
    pub async fn document_at_end(&self, id: &JobId, wait: Duration) -> Result<Option<String>, JobsError> {
        if let Some(entry) = self.hub.0.jobs.live(id) {
            let ended = entry.ended.notified();
            let mut ended = std::pin::pin!(ended);
            ended.as_mut().enable();
            let is_live = !entry.turn().await.job.document().state.is_finished();
            if is_live {
                // Whether it ended or the time passed, the answer is what is.
                tokio::select! {
                    () = ended => {}
                    () = tokio::time::sleep(wait) => {}
                    () = self.hub.0.jobs.draining.cancelled() => {}
                }
            }
        }
        self.document(id).await
    }

    /// The state that a stream of the job begins with.
    pub(crate) fn snapshot(&self, id: &JobId) -> Result<Option<Snapshot>, JobsError> {
        if let Some(entry) = self.hub.0.jobs.live(id) {
            // A change under way holds the lock only while it commits; its stream then gets it as an event.
            if let Some(live) = entry.turn_now() {
                return Ok(Some(live.snapshot.clone()));
            }
        }
        Ok(record::stored(&*self.hub.0.log, id)?)
    }

    /// Waits until a job of another queue is announced, at most so long. Ids that this server makes are not waited for.
    pub(crate) async fn wait_for_arrival(&self, id: &JobId, wait: Duration) {
        if is_made_here(id) {
            return;
        }
        let arrival = {
            let mut arrivals = self.hub.0.jobs.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
            if arrivals.len() >= ARRIVALS_MAX {
                // Those that nobody waits for any more are found here.
                arrivals.retain(|_, arrival| Arc::strong_count(arrival) > 1);
            }
            if arrivals.len() >= ARRIVALS_MAX {
                return;
            }
            Arc::clone(arrivals.entry(id.clone()).or_insert_with(|| Arc::new(Notify::new())))
        };
        let arrived = arrival.notified();
        let mut arrived = std::pin::pin!(arrived);
        arrived.as_mut().enable();
        if self.hub.0.jobs.live(id).is_none() {
            tokio::select! {
                () = arrived => {}
                () = tokio::time::sleep(wait) => {}
                () = self.hub.0.jobs.draining.cancelled() => {}
            }
        }
    }

    /// Takes as long as an answer about a job that is not there: nobody learns of a job from the time that it takes.
    pub(crate) async fn wait_as_if_unknown(&self, id: &JobId, wait: Duration) {
        if !is_made_here(id) {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.hub.0.jobs.draining.cancelled() => {}
            }
        }
    }

    /// Asks to call a job off. One that waits is cancelled at once; one that runs is asked to stop, and cancelled when
    /// `grace_ms` have passed.
    ///
    /// # Errors
    /// [`JobsError`], such as `job_finished`.
    pub async fn cancel(
        &self,
        id: &JobId,
        reason: Option<String>,
        grace_ms: Option<u64>,
    ) -> Result<State, JobsError> {
        self.cancel_as(id, reason, grace_ms, "cancelled").await
    }

    pub(super) async fn cancel_as(
        &self,
        id: &JobId,
        reason: Option<String>,
        grace_ms: Option<u64>,
        code: &str,
    ) -> Result<State, JobsError> {
        let Some(entry) = self.hub.0.jobs.live(id) else {
            let ended = self.ended(id)?;
            return Err(JobError::Finished(ended.document.state).into());
        };
        let live = entry.turn().await;
        let mut job = live.job.clone();
        let change = job.handle_cancel(clock::unix_ms(), reason, grace_ms, code)?;
        if change == Change::Duplicate {
            return Ok(job.document().state);
        }
        let live = self.change(&entry, live, job, change, None).await?;
        Ok(live.job.document().state)
    }

    /// Makes a job like one that has ended: same type, queue, input and settings.
    ///
    /// # Errors
    /// [`JobsError`]: `job_not_finished`, `job_not_managed`, `job_not_found`.
    pub(crate) async fn retry(
        &self,
        id: &JobId,
        idempotency_key: Option<String>,
    ) -> Result<(Created, Option<String>), JobsError> {
        if self.hub.0.jobs.live(id).is_some() {
            return Err(JobsError::NotFinished);
        }
        let ended = self.ended(id)?;
        let document = &ended.document;
        if document.mode == Mode::External {
            return Err(JobsError::NotManaged);
        }
        let mut new = NewJob::new(&document.job_type)?.tags(document.tags.clone()).queue(&document.queue)?;
        new.core.priority = document.priority;
        new.core.max_attempts = document.max_attempts;
        new.core.parent.clone_from(&document.parent);
        new.core.retry_of = Some(document.id.clone());
        new.core.subject.clone_from(&document.subject);
        new.core.terms = ended.hidden.terms.clone();
        (new.core.terms.unique, new.core.terms.unique_until) = (None, None);
        new.alias.clone_from(&ended.fixed.alias);
        let channels = ended.fixed.publish_to.iter().filter_map(|c| tidings_core::ChannelName::parse(c).ok());
        new.publish_to = channels.collect();
        new.input = self.input(id, &ended.fixed).await?;
        new.idempotency_key = idempotency_key.map(|key| format!("retry:{}:{key}", id.as_str()));
        // A parent that is gone by now is no reason to refuse.
        if let Some(parent) = &new.core.parent
            && self.require_parent_id(parent).await.is_err()
        {
            new.core.parent = None;
        }
        let alias = new.alias.clone();
        Ok((self.create_or_find(new).await?, alias))
    }

    /// Where a job stands, as text.
    pub(crate) async fn state_of(&self, id: &JobId) -> Result<Option<&'static str>, JobsError> {
        if let Some(entry) = self.hub.0.jobs.live(id) {
            return Ok(Some(entry.turn().await.job.document().state.as_str()));
        }
        Ok(record::ended(&*self.hub.0.log, id)?.map(|ended| ended.document.state.as_str()))
    }

    async fn require_parent_id(&self, parent: &str) -> Result<(), JobsError> {
        let id = JobId::parse(parent)?;
        self.document(&id).await?.map(drop).ok_or(JobsError::NotFound(parent.to_owned()))
    }

    /// Forgets a job that has ended: its events and its files are gone.
    ///
    /// # Errors
    /// [`JobsError`]: `job_not_finished`, `job_not_found`.
    pub async fn delete(&self, id: &JobId) -> Result<(), JobsError> {
        if self.hub.0.jobs.live(id).is_some() {
            return Err(JobsError::NotFinished);
        }
        self.ended(id)?;
        self.forget(id).await
    }

    /// The job of another queue, which only reports: made if it is new. Says whether it was.
    ///
    /// # Errors
    /// [`JobsError`].
    pub(crate) async fn upsert_external(
        &self,
        id: JobId,
        mut new: NewJob,
        known: Upsert,
    ) -> Result<(bool, Reported), JobsError> {
        // Before the job is made: a refusal changes nothing.
        known.state.map(State::announced).transpose()?;
        (new.id, new.core.mode) = (Some(id.clone()), Mode::External);
        let job_type = new.core.job_type.clone();
        let mut is_new = false;
        if self.hub.0.jobs.live(&id).is_none() {
            match self.create_or_find(new).await {
                Ok(_) => is_new = true,
                // Another reporter was faster, or it has ended.
                Err(JobsError::Exists(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let Some(entry) = self.hub.0.jobs.live(&id) else {
            let ended = self.ended(&id)?;
            let is_same =
                ended.document.mode == Mode::External && ended.document.job_type == job_type.as_str();
            return if is_same {
                Err(JobError::Finished(ended.document.state).into())
            } else {
                Err(JobsError::Exists(id.as_str().to_owned()))
            };
        };
        let live = entry.turn().await;
        let document = live.job.document();
        if document.mode != Mode::External || document.job_type != job_type.as_str() {
            return Err(JobsError::Exists(id.as_str().to_owned()));
        }
        let mut job = live.job.clone();
        let now_ms = clock::unix_ms();
        let mut change = match known.state {
            Some(state) => job.handle_state(now_ms, state)?,
            None => Change::Duplicate,
        };
        if !is_new && job.update_external(now_ms, known.queue.as_ref(), known.tags, known.stale_after_ms)? {
            change = Change::State;
        }
        if change == Change::Duplicate {
            drop(live);
            let reported = self.report(&id, Report::Heartbeat(Told::default())).await?;
            return Ok((is_new, Reported { duplicate: !is_new, ..reported }));
        }
        let live = self.change(&entry, live, job, change, None).await?;
        Ok((is_new, Reported::of(&live.job, true, false)))
    }

    pub(super) fn ended(&self, id: &JobId) -> Result<EndedJob, JobsError> {
        let not_found = || JobsError::NotFound(id.as_str().to_owned());
        record::ended(&*self.hub.0.log, id)?.ok_or_else(not_found)
    }
}

/// What an external queue says of a job that may be known already.
#[derive(Debug, Default)]
pub(crate) struct Upsert {
    pub(crate) state: Option<State>,
    pub(crate) queue: Option<QueueName>,
    pub(crate) tags: Option<Vec<String>>,
    pub(crate) stale_after_ms: Option<u64>,
}
