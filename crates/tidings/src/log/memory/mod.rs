//! The log in memory: for tests, for demos, and for those who need no history after a restart.
//!
//! Owns: one run of a log, behind one lock: a commit is visible as a whole or not at all. Does not know: files; a
//! restart is another log with another epoch, which resets every client honestly.
//! Flow: in ← groups from the writer · out → records, shared with the log rather than copied.
//!
//! It decides like the disk engine, with the same refusals, windows and floors. The model that both are tested against
//! is in `log::conformance`.

mod channel;
mod read;
mod state;

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tidings_core::{ChannelName, Epoch, Epochs, Seq, limits};

use self::state::State;
use super::{
    AppendError, Feed, Group, Log, LogError, Outcome, ReadLimit, ReadOutcome, Retention, Stats, Want, Window,
};

/// A log that lives as long as the process.
pub struct MemoryLog {
    epochs: Epochs,
    state: RwLock<State>,
}

impl MemoryLog {
    /// An empty log with an epoch of its own.
    #[must_use]
    pub fn new(retention: Retention) -> Self {
        Self::with_keys_max(retention, limits::IDEMPOTENCY_KEYS_MAX)
    }

    /// An empty log that remembers fewer idempotency keys than [`limits::IDEMPOTENCY_KEYS_MAX`].
    #[must_use]
    pub fn with_keys_max(retention: Retention, keys_max: usize) -> Self {
        // The hasher's own seed is the second source: a log without a name of its own could not tell foreign ids.
        let bits = getrandom::u64().unwrap_or_else(|_| RandomState::new().build_hasher().finish());
        Self {
            epochs: Epochs::first(Epoch::from_random(bits)),
            state: RwLock::new(State::new(retention, keys_max)),
        }
    }

    // A thread that panicked while it held the lock cannot have left half a commit behind: nothing between the first
    // and the last change of a commit can panic. So the lock's poison says nothing and is passed over.
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let epoch = self.epochs.newest();
        f.debug_struct("MemoryLog").field("epoch", &epoch).field("head", &self.head()).finish_non_exhaustive()
    }
}

impl Log for MemoryLog {
    fn append(&self, groups: &[Group]) -> Result<Vec<Outcome>, AppendError> {
        if groups.iter().any(|group| group.events.len() > limits::BATCH_EVENTS_MAX) {
            return Err(AppendError::TooLarge);
        }
        Ok(self.state_mut().append(groups))
    }

    fn read(&self, wanted: &[Want<'_>], limit: ReadLimit) -> Result<ReadOutcome, LogError> {
        Ok(self.state().read(wanted, limit))
    }

    fn window(&self, channel: &ChannelName) -> Option<Window> {
        self.state().window(channel)
    }

    fn channels(&self, prefix: &str) -> Vec<(ChannelName, Window)> {
        self.state().channels(prefix, None).collect()
    }

    fn unfinished(&self, prefix: &str) -> Vec<(ChannelName, Window)> {
        self.state().channels(prefix, None).filter(|(_, window)| window.finished.is_none()).collect()
    }

    fn channels_page(
        &self,
        prefix: &str,
        after: Option<&ChannelName>,
        max: usize,
    ) -> Vec<(ChannelName, Window)> {
        self.state().channels(prefix, after).take(max).collect()
    }

    fn head(&self) -> Seq {
        self.state().head()
    }

    fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    fn horizon(&self) -> Seq {
        self.state().horizon()
    }

    fn before_last(&self, channels: &[ChannelName], n: usize, upto: Seq) -> Result<Seq, LogError> {
        Ok(self.state().before_last(channels, n, upto))
    }

    fn feed(&self, after: Seq, limit: ReadLimit) -> Result<Feed, LogError> {
        Ok(self.state().feed(after, limit))
    }

    fn delete(&self, channel: &ChannelName) -> Result<Option<Window>, LogError> {
        Ok(self.state_mut().delete(channel))
    }

    fn maintain(&self, now_ms: u64) -> Result<(), LogError> {
        self.state_mut().maintain(now_ms);
        Ok(())
    }

    fn stats(&self) -> Stats {
        self.state().stats()
    }

    fn close(&self) -> Result<(), LogError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::log::{Append, Flags};

    fn put(log: &MemoryLog, body: &'static [u8]) {
        let channel = ChannelName::parse("a").unwrap();
        let (body, flags) = (Bytes::from_static(body), Flags::default());
        let (private, expected_prev, key, expires_at_ms) = (None, None, None, None);
        let event = Append { channel, body, private, expected_prev, key, time_ms: 0, expires_at_ms, flags };
        log.append(&[Group { events: vec![event], idempotency: None }]).unwrap();
    }

    #[test]
    fn memory_stays_bounded_between_two_maintenances() {
        let events = MemoryLog::new(Retention::default().events_max(80));
        let bytes = MemoryLog::new(Retention::default().channel_bytes_max(100_000));
        let whole = MemoryLog::new(Retention::default().log_bytes_max(100_000));
        for _ in 0..1_000 {
            [&events, &bytes, &whole].iter().for_each(|log| put(log, &[b'x'; 1_000]));
            assert!(events.channels("").first().is_some_and(|(_, window)| window.events <= 90));
            assert!(bytes.stats().log_bytes <= 112_500 && whole.stats().log_bytes <= 112_500);
        }
        assert!(bytes.stats().log_bytes > 90_000 && whole.stats().log_bytes > 90_000);
    }

    #[test]
    fn every_log_has_an_epoch_of_its_own() {
        let [one, other] = [0, 1].map(|_| MemoryLog::new(Retention::default()).epochs().newest());
        assert_ne!(one, other);
    }
}
