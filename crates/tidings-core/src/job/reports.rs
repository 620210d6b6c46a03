//! What a worker says, or an external queue.
//!
//! Owns: which report changes what, and that a job ends once. Does not know: the log, the clock, who reports.
//! Flow: a report and its claim → `handle_*` → `Change`.

use alloc::string::String;
use alloc::vec::Vec;

use super::job::{Change, Job};
use super::report::{Claim, Completion, Entries, Fail, FailState, Progress, Retry, cut};
use super::terms::check_tags;
use super::{Artifact, JobError, Mode, QueueName, Reason, State};
use crate::limits;

impl Job {
    /// Progress is reported. An external job that waits runs from then on.
    ///
    /// # Errors
    /// [`JobError::Progress`], [`JobError::TooLarge`], [`JobError::AttemptStale`], [`JobError::LeaseLost`] or
    /// [`JobError::Finished`].
    pub fn handle_progress(
        &mut self,
        now_ms: u64,
        claim: Claim,
        report: Progress,
    ) -> Result<Change, JobError> {
        report.check()?;
        if self.is_repeat(claim) {
            self.hidden.heard_at = now_ms;
            return Ok(Change::Duplicate);
        }
        self.claimed(claim)?;
        let began = self.begin_attempt(claim.attempt)?;
        let ran = self.run(now_ms);
        self.hidden.n = claim.n.or(self.hidden.n);
        self.merge(report);
        Ok(self.changed(now_ms, if began || ran { Change::State } else { Change::Progress }))
    }

    /// Log lines or output. They are events of their own, so the document stays as it is.
    ///
    /// # Errors
    /// [`JobError::Field`], [`JobError::AttemptStale`], [`JobError::LeaseLost`] or [`JobError::Finished`].
    pub fn handle_entries(
        &mut self,
        now_ms: u64,
        claim: Claim,
        entries: &Entries,
    ) -> Result<Change, JobError> {
        entries.check()?;
        if self.is_repeat(claim) {
            self.hidden.heard_at = now_ms;
            return Ok(Change::Duplicate);
        }
        self.claimed(claim)?;
        if self.begin_attempt(claim.attempt)? {
            self.run(now_ms);
            self.hidden.n = claim.n;
            // The attempt is news of its own: the caller stores the state in front of the entries.
            return Ok(self.changed(now_ms, Change::State));
        }
        self.hidden.n = claim.n.or(self.hidden.n);
        // Who logs is not silent.
        self.hidden.heard_at = now_ms;
        Ok(Change::Entries)
    }

    /// A file was stored, or replaced one of the same name.
    ///
    /// # Errors
    /// [`JobError::Field`], [`JobError::LeaseLost`], [`JobError::AttemptStale`] or [`JobError::Finished`].
    pub fn handle_artifact(
        &mut self,
        now_ms: u64,
        claim: Claim,
        artifact: Artifact,
    ) -> Result<Change, JobError> {
        artifact.check()?;
        self.claimed(claim)?;
        if self.begin_attempt(claim.attempt)? {
            self.run(now_ms);
        }
        self.add(artifact)?;
        Ok(self.changed(now_ms, Change::State))
    }

    /// The job ended with a result.
    ///
    /// # Errors
    /// [`JobError::Field`], [`JobError::TooLarge`], [`JobError::AttemptStale`], [`JobError::LeaseLost`] or
    /// [`JobError::Finished`].
    pub fn handle_complete(
        &mut self,
        now_ms: u64,
        claim: Claim,
        report: Completion,
    ) -> Result<Change, JobError> {
        report.check()?;
        if self.repeats_the_end(claim, |state| state == State::Completed) {
            return Ok(Change::Duplicate);
        }
        self.claimed(claim)?;
        self.begin_attempt(claim.attempt)?;
        for artifact in report.artifacts {
            self.add(artifact)?;
        }
        self.document.started_at.get_or_insert(now_ms);
        (self.hidden.n, self.hidden.ended_by) = (claim.n.max(self.hidden.n), claim.lease);
        self.end(now_ms, State::Completed);
        let document = &mut self.document;
        (document.progress, document.result, document.error) = (100.0, report.result, None);
        document.download_url = report.download_url.filter(|_| !document.artifacts.is_empty());
        Ok(self.changed(now_ms, Change::Complete))
    }

    /// A run failed: the job is tried again, or ends without a result. `random` is any number.
    ///
    /// # Errors
    /// [`JobError::Field`], [`JobError::AttemptStale`], [`JobError::LeaseLost`] or [`JobError::Finished`].
    pub fn handle_fail(
        &mut self,
        now_ms: u64,
        claim: Claim,
        report: Fail,
        random: u64,
    ) -> Result<Change, JobError> {
        report.check()?;
        if self.repeats_the_end(claim, |state| state != State::Completed) {
            return Ok(Change::Duplicate);
        }
        let is_retry = self.document.mode == Mode::External && report.retrying;
        if is_retry && (self.is_repeat(claim) || self.repeats_the_retry(claim)) {
            self.hidden.heard_at = now_ms;
            return Ok(Change::Duplicate);
        }
        self.claimed(claim)?;
        self.begin_attempt(claim.attempt)?;
        if is_retry {
            let next_at = report.next_attempt_at;
            let failure = report.failure(State::Failed.as_str());
            self.hidden.retried = claim.n.map(|n| (self.document.attempt, n));
            self.next_attempt(self.document.attempt.saturating_add(1));
            (self.document.state, self.document.reason) = (State::Retrying, Some(Reason::Failed));
            (self.document.run_at, self.document.error) = (next_at, Some(failure));
            return Ok(self.changed(now_ms, Change::State));
        }
        let is_managed = self.document.mode == Mode::Managed;
        let mut state = State::from(report.state);
        if is_managed && self.hidden.cancel.is_some() {
            state = State::Cancelled;
        }
        let wait_ms = match report.retry {
            _ if !is_managed || state != State::Failed => None,
            Retry::Never => None,
            Retry::Auto => Some(self.backoff_ms(random)),
            Retry::After { after_ms } => Some(after_ms),
        };
        let mut failure = report.failure(state.as_str());
        if let Some(cancel) = self.hidden.cancel.as_ref().filter(|_| is_managed) {
            // Who called it off says what that was, such as `replaced`; the worker only obeyed.
            failure.code.clone_from(&cancel.code);
        }
        if let Some(wait_ms) = wait_ms.filter(|_| self.document.attempt < self.document.max_attempts) {
            return Ok(self.again(now_ms, now_ms.saturating_add(wait_ms), Reason::Failed, failure));
        }
        (self.hidden.n, self.hidden.ended_by) = (claim.n.max(self.hidden.n), claim.lease);
        Ok(self.end_failed(now_ms, state, failure))
    }

    /// An external queue says where its job stands.
    ///
    /// # Errors
    /// [`JobError::Finished`], [`JobError::Managed`] for a job of ours, or [`JobError::Field`] for a state that ends it.
    pub fn handle_state(&mut self, now_ms: u64, state: State) -> Result<Change, JobError> {
        if self.document.mode == Mode::Managed {
            return Err(JobError::Managed);
        }
        state.announced()?;
        self.unfinished()?;
        self.hidden.heard_at = now_ms;
        if self.document.state == state {
            return Ok(Change::Duplicate);
        }
        if state == State::Running {
            self.run(now_ms);
        } else {
            (self.document.state, self.document.reason, self.document.run_at) = (state, None, None);
        }
        Ok(self.changed(now_ms, Change::State))
    }

    /// An external queue announces a job again: what it says of it now counts. Says whether anything changed.
    ///
    /// # Errors
    /// [`JobError::Field`], [`JobError::Managed`] or [`JobError::Finished`].
    pub fn update_external(
        &mut self,
        now_ms: u64,
        queue: Option<&QueueName>,
        tags: Option<Vec<String>>,
        stale_after_ms: Option<u64>,
    ) -> Result<bool, JobError> {
        if self.document.mode == Mode::Managed {
            return Err(JobError::Managed);
        }
        self.unfinished()?;
        let mut next = self.clone();
        if let Some(queue) = queue {
            next.document.queue = queue.as_str().into();
        }
        if let Some(tags) = tags {
            check_tags(&tags)?;
            next.document.tags = tags;
        }
        next.hidden.terms.stale_after_ms = stale_after_ms.or(next.hidden.terms.stale_after_ms);
        next.hidden.terms.check()?;
        let is_same = next.document.queue == self.document.queue
            && next.document.tags == self.document.tags
            && next.hidden == self.hidden;
        if !is_same {
            *self = next;
            self.changed(now_ms, Change::State);
        }
        Ok(!is_same)
    }

    fn add(&mut self, artifact: Artifact) -> Result<(), JobError> {
        let artifacts = &mut self.document.artifacts;
        if let Some(known) = artifacts.iter_mut().find(|known| known.name == artifact.name) {
            *known = artifact;
            return Ok(());
        }
        if artifacts.len() >= limits::JOB_ARTIFACTS_MAX {
            let most = limits::JOB_ARTIFACTS_MAX;
            return Err(JobError::Field(alloc::format!("the job has {most} files; no more are allowed")));
        }
        artifacts.push(artifact);
        Ok(())
    }

    /// A report of this attempt whose counter is not newer than what was taken already.
    fn is_repeat(&self, claim: Claim) -> bool {
        let is_of_the_run = match (self.document.mode, claim.lease) {
            (Mode::External, lease) => lease.is_none(),
            // Without a lease nobody can repeat what was taken with one.
            (Mode::Managed, None) => false,
            (Mode::Managed, lease) => {
                lease == self.hidden.lease.as_ref().map(|own| own.hash).or(self.hidden.ended_by)
            }
        };
        is_of_the_run
            && claim.attempt.is_none_or(|attempt| attempt == self.document.attempt)
            && claim.n.zip(self.hidden.n).is_some_and(|(n, newest)| n <= newest)
    }

    /// Whether a report that an external queue tries again repeats the one that began the present attempt: it must not
    /// begin another. Without an attempt this is known only until something of the new one is reported.
    fn repeats_the_retry(&self, claim: Claim) -> bool {
        self.hidden.retried.is_some_and(|(attempt, n)| {
            let is_untouched = self.document.state == State::Retrying && self.hidden.n.is_none();
            claim.lease.is_none()
                && claim.n == Some(n)
                && claim.attempt.map_or(is_untouched, |given| given == attempt)
        })
    }

    /// Whether a report that ends the job repeats the one that did. While the job has not ended, no such report is a
    /// repeat, however old its counter: a job must not miss its end.
    fn repeats_the_end(&self, claim: Claim, is_so: impl Fn(State) -> bool) -> bool {
        let state = self.document.state;
        if !state.is_finished() {
            return false;
        }
        match claim.lease {
            Some(lease) => self.hidden.ended_by == Some(lease) && is_so(state),
            None => self.is_repeat(claim),
        }
    }

    /// A report of a newer attempt begins it, if the attempts are another queue's to count.
    pub(super) fn begin_attempt(&mut self, attempt: Option<u32>) -> Result<bool, JobError> {
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

    /// Whether the job did not run before.
    pub(super) fn run(&mut self, now_ms: u64) -> bool {
        let document = &mut self.document;
        document.started_at.get_or_insert(now_ms);
        if document.state == State::Running {
            return false;
        }
        (document.state, document.reason, document.run_at, document.error) =
            (State::Running, None, None, None);
        true
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
                *field = text.map(|text| cut(text, limits::JOB_TEXT_BYTES_MAX));
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
}

impl State {
    /// Says whether another queue may announce its job in this state.
    ///
    /// # Errors
    /// [`JobError::Field`] for a state that ends it.
    pub fn announced(self) -> Result<Self, JobError> {
        if self.is_finished() {
            return Err(JobError::Field("a job is ended by `complete` or `fail`".into()));
        }
        Ok(self)
    }
}

impl From<FailState> for State {
    fn from(state: FailState) -> Self {
        match state {
            FailState::Failed => Self::Failed,
            FailState::Cancelled => Self::Cancelled,
            FailState::Expired => Self::Expired,
        }
    }
}
