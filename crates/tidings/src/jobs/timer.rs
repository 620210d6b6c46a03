//! The clockwork: what is due for jobs.
//!
//! Owns: the task that wakes up for deadlines, and the one that forgets ended jobs. Does not know: what is due.
//! Flow: the index's first timer → `tick` of each job that is due, side by side, so that one fsync serves many.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use tidings_core::job::Change;
use tokio::task::JoinSet;

use super::{Entry, Jobs, RETRY};
use crate::clock;
use crate::hub::{Hub, Inner};

/// Jobs that are looked after at once.
const DUE_MAX: usize = 256;
/// How long the clockwork sleeps at most: the hub may be gone.
const NAP: Duration = Duration::from_secs(1);

impl Jobs {
    /// Starts the clockwork, once. Outside a runtime this does nothing; the first use inside one does it.
    pub(crate) fn start(&self) {
        let state = &self.hub.0.jobs;
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if state.started.swap(true, Ordering::AcqRel) {
            return;
        }
        let hub = Arc::downgrade(&self.hub.0);
        runtime.spawn(deadlines(hub.clone(), Arc::clone(&state.index)));
        runtime.spawn(forgetting(hub.clone()));
        runtime.spawn(super::schedule::run(hub.clone(), Arc::clone(&state.schedules)));
        runtime.spawn(async move {
            let Some(jobs) = jobs_of(&hub) else { return };
            let found = jobs.all_live();
            let mut left = jobs.interrupted(found).await;
            jobs.find_ended().await;
            drop(jobs);
            while !left.is_empty() {
                tokio::time::sleep(RETRY).await;
                let Some(jobs) = jobs_of(&hub) else { return };
                left = jobs.interrupted(left).await;
            }
        });
    }
}

impl Jobs {
    fn all_live(&self) -> Vec<Arc<Entry>> {
        self.hub.0.jobs.live.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Makes the index know the jobs that were found at the start; handlers that ran some of them are gone. Returns those of
    /// which the log did not take that yet.
    pub(super) async fn interrupted(&self, found: Vec<Arc<Entry>>) -> Vec<Arc<Entry>> {
        let (mut changes, mut left) = (JoinSet::new(), Vec::new());
        for entry in found {
            let mut live = entry.turn().await;
            let mut job = live.job.clone();
            let is_local = job.lease().is_none_or(|lease| lease.is_local);
            // A run that has begun since is this process's, also where its handler does not stand there yet.
            let has_handler = entry.handler.lock().unwrap_or_else(PoisonError::into_inner).is_some();
            let change = match !has_handler && entry.found == Some(job.document().attempt) {
                true if is_local => job.handle_interrupted(clock::unix_ms()).unwrap_or(Change::Duplicate),
                _ => Change::Duplicate,
            };
            if change == Change::Duplicate {
                self.sync(&entry, &mut live);
                continue;
            }
            let jobs = self.clone();
            changes.spawn(async move {
                let error = jobs.change(&entry, live, job, change, None).await.err()?;
                let job = entry.id.as_str();
                tracing::warn!(%error, job, "that a job was interrupted could not be stored");
                error.may_pass().then_some(entry)
            });
            if changes.len() >= DUE_MAX {
                left.extend(changes.join_next().await.and_then(Result::ok).flatten());
            }
        }
        while let Some(changed) = changes.join_next().await {
            left.extend(changed.ok().flatten());
        }
        left
    }
}

fn jobs_of(hub: &Weak<Inner>) -> Option<Jobs> {
    Some(Jobs { hub: Hub(hub.upgrade()?) })
}

async fn deadlines(hub: Weak<Inner>, index: Arc<super::index::Index>) {
    loop {
        let now_ms = clock::unix_ms();
        let (due, next) = index.take_due(now_ms, DUE_MAX);
        if due.is_empty() {
            let wait = next.map_or(NAP, |at| Duration::from_millis(at.saturating_sub(now_ms))).min(NAP);
            // A timer that was set meanwhile ends the sleep; `Notify` keeps the wish if it came before.
            tokio::time::timeout(wait, index.timers_changed()).await.unwrap_or_default();
            if hub.strong_count() == 0 {
                return;
            }
            continue;
        }
        let Some(jobs) = jobs_of(&hub) else { return };
        let mut ticks = JoinSet::new();
        for id in due {
            let jobs = jobs.clone();
            ticks.spawn(async move { jobs.tick(&id).await });
        }
        drop(jobs);
        while ticks.join_next().await.is_some() {}
    }
}

async fn forgetting(hub: Weak<Inner>) {
    loop {
        let Some(jobs) = jobs_of(&hub) else { return };
        let next = jobs.forget_due().await;
        drop(jobs);
        if next.is_none_or(|at| at > clock::unix_ms()) {
            tokio::time::sleep(NAP).await;
        }
    }
}
