//! The job state machine.
//!
//! Owns: which report changes what, and that a job ends once. Does not know: the log (it is given a copy to change, which
//! counts once its event is stored), the clock, who reports.
//! Flow: `handle_*` → `Change` → `event`.
//!
//! ```text
//! queued ─► running ─► completed
//!   │         │ └────► failed · cancelled · expired   (also from queued and retrying)
//!   └◄─ retrying ◄─┘ interrupted, with attempt + 1
//! ```

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::Serialize;

use super::report::cut;
use super::{
    Completion, Document, Fail, FailState, Failure, JobError, JobId, JobType, Mode, Progress, State,
};
use crate::limits;

/// A job that is to be made.
#[derive(Debug, Clone)]
pub struct New {
    /// Its id.
    pub id: JobId,
    /// What it does.
    pub job_type: JobType,
    /// The queue it stands in, for people.
    pub queue: Option<String>,
    /// Who runs it.
    pub mode: Mode,
    /// How many runs there may be, at least one.
    pub max_attempts: u32,
    /// For filters.
    pub tags: Vec<String>,
}

/// A job: its document, and what makes a repeated report recognisable.
#[derive(Debug, Clone)]
pub struct Job {
    document: Document,
    /// The newest counter of the present attempt.
    n: Option<u64>,
}

/// What a report did to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing: it was a repeat.
    Duplicate,
    /// Its progress. May be held back (see [`super::coalesce()`]).
    Progress,
    /// Its state or attempt: a `progress` event that is stored now.
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
    /// use tidings_core::job::{Audience, Change, Completion, Job, JobId, JobType, Mode, New, Progress};
    /// let (id, job_type) = (JobId::parse("7")?, JobType::parse("generate-report")?);
    /// let new = New { id, job_type, queue: None, mode: Mode::Managed, max_attempts: 3, tags: vec![] };
    /// let mut job = Job::create(1_000, new)?;
    /// assert_eq!(job.handle_progress(1_500, Progress::percent(42.0))?, Change::State);
    /// let change = job.handle_complete(2_000, Completion::default())?;
    /// assert_eq!(job.event(change, Audience::Job).unwrap().event, "complete");
    /// # Ok::<(), tidings_core::job::JobError>(())
    /// ```
    ///
    /// # Errors
    /// [`JobError::Field`] for too many or too long tags, or too long a queue.
    pub fn create(now_ms: u64, new: New) -> Result<Self, JobError> {
        let tags_fit = new.tags.iter().all(|tag| (1..=limits::JOB_TAG_BYTES_MAX).contains(&tag.len()));
        if new.tags.len() > limits::JOB_TAGS_MAX || !tags_fit {
            let (most, bytes) = (limits::JOB_TAGS_MAX, limits::JOB_TAG_BYTES_MAX);
            return Err(JobError::Field(format!("tags are not at most {most} texts of 1 to {bytes} bytes")));
        }
        if new.queue.as_ref().is_some_and(|queue| queue.len() > limits::JOB_TAG_BYTES_MAX) {
            return Err(JobError::Field(format!("queue is longer than {} bytes", limits::JOB_TAG_BYTES_MAX)));
        }
        let document = Document {
            id: new.id.as_str().into(),
            job_id: new.id.as_str().into(),
            job_type: new.job_type.as_str().into(),
            queue: new.queue,
            mode: new.mode,
            state: State::Queued,
            progress: 0.0,
            current: None,
            total: None,
            unit: None,
            step: None,
            message: None,
            eta_ms: None,
            data: None,
            attempt: 1,
            max_attempts: new.max_attempts.max(1),
            cancel_requested: false,
            created_at: now_ms,
            started_at: None,
            updated_at: now_ms,
            finished_at: None,
            result: None,
            error: None,
            artifacts: Vec::new(),
            download_url: None,
            tags: new.tags,
            v: 1,
        };
        Ok(Self { document, n: None })
    }

    /// A job as it was stored: its document, and [`Job::n`] beside it.
    #[must_use]
    pub fn restore(document: Document, n: Option<u64>) -> Self {
        Self { document, n }
    }

    /// A run begins.
    ///
    /// # Errors
    /// [`JobError::Finished`], or [`JobError::AttemptStale`] if another attempt is due.
    pub fn handle_start(&mut self, now_ms: u64, attempt: u32) -> Result<Change, JobError> {
        self.unfinished()?;
        if attempt != self.document.attempt {
            return Err(JobError::AttemptStale { given: attempt, current: self.document.attempt });
        }
        if !self.run(now_ms) {
            return Ok(Change::Duplicate);
        }
        Ok(self.changed(now_ms, Change::State))
    }

    /// Progress is reported. A job that waits runs from then on.
    ///
    /// # Errors
    /// [`JobError::Progress`], [`JobError::TooLarge`], [`JobError::AttemptStale`] or [`JobError::Finished`].
    pub fn handle_progress(&mut self, now_ms: u64, report: Progress) -> Result<Change, JobError> {
        report.check()?;
        if self.is_repeat(report.attempt, report.n) {
            return Ok(Change::Duplicate);
        }
        self.unfinished()?;
        let began = self.begin_attempt(report.attempt)?;
        let ran = self.run(now_ms);
        self.n = report.n.or(self.n);
        self.merge(report);
        Ok(self.changed(now_ms, if began || ran { Change::State } else { Change::Progress }))
    }

    /// The job ended with a result.
    ///
    /// # Errors
    /// [`JobError::Field`], [`JobError::TooLarge`], [`JobError::AttemptStale`] or [`JobError::Finished`].
    pub fn handle_complete(&mut self, now_ms: u64, report: Completion) -> Result<Change, JobError> {
        report.check()?;
        if !self.may_end(report.attempt, report.n)? {
            return Ok(Change::Duplicate);
        }
        self.end(now_ms, State::Completed, report.n);
        let document = &mut self.document;
        (document.progress, document.eta_ms) = (100.0, None);
        (document.result, document.artifacts) = (report.result, report.artifacts);
        document.download_url = report.download_url;
        Ok(self.changed(now_ms, Change::Complete))
    }

    /// The job ended without a result.
    ///
    /// # Errors
    /// [`JobError::AttemptStale`] or [`JobError::Finished`].
    pub fn handle_fail(&mut self, now_ms: u64, report: Fail) -> Result<Change, JobError> {
        if !self.may_end(report.attempt, report.n)? {
            return Ok(Change::Duplicate);
        }
        let state = State::from(report.state);
        self.end(now_ms, state, report.n);
        let code = report.code.filter(|code| !code.is_empty()).unwrap_or_else(|| state.as_str().into());
        self.document.error = Some(Failure { message: cut(report.message), code: cut(code) });
        Ok(self.changed(now_ms, Change::Error))
    }

    /// The process that ran the job is gone: it runs again, or has failed if it may not.
    ///
    /// # Errors
    /// [`JobError::Finished`].
    pub fn handle_interrupted(&mut self, now_ms: u64) -> Result<Change, JobError> {
        self.unfinished()?;
        if self.document.state != State::Running {
            return Ok(Change::Duplicate);
        }
        if self.document.attempt >= self.document.max_attempts {
            let message = "the job was interrupted and may not run again".into();
            let code = Some("interrupted".into());
            let state = FailState::Failed;
            return self.handle_fail(now_ms, Fail { message, code, state, attempt: None, n: None });
        }
        self.next_attempt(self.document.attempt.saturating_add(1));
        self.document.state = State::Retrying;
        Ok(self.changed(now_ms, Change::State))
    }

    /// The document.
    #[must_use]
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// The newest counter of the present attempt; stored beside the document.
    #[must_use]
    pub fn n(&self) -> Option<u64> {
        self.n
    }

    /// The event that tells `audience` of a change; none for a repeat.
    #[must_use]
    pub fn event(&self, change: Change, audience: Audience) -> Option<JobEvent> {
        let (event, is_final) = match (change, audience) {
            (Change::Duplicate, _) => return None,
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

    fn unfinished(&self) -> Result<(), JobError> {
        match self.document.state {
            state if state.is_finished() => Err(JobError::Finished(state)),
            _ => Ok(()),
        }
    }

    /// A report of this attempt whose counter is not newer than what was taken already.
    fn is_repeat(&self, attempt: Option<u32>, n: Option<u64>) -> bool {
        attempt.is_none_or(|attempt| attempt == self.document.attempt)
            && n.zip(self.n).is_some_and(|(n, newest)| n <= newest)
    }

    /// Whether a report that ends the job does so; it does not if it repeats the one that did. While the job has not ended,
    /// no such report is a repeat, however old its counter: a job must not miss its end.
    fn may_end(&mut self, attempt: Option<u32>, n: Option<u64>) -> Result<bool, JobError> {
        if self.document.state.is_finished() && self.is_repeat(attempt, n) {
            return Ok(false);
        }
        self.unfinished()?;
        self.begin_attempt(attempt)?;
        Ok(true)
    }

    /// A report of a newer attempt begins it, if the attempts are another queue's to count.
    fn begin_attempt(&mut self, attempt: Option<u32>) -> Result<bool, JobError> {
        let current = self.document.attempt;
        match attempt {
            None => Ok(false),
            Some(given) if given == current => Ok(false),
            Some(given) if given > current && self.document.mode == Mode::External => {
                self.next_attempt(given);
                Ok(true)
            }
            Some(given) => Err(JobError::AttemptStale { given, current }),
        }
    }

    fn next_attempt(&mut self, attempt: u32) {
        let document = &mut self.document;
        document.attempt = attempt;
        document.max_attempts = document.max_attempts.max(attempt);
        document.progress = 0.0;
        (document.current, document.total, document.eta_ms) = (None, None, None);
        (document.unit, document.step, document.message, document.data) = (None, None, None, None);
        self.n = None;
    }

    /// Whether the job did not run before.
    fn run(&mut self, now_ms: u64) -> bool {
        self.document.started_at.get_or_insert(now_ms);
        core::mem::replace(&mut self.document.state, State::Running) != State::Running
    }

    fn end(&mut self, now_ms: u64, state: State, n: Option<u64>) {
        self.document.state = state;
        self.document.finished_at = Some(now_ms);
        self.n = n.max(self.n);
    }

    fn merge(&mut self, report: Progress) {
        let document = &mut self.document;
        let counts = report.current.is_some() || report.total.is_some();
        document.current = report.current.unwrap_or(document.current);
        document.total = report.total.unwrap_or(document.total);
        document.eta_ms = report.eta_ms.unwrap_or(document.eta_ms);
        for (field, reported) in [
            (&mut document.unit, report.unit),
            (&mut document.step, report.step),
            (&mut document.message, report.message),
        ] {
            if let Some(text) = reported {
                *field = text.map(cut);
            }
        }
        if let Some(data) = report.data {
            document.data = data;
        }
        let derived = match (document.current, document.total) {
            (Some(current), Some(total)) if counts && total > 0.0 => {
                Some((current / total * 100.0).clamp(0.0, 100.0))
            }
            _ => None,
        };
        let percent = report.progress.or(derived);
        document.progress = match percent {
            _ if report.reset => percent.unwrap_or(0.0),
            // Adding zero makes a negative zero a plain one.
            Some(percent) => document.progress.max(percent + 0.0),
            None => document.progress,
        };
    }

    fn changed(&mut self, now_ms: u64, change: Change) -> Change {
        // A clock that was set back must not make times fall.
        self.document.updated_at = self.document.updated_at.max(now_ms);
        self.document.v = self.document.v.saturating_add(1);
        change
    }
}
