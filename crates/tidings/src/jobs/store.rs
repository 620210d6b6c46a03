//! One change of a job: the append that makes it count.
//!
//! Owns: the compare-and-set appends, what counts as stored, and what happens around a change. Does not know: who
//! reports, HTTP.
//! Flow: a changed copy of a job → events → commit → the copy counts → the index, and those who wait for the end, know.

use std::sync::{Arc, PoisonError};

use tidings_core::job::{Change, Coalesced, Entries, Job, JobError, JobId, coalesce};
use tidings_core::{Seq, limits};
use tokio::sync::OwnedMutexGuard;

use super::index::Mark;
use super::lease::Picked;
use super::record::{self, Events, Fixed, News, Restored};
use super::{Entry, Jobs, JobsError, RETRY_MS, Snapshot};
use crate::clock;
use crate::log::{Group, Outcome, Refusal};
use crate::writer::CommitError;

/// A job that has not ended.
#[derive(Debug)]
pub(super) struct Live {
    /// With all reports that were taken.
    pub(super) job: Job,
    pub(super) fixed: Fixed,
    /// The last event of its channel.
    pub(super) head: Seq,
    /// The last state that is stored, as its stream begins.
    pub(super) snapshot: Snapshot,
    /// When a state was last stored, Unix milliseconds.
    pub(super) stored_ms: Option<u64>,
    /// Progress was taken that is not stored.
    pub(super) held: bool,
    /// What the index knows of it.
    pub(super) mark: Mark,
}

impl From<Restored> for Live {
    fn from(restored: Restored) -> Self {
        let Restored { job, fixed, head, snapshot, stored_ms } = restored;
        Self { job, fixed, head, snapshot, stored_ms: Some(stored_ms), held: false, mark: Mark::default() }
    }
}

impl Live {
    /// When held progress is stored at the latest.
    fn flush_ms(&self, now_ms: u64) -> Option<u64> {
        if !self.held {
            return None;
        }
        match coalesce(now_ms, self.stored_ms) {
            Coalesced::Hold { until_ms } => Some(until_ms),
            Coalesced::Store => Some(now_ms),
        }
    }
}

/// A live job whose turn it is.
pub(super) type Turn = OwnedMutexGuard<Live>;

impl Jobs {
    /// Stores a change; only then it counts. It goes on when nobody waits for it any more: an append that was begun is
    /// seen through, or the job would not know its own last event.
    pub(super) async fn change(
        &self,
        entry: &Arc<Entry>,
        mut live: Turn,
        job: Job,
        change: Change,
        entries: Option<Entries>,
    ) -> Result<Turn, JobsError> {
        let (jobs, entry) = (self.clone(), Arc::clone(entry));
        let task = tokio::spawn(async move {
            let stored = jobs.store(&entry, &mut live, job, change, entries.as_ref()).await;
            jobs.sync(&entry, &mut live);
            stored.map(|()| live)
        });
        task.await.unwrap_or_else(|_| Err(CommitError::OutcomeUnknown.into()))
    }

    async fn store(
        &self,
        entry: &Entry,
        live: &mut Live,
        job: Job,
        change: Change,
        entries: Option<&Entries>,
    ) -> Result<(), JobsError> {
        let now_ms = clock::unix_ms();
        let (outcome, own, state, body) = loop {
            let news = News { change, entries, has_held: live.held };
            let events = record::events(&entry.id, &job, &live.fixed, news, live.head, now_ms)?;
            let Events { appends, own, state } = events;
            let body = state.and_then(|at| appends.get(at)).map(|append| append.body.clone());
            match self.commit(Group { events: appends, idempotency: None }).await? {
                Outcome::Refused(Refusal::Finished { channel, .. }) if live.fixed.leave_out(&channel) => {}
                outcome => break (outcome, own, state, body),
            }
        };
        match outcome {
            Outcome::Appended(places) => {
                let seq_at = |at: usize| places.get(at).map(|place| place.seq);
                live.head = seq_at(own.saturating_sub(1)).unwrap_or(live.head);
                if let Some((body, seq)) = body.zip(state.and_then(seq_at)) {
                    live.snapshot = Snapshot { seq, body };
                    (live.stored_ms, live.held) = (Some(now_ms), false);
                }
            }
            Outcome::Refused(Refusal::Finished { .. }) => {
                return Err(JobError::Finished(job.document().state).into());
            }
            Outcome::Refused(_) | Outcome::Duplicate { .. } => return Err(CommitError::OutcomeUnknown.into()),
        }
        live.job = job;
        Ok(())
    }

    /// Makes the index, and those who wait for the end, know what is true of a job now.
    pub(super) fn sync(&self, entry: &Arc<Entry>, live: &mut Live) {
        let state = &self.hub.0.jobs;
        let now_ms = clock::unix_ms();
        let wake_ms = live.flush_ms(now_ms);
        let hand = || Picked::new(self, entry);
        state.index.sync((&entry.id, &entry.lane), &live.job, &mut live.mark, now_ms, wake_ms, hand);
        entry.tell_handler(&live.job);
        if live.job.document().state.is_finished() {
            self.forget_live(entry, live);
        }
    }

    fn forget_live(&self, entry: &Entry, live: &Live) {
        let state = &self.hub.0.jobs;
        let removed = state.live.lock().unwrap_or_else(PoisonError::into_inner).remove(&entry.id);
        if removed.is_none() {
            return;
        }
        let document = live.job.document();
        let kept_until = document.finished_at.unwrap_or(0).saturating_add(live.job.hidden().terms.result_ms);
        state.ended.add(live.head, &entry.id, kept_until);
        state.unique.release(&entry.id, live.job.hidden());
        entry.ended.notify_waiters();
        self.hub.0.metrics.job_ended(document.state);
    }

    /// Does what is due for a job: its deadlines, and progress that was held.
    pub(super) async fn tick(&self, id: &JobId) {
        let Some(entry) = self.hub.0.jobs.live(id) else { return };
        let mut live = entry.turn().await;
        super::index::Index::rang(&mut live.mark);
        if let Err(error) = self.do_due(&entry, live).await {
            tracing::warn!(%error, job = id.as_str(), "what is due for a job could not be stored; tried again soon");
            let mut live = entry.turn().await;
            let at = clock::unix_ms().saturating_add(RETRY_MS);
            self.hub.0.jobs.index.remind(id, &mut live.mark, at);
        }
    }

    pub(super) async fn do_due(&self, entry: &Arc<Entry>, mut live: Turn) -> Result<(), JobsError> {
        // A job has few deadlines, and each passes once.
        for _ in 0..limits::JOB_TAGS_MAX {
            let now_ms = clock::unix_ms();
            let mut job = live.job.clone();
            let mut change = job.handle_due(now_ms, clock::random());
            if change == Change::Duplicate
                && live.held
                && live.flush_ms(now_ms).is_some_and(|at| at <= now_ms)
            {
                change = Change::Progress;
            }
            if change == Change::Duplicate {
                break;
            }
            live = self.change(entry, live, job, change, None).await?;
        }
        self.sync(entry, &mut live);
        Ok(())
    }

    pub(super) async fn commit(&self, group: Group) -> Result<Outcome, JobsError> {
        let outcomes = self.hub.commit(vec![group]).await?;
        outcomes.into_iter().next().ok_or_else(|| CommitError::OutcomeUnknown.into())
    }
}
