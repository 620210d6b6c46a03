//! Jobs that have ended: which there are, and when they are forgotten.
//!
//! Owns: their order by end, and the time of each to go. Does not know: their documents, which are in the log.
//! Flow: an end → `add` · a start → those that the log has, page by page, behind everything else → `due` → events and
//! files are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidings_core::Seq;
use tidings_core::job::JobId;

use super::record;
use super::{Jobs, JobsError};
use crate::clock;

/// Ended jobs of the log that are looked at in one go after a start.
const PAGE: usize = 1_000;
/// Jobs that are forgotten in one go.
pub(super) const FORGET_MAX: usize = 256;

#[derive(Debug, Default)]
struct Inner {
    /// By the place of their final event: the last to end is the last here.
    by_end: BTreeMap<u64, JobId>,
    /// When each is forgotten, Unix milliseconds.
    due: BTreeSet<(u64, u64)>,
}

/// All of them. Some 150 bytes each.
#[derive(Debug, Default)]
pub(super) struct Ended(Mutex<Inner>);

impl Ended {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, end: Seq, id: &JobId, kept_until: u64) {
        let mut inner = self.lock();
        if inner.by_end.insert(end.0, id.clone()).is_none() {
            inner.due.insert((kept_until, end.0));
        }
    }

    /// Jobs whose time has come, and when the next one's comes.
    pub(super) fn take_due(&self, now_ms: u64, max: usize) -> (Vec<JobId>, Option<u64>) {
        let mut inner = self.lock();
        let mut due = Vec::new();
        while due.len() < max {
            match inner.due.first() {
                Some((at, _)) if *at <= now_ms => {}
                next => return (due, next.map(|(at, _)| *at)),
            }
            let end = inner.due.pop_first().map(|(_, end)| end);
            due.extend(end.and_then(|end| inner.by_end.remove(&end)));
        }
        (due, Some(now_ms))
    }

    /// Jobs that ended before another one, the last first.
    pub(super) fn page(&self, before: Option<u64>, max: usize) -> Vec<(u64, JobId)> {
        let inner = self.lock();
        let before = before.unwrap_or(u64::MAX);
        inner.by_end.range(..before).rev().take(max).map(|(end, id)| (*end, id.clone())).collect()
    }
}

impl Jobs {
    /// Finds the ended jobs that the log has, a page at a time, so that a start does not wait for them.
    pub(super) async fn find_ended(&self) {
        let mut after = None;
        loop {
            let jobs = self.clone();
            let page = tokio::task::spawn_blocking(move || jobs.find_page(after)).await;
            match page {
                Ok(Ok(Some(last))) => after = Some(last),
                Ok(Ok(None)) => return,
                Ok(Err(error)) => {
                    tracing::error!(%error, "ended jobs could not be read");
                    return;
                }
                Err(error) => {
                    tracing::error!(%error, "ended jobs could not be read");
                    return;
                }
            }
            // There is no hurry: those who publish come first.
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// One page of them. The name to go on from, or none at the end.
    fn find_page(
        &self,
        after: Option<tidings_core::ChannelName>,
    ) -> Result<Option<tidings_core::ChannelName>, JobsError> {
        let state = &self.hub.0.jobs;
        let page = self.hub.0.log.channels_page("job:", after.as_ref(), PAGE);
        let last = page.last().map(|(channel, _)| channel.clone());
        for (channel, window) in page {
            let (Some(end), Some(id)) = (window.finished, JobId::of_channel(&channel)) else { continue };
            if let Some(ended) = record::ended(&*self.hub.0.log, &id)? {
                state.ended.add(end, &id, ended.kept_until());
            }
        }
        Ok(last)
    }

    /// Forgets jobs whose time has come. When the next one's comes.
    pub(super) async fn forget_due(&self) -> Option<u64> {
        let (due, next) = self.hub.0.jobs.ended.take_due(clock::unix_ms(), FORGET_MAX);
        for id in due {
            if let Err(error) = self.forget(&id).await {
                tracing::warn!(%error, job = id.as_str(), "a job could not be forgotten; the next start tries again");
            }
        }
        next
    }

    /// The events and the files of a job that has ended are gone.
    pub(super) async fn forget(&self, id: &JobId) -> Result<(), JobsError> {
        self.hub.delete(id.channel()).await?;
        self.hub.0.jobs.artifacts.remove(id).await?;
        Ok(())
    }
}
