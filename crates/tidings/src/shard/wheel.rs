//! Timers of all connections of a shard, in slots of a quarter second.
//!
//! Owns: when to look at a connection again. Does not know: why.
//! Flow: in ← keys with a due time · out → keys that are due, never early, at most a slot late.

use super::inbox::Key;

/// Milliseconds in a slot.
const SLOT_MS: u64 = 250;
/// Slots: 64 s, more than the longest keep-alive by default; later times wait a round.
const SLOTS: usize = 256;

/// A hashed timing wheel.
#[derive(Debug)]
pub(super) struct Wheel {
    slots: Vec<Vec<(Key, u64)>>,
    /// The next slot to look at, counted from the start of time.
    next: u64,
}

impl Wheel {
    pub(super) fn new(now_ms: u64) -> Self {
        Self { slots: (0..SLOTS).map(|_| Vec::new()).collect(), next: now_ms / SLOT_MS }
    }

    pub(super) fn set(&mut self, key: Key, due_ms: u64) {
        // A slot is looked at once its last millisecond has passed.
        let slot = (due_ms / SLOT_MS).max(self.next);
        if let Some(list) = self.slot(slot) {
            list.push((key, slot));
        }
    }

    /// What is due now.
    pub(super) fn due(&mut self, now_ms: u64) -> Vec<Key> {
        let mut due = Vec::new();
        while (self.next + 1) * SLOT_MS <= now_ms {
            let slot = self.next;
            self.next += 1;
            if let Some(list) = self.slot(slot) {
                list.retain(|&(key, at)| {
                    if at <= slot {
                        due.push(key);
                    }
                    at > slot
                });
                if list.is_empty() {
                    list.shrink_to(64);
                }
            }
        }
        due
    }

    /// Milliseconds until [`Wheel::due`] is worth a call.
    pub(super) fn wait_ms(&self, now_ms: u64) -> u64 {
        ((self.next + 1) * SLOT_MS).saturating_sub(now_ms)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.slots.iter().all(Vec::is_empty)
    }

    fn slot(&mut self, slot: u64) -> Option<&mut Vec<(Key, u64)>> {
        let index = usize::try_from(slot).unwrap_or(0) % SLOTS;
        self.slots.get_mut(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_never_early_and_at_most_a_slot_late_also_after_a_round() {
        let key = |n| Key { place: n, serial: 0 };
        let mut wheel = Wheel::new(1_000);
        let times = [1_000, 1_249, 1_250, 15_000, 64_000, 64_999, 65_000, 200_000];
        for (n, due) in (0..).zip(times) {
            wheel.set(key(n), due);
        }
        for now in (1_000..300_000).step_by(50) {
            for due in wheel.due(now) {
                let at = times[due.place as usize];
                assert!(at <= now && now < at + 2 * SLOT_MS, "{at} came at {now}");
            }
        }
        assert!(wheel.is_empty(), "every timer came");
    }
}
