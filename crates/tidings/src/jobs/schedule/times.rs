//! The due times of a schedule.
//!
//! Owns: which time comes after another, and which of several that have passed is the last. Does not know: what is done
//! at them.
//! Flow: `cron` and `tz`, or `every_ms` → `Times` → the next due time.

use tidings_core::limits;

use super::cron::CronTimes;

/// When a schedule is due.
#[derive(Debug, Clone)]
pub(super) enum Times {
    Cron(CronTimes),
    /// Each `every_ms` from when the schedule was made.
    Every {
        every_ms: u64,
        from_ms: u64,
    },
}

impl Times {
    /// Reads when a schedule that was made at `created_at` is due. Says in words what is wrong.
    pub(super) fn parse(
        cron: Option<&str>,
        every_ms: Option<u64>,
        tz: Option<&str>,
        created_at: u64,
    ) -> Result<Self, String> {
        match (cron, every_ms) {
            (Some(cron), None) => Ok(Self::Cron(CronTimes::parse(cron, tz.unwrap_or(UTC))?)),
            (None, Some(_)) if tz.is_some() => Err("`tz` belongs to `cron`".into()),
            (None, Some(every_ms)) if limits::EVERY_MS.contains(&every_ms) => {
                Ok(Self::Every { every_ms, from_ms: created_at })
            }
            (None, Some(every_ms)) => {
                let (least, most) = (limits::EVERY_MS.start(), limits::EVERY_MS.end());
                Err(format!("every_ms is {every_ms}, not {least} to {most}"))
            }
            _ => Err("a schedule has either `cron` or `every_ms`".into()),
        }
    }

    /// The first due time after another one. `None` if there is none.
    pub(super) fn next_after(&self, after_ms: u64) -> Option<u64> {
        match self {
            Self::Cron(cron) => cron.next_after(after_ms),
            Self::Every { every_ms, from_ms } => {
                let passed = after_ms.saturating_sub(*from_ms) / every_ms;
                from_ms.checked_add(passed.checked_add(1)?.checked_mul(*every_ms)?)
            }
        }
    }

    /// The last due time up to now. `due_ms` is one, and has passed.
    pub(super) fn last(&self, due_ms: u64, now_ms: u64) -> u64 {
        let (mut last, mut none_behind) = (due_ms, now_ms.max(due_ms));
        // `next_after` never falls when its argument grows, so the last time is found by halving.
        while last < none_behind {
            let middle = last + (none_behind - last) / 2;
            match self.next_after(middle).filter(|at| *at <= now_ms) {
                Some(at) => last = at,
                None => none_behind = middle,
            }
        }
        last
    }
}

/// The time zone of a pattern that names none.
pub(super) const UTC: &str = "UTC";
