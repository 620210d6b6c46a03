//! A bounded map by the hash of what was judged.
//!
//! Owns: which of two generations an entry is in. Does not know: what is kept.
//! Flow: a hash → what is kept for it; what nobody asked for during a whole generation is dropped.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

/// A hash of credentials. They themselves are kept nowhere.
pub(super) type Key = [u8; 32];

/// Hashes parts such that no two lists of parts look the same: each has its length before it.
pub(super) fn key(parts: &[&[u8]]) -> Key {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// At most twice `half` entries.
#[derive(Debug)]
pub(super) struct Cache<V> {
    newer: HashMap<Key, V>,
    older: HashMap<Key, V>,
    half: usize,
}

impl<V: Clone> Cache<V> {
    pub(super) fn new(half: usize) -> Self {
        Self { newer: HashMap::new(), older: HashMap::new(), half }
    }

    /// What is kept for a key. Whoever is asked for stays.
    pub(super) fn find(&mut self, key: &Key) -> Option<V> {
        if let Some(value) = self.newer.get(key) {
            return Some(value.clone());
        }
        let value = self.older.remove(key)?;
        self.insert(*key, value.clone());
        Some(value)
    }

    pub(super) fn insert(&mut self, key: Key, value: V) {
        if self.newer.len() >= self.half {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(key, value);
    }

    /// Everything that is kept.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.newer.values().chain(self.older.values())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stays_and_the_bound_holds() {
        let mut cache = Cache::new(10);
        let name = |n: u32| key(&[&n.to_le_bytes()]);
        cache.insert(name(0), 0);
        for n in 1..1_000 {
            cache.insert(name(n), n);
            assert_eq!(cache.find(&name(0)), Some(0), "{n}");
            assert!(cache.values().count() <= 20);
        }
        assert_eq!(cache.find(&name(1)), None);
    }

    #[test]
    fn parts_cannot_be_shifted_into_each_other() {
        assert_ne!(key(&[b"ab", b"c"]), key(&[b"a", b"bc"]));
        assert_ne!(key(&[b"", b"a"]), key(&[b"a", b""]));
        assert_ne!(key(&[b"a"]), key(&[b"a", b""]));
    }
}
