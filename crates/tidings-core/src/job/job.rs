//! A job as a value: its document, and what is stored beside it.
//!
//! Owns: making one, reading one back, the events that tell of a change. Does not know: the log (it is given a copy to
//! change, which counts once its event is stored), the clock, who reports.
//! Flow: `Job::create` or `restore` → `handle_*` (`lease`, `reports`, `due`) → `Change` → `event`.
//!
//! ```text
//! scheduled ─► queued ─► running ─► completed · failed · cancelled · expired
//!                ▲          ├─► retrying ─► running        attempt + 1
//!                └──────────┘ released                     same attempt
//! ```

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::lease::Lease;
use super::terms::{New, Terms};
use super::{Document, JobError, Mode, State};

/// A job: its document, and what is not for pages.
#[derive(Debug, Clone)]
pub struct Job {
    pub(super) document: Document,
    pub(super) hidden: Hidden,
}

/// What is stored beside the document and never sent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hidden {
    /// The newest counter of the present attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// What its maker asked for.
    pub terms: Terms,
    /// Who runs it now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lease: Option<Lease>,
    /// Leases that it lost.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) stalls: u32,
    /// When it expires unless it begins to run, Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expires_at: Option<u64>,
    /// Somebody asked to call it off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cancel: Option<Cancel>,
    /// The attempt and the counter of the report by which an external queue began the present attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retried: Option<(u32, u64)>,
    /// When an external queue was last heard of. Not stored: after a restart its time begins anew, as a lease's does.
    #[serde(skip)]
    pub(super) heard_at: u64,
    /// The hash of the lease whose report ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ended_by: Option<u128>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// A wish to call a job off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// For programs: what the job's end will be called.
    pub code: String,
    /// When the server ends the job if nobody did, Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u64>,
}

/// What a report did to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing: it was a repeat, or there was nothing to do.
    Duplicate,
    /// Its progress. May be held back (see [`super::coalesce()`]).
    Progress,
    /// Log lines or output, which are events of their own; the document is as it was.
    Entries,
    /// Its state, attempt or files: a `progress` event that is stored now.
    State,
    /// It ended with a result.
    Complete,
    /// It ended without.
    Error,
}

/// Who gets an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// The job's own stream, where a page expects `error`.
    Job,
    /// The channels of `publish_to`, where `error` would collide with the browser's own.
    PublishTo,
}

/// An event of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEvent {
    /// Its type.
    pub event: &'static str,
    /// Its data, JSON.
    pub data: String,
    /// It is the last one.
    pub is_final: bool,
}

/// The data of `error`.
#[derive(Serialize)]
struct Ended<'a> {
    #[serde(rename = "jobId")]
    job_id: &'a str,
    state: State,
    message: &'a str,
    code: &'a str,
    attempt: u32,
}

impl Job {
    /// Makes a job that waits to be run.
    ///
    /// ```
    /// use tidings_core::job::{Audience, Change, Claim, Completion, Job, JobId, JobType, New, NewLease, Progress};
    /// let new = New::new(JobId::parse("7")?, JobType::parse("generate-report")?);
    /// let mut job = Job::create(1_000, new)?;
    /// job.handle_lease(1_200, NewLease { hash: 42, worker: "w1".into(), lease_ms: None, is_local: false })?;
    /// let claim = Claim { lease: Some(42), ..Claim::default() };
    /// assert_eq!(job.handle_progress(1_500, claim, Progress::percent(42.0))?, Change::Progress);
    /// let change = job.handle_complete(2_000, claim, Completion::default())?;
    /// assert_eq!(job.event(change, Audience::Job).unwrap().event, "complete");
    /// # Ok::<(), tidings_core::job::JobError>(())
    /// ```
    ///
    /// # Errors
    /// [`JobError::Field`] for a value that is out of its bounds, [`JobError::Parent`] for a job that is its own parent.
    pub fn create(now_ms: u64, new: New) -> Result<Self, JobError> {
        new.check(now_ms)?;
        let run_at = new.run_at.filter(|&at| at > now_ms && new.mode == Mode::Managed);
        let document = Document {
            id: new.id.as_str().into(),
            job_id: new.id.as_str().into(),
            job_type: new.job_type.as_str().into(),
            queue: new.queue.as_str().into(),
            mode: new.mode,
            state: if run_at.is_some() { State::Scheduled } else { State::Queued },
            reason: None,
            priority: new.priority,
            progress: 0.0,
            current: None,
            total: None,
            unit: None,
            step: None,
            message: None,
            eta_ms: None,
            data: None,
            attempt: 1,
            max_attempts: new.max_attempts,
            cancel_requested: false,
            created_at: now_ms,
            run_at,
            started_at: None,
            updated_at: now_ms,
            finished_at: None,
            result: None,
            error: None,
            artifacts: Vec::new(),
            download_url: None,
            tags: new.tags,
            parent: new.parent,
            retry_of: new.retry_of,
            schedule: new.schedule,
            subject: new.subject,
            v: 1,
        };
        let queued_ms = new.terms.queued_ms.filter(|_| new.mode == Mode::Managed);
        let expires_at = queued_ms.map(|ms| run_at.unwrap_or(now_ms).saturating_add(ms));
        Ok(Self { document, hidden: Hidden { terms: new.terms, expires_at, ..Hidden::default() } })
    }

    /// A job as it was stored.
    #[must_use]
    pub fn restore(document: Document, hidden: Hidden) -> Self {
        Self { document, hidden }
    }

    /// The document.
    #[must_use]
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// What is stored beside the document.
    #[must_use]
    pub fn hidden(&self) -> &Hidden {
        &self.hidden
    }

    /// The event that tells `audience` of a change; none for a repeat, and none for entries, which are their own events.
    #[must_use]
    pub fn event(&self, change: Change, audience: Audience) -> Option<JobEvent> {
        let (event, is_final) = match (change, audience) {
            (Change::Duplicate | Change::Entries, _) => return None,
            (Change::Progress | Change::State, _) => ("progress", false),
            (Change::Complete, _) => ("complete", true),
            (Change::Error, Audience::Job) => ("error", true),
            (Change::Error, Audience::PublishTo) => ("failed", true),
        };
        let data = match (&self.document.error, change) {
            (Some(error), Change::Error) => serde_json::to_string(&Ended {
                job_id: &self.document.id,
                state: self.document.state,
                message: &error.message,
                code: &error.code,
                attempt: self.document.attempt,
            }),
            _ => serde_json::to_string(&self.document),
        };
        // Invariant: both are plain structs with text keys, whose numbers are finite.
        data.ok().map(|data| JobEvent { event, data, is_final: is_final && audience == Audience::Job })
    }

    pub(super) fn unfinished(&self) -> Result<(), JobError> {
        match self.document.state {
            state if state.is_finished() => Err(JobError::Finished(state)),
            _ => Ok(()),
        }
    }

    /// Everything that belongs to one run is gone: another one is due.
    pub(super) fn clear_run(&mut self) {
        let document = &mut self.document;
        document.progress = 0.0;
        (document.current, document.total, document.eta_ms) = (None, None, None);
        (document.unit, document.step, document.message, document.data) = (None, None, None, None);
        document.artifacts.clear();
        (self.hidden.n, self.hidden.lease) = (None, None);
    }

    /// The next attempt is due.
    pub(super) fn next_attempt(&mut self, attempt: u32) {
        self.document.attempt = attempt;
        self.document.max_attempts = self.document.max_attempts.max(attempt);
        self.clear_run();
    }

    pub(super) fn end(&mut self, now_ms: u64, state: State) {
        let document = &mut self.document;
        (document.state, document.finished_at, document.run_at) = (state, Some(now_ms), None);
        (document.reason, document.eta_ms) = (None, None);
        self.hidden.lease = None;
    }

    pub(super) fn changed(&mut self, now_ms: u64, change: Change) -> Change {
        // A clock that was set back must not make times fall.
        self.document.updated_at = self.document.updated_at.max(now_ms);
        self.document.v = self.document.v.saturating_add(1);
        change
    }
}
