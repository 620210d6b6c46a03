//! Taking reports.
//!
//! Owns: what a report of a job is answered, and when progress is held. Does not know: HTTP.
//! Flow: a report → the machine on a copy of the live job → stored, held or known already → the answer.

use std::sync::Arc;

use tidings_core::job::{
    Artifact, Cancel, Change, Claim, Coalesced, Completion, Document, EntriesReport, Fail, Job, JobError,
    JobId, Progress, coalesce,
};

use super::record;
use super::store::Turn;
use super::{Entry, Jobs, JobsError};
use crate::clock;
use crate::publish::key_hash;

/// A report about a job.
#[derive(Debug, Clone)]
pub(crate) enum Report {
    Progress(Progress),
    Entries(EntriesReport),
    Complete(Completion),
    Fail(Fail),
    /// The worker is there.
    Heartbeat(Told),
    Release {
        told: Told,
        delay_ms: u64,
    },
    Artifact {
        lease: Option<String>,
        artifact: Artifact,
    },
}

/// What a report says of its run that has nothing else to say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    pub(crate) lease: Option<String>,
    pub(crate) attempt: Option<u32>,
    pub(crate) n: Option<u64>,
}

impl Told {
    /// Of a lease, whatever the attempt is.
    pub(crate) fn of(lease: Option<String>) -> Self {
        Self { lease, ..Self::default() }
    }
}

impl Report {
    fn claim(&self) -> Claim {
        let (lease, attempt, n) = match self {
            Self::Progress(p) => (&p.lease, p.attempt, p.n),
            Self::Entries(e) => (&e.lease, e.attempt, e.n),
            Self::Complete(c) => (&c.lease, c.attempt, c.n),
            Self::Fail(f) => (&f.lease, f.attempt, f.n),
            Self::Heartbeat(told) | Self::Release { told, .. } => (&told.lease, told.attempt, told.n),
            Self::Artifact { lease, .. } => (lease, None, None),
        };
        Claim { lease: lease.as_deref().map(lease_hash), attempt, n }
    }

    fn apply(
        self,
        job: &mut Job,
        now_ms: u64,
    ) -> Result<(Change, Option<tidings_core::job::Entries>), JobError> {
        let claim = self.claim();
        let change = match self {
            Self::Progress(progress) => job.handle_progress(now_ms, claim, progress)?,
            Self::Entries(report) => {
                let change = job.handle_entries(now_ms, claim, &report.entries)?;
                return Ok((change, Some(report.entries)));
            }
            Self::Complete(completion) => job.handle_complete(now_ms, claim, completion)?,
            Self::Fail(fail) => job.handle_fail(now_ms, claim, fail, clock::random())?,
            Self::Heartbeat(_) => job.handle_heartbeat(now_ms, claim)?,
            Self::Release { delay_ms, .. } => job.handle_release(now_ms, claim, delay_ms)?,
            Self::Artifact { artifact, .. } => job.handle_artifact(now_ms, claim, artifact)?,
        };
        Ok((change, None))
    }
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reported {
    /// It is durable; else it is only held in memory, until its time.
    pub stored: bool,
    /// It repeats what was taken before.
    pub duplicate: bool,
    /// Somebody asked to call the job off.
    pub cancel_requested: bool,
    /// The version of the document.
    pub v: u64,
    /// When the reporter's lease ends unless it is renewed, Unix milliseconds.
    pub expires_at: Option<u64>,
    /// The wish to call the job off.
    pub cancel: Option<Cancel>,
}

impl Reported {
    pub(super) fn of(job: &Job, stored: bool, duplicate: bool) -> Self {
        let document = job.document();
        Self {
            stored,
            duplicate,
            cancel_requested: document.cancel_requested,
            v: document.v,
            expires_at: job.lease().filter(|lease| !lease.is_local).map(|lease| lease.expires_at),
            cancel: job.cancel().filter(|_| !document.state.is_finished()).cloned(),
        }
    }
}

/// What is kept of a lease's token: whoever reads the log cannot use it.
pub(super) fn lease_hash(token: &str) -> u128 {
    key_hash("lease", token)
}

impl Jobs {
    /// Takes a report.
    ///
    /// # Errors
    /// [`JobsError`].
    pub(crate) async fn report(&self, id: &JobId, report: Report) -> Result<Reported, JobsError> {
        let Some(entry) = self.hub.0.jobs.live(id) else { return self.report_to_ended(id, report) };
        let live = self.turn_now_due(&entry).await?;
        self.report_to(&entry, live, report).await
    }

    /// The turn of a job for which everything is done that is due: a timer may be late, and a lease whose time is over
    /// must not be taken for one that is valid.
    pub(super) async fn turn_now_due(&self, entry: &Arc<Entry>) -> Result<Turn, JobsError> {
        let live = entry.turn().await;
        if live.job.due_ms().is_none_or(|at| at > clock::unix_ms()) {
            return Ok(live);
        }
        self.do_due(entry, live).await?;
        Ok(entry.turn().await)
    }

    pub(super) async fn report_to(
        &self,
        entry: &Arc<Entry>,
        mut live: Turn,
        mut report: Report,
    ) -> Result<Reported, JobsError> {
        let now_ms = clock::unix_ms();
        if let Report::Complete(completion) = &mut report {
            completion.download_url = Some(self.urls(&entry.id, live.fixed.alias.as_deref()).download);
        }
        let claim = report.claim();
        let mut job = live.job.clone();
        let (change, entries) = report.apply(&mut job, now_ms)?;
        if let Some(lease) = claim.lease {
            // Whoever reports is there. A run that this report ends has no lease any more.
            job.renew(now_ms, lease).unwrap_or_default();
        }
        if change == Change::Duplicate {
            // A repeat of what is only held is not durable yet.
            live.job = job;
            return Ok(Reported::of(&live.job, !live.held, !live.held));
        }
        if change == Change::Progress
            && let Coalesced::Hold { .. } = coalesce(now_ms, live.stored_ms)
        {
            live.held = true;
            live.job = job;
            self.sync(entry, &mut live);
            return Ok(Reported::of(&live.job, false, false));
        }
        let live = self.change(entry, live, job, change, entries).await?;
        Ok(Reported::of(&live.job, true, false))
    }

    /// A report to a job that has ended repeats the one that ended it, or comes too late.
    pub(super) fn report_to_ended(&self, id: &JobId, report: Report) -> Result<Reported, JobsError> {
        let not_found = || JobsError::NotFound(id.as_str().to_owned());
        let ended = record::ended(&*self.hub.0.log, id)?.ok_or_else(not_found)?;
        let mut job = Job::restore(ended.document, ended.hidden);
        report.apply(&mut job, clock::unix_ms())?;
        let document: &Document = job.document();
        Ok(Reported { cancel_requested: document.cancel_requested, ..Reported::of(&job, true, true) })
    }
}
