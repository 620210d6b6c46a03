//! Failed authentications, by the address of who tried.
//!
//! Owns: how many an address has in a minute, and whether it may try again. Does not know: credentials, requests.
//! Flow: `note` ← a wrong credential · `blocked` ← a request with credentials → whether they are looked at.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidings_core::address::counted;

const MINUTE_US: u64 = 60_000_000;
/// Addresses that are remembered: some 5 MB. Whoever has more than that is not stopped by counting addresses.
const ADDRESSES_MAX: usize = 100_000;

/// Counts failures. An address that is not known (a program of this machine, a proxy that does not say) is never blocked.
#[derive(Debug)]
pub(crate) struct AuthFailures {
    per_minute: u32,
    /// When the failures of an address are paid off, each of them with an equal part of a minute.
    paid_us: Mutex<HashMap<IpAddr, u64>>,
}

impl AuthFailures {
    pub(crate) fn new(per_minute: u32) -> Self {
        Self { per_minute: per_minute.max(1), paid_us: Mutex::default() }
    }

    /// A credential from this address was wrong.
    pub(crate) fn note(&self, address: Option<IpAddr>) {
        self.note_at(address, crate::clock::now_us());
    }

    /// Whether this address has failed too often to be listened to now.
    pub(crate) fn blocked(&self, address: Option<IpAddr>) -> bool {
        self.blocked_at(address, crate::clock::now_us())
    }

    fn note_at(&self, address: Option<IpAddr>, now_us: u64) {
        let Some(address) = address.map(counted) else { return };
        let mut all = self.lock();
        if all.len() >= ADDRESSES_MAX && !all.contains_key(&address) {
            all.retain(|_, paid_us| *paid_us > now_us);
            if all.len() >= ADDRESSES_MAX {
                return;
            }
        }
        let paid_us = all.entry(address).or_default();
        *paid_us = (*paid_us).max(now_us) + MINUTE_US / u64::from(self.per_minute);
    }

    fn blocked_at(&self, address: Option<IpAddr>, now_us: u64) -> bool {
        let Some(address) = address.map(counted) else { return false };
        let each = MINUTE_US / u64::from(self.per_minute);
        // A little more than a whole minute is owed only if there is no room for one more.
        self.lock().get(&address).is_some_and(|paid_us| *paid_us + each > now_us + MINUTE_US)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, u64>> {
        self.paid_us.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_fails_ten_times_waits_for_its_share_of_a_minute() {
        let failures = AuthFailures::new(10);
        let (one, other) = ("9.9.9.9".parse().ok(), "9.9.9.8".parse().ok());
        let start = 5_000_000;
        for _ in 0..10 {
            assert!(!failures.blocked_at(one, start));
            failures.note_at(one, start);
        }
        assert!(failures.blocked_at(one, start) && !failures.blocked_at(other, start));
        assert!(failures.blocked_at(one, start + 5_999_999));
        assert!(!failures.blocked_at(one, start + 6_000_000), "one more try each 6 s");
        failures.note_at(one, start + 6_000_000);
        assert!(failures.blocked_at(one, start + 6_000_000));
        assert!(!failures.blocked_at(one, start + 70_000_000));
    }

    #[test]
    fn who_is_not_known_is_never_blocked_and_a_network_of_ipv6_is_one_client() {
        let failures = AuthFailures::new(1);
        failures.note_at(None, 0);
        assert!(!failures.blocked_at(None, 0));
        failures.note_at("2001:db8::1".parse().ok(), 0);
        assert!(failures.blocked_at("2001:db8::2".parse().ok(), 0));
    }

    #[test]
    fn memory_for_addresses_is_bounded_and_those_that_have_paid_make_room() {
        let failures = AuthFailures::new(1);
        let address = |n: usize| Some(IpAddr::V4(u32::try_from(n).unwrap().into()));
        (0..ADDRESSES_MAX + 10).for_each(|n| failures.note_at(address(n), 0));
        assert_eq!(failures.lock().len(), ADDRESSES_MAX);
        failures.note_at(address(ADDRESSES_MAX + 10), MINUTE_US + 1);
        assert_eq!(failures.lock().len(), 1);
    }
}
