//! The clockwork of schedules.
//!
//! Owns: the task that wakes up at due times, and the one append that makes a job and moves its schedule. Does not know:
//! which times these are.
//! Flow: the first due time → its schedule's turn → a job and the schedule's next state, in one group.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tidings_core::job::{JobId, ScheduleName};
use tokio::task::JoinSet;

use super::document::Document;
use super::{Kept, Schedules};
use crate::clock;
use crate::hub::{Hub, Inner};
use crate::jobs::{Jobs, JobsError, RETRY_MS};
use crate::publish::text_hash;

/// Schedules that are looked after at once.
const DUE_MAX: usize = 256;
/// How long the clockwork sleeps at most: the hub may be gone, or the clock set.
const NAP: Duration = Duration::from_secs(1);

/// Runs until the hub is gone.
pub(in crate::jobs) async fn run(hub: Weak<Inner>, schedules: Arc<Schedules>) {
    loop {
        let now_ms = clock::unix_ms();
        let (due, next) = schedules.take_due(now_ms, DUE_MAX);
        if due.is_empty() {
            let wait = next.map_or(NAP, |at| Duration::from_millis(at.saturating_sub(now_ms))).min(NAP);
            // A schedule that changed meanwhile ends the sleep; `Notify` keeps the wish if it came before.
            tokio::time::timeout(wait, schedules.changed.notified()).await.unwrap_or_default();
            if hub.strong_count() == 0 {
                return;
            }
            continue;
        }
        let Some(inner) = hub.upgrade() else { return };
        let jobs = Jobs { hub: Hub(inner) };
        let mut ticks = JoinSet::new();
        for name in due {
            let jobs = jobs.clone();
            ticks.spawn(async move { jobs.tick_schedule(&name).await });
        }
        drop(jobs);
        while ticks.join_next().await.is_some() {}
    }
}

impl Jobs {
    pub(super) async fn tick_schedule(&self, name: &ScheduleName) {
        let schedules = &self.hub.0.jobs.schedules;
        let _turn = schedules.turn(name).await;
        let Some(kept) = schedules.find(name) else { return };
        if let Err(error) = self.do_scheduled(name, &kept).await {
            tracing::warn!(%error, schedule = name.as_str(), "what a schedule is due could not be made; tried again soon");
            schedules.remind(name, clock::unix_ms().saturating_add(RETRY_MS));
        }
    }

    /// Makes the job of a due time, if there is one, and moves the schedule on. Nothing of it, or all.
    async fn do_scheduled(&self, name: &ScheduleName, kept: &Kept) -> Result<(), JobsError> {
        let state = &self.hub.0.jobs;
        let newest = kept.document.last_job.as_deref().and_then(|id| JobId::parse(id).ok());
        let is_busy = newest.is_some_and(|id| state.live(&id).is_some());
        let (since_ms, now_ms) = (state.schedules.since_ms, clock::unix_ms());
        let Some(plan) = kept.document.plan(&kept.times, is_busy, since_ms, now_ms) else { return Ok(()) };
        let mut document = Document { next_at: plan.next_at, ..kept.document.clone() };
        let Some(due_ms) = plan.make_for else { return self.store_schedule(name, kept.with(document)).await };
        let id = job_id(name, due_ms)?;
        (document.last_at, document.last_job) = (Some(due_ms), Some(id.as_str().to_owned()));
        let mut new = kept.job.clone();
        new.core.schedule = Some(name.as_str().to_owned());
        let moved = kept.with(document);
        match self.make_beside(id.clone(), new, vec![moved.append(name, now_ms)?]).await {
            Ok(_) => {
                state.schedules.moved(&*self.hub.0.log, name, moved);
                Ok(())
            }
            // The job of this time was made before the schedule was deleted and made again.
            Err(JobsError::Exists(_)) if self.hub.window(id.channel()).is_some() => {
                self.store_schedule(name, moved).await
            }
            Err(error) => Err(error),
        }
    }
}

/// The job of a due time has this id and no other, so there is never a second one.
pub(super) fn job_id(name: &ScheduleName, due_ms: u64) -> Result<JobId, JobsError> {
    let hash = text_hash(&["schedule", name.as_str(), &due_ms.to_string()]);
    Ok(crate::jobs::make::id_of(hash)?)
}
