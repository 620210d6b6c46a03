//! Leases: who runs a job now.
//!
//! Owns: beginning, renewing and losing a lease, and the claim that every report of a leased job makes. Does not know:
//! which of several jobs is leased next, tokens (it is given their hashes).
//! Flow: `handle_lease` → reports with a claim → `handle_release`, an end, or silence (`due`).

use alloc::string::String;

use serde::{Deserialize, Serialize};

use super::job::{Change, Job};
use super::report::Claim;
use super::{Failure, JobError, Mode, Reason, State};
use crate::limits;

/// Who runs a job now. Times are Unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The hash of its token, which fences: a report with another one is refused.
    pub(super) hash: u128,
    /// Who has it.
    pub worker: String,
    /// How long the worker may be silent.
    pub lease_ms: u64,
    /// When it ends unless it is renewed. Not stored: after a restart every lease gets a whole period.
    #[serde(skip)]
    pub expires_at: u64,
    /// When the run has taken too long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u64>,
    /// It is a handler's of this process: it does not expire, and ends with the process.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub is_local: bool,
}

impl Lease {
    /// Whether this is the hash of its token.
    #[must_use]
    pub fn is_of(&self, hash: u128) -> bool {
        self.hash == hash
    }
}

/// A lease that is to begin.
#[derive(Debug, Clone)]
pub struct NewLease {
    /// The hash of its token.
    pub hash: u128,
    /// Who gets it.
    pub worker: String,
    /// How long the worker may be silent; what the job's maker said if left out.
    pub lease_ms: Option<u64>,
    /// It is for a handler of this process.
    pub is_local: bool,
}

impl Job {
    /// Since when, or from when on, a worker may lease it: `None` while it runs, waits for its time of day, has ended, or
    /// is not ours to run. Orders the jobs that wait; [`Job::is_ready`] says whether it may be leased now.
    #[must_use]
    pub fn ready_at(&self) -> Option<u64> {
        match (self.document.mode, self.document.state) {
            (Mode::Managed, State::Queued) => Some(self.document.created_at),
            (Mode::Managed, State::Retrying) => Some(self.document.run_at.unwrap_or(0)),
            _ => None,
        }
    }

    /// Whether a worker may lease it now. A job that is queued may, though the clock was set back behind its making.
    #[must_use]
    pub fn is_ready(&self, now_ms: u64) -> bool {
        self.ready_at().is_some_and(|at| at <= now_ms || self.document.state == State::Queued)
    }

    /// Who runs it now.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        self.hidden.lease.as_ref()
    }

    /// A worker takes the job: a run begins.
    ///
    /// # Errors
    /// [`JobError::NotReady`] if it may not run now, [`JobError::Finished`], [`JobError::Field`] for a lease that is too
    /// short or too long.
    pub fn handle_lease(&mut self, now_ms: u64, new: NewLease) -> Result<Change, JobError> {
        self.unfinished()?;
        if !self.is_ready(now_ms) {
            return Err(JobError::NotReady(self.document.state));
        }
        let lease_ms = new.lease_ms.unwrap_or(self.hidden.terms.lease_ms);
        if !limits::LEASE_MS.contains(&lease_ms) {
            return Err(JobError::Field(alloc::format!(
                "lease_ms is {lease_ms}, not {} to {}",
                limits::LEASE_MS.start(),
                limits::LEASE_MS.end()
            )));
        }
        self.clear_run();
        let document = &mut self.document;
        (document.state, document.reason, document.run_at, document.error) =
            (State::Running, None, None, None);
        document.started_at.get_or_insert(now_ms);
        self.hidden.expires_at = None;
        self.hidden.lease = Some(Lease {
            hash: new.hash,
            worker: new.worker,
            lease_ms,
            expires_at: now_ms.saturating_add(lease_ms),
            deadline: self.hidden.terms.timeout_ms.map(|ms| now_ms.saturating_add(ms)),
            is_local: new.is_local,
        });
        Ok(self.changed(now_ms, Change::State))
    }

    /// The worker is heard of: its lease begins anew. Nothing of this is stored.
    ///
    /// # Errors
    /// [`JobError::LeaseLost`].
    pub fn renew(&mut self, now_ms: u64, lease: u128) -> Result<(), JobError> {
        match &mut self.hidden.lease {
            Some(own) if own.hash == lease => {
                own.expires_at = now_ms.saturating_add(own.lease_ms);
                Ok(())
            }
            _ => Err(JobError::LeaseLost),
        }
    }

    /// Whoever runs the job is there: its lease, or the patience with an external queue, begins anew. Nothing of that is
    /// stored, so the counter is not remembered either.
    ///
    /// # Errors
    /// [`JobError::LeaseLost`], [`JobError::AttemptStale`] or [`JobError::Finished`].
    pub fn handle_heartbeat(&mut self, now_ms: u64, claim: Claim) -> Result<Change, JobError> {
        self.claimed(claim)?;
        if let Some(lease) = claim.lease {
            self.renew(now_ms, lease)?;
        }
        if self.begin_attempt(claim.attempt)? {
            self.run(now_ms);
            self.hidden.n = claim.n;
            return Ok(self.changed(now_ms, Change::State));
        }
        self.hidden.heard_at = now_ms;
        Ok(Change::Duplicate)
    }

    /// The worker gives the job back: same attempt, now or later. Its counter may be an old one: the run is over, whatever
    /// was said of it before.
    ///
    /// # Errors
    /// [`JobError::LeaseLost`] or [`JobError::AttemptStale`].
    pub fn handle_release(&mut self, now_ms: u64, claim: Claim, delay_ms: u64) -> Result<Change, JobError> {
        self.claimed(claim)?;
        if self.hidden.lease.is_none() {
            // Nobody has what another queue runs.
            return Err(JobError::LeaseLost);
        }
        if self.hidden.cancel.is_some() {
            return Ok(self.end_cancelled(now_ms));
        }
        self.clear_run();
        self.document.reason = Some(Reason::Released);
        if delay_ms == 0 {
            self.document.state = State::Queued;
        } else {
            self.document.state = State::Retrying;
            self.document.run_at = Some(now_ms.saturating_add(delay_ms.min(limits::JOB_DELAY_MS_MAX)));
        }
        Ok(self.changed(now_ms, Change::State))
    }

    /// The process that ran the job is gone: it runs again, or has failed if it may not. A lease of a worker elsewhere
    /// goes on, and gets a whole period; so does an external queue, which could not report.
    ///
    /// # Errors
    /// [`JobError::Finished`].
    pub fn handle_interrupted(&mut self, now_ms: u64) -> Result<Change, JobError> {
        self.unfinished()?;
        self.hidden.heard_at = now_ms;
        match &mut self.hidden.lease {
            Some(lease) if !lease.is_local => {
                lease.expires_at = now_ms.saturating_add(lease.lease_ms);
                Ok(Change::Duplicate)
            }
            _ if self.document.state == State::Running && self.document.mode == Mode::Managed => {
                let message = "the process that ran the job is gone";
                Ok(self.again(now_ms, now_ms, Reason::Interrupted, Failure::of(message, "interrupted")))
            }
            _ => Ok(Change::Duplicate),
        }
    }

    /// Nothing was heard of the worker for too long.
    pub(super) fn stalled(&mut self, now_ms: u64) -> Change {
        self.hidden.stalls = self.hidden.stalls.saturating_add(1);
        let failure = Failure::of("nothing was heard of the worker for too long", "stalled");
        if self.hidden.cancel.is_none() && self.hidden.stalls > self.hidden.terms.max_stalls {
            return self.end_failed(now_ms, State::Failed, failure);
        }
        self.again(now_ms, now_ms, Reason::Stalled, failure)
    }

    /// The run is over without an end of the job: another one is due, if there may be one.
    pub(super) fn again(&mut self, now_ms: u64, run_at: u64, reason: Reason, failure: Failure) -> Change {
        if self.hidden.cancel.is_some() {
            return self.end_cancelled(now_ms);
        }
        if self.document.attempt >= self.document.max_attempts {
            return self.end_failed(now_ms, State::Failed, failure);
        }
        self.next_attempt(self.document.attempt.saturating_add(1));
        self.document.state = State::Retrying;
        (self.document.reason, self.document.run_at) = (Some(reason), Some(run_at));
        self.document.error = Some(failure);
        self.changed(now_ms, Change::State)
    }

    /// Says whether the claim is that of the run which is going on.
    pub(super) fn claimed(&self, claim: Claim) -> Result<(), JobError> {
        if self.document.mode == Mode::External {
            return match claim.lease {
                Some(_) => Err(JobError::LeaseLost),
                None => self.unfinished(),
            };
        }
        match (&self.hidden.lease, claim.lease) {
            (Some(own), Some(hash)) if own.hash == hash => match claim.attempt {
                Some(given) if given != self.document.attempt => {
                    Err(JobError::AttemptStale { given, current: self.document.attempt })
                }
                _ => Ok(()),
            },
            (_, None) => self.unfinished().and(Err(JobError::LeaseLost)),
            _ => Err(JobError::LeaseLost),
        }
    }
}

impl Failure {
    pub(super) fn of(message: &str, code: &str) -> Self {
        Self { message: message.into(), code: code.into() }
    }
}
