//! Handing jobs to workers.
//!
//! Owns: beginning leases, the wait for one, renewing many at once. Does not know: HTTP, the order of jobs (`index`).
//! Flow: `lease` → the index → `begin_lease`, one append for each → the jobs and their tokens · `renew`.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde_json::value::RawValue;
use tidings_core::job::{Cancel, Fail, JobError, JobId, JobType, NewLease, QueueName, Retry, WorkerId};
use tidings_core::limits;
use tokio::sync::oneshot;

use super::index::{Index, Next};
use super::report::lease_hash;
use super::store::Turn;
use super::workers::WorkerState;
use super::{Entry, Jobs, JobsError};
use crate::clock;
use crate::writer::CommitError;

/// A job on its way to the worker that waits for it. If the worker is gone, the job goes back into its lane.
#[derive(Debug)]
pub(super) struct Picked {
    jobs: Jobs,
    entry: Option<Arc<Entry>>,
}

impl Picked {
    pub(super) fn new(jobs: &Jobs, entry: &Arc<Entry>) -> Self {
        Self { jobs: jobs.clone(), entry: Some(Arc::clone(entry)) }
    }

    /// Whoever gets it sees to it.
    pub(super) fn keep(mut self) -> Option<Arc<Entry>> {
        self.entry.take()
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        let Some(entry) = self.entry.take() else { return };
        let jobs = self.jobs.clone();
        // Without a runtime the program is ending, and the next start finds the job.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let mut live = entry.turn().await;
                Index::picked(&mut live.mark);
                jobs.sync(&entry, &mut live);
            });
        }
    }
}

/// A request for jobs.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) queue: QueueName,
    pub(crate) worker: WorkerId,
    pub(crate) types: Option<Vec<JobType>>,
    pub(crate) max: usize,
    pub(crate) wait: Duration,
    pub(crate) lease_ms: Option<u64>,
}

/// A job that was leased.
#[derive(Debug, Clone)]
pub(crate) struct Leased {
    pub(crate) id: JobId,
    pub(crate) job_type: String,
    pub(crate) queue: String,
    pub(crate) attempt: u32,
    pub(crate) max_attempts: u32,
    pub(crate) tags: Vec<String>,
    pub(crate) input: Option<Box<RawValue>>,
    pub(crate) deadline: Option<u64>,
    pub(crate) token: String,
    pub(crate) expires_at: u64,
    pub(crate) lease_ms: u64,
    /// Its maker said how failures are tried again.
    pub(super) has_backoff: bool,
}

/// A leased job on its way to a worker elsewhere. If the worker is gone before it is told, the lease is given back.
#[derive(Debug)]
pub(crate) struct Handover {
    jobs: Jobs,
    leased: Option<Leased>,
}

impl Handover {
    /// The worker is being told.
    pub(crate) fn told(mut self) -> Option<Leased> {
        self.leased.take()
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        let (Some(leased), jobs) = (self.leased.take(), self.jobs.clone()) else { return };
        // Without a runtime the program is ending, and the lease ends by itself after the next start.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let release = super::Report::Release { told: super::Told::of(Some(leased.token)), delay_ms: 0 };
            if let Err(error) = jobs.report(&leased.id, release).await {
                let job = leased.id.as_str();
                tracing::warn!(%error, job, "a lease that nobody took could not be given back");
            }
        });
    }
}

/// What became of a lease that was to be renewed.
#[derive(Debug, Clone)]
pub(crate) struct Renewed {
    pub(crate) expires_at: u64,
    pub(crate) cancel: Option<Cancel>,
}

impl Jobs {
    /// Leases jobs, and waits for one if there is none. Says what the worker is to do beside it.
    pub(crate) async fn lease(&self, wanted: Wanted) -> Result<(Vec<Handover>, WorkerState), JobsError> {
        let workers = &self.hub.0.jobs.workers;
        if wanted.lease_ms.is_some_and(|ms| !limits::LEASE_MS.contains(&ms)) {
            let (least, most) = (limits::LEASE_MS.start(), limits::LEASE_MS.end());
            return Err(JobError::Field(format!("lease_ms is not {least} to {most}")).into());
        }
        let told = workers.seen(&wanted.worker, Some(&wanted.queue));
        let until = tokio::time::Instant::now() + wanted.wait;
        let state = *told.borrow();
        match state {
            WorkerState::Run => {}
            // It gets nothing, and is not to ask again at once.
            WorkerState::Quiet => return Ok((Vec::new(), workers.wait_for_run(told, until).await)),
            WorkerState::Stop => return Ok((Vec::new(), state)),
        }
        loop {
            let mut ids = Vec::new();
            match self.hub.0.jobs.index.pick_or_wait(Some(wanted.queue.clone()), wanted.types.clone()) {
                Next::Job(id) => ids.push(id),
                Next::Crowded => return Err(CommitError::Overloaded.into()),
                Next::Wait(turn) => match self.wait(turn, told.clone(), until).await {
                    Some(id) => ids.push(id),
                    None => return Ok((Vec::new(), *told.borrow())),
                },
            }
            while ids.len() < wanted.max {
                let index = &self.hub.0.jobs.index;
                let Some(id) = index.pick(Some(&wanted.queue), wanted.types.as_deref()) else { break };
                ids.push(id);
            }
            let handovers: Vec<_> = ids.into_iter().map(|id| self.hand_over(id, &wanted)).collect();
            let (mut leased, mut failed) = (Vec::new(), None);
            for handover in handovers {
                match handover.await.unwrap_or_else(|_| Err(CommitError::OutcomeUnknown.into())) {
                    Ok(handover) => leased.extend(handover),
                    Err(error) => failed = Some(error),
                }
            }
            match failed {
                _ if !leased.is_empty() => return Ok((leased, *told.borrow())),
                Some(error) => return Err(error),
                // What was picked had been cancelled meanwhile.
                None => {}
            }
        }
    }

    async fn wait(
        &self,
        turn: oneshot::Receiver<Picked>,
        mut told: tokio::sync::watch::Receiver<WorkerState>,
        until: tokio::time::Instant,
    ) -> Option<JobId> {
        let stopped = async move {
            // When nobody can tell it anything any more, it only waits.
            if told.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            picked = turn => picked.ok()?.keep().map(|entry| entry.id.clone()),
            () = tokio::time::sleep_until(until) => None,
            () = stopped => None,
            () = self.hub.0.jobs.draining.cancelled() => None,
        }
    }

    /// Begins to hand a lease over to a worker elsewhere. If the worker goes away meanwhile, the lease is given back.
    fn hand_over(
        &self,
        id: JobId,
        wanted: &Wanted,
    ) -> oneshot::Receiver<Result<Option<Handover>, JobsError>> {
        let (done, result) = oneshot::channel();
        let (jobs, worker, lease_ms) = (self.clone(), wanted.worker.to_string(), wanted.lease_ms);
        tokio::spawn(async move {
            let begun = jobs.begin_lease(&id, worker, lease_ms, false).await;
            let handover = begun.map(|leased| leased.map(|leased| Handover { jobs, leased: Some(leased) }));
            // If nobody takes it, it is dropped here or there, and the lease with it.
            drop(done.send(handover));
        });
        result
    }

    /// Begins a lease. `None`: the job is not there any more, or somebody else was faster.
    pub(super) async fn begin_lease(
        &self,
        id: &JobId,
        worker: String,
        lease_ms: Option<u64>,
        is_local: bool,
    ) -> Result<Option<Leased>, JobsError> {
        let Some(entry) = self.hub.0.jobs.live(id) else { return Ok(None) };
        let mut live = entry.turn().await;
        Index::picked(&mut live.mark);
        let mut job = live.job.clone();
        let random = (u128::from(clock::random()) << 64) | u128::from(clock::random());
        let token = format!("{}.{random:032x}", job.document().attempt);
        let new = NewLease { hash: lease_hash(&token), worker, lease_ms, is_local };
        let change = match job.handle_lease(clock::unix_ms(), new) {
            Ok(change) => change,
            Err(JobError::NotReady(_) | JobError::Finished(_)) => {
                self.sync(&entry, &mut live);
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let live = self.change(&entry, live, job, change, None).await?;
        self.hub.0.metrics.leases.inc();
        let input = match self.input(id, &live.fixed).await {
            Ok(input) => input,
            Err(error) => return self.input_lost(&entry, live, token, &error).await,
        };
        let (document, lease) = (live.job.document(), live.job.lease());
        let Some(lease) = lease else { return Ok(None) };
        let leased = Leased {
            id: id.clone(),
            job_type: document.job_type.clone(),
            queue: document.queue.clone(),
            attempt: document.attempt,
            max_attempts: document.max_attempts,
            tags: document.tags.clone(),
            input,
            deadline: lease.deadline,
            token,
            expires_at: lease.expires_at,
            lease_ms: lease.lease_ms,
            has_backoff: live.job.hidden().terms.backoff.is_some(),
        };
        Ok(Some(leased))
    }

    /// A job whose input cannot be read has failed: no worker may take it for one without an input.
    async fn input_lost(
        &self,
        entry: &Arc<Entry>,
        live: Turn,
        token: String,
        error: &JobsError,
    ) -> Result<Option<Leased>, JobsError> {
        tracing::error!(%error, job = entry.id.as_str(), "the input of a job cannot be read");
        let lost = Fail::new("the input of the job cannot be read", "input_lost");
        let end = super::Report::Fail(Fail { lease: Some(token), retry: Retry::Never, ..lost });
        let is_local = live.job.lease().is_some_and(|lease| lease.is_local);
        if let Err(error) = self.report_to(entry, live, end.clone()).await {
            if is_local {
                // A lease of this process has no time of its own that would end it.
                let (jobs, id) = (self.clone(), entry.id.clone());
                tokio::spawn(async move { jobs.end_run(&id, end).await });
            }
            return Err(error);
        }
        Ok(None)
    }

    /// Renews a lease. Nothing of it is stored.
    ///
    /// # Errors
    /// [`JobsError::Job`] with [`JobError::LeaseLost`].
    pub(crate) async fn renew(&self, id: &JobId, token: &str) -> Result<Renewed, JobsError> {
        let lost = || JobsError::from(JobError::LeaseLost);
        let entry = self.hub.0.jobs.live(id).ok_or_else(lost)?;
        let mut live = self.turn_now_due(&entry).await?;
        live.job.renew(clock::unix_ms(), lease_hash(token))?;
        let expires_at = live.job.lease().map_or(0, |lease| lease.expires_at);
        Ok(Renewed { expires_at, cancel: live.job.cancel().cloned() })
    }
}

impl Entry {
    /// A handler of this process that runs the job hears of what became of its lease.
    pub(super) fn tell_handler(&self, job: &tidings_core::job::Job) {
        let mut handler = self.handler.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(running) = handler.as_ref() else { return };
        let has_lease = job.lease().is_some_and(|lease| lease.is_of(running.lease));
        if job.cancel().is_some() || !has_lease {
            running.cancelled.cancel();
        }
        if !has_lease {
            // It may have ended by itself: then this does nothing.
            running.task.abort();
            *handler = None;
        }
    }
}
