//! Turns: of those who have to do with the same thing, one after the other.
//!
//! Owns: a fixed number of locks, whatever the number of things. Does not know: what is done in a turn.
//! Flow: a key → `of` → the turn, until it is dropped.

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::publish::key_hash;

/// Keys that have turns side by side; those that meet in one place wait for each other.
const PLACES: usize = 64;

/// Somebody's turn.
pub(super) type Turn = OwnedMutexGuard<()>;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Turns(Box<[Arc<Mutex<()>>]>);

impl Turns {
    pub(super) fn new() -> Self {
        Self((0..PLACES).map(|_| Arc::default()).collect())
    }

    /// Waits until nobody else has a turn with this key.
    pub(super) async fn of(&self, key: &str) -> Option<Turn> {
        let place = usize::try_from(key_hash("turn", key) % PLACES as u128).unwrap_or(0);
        Some(Arc::clone(self.0.get(place)?).lock_owned().await)
    }
}
