//! Until when a connection may be written to, and what it listens to.
//!
//! Owns: that nothing is written once the time is over or somebody says so, and channels that join. Does not know: why
//! (users and grants are others').
//! Flow: a time, a refusal or channels, from others → checked at every write, between two frames → an end that says why.

use std::sync::Arc;

use tidings_core::{ChannelName, Grant, Seq};
use tokio::sync::oneshot;

use super::catchup::end_of;
use super::connection::Conn;
use super::inbox::Key;
use super::run::Shard;
use crate::subscribe::Subscription;

/// No end.
pub(super) const NEVER: u64 = u64::MAX;

/// Channels that join a connection.
#[derive(Debug)]
pub(crate) struct Joining {
    /// What it listens to from now on.
    pub(crate) subscription: Arc<Subscription>,
    /// Told from where on; dropped if the connection is gone.
    pub(crate) joined: oneshot::Sender<Seq>,
}

/// Why a connection is told to go.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    /// A stable code.
    pub(crate) code: &'static str,
    /// Only these channels are meant; empty if all are.
    pub(crate) channels: Vec<ChannelName>,
}

impl Refusal {
    pub(crate) fn new(code: &'static str) -> Self {
        Self { code, channels: Vec::new() }
    }
}

impl Conn {
    /// Whether nothing may be written any more.
    pub(super) fn is_over(&self, unix_ms: u64) -> bool {
        self.until_ms <= unix_ms
    }
}

impl Shard {
    /// It may be written to until then, Unix milliseconds.
    pub(super) fn set_until(&mut self, key: Key, until_ms: Option<u64>) {
        let unix = self.unix_ms;
        let Some(conn) = self.conn(key) else { return };
        conn.until_ms = until_ms.unwrap_or(NEVER);
        let Some(until_ms) = until_ms else { return };
        conn.rare().warn_at_ms = Some(Grant::expiring_at_ms(until_ms, unix));
        self.set_timer(key);
    }

    /// What time does to a connection that may be written to only so long. `true` if it was the end.
    pub(super) fn look_at_end(&mut self, key: Key) -> bool {
        let unix = self.unix_ms;
        let Some(conn) = self.conn(key).filter(|conn| conn.until_ms != NEVER && !conn.ended) else {
            return false;
        };
        if conn.is_over(unix) {
            self.refuse(key, &Refusal::new("token_expired"));
            return true;
        }
        let until_ms = conn.until_ms;
        if conn.is_free() && conn.rare().warn_at_ms.take_if(|at| *at <= unix).is_some() {
            self.say(key, crate::control::auth_expiring(until_ms));
        }
        false
    }

    /// Says why, and ends. What is left of a frame is not written: the client has not taken its id.
    pub(super) fn refuse(&mut self, key: Key, refusal: &Refusal) {
        self.begin(key);
        let Some(conn) = self.conn(key).filter(|conn| !conn.ended) else { return };
        if conn.closing {
            // It ends behind what is left of a frame, which may not be written any more either.
            return self.remove(key);
        }
        // Whatever is still found for it, or owed to it, is not sent.
        conn.until_ms = 0;
        let holds = conn.sink.withdraw();
        if conn.is_free() && !holds {
            let at = self.stands_at(key);
            let id = self.parts.log.epochs().id(at).stopped();
            self.say(key, crate::control::unauthorized(refusal.code, &refusal.channels, id));
        } else {
            conn.pending = bytes::Bytes::new();
        }
        self.parts.metrics.unauthorized.inc();
        self.close(key);
        self.linger(key);
    }

    /// Channels join between two passes, where the connection stands: it gets what lies behind that.
    pub(super) fn join(&mut self, key: Key, joining: Joining) {
        let Some(at) = self.conn(key).map(|conn| conn.cohort) else { return };
        let cohort = self.cohorts.of_mut(at);
        if cohort.pass.is_some() {
            return cohort.joining.push((key, joining));
        }
        let position = cohort.position;
        let Joining { subscription, joined } = joining;
        let end = end_of(&*self.parts.log, &subscription.channels);
        let Some(conn) = self.conn(key).filter(|conn| !conn.closing) else { return };
        let cursor = conn.place.cursor(position);
        subscription.set_behind(!conn.place.is_in_step());
        let old = std::mem::replace(&mut conn.ticket.subscription, Arc::clone(&subscription));
        conn.many = subscription.channels.len() > 1;
        conn.end_after = end;
        let reading = conn.reading;
        if reading || conn.rare.as_ref().is_some_and(|r| !r.grace.is_empty()) {
            let rare = conn.rare();
            // What a reader finds meanwhile is without the new channels: it is read again.
            rare.stale |= reading;
            if !rare.grace.is_empty() {
                let mut grace = std::mem::take(&mut rare.grace).into_vec();
                grace.resize(subscription.channels.len(), Seq::ZERO);
                rare.grace = grace.into();
            }
        }
        let cohort = self.cohorts.of_mut(at);
        let new = subscription.channels.get(old.channels.len()..).unwrap_or_default();
        new.iter().for_each(|channel| cohort.list(channel, key.place));
        if !new.is_empty() {
            // Where the client knows the stream to stand may lie before: of what is between, they are owed nothing.
            self.say_cursor(key, cursor, new);
        }
        self.enqueue(key);
        // Nobody waits for the answer any more: the channels have joined all the same.
        joined.send(cursor).unwrap_or_default();
    }
}
