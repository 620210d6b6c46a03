//! Making jobs.
//!
//! Owns: ids, idempotency, unique keys and parents of new jobs. Does not know: HTTP.
//! Flow: a `NewJob` → its first event → a live job, known to the index.

use std::sync::{Arc, PoisonError};

use serde_json::value::RawValue;
use tidings_core::job::{Change, Job, JobError, JobId};
use tidings_core::{ChannelName, Seq, limits};

use super::new::{NewJob, OnConflict};
use super::record::{self, Fixed, News};
use super::store::Live;
use super::{Entry, Jobs, JobsError, Snapshot, unique};
use crate::clock;
use crate::log::{Group, Idempotency, Outcome, Refusal};
use crate::publish::{key_hash, text_hash};
use crate::writer::CommitError;

/// An input up to this size travels with every state of its job; a larger one has a file.
const INPUT_INLINE_BYTES: usize = 4 * 1024;

/// A job that was made, or that a repeated key names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Created {
    pub(crate) id: JobId,
    pub(crate) duplicate: bool,
}

impl Jobs {
    /// Makes a job. When this returns, the job survives a crash, and a handler or a worker will run it.
    ///
    /// # Errors
    /// [`JobsError`]; its `code()` is what HTTP callers see.
    pub async fn create(&self, new: NewJob) -> Result<JobId, JobsError> {
        Ok(self.create_or_find(new).await?.id)
    }

    pub(crate) async fn create_or_find(&self, new: NewJob) -> Result<Created, JobsError> {
        let state = &self.hub.0.jobs;
        self.require_room()?;
        let id = new.id.clone().map_or_else(|| fresh_id(new.idempotency_key.as_deref()), Ok)?;
        let new = new.settled(id, clock::unix_ms())?;
        if let Some(parent) = &new.core.parent {
            self.require_parent(parent).await?;
        }
        let Some(key) = new.core.terms.unique.clone() else { return self.make(new, Vec::new()).await };
        // Whoever goes away while it waits has asked for nothing yet. From here on the turn belongs to the making, which is
        // seen through: given up with the request, it would let another one in before the key is held.
        let turn = state.unique.turn(&key).await;
        let jobs = self.clone();
        let made = tokio::spawn(async move {
            let _turn = turn;
            jobs.make_in_turn(new, &key).await
        });
        made.await.unwrap_or_else(|_| Err(CommitError::OutcomeUnknown.into()))
    }

    /// Makes a job with a unique key, unless another one has it.
    async fn make_in_turn(&self, new: NewJob, key: &str) -> Result<Created, JobsError> {
        let holder = self.hub.0.jobs.unique.holder(key).filter(|holder| *holder != new.core.id);
        let Some(holder) = holder else { return self.make_now(new, Vec::new()).await };
        match new.unique.as_ref().map(|u| u.on_conflict).unwrap_or_default() {
            OnConflict::Return => Ok(Created { id: holder, duplicate: true }),
            OnConflict::Reject => Err(JobsError::Unique(holder.as_str().to_owned())),
            OnConflict::Replace => {
                let created = self.make_now(new, Vec::new()).await?;
                if !created.duplicate {
                    self.replace(&holder).await?;
                }
                Ok(created)
            }
        }
    }

    /// Makes the job of a schedule, with the schedule's next state in the same append.
    pub(super) async fn make_beside(
        &self,
        id: JobId,
        new: NewJob,
        beside: Vec<crate::log::Append>,
    ) -> Result<Created, JobsError> {
        self.require_room()?;
        let mut new = new.settled(id, clock::unix_ms())?;
        // A parent that is gone by now is no reason to refuse.
        if let Some(parent) = &new.core.parent
            && self.document(&JobId::parse(parent)?).await?.is_none()
        {
            new.core.parent = None;
        }
        self.make(new, beside).await
    }

    fn require_room(&self) -> Result<(), JobsError> {
        let live = self.hub.0.jobs.live.lock().unwrap_or_else(PoisonError::into_inner).len();
        if live >= limits::JOBS_LIVE_MAX { Err(JobsError::TooMany) } else { Ok(()) }
    }

    /// The holder of a unique key has to go. If it ended by itself, that is as well.
    async fn replace(&self, holder: &JobId) -> Result<(), JobsError> {
        match self.cancel_as(holder, Some("another job took its place".into()), None, "replaced").await {
            Err(JobsError::Job(JobError::Finished(_)) | JobsError::NotFound(_)) => Ok(()),
            done => done.map(drop),
        }
    }

    pub(super) async fn require_parent(&self, parent: &str) -> Result<(), JobsError> {
        let id = JobId::parse(parent)?;
        match self.document(&id).await? {
            Some(_) => Ok(()),
            None => Err(JobError::Parent(format!("there is no job {parent:?} to belong to")).into()),
        }
    }

    /// Appends a job's first event, with others that belong to it. What was begun is seen through, whoever waits.
    pub(super) async fn make(
        &self,
        new: NewJob,
        beside: Vec<crate::log::Append>,
    ) -> Result<Created, JobsError> {
        let jobs = self.clone();
        let made = tokio::spawn(async move { jobs.make_now(new, beside).await });
        made.await.unwrap_or_else(|_| Err(CommitError::OutcomeUnknown.into()))
    }

    async fn make_now(&self, new: NewJob, beside: Vec<crate::log::Append>) -> Result<Created, JobsError> {
        let now_ms = clock::unix_ms();
        let id = new.core.id.clone();
        let job = Job::create(now_ms, new.core.clone())?;
        let has_file = new.input.as_ref().is_some_and(|input| input.get().len() > INPUT_INLINE_BYTES);
        // Of jobs with one id only one is made, and its file is not written over by one that is refused.
        let _turn = if has_file { self.hub.0.jobs.inputs.of(id.as_str()).await } else { None };
        let mut fixed = self.fixed(&new, &id).await?;
        let (outcome, body) = loop {
            let news = News { change: Change::State, entries: None, has_held: false };
            let events = record::events(&id, &job, &fixed, news, Seq::ZERO, now_ms)?;
            let mut appends = events.appends;
            let body = appends.first().map(|append| append.body.clone()).unwrap_or_default();
            appends.extend(unique::event(&id, job.hidden(), now_ms));
            appends.extend(beside.iter().cloned());
            let idempotency = new.idempotency_key.as_deref().map(|key| idempotency(key, &new, now_ms));
            match self.commit(Group { events: appends, idempotency }).await? {
                Outcome::Refused(Refusal::Finished { channel, .. }) if fixed.leave_out(&channel) => {}
                outcome => break (outcome, body),
            }
        };
        let seq = match outcome {
            Outcome::Appended(places) => places.first().map(|place| place.seq).unwrap_or_default(),
            Outcome::Duplicate { .. } => return Ok(Created { id, duplicate: true }),
            Outcome::Refused(Refusal::KeyReused) => return Err(JobsError::KeyReused),
            Outcome::Refused(Refusal::KeysFull) => return Err(JobsError::KeysFull),
            Outcome::Refused(Refusal::PrevMismatch { .. } | Refusal::Finished { .. }) => {
                return Err(JobsError::Exists(id.as_str().to_owned()));
            }
        };
        let snapshot = Snapshot { seq, body };
        self.hub.0.jobs.unique.hold(&id, job.hidden());
        let stored_ms = Some(now_ms);
        let mark = Default::default();
        let live = Live { job, fixed, head: seq, snapshot, stored_ms, held: false, mark };
        self.arrived(id.clone(), live).await;
        self.hub.0.metrics.jobs_made.inc();
        Ok(Created { id, duplicate: false })
    }

    /// A live job is known from here on.
    pub(super) async fn arrived(&self, id: JobId, live: Live) {
        let state = &self.hub.0.jobs;
        let entry = Arc::new(Entry::new(id.clone(), live, None));
        // Nobody else can have it yet.
        let mut live = entry.turn().await;
        state.live.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), Arc::clone(&entry));
        self.sync(&entry, &mut live);
        let waiting = state.arrivals.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if let Some(waiting) = waiting {
            waiting.notify_waiters();
        }
    }

    /// What does not change about a job; a large input gets its file.
    async fn fixed(&self, new: &NewJob, id: &JobId) -> Result<Fixed, JobsError> {
        let mut fixed = Fixed {
            input: None,
            input_has_file: false,
            alias: new.alias.clone(),
            publish_to: new.publish_to.iter().map(ToString::to_string).collect(),
        };
        match &new.input {
            Some(input) if input.get().len() > INPUT_INLINE_BYTES => {
                // Where the log knows the id, this one will be refused, or is a repeat.
                if self.hub.window(id.channel()).is_none() {
                    self.hub.0.jobs.artifacts.store_input(id, input.get()).await?;
                }
                fixed.input_has_file = true;
            }
            input => fixed.input.clone_from(input),
        }
        Ok(fixed)
    }
}

impl Jobs {
    /// The input of a job, wherever it is.
    pub(super) async fn input(&self, id: &JobId, fixed: &Fixed) -> Result<Option<Box<RawValue>>, JobsError> {
        if !fixed.input_has_file {
            return Ok(fixed.input.clone());
        }
        let text = self.hub.0.jobs.artifacts.input(id).await?;
        RawValue::from_string(text).map(Some).map_err(|e| JobsError::Input(e.to_string()))
    }
}

/// An id that sorts by time; with a key, the same for every repeat of it.
fn fresh_id(key: Option<&str>) -> Result<JobId, JobError> {
    match key {
        Some(key) => id_of(key_hash("jobs", key)),
        None => JobId::parse(&format!("{MADE_HERE}{:012x}{:016x}", clock::unix_ms(), clock::random())),
    }
}

/// The id that belongs to a hash.
pub(super) fn id_of(hash: u128) -> Result<JobId, JobError> {
    JobId::parse(&format!("{MADE_HERE}{hash:032x}"))
}

/// How the ids begin that this server makes.
const MADE_HERE: &str = "job_";

/// Whether an id is of the form that this server makes; others may be announced by their queue yet.
pub(crate) fn is_made_here(id: &JobId) -> bool {
    id.as_str().strip_prefix(MADE_HERE).is_some_and(|rest| {
        matches!(rest.len(), 28 | 32)
            && rest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

fn idempotency(key: &str, new: &NewJob, time_ms: u64) -> Idempotency {
    let input = new.input.as_ref().map_or("", |i| i.get());
    let channels: Vec<&str> = new.publish_to.iter().map(ChannelName::as_str).collect();
    let core = &new.core;
    // What depends on the time of the request is not part of what was asked for.
    let mut terms = core.terms.clone();
    terms.unique_until = None;
    let run_at = if new.delay_ms.is_some() { None } else { core.run_at };
    let what = format!(
        "{:?} {} {} {:?} {:?} {:?} {:?} {run_at:?} {:?} {terms:?}",
        new.id, core.queue, core.priority, core.max_attempts, core.tags, channels, new.delay_ms, core.parent,
    );
    let fingerprint = text_hash(&[core.job_type.as_str(), input, &what]);
    Idempotency { key: key_hash("jobs", key), fingerprint, time_ms }
}
