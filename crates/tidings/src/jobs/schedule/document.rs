//! A schedule as it is stored and shown.
//!
//! Owns: the fields of its document, and what is to be done when it is due. Does not know: the log, HTTP, whether a job
//! has ended.
//! Flow: what a `PUT` wants → `Document`, the data of an event on the schedule's channel → at a due time a `Plan`.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidings_core::job::ScheduleName;

use super::times::{Times, UTC};

/// A due time that is met later than this was missed: the server was down, asleep, or could not store.
pub(super) const LATE_MS: u64 = 60_000;

/// What happens at a due time when the job of an earlier one has not ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Overlap {
    /// Nothing.
    #[default]
    Skip,
    /// Another job.
    Allow,
}

/// What happens when due times were missed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Missed {
    /// One job for all of them.
    #[default]
    Once,
    /// Nothing.
    Skip,
}

/// What a `PUT` says.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    #[serde(default)]
    pub(super) cron: Option<String>,
    #[serde(default)]
    pub(super) every_ms: Option<u64>,
    #[serde(default)]
    pub(super) tz: Option<String>,
    #[serde(default)]
    pub(super) overlap: Overlap,
    #[serde(default)]
    pub(super) missed: Missed,
    pub(crate) job: Box<RawValue>,
}

/// The whole state of a schedule.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Document {
    pub(super) name: String,
    pub(super) cron: Option<String>,
    pub(super) every_ms: Option<u64>,
    pub(super) tz: Option<String>,
    pub(super) overlap: Overlap,
    pub(super) missed: Missed,
    pub(super) job: Box<RawValue>,
    /// The next due time; none if there is none any more.
    pub(super) next_at: Option<u64>,
    /// The due time of the newest job.
    pub(super) last_at: Option<u64>,
    pub(super) last_job: Option<String>,
    pub(super) created_at: u64,
    pub(super) updated_at: u64,
}

/// What is to be done at a due time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// The time to make a job for.
    pub(super) make_for: Option<u64>,
    /// The due time after it.
    pub(super) next_at: Option<u64>,
}

impl Document {
    /// What a `PUT` makes of a schedule that was there before, or was not. Says in words what is wrong.
    pub(super) fn of(
        name: &ScheduleName,
        wanted: Wanted,
        before: Option<&Self>,
        now_ms: u64,
    ) -> Result<(Self, Times), String> {
        let Wanted { cron, every_ms, tz, overlap, missed, job } = wanted;
        // Kept, so that a program that says at each start what it wants does not put off what it wants.
        let created_at = before.map_or(now_ms, |before| before.created_at);
        let times = Times::parse(cron.as_deref(), every_ms, tz.as_deref(), created_at)?;
        let tz = cron.is_some().then(|| tz.unwrap_or_else(|| UTC.to_owned()));
        let same_times = before.filter(|b| (&b.cron, b.every_ms, &b.tz) == (&cron, every_ms, &tz));
        let next_at = match same_times {
            Some(before) => before.next_at,
            None => times.next_after(now_ms),
        };
        if next_at.is_none() {
            return Err("the schedule would never be due".into());
        }
        let document = Self {
            name: name.as_str().to_owned(),
            cron,
            every_ms,
            tz,
            overlap,
            missed,
            job,
            next_at,
            last_at: before.and_then(|before| before.last_at),
            last_job: before.and_then(|before| before.last_job.clone()),
            created_at,
            updated_at: now_ms,
        };
        Ok((document, times))
    }

    /// Says whether another document wants the same.
    pub(super) fn wants_the_same(&self, other: &Self) -> bool {
        let timing = |d: &Self| (d.cron.clone(), d.every_ms, d.tz.clone(), d.overlap, d.missed);
        timing(self) == timing(other) && self.job.get() == other.job.get()
    }

    /// What is to be done now, if the schedule is due. `is_busy`: its newest job has not ended. What was due before
    /// `since_ms`, when the server started, was missed.
    pub(super) fn plan(&self, times: &Times, is_busy: bool, since_ms: u64, now_ms: u64) -> Option<Plan> {
        let due_ms = self.next_at.filter(|due| *due <= now_ms)?;
        let last = times.last(due_ms, now_ms);
        let was_missed = last < since_ms || last < now_ms.saturating_sub(LATE_MS);
        let is_skipped =
            was_missed && self.missed == Missed::Skip || is_busy && self.overlap == Overlap::Skip;
        Some(Plan { make_for: (!is_skipped).then_some(last), next_at: times.next_after(last) })
    }
}
