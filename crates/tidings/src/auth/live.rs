//! Open streams whose grant somebody else judges: they are judged again before the judgement is old.
//!
//! Owns: when to ask again, once for all streams with the same credentials. Does not know: whom (that is `Renew`), sockets.
//! Flow: a stream with a renewal is watched → asked again in time → its grant goes on, or the stream is refused.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{AuthError, Authorized, Renew};
use crate::{Hub, clock};

/// Credentials of open streams, by the address of who renews them, with the connections that have them.
#[derive(Debug, Default)]
pub(crate) struct Live(Mutex<HashMap<usize, HashSet<u64>>>);

/// How long before a judgement is old it is asked again, at most: an answer may take 2 s, and more would only be asked more
/// often.
const MARGIN_MS: u64 = 2_500;
/// The earliest time between two questions: an answer that holds for less is asked for no more often.
const PAUSE_MS_MIN: u64 = 1_000;

impl Live {
    /// Watches a stream, if somebody renews its grant.
    pub(crate) fn watch(&self, hub: &Hub, connection: u64, authorized: &Authorized) {
        let Some((until_ms, renew)) = &authorized.renewal else { return };
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = watched.entry(place(renew)).or_default();
        if connections.insert(connection) && connections.len() == 1 {
            let (hub, renew, until_ms) = (hub.clone(), Arc::clone(renew), *until_ms);
            tokio::spawn(async move { judge(&hub, &renew, until_ms).await });
        }
    }

    /// The streams that are still open with these credentials. None ends the watch.
    fn open(&self, hub: &Hub, renew: &Arc<dyn Renew>) -> Vec<u64> {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(connections) = watched.get_mut(&place(renew)) else { return Vec::new() };
        connections.retain(|id| hub.0.registry.find(*id).is_some_and(|s| is_renewed_by(&s, renew)));
        let open: Vec<u64> = connections.iter().copied().collect();
        if open.is_empty() {
            watched.remove(&place(renew));
        }
        open
    }
}

fn place(renew: &Arc<dyn Renew>) -> usize {
    Arc::as_ptr(renew).cast::<()>().addr()
}

/// A stream that brought other credentials meanwhile is watched for those.
fn is_renewed_by(subscription: &crate::subscribe::Subscription, renew: &Arc<dyn Renew>) -> bool {
    let authorized = subscription.authorized();
    authorized.and_then(|a| a.renewal.as_ref().map(|(_, mine)| place(mine))) == Some(place(renew))
}

/// Asks again as long as there are streams.
async fn judge(hub: &Hub, renew: &Arc<dyn Renew>, mut until_ms: u64) {
    loop {
        let left = until_ms.saturating_sub(clock::unix_ms());
        // With some of the time left to try once more.
        let pause = (left - (left / 5).min(MARGIN_MS)).max(PAUSE_MS_MIN);
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(pause)) => {}
            () = hub.0.jobs.draining.cancelled() => return,
        }
        let open = hub.0.auth.live.open(hub, renew);
        if open.is_empty() {
            return;
        }
        match renew.renew().await.and_then(|new| hub.0.auth.check(&new.grant).map(|()| new)) {
            Ok(new) => {
                until_ms = new.renewal.as_ref().map_or_else(clock::unix_ms, |(until, _)| *until);
                // Whoever renewed it is asked the next time too.
                let renewal = new.renewal.map(|(until, _)| (until, Arc::clone(renew)));
                let new = Arc::new(Authorized { renewal, ..new });
                for id in open {
                    if let Err(error) = hub.regrant(id, &new).await {
                        tracing::debug!(%error, "a stream did not get its grant again");
                    }
                }
            }
            // Nobody knows: until the last judgement is too old, it holds. Then the streams end, and come back to ask.
            Err(AuthError::Unavailable(error)) if clock::unix_ms() >= until_ms => {
                tracing::warn!(
                    error,
                    streams = open.len(),
                    "grants could not be judged again, so their streams end"
                );
                for id in open {
                    hub.0.registry.tell(id, crate::shard::Command::Close);
                }
            }
            Err(AuthError::Unavailable(error)) => {
                tracing::debug!(error, "grants could not be judged again yet")
            }
            Err(error) => {
                for id in open {
                    hub.refuse(id, error.code(), Vec::new());
                }
            }
        }
    }
}
