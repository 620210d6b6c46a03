//! Ephemeral events: to whoever is in step and takes them at once.
//!
//! Owns: that they hold up nothing that is stored, however many come and whoever listens. Does not know: who sends them.
//! Flow: the oldest that waits → those who listen now, some visits at a time, between passes → the next one.

use bytes::Bytes;

use super::inbox::{Ephemeral, Key};
use super::run::Shard;
use crate::frame::Encoding;

/// One that is being sent.
#[derive(Debug)]
pub(super) struct Going {
    event: Ephemeral,
    /// Who listened when it began and was not visited yet.
    to: Vec<Key>,
}

impl Shard {
    /// Makes up to `budget` visits; `true` if more is to be done.
    pub(super) fn drive_ephemeral(&mut self, budget: usize) -> bool {
        let inbox = self.inbox();
        for _ in 0..budget {
            let Some(mut going) =
                self.going.take().or_else(|| Some(self.begin_ephemeral(inbox.next_ephemeral()?)))
            else {
                return false;
            };
            if let Some(key) = going.to.pop() {
                self.send_ephemeral(key, &going.event);
                self.going = Some(going);
            }
        }
        true
    }

    fn begin_ephemeral(&self, event: Ephemeral) -> Going {
        let places = self.cohorts.listeners(&event.channel).into_iter();
        let conns = places.filter_map(|at| Some((at, self.conns.get(at as usize)?)));
        let to = conns.map(|(place, conn)| Key { place, serial: conn.serial }).collect();
        Going { event, to }
    }

    /// Whoever is behind or has something pending never hears of it.
    fn send_ephemeral(&mut self, key: Key, event: &Ephemeral) {
        let unix = self.unix_ms;
        let Some(conn) = self.conn(key) else { return };
        if !conn.place.is_in_step() || !conn.is_free() || conn.closing || conn.is_over(unix) {
            return;
        }
        let bytes: &Bytes = match conn.encoding {
            Encoding::Plain => &event.plain,
            Encoding::Envelope => &event.envelope,
        };
        self.say(key, bytes.clone());
    }
}
