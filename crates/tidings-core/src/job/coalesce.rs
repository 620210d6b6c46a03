//! Coalescing: how often a job's progress is worth an event.
//!
//! Owns: that rate. Does not know: what a report says.
//! Flow: a progress report → store it now, or hold it, the last one wins, until its time or the job's next other event.

use crate::limits;

/// What becomes of a progress report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coalesced {
    /// Store it, and with it all that was held.
    Store,
    /// Keep it in memory until then, unless another one or another event of the job comes first.
    Hold {
        /// Milliseconds, on the clock of `now_ms`.
        until_ms: u64,
    },
}

/// Decides about a report at `now_ms`, when the job's progress was last stored at `stored_ms`. At most 10 a second are.
///
/// ```
/// use tidings_core::job::{Coalesced, coalesce};
/// assert_eq!(coalesce(1_000, None), Coalesced::Store);
/// assert_eq!(coalesce(1_099, Some(1_000)), Coalesced::Hold { until_ms: 1_100 });
/// assert_eq!(coalesce(1_100, Some(1_000)), Coalesced::Store);
/// ```
#[must_use]
pub fn coalesce(now_ms: u64, stored_ms: Option<u64>) -> Coalesced {
    match stored_ms.map(|stored| stored.saturating_add(limits::JOB_PROGRESS_MS)) {
        // A clock that was set back must not silence a job.
        Some(until_ms) if now_ms < until_ms && until_ms - now_ms <= limits::JOB_PROGRESS_MS => {
            Coalesced::Hold { until_ms }
        }
        _ => Coalesced::Store,
    }
}
