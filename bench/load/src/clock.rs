//! The clock that publishers and subscribers share: they run on the same machine.
//!
//! Owns: now. Does not know: what it is used for.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Unix microseconds.
pub(crate) fn micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// A duration in microseconds.
pub(crate) fn to_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
