//! Closing the slowest readers when memory runs out.
//!
//! Owns: which ones. Does not know: how much memory there is.
//! Flow: `Command::Shed` → those that have taken nothing of what waits for them for longest → closed; they resume.

use super::inbox::Key;
use super::run::{Shard, place};

/// A part of those that could go, so that one look does not close everybody.
const PART: usize = 4;

impl Shard {
    pub(super) fn shed(&mut self) {
        let now = self.now_ms;
        let waits = |(at, conn): (usize, &super::connection::Conn)| {
            let waited_ms = conn.timers.waited_ms(now).filter(|_| conn.blocked)?;
            Some((waited_ms, Key { place: place(at), serial: conn.serial }))
        };
        let mut slow: Vec<(u32, Key)> = self.conns.iter().filter_map(waits).collect();
        slow.sort_by_key(|(waited_ms, _)| std::cmp::Reverse(*waited_ms));
        let count = slow.len().div_ceil(PART);
        for (_, key) in slow.into_iter().take(count) {
            self.parts.metrics.shed.inc();
            self.remove(key);
        }
    }
}
