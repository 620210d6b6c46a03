//! What all files take together.
//!
//! Owns: the bound on it. Does not know: which files there are.
//! Flow: counted once after the start → reserved before bytes are written → kept by a file, or given back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// The bytes of all files.
#[derive(Debug)]
pub(super) struct Room {
    bytes_max: u64,
    used: AtomicU64,
    counted: watch::Sender<bool>,
}

impl Room {
    pub(super) fn new(bytes_max: u64, is_counted: bool) -> Self {
        Self { bytes_max, used: AtomicU64::new(0), counted: watch::Sender::new(is_counted) }
    }

    /// Waits until it is known what the files of earlier runs take.
    pub(super) async fn counted(&self) {
        // The sender is here, so it cannot be gone.
        drop(self.counted.subscribe().wait_for(|counted| *counted).await);
    }

    pub(super) fn is_counted(&self) -> bool {
        *self.counted.borrow()
    }

    pub(super) fn set_counted(&self) {
        self.counted.send_replace(true);
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }

    /// Files that are there, whether or not there is room for them.
    pub(super) fn add(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::AcqRel);
    }

    pub(super) fn give_back(&self, bytes: u64) {
        let less = |used: u64| Some(used.saturating_sub(bytes));
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, less).unwrap_or_default();
    }

    fn take(&self, bytes: u64) -> bool {
        let more = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.bytes_max);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    /// Room for a file, if there is any.
    pub(super) fn reserve(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        self.take(bytes).then(|| Reservation { room: Arc::clone(self), bytes })
    }
}

/// Room for a file on its way. Dropped, it is given back.
#[derive(Debug)]
pub(super) struct Reservation {
    room: Arc<Room>,
    bytes: u64,
}

impl Reservation {
    /// Makes it at least so large. Says whether there was room.
    pub(super) fn grow_to(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let is_taken = more == 0 || self.room.take(more);
        if is_taken {
            self.bytes = self.bytes.max(bytes);
        }
        is_taken
    }

    /// The file is there: so much is kept for as long as it is.
    pub(super) fn keep(mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.room.give_back(self.bytes);
    }
}
