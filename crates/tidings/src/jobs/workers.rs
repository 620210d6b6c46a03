//! Workers that were heard of, and what they are to do.
//!
//! Owns: a worker's state, which lives as long as it is heard of. Does not know: leases.
//! Flow: a request of a worker → `seen` · an operator → `tell` → the worker's next answer.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tidings_core::job::{QueueName, WorkerId};
use tidings_core::limits;
use tokio::sync::watch;

use crate::clock;

/// What a worker is to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WorkerState {
    /// Take jobs.
    #[default]
    Run,
    /// Finish what it has, and take no more.
    Quiet,
    /// Give back what it has, and end.
    Stop,
}

/// A worker as it is listed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Worker {
    pub(crate) id: String,
    pub(crate) queue: Option<String>,
    pub(crate) state: WorkerState,
    pub(crate) seen_at: u64,
    pub(crate) jobs: u64,
}

#[derive(Debug)]
struct Known {
    queue: Option<QueueName>,
    seen_at: u64,
    state: watch::Sender<WorkerState>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Workers(Mutex<HashMap<WorkerId, Known>>);

impl Workers {
    fn lock(&self) -> MutexGuard<'_, HashMap<WorkerId, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker is heard of. What it is told from now on can be read from the answer.
    pub(super) fn seen(&self, id: &WorkerId, queue: Option<&QueueName>) -> watch::Receiver<WorkerState> {
        let now_ms = clock::unix_ms();
        let mut known = self.lock();
        if !known.contains_key(id.as_str()) && known.len() >= limits::WORKERS_MAX {
            forget_old(&mut known, now_ms);
        }
        if known.len() >= limits::WORKERS_MAX && !known.contains_key(id.as_str()) {
            // It works all the same; only nobody can tell it anything.
            return watch::channel(WorkerState::Run).1;
        }
        let worker = known.entry(id.clone()).or_insert_with(|| Known {
            queue: None,
            seen_at: now_ms,
            state: watch::channel(WorkerState::Run).0,
        });
        worker.seen_at = now_ms;
        if let Some(queue) = queue {
            worker.queue = Some(queue.clone());
        }
        worker.state.subscribe()
    }

    /// Tells a worker what to do. `None`: nobody has heard of it.
    pub(super) fn tell(&self, id: &WorkerId, state: WorkerState) -> Option<Worker> {
        let mut known = self.lock();
        forget_old(&mut known, clock::unix_ms());
        let worker = known.get(id.as_str())?;
        worker.state.send_replace(state);
        Some(listed(id, worker))
    }

    /// Those that were heard of lately.
    pub(super) fn list(&self) -> Vec<Worker> {
        let mut known = self.lock();
        forget_old(&mut known, clock::unix_ms());
        let mut workers: Vec<_> = known.iter().map(|(id, worker)| listed(id, worker)).collect();
        workers.sort_by(|a, b| a.id.cmp(&b.id));
        workers
    }

    /// Waits until a worker may take jobs again, or `until`. Says what it is to do then.
    pub(super) async fn wait_for_run(
        &self,
        mut told: watch::Receiver<WorkerState>,
        until: tokio::time::Instant,
    ) -> WorkerState {
        // Whatever it was that ended the wait, the state is what counts.
        if let Err(_elapsed) = tokio::time::timeout_at(until, told.changed()).await {
            return *told.borrow();
        }
        *told.borrow()
    }
}

fn listed(id: &WorkerId, worker: &Known) -> Worker {
    Worker {
        id: id.to_string(),
        queue: worker.queue.as_ref().map(ToString::to_string),
        state: *worker.state.borrow(),
        seen_at: worker.seen_at,
        jobs: 0,
    }
}

fn forget_old(known: &mut HashMap<WorkerId, Known>, now_ms: u64) {
    known.retain(|_, worker| now_ms.saturating_sub(worker.seen_at) < limits::WORKER_SEEN_MS);
}
