//! Keeping leases.
//!
//! Owns: when leases are renewed, all together. Does not know: what runs under them.
//! Flow: in ← the runs · out → renewals; what the server says of each goes to its run, and of the worker to the loop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidings_core::job::JobId;
use tidings_core::limits;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::context::Run;
use super::lease::{self, Renewal, Renewed, Status, WorkerState};
use crate::backoff::{Backoff, Retry};
use crate::client::Client;
use crate::random;

/// How long a renewal may take, before the next is tried: well below the shortest usual lease.
const LIMIT: Duration = Duration::from_secs(5);

pub(super) type Runs = BTreeMap<JobId, Arc<Run>>;

/// Renews the leases of `runs` for ever. All of them whenever one is due, so that one request serves all.
pub(super) async fn renew(
    client: &Client,
    worker_id: &str,
    mut runs: watch::Receiver<Runs>,
    state: &watch::Sender<WorkerState>,
) {
    let mut backoff = Backoff::new(Retry::default());
    loop {
        let held: Vec<_> =
            runs.borrow_and_update().values().filter(|run| !run.is_lost()).map(Arc::clone).collect();
        let Some(due) = held.iter().map(|run| run.due()).min() else {
            if runs.changed().await.is_err() {
                return;
            }
            continue;
        };
        if due > Instant::now() {
            tokio::select! {
                () = sleep_until(due) => {}
                _ = runs.changed() => continue,
            }
        }
        let mut failed = false;
        for part in held.chunks(limits::RENEW_LEASES_MAX) {
            let asked = Instant::now();
            let leases: Vec<_> =
                part.iter().map(|run| Renewal { id: run.id().as_str(), token: run.token() }).collect();
            match lease::renew(client, worker_id, &leases, LIMIT).await {
                Ok(renewed) => handle(part, asked, renewed, state),
                Err(error) => {
                    tracing::warn!(%error, leases = leases.len(), "leases could not be renewed; trying again");
                    failed = true;
                }
            }
        }
        if failed {
            // Not longer than the leases last.
            let most = held.iter().map(|run| run.renew_every()).min().unwrap_or_default();
            sleep(backoff.poll_wait(None, random::unit()).min(most)).await;
        } else {
            backoff = Backoff::new(Retry::default());
        }
    }
}

fn handle(part: &[Arc<Run>], asked: Instant, renewed: Renewed, state: &watch::Sender<WorkerState>) {
    let mut answered: BTreeMap<_, _> =
        renewed.leases.into_iter().map(|lease| (lease.id.clone(), lease)).collect();
    for run in part {
        match answered.remove(run.id().as_str()) {
            Some(lease) if lease.status == Status::Lost => {
                run.handle_lost();
                // Where it is lost because its end was just reported, it is still held: the next one is not due at once.
                run.handle_renewed(asked, None);
            }
            Some(lease) => {
                let is_cancel = lease.status == Status::Cancel;
                run.handle_renewed(asked, lease.cancel.or_else(|| is_cancel.then(Default::default)));
            }
            // Not answered for: as if the request had failed. The pause keeps that from being a busy loop.
            None => run.handle_renewed(asked, None),
        }
    }
    state.send_if_modified(|state| std::mem::replace(state, renewed.worker.state) != renewed.worker.state);
}
