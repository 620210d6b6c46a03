//! Time: what becomes of a job when nobody says anything.
//!
//! Owns: all deadlines of a job, and calling it off. Does not know: the clock, timers.
//! Flow: `due_ms` → a timer of the caller → `handle_due` → `Change` · `handle_cancel` → an end, or a deadline.

use alloc::string::String;

use super::job::{Cancel, Change, Job};
use super::report::cut;
use super::{Failure, JobError, Mode, Reason, State};
use crate::limits;

/// What is due for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Cancelled,
    Expired,
    Queued,
    TimedOut,
    Stalled,
    Lost,
}

impl Job {
    /// When [`Job::handle_due`] has something to do next, Unix milliseconds; `None` while it has nothing to wait for.
    #[must_use]
    pub fn due_ms(&self) -> Option<u64> {
        self.deadlines().map(|(at, _)| at).min()
    }

    fn deadlines(&self) -> impl Iterator<Item = (u64, Due)> {
        let (document, hidden) = (&self.document, &self.hidden);
        let is_live = !document.state.is_finished();
        let waits = is_live && document.state != State::Running;
        let lease = hidden.lease.as_ref().filter(|_| is_live);
        let cancelled = hidden.cancel.as_ref().and_then(|c| c.deadline).filter(|_| is_live);
        let expired = hidden.expires_at.filter(|_| waits);
        let queued =
            document.run_at.filter(|_| document.state == State::Scheduled && document.mode == Mode::Managed);
        let timed_out = lease.and_then(|l| l.deadline);
        let stalled = lease.filter(|l| !l.is_local).map(|l| l.expires_at);
        let lost = hidden.terms.stale_after_ms.filter(|_| is_live && document.mode == Mode::External);
        let lost = lost.map(|ms| document.updated_at.max(hidden.heard_at).saturating_add(ms));
        let all = [
            (cancelled, Due::Cancelled),
            (expired, Due::Expired),
            (queued, Due::Queued),
            (timed_out, Due::TimedOut),
            (stalled, Due::Stalled),
            (lost, Due::Lost),
        ];
        all.into_iter().filter_map(|(at, due)| Some((at?, due)))
    }

    /// Does what is due: a cancelled job whose time is up ends, a scheduled one is queued, a silent worker loses its lease.
    /// `random` is any number; it spreads the wait before the next attempt. One thing at a time: ask [`Job::due_ms`] again.
    pub fn handle_due(&mut self, now_ms: u64, random: u64) -> Change {
        let due = self.deadlines().filter(|(at, _)| *at <= now_ms).min_by_key(|(at, _)| *at);
        match due.map(|(_, due)| due) {
            None => Change::Duplicate,
            Some(Due::Cancelled) => self.end_cancelled(now_ms),
            Some(Due::Expired) => {
                let failure = Failure::of("the job was not run in time", "expired");
                self.end_failed(now_ms, State::Expired, failure)
            }
            Some(Due::Queued) => {
                (self.document.state, self.document.run_at) = (State::Queued, None);
                self.changed(now_ms, Change::State)
            }
            Some(Due::TimedOut) => {
                let failure = Failure::of("the run took too long", "timed_out");
                let run_at = now_ms.saturating_add(self.backoff_ms(random));
                self.again(now_ms, run_at, Reason::TimedOut, failure)
            }
            Some(Due::Stalled) => self.stalled(now_ms),
            Some(Due::Lost) => {
                let failure = Failure::of("nothing was reported for too long", "lost");
                self.end_failed(now_ms, State::Failed, failure)
            }
        }
    }

    /// Somebody asks to call the job off. One that waits is cancelled at once; one that runs is asked to stop, and is
    /// cancelled when the grace has passed, if it is ours or a grace was given. `code` is what its end will be called.
    ///
    /// # Errors
    /// [`JobError::Finished`], or [`JobError::Field`] for a grace that is too long.
    pub fn handle_cancel(
        &mut self,
        now_ms: u64,
        reason: Option<String>,
        grace_ms: Option<u64>,
        code: &str,
    ) -> Result<Change, JobError> {
        self.unfinished()?;
        if grace_ms.is_some_and(|ms| ms > limits::CANCEL_GRACE_MS_MAX) {
            return Err(JobError::Field(alloc::format!(
                "grace_ms is more than {}",
                limits::CANCEL_GRACE_MS_MAX
            )));
        }
        let is_managed = self.document.mode == Mode::Managed;
        let grace_ms = grace_ms.or(is_managed.then_some(limits::CANCEL_GRACE_MS_DEFAULT));
        let deadline = grace_ms.map(|ms| now_ms.saturating_add(ms));
        if let Some(cancel) = &mut self.hidden.cancel {
            // Asked again: an earlier end counts, a later one would be a surprise to the first who asked.
            let sooner = deadline.filter(|at| cancel.deadline.is_none_or(|known| *at < known));
            if sooner.is_none() {
                return Ok(Change::Duplicate);
            }
            cancel.deadline = sooner;
            return Ok(self.changed(now_ms, Change::State));
        }
        let reason = reason.map(|reason| cut(reason, limits::JOB_TEXT_BYTES_MAX));
        self.hidden.cancel = Some(Cancel { reason, code: code.into(), deadline });
        self.document.cancel_requested = true;
        if is_managed && self.document.state != State::Running {
            return Ok(self.end_cancelled(now_ms));
        }
        Ok(self.changed(now_ms, Change::State))
    }

    /// The wish to call the job off, if there is one.
    #[must_use]
    pub fn cancel(&self) -> Option<&Cancel> {
        self.hidden.cancel.as_ref()
    }

    /// The wait before the attempt that follows the present one.
    pub(super) fn backoff_ms(&self, random: u64) -> u64 {
        self.hidden.terms.backoff.unwrap_or_default().wait_ms(self.document.attempt, random)
    }

    pub(super) fn end_cancelled(&mut self, now_ms: u64) -> Change {
        let (message, code) = match &self.hidden.cancel {
            Some(cancel) => {
                (cancel.reason.as_deref().unwrap_or("the job was cancelled"), cancel.code.as_str())
            }
            None => ("the job was cancelled", "cancelled"),
        };
        let failure = Failure::of(message, code);
        self.end_failed(now_ms, State::Cancelled, failure)
    }

    pub(super) fn end_failed(&mut self, now_ms: u64, state: State, failure: Failure) -> Change {
        self.end(now_ms, state);
        self.document.error = Some(failure);
        self.changed(now_ms, Change::Error)
    }
}
