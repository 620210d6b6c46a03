//! Idempotency keys that are remembered.
//!
//! Owns: which groups were appended in the last 24 h. Does not know: what was in them.
//! Flow: in ← the key of a group, before it is judged · out → new, a repeat, or used for something else.

use std::collections::{BTreeSet, HashMap};

use tidings_core::{Seq, limits};

use crate::log::Idempotency;

/// What the log knows of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::log) enum Known {
    /// Nothing, or nothing any more.
    New,
    /// Its group stands here.
    Repeat { first: Seq, count: u32 },
    /// It stands for another group.
    Other,
}

#[derive(Debug, Clone, Copy)]
struct Remembered {
    fingerprint: u128,
    time_ms: u64,
    first: Seq,
    count: u32,
}

impl Remembered {
    fn is_over(&self, now_ms: u64) -> bool {
        self.time_ms.saturating_add(limits::IDEMPOTENCY_MS) <= now_ms
    }
}

#[derive(Debug)]
pub(in crate::log) struct Keys {
    by_key: HashMap<u128, Remembered>,
    // Invariant: holds exactly the keys of `by_key`, each with its time.
    by_time: BTreeSet<(u64, u128)>,
    keys_max: usize,
}

impl Keys {
    pub(in crate::log) fn new(keys_max: usize) -> Self {
        Self { by_key: HashMap::new(), by_time: BTreeSet::new(), keys_max }
    }

    pub(in crate::log) fn remember(&mut self, idempotency: Idempotency, first: Seq, count: u32) {
        let Idempotency { key, fingerprint, time_ms } = idempotency;
        if let Some(old) = self.by_key.insert(key, Remembered { fingerprint, time_ms, first, count }) {
            self.by_time.remove(&(old.time_ms, key));
        }
        self.by_time.insert((time_ms, key));
    }

    /// Forgets what is 24 h old at `now_ms`.
    pub(in crate::log) fn forget(&mut self, now_ms: u64) {
        while let Some(&(time_ms, key)) = self.by_time.first() {
            if self.by_key.get(&key).is_some_and(|known| !known.is_over(now_ms)) {
                break;
            }
            self.by_time.remove(&(time_ms, key));
            self.by_key.remove(&key);
        }
    }

    /// Whether there is no room for one more at `now_ms`.
    pub(in crate::log) fn is_full(&mut self, now_ms: u64) -> bool {
        if self.by_key.len() >= self.keys_max {
            self.forget(now_ms);
        }
        self.by_key.len() >= self.keys_max
    }

    pub(in crate::log) fn known(&self, idempotency: Idempotency) -> Known {
        match self.by_key.get(&idempotency.key) {
            None => Known::New,
            Some(known) if known.is_over(idempotency.time_ms) => Known::New,
            Some(known) if known.fingerprint != idempotency.fingerprint => Known::Other,
            Some(known) => Known::Repeat { first: known.first, count: known.count },
        }
    }

    /// Everything remembered, in no order.
    pub(in crate::log) fn iter(&self) -> impl Iterator<Item = (Idempotency, Seq, u32)> + '_ {
        self.by_key.iter().map(|(&key, known)| {
            let Remembered { fingerprint, time_ms, first, count } = *known;
            (Idempotency { key, fingerprint, time_ms }, first, count)
        })
    }

    pub(in crate::log) fn len(&self) -> usize {
        self.by_key.len()
    }
}
