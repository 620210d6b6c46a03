//! Open streams whose grant somebody else judges: they are judged again before the judgement is old.
//!
//! Owns: when to ask again, once for all streams with the same credentials. Does not know: whom (that is `Renew`), sockets.
//! Flow: a stream with a renewal is watched → asked again in time → its grant goes on, or the stream is refused.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{AuthError, Authorized, Renew};
use crate::{Hub, clock};

/// Credentials of open streams, by the address of who renews them, with the connections that have them.
#[derive(Debug, Default)]
pub(crate) struct Live(Mutex<HashMap<usize, HashSet<u64>>>);

/// How long before a judgement is old it is asked for again: some times what the last answer took, within these. More
/// would only be asked more often.
const EARLY_MS: RangeInclusive<u64> = 200..=2_500;
/// How long streams go on behind a judgement that is old while nobody can be asked: an application that starts anew is not
/// met by all of its users at once.
const LATE_MS: u64 = 1_500;
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
    let mut took = Duration::ZERO;
    loop {
        let left = Duration::from_millis(until_ms.saturating_sub(clock::unix_ms()));
        tokio::select! {
            () = tokio::time::sleep(pause(left, took)) => {}
            () = hub.0.jobs.draining.cancelled() => return,
        }
        let open = hub.0.auth.live.open(hub, renew);
        if open.is_empty() {
            return;
        }
        let asked = Instant::now();
        let answer = renew.renew().await;
        took = asked.elapsed();
        match answer.and_then(|new| hub.0.auth.check(&new.grant).map(|()| new)) {
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
            Err(AuthError::Unavailable(error)) if clock::unix_ms() >= until_ms.saturating_add(LATE_MS) => {
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

/// How long to wait before asking again, if a judgement holds for so long still and the last answer took so long.
fn pause(left: Duration, took: Duration) -> Duration {
    let [least, most] = [*EARLY_MS.start(), *EARLY_MS.end()].map(Duration::from_millis);
    let early = (4 * took).clamp(least, most).min(left / 5);
    (left - early).max(Duration::from_millis(PAUSE_MS_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_asked_again_before_the_judgement_is_old_and_hardly_more_often_than_once_a_period() {
        let asked = |left, took| pause(Duration::from_millis(left), Duration::from_millis(took)).as_millis();
        assert_eq!(asked(30_000, 5), 29_800, "a quick answer");
        assert_eq!(asked(30_000, 300), 28_800, "a slow one");
        assert_eq!(asked(30_000, 2_000), 27_500, "the slowest");
        assert_eq!(asked(5_000, 2_000), 4_000, "which would be asked all the time");
        assert_eq!(asked(1_000, 0), 1_000);
        assert_eq!(asked(0, 2_000), 1_000, "nobody could be asked");
    }
}
