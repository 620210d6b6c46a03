//! Streams whose turn has not come: when many come at once, they begin one after the other.
//!
//! Owns: that a stream waits with what it is, not with the request that asked for it. Does not know: how fast streams may
//! begin (`crate::pace` does).
//! Flow: opened with a wait → nothing is written → its time, or whatever ends it, comes → its first bytes, then as any other.

use bytes::Bytes;

use super::inbox::Key;
use super::run::Shard;

impl Shard {
    /// Lets a stream wait, as one whose socket takes nothing. The socket is not watched for room until then.
    pub(super) fn wait(&mut self, key: Key, preamble: Bytes, wait_ms: u64) {
        let now = self.now_ms;
        let Some(conn) = self.conn(key) else { return };
        (conn.waiting, conn.blocked, conn.pending) = (true, true, preamble);
        self.look_at(key, now + wait_ms);
    }

    /// Its turn has come, or it is to be told of its end. Does nothing to a stream that has begun.
    pub(super) fn begin(&mut self, key: Key) {
        let Some(conn) = self.conn(key).filter(|conn| conn.waiting) else { return };
        (conn.waiting, conn.blocked) = (false, false);
        let preamble = std::mem::take(&mut conn.pending);
        if let Err(error) = self.watch_for_room(key) {
            tracing::warn!(%error, "cannot watch a socket");
            return self.remove(key);
        }
        self.say(key, preamble);
        self.enqueue(key);
    }
}
