//! What a job's maker asked for: when it runs, how often, how long, and how long it is kept.
//!
//! Owns: those settings, their bounds and defaults, the wait between attempts. Does not know: what happens to the job.
//! Flow: `New` → `Terms`, stored beside the document → the machine's decisions.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{JobError, JobId, JobType, Mode, QueueName};
use crate::limits;

/// A job that is to be made.
#[derive(Debug, Clone)]
pub struct New {
    /// Its id.
    pub id: JobId,
    /// What it does.
    pub job_type: JobType,
    /// The queue it stands in.
    pub queue: QueueName,
    /// Who runs it.
    pub mode: Mode,
    /// −100 to 100; higher ones are leased first.
    pub priority: i32,
    /// When it may run, if not now; Unix milliseconds.
    pub run_at: Option<u64>,
    /// How many runs there may be.
    pub max_attempts: u32,
    /// For filters.
    pub tags: Vec<String>,
    /// The job that it belongs to.
    pub parent: Option<String>,
    /// The job that it repeats.
    pub retry_of: Option<String>,
    /// The schedule that makes it.
    pub schedule: Option<String>,
    /// Whose it is.
    pub subject: Option<String>,
    /// The rest.
    pub terms: Terms,
}

impl New {
    /// A job that may run now, with the defaults of everything.
    #[expect(
        clippy::self_named_constructors,
        reason = "a job that is new is made, as every value is, by `new`"
    )]
    #[must_use]
    pub fn new(id: JobId, job_type: JobType) -> Self {
        Self {
            id,
            job_type,
            queue: QueueName::default_queue(),
            mode: Mode::Managed,
            priority: 0,
            run_at: None,
            max_attempts: limits::JOB_ATTEMPTS_DEFAULT,
            tags: Vec::new(),
            parent: None,
            retry_of: None,
            schedule: None,
            subject: None,
            terms: Terms::default(),
        }
    }

    /// Says whether the values are within their bounds.
    pub(super) fn check(&self, now_ms: u64) -> Result<(), JobError> {
        check_tags(&self.tags)?;
        if self.priority.unsigned_abs() > limits::JOB_PRIORITY_MAX.unsigned_abs() {
            let most = limits::JOB_PRIORITY_MAX;
            return Err(JobError::Field(format!("priority is {}, not -{most} to {most}", self.priority)));
        }
        if self.run_at.is_some_and(|at| at > now_ms.saturating_add(limits::JOB_DELAY_MS_MAX)) {
            return Err(JobError::Field("the job is to run in more than a year".into()));
        }
        if !(1..=limits::JOB_ATTEMPTS_MAX).contains(&self.max_attempts) {
            return Err(JobError::Field(format!(
                "max_attempts is {}, not 1 to {}",
                self.max_attempts,
                limits::JOB_ATTEMPTS_MAX
            )));
        }
        if let Some(subject) = &self.subject
            && let Err(error) = crate::grant::Subject::parse(subject)
        {
            return Err(JobError::Field(format!("subject: {error}")));
        }
        if self.parent.as_deref() == Some(self.id.as_str()) {
            return Err(JobError::Parent("a job cannot be its own parent".into()));
        }
        self.terms.check()
    }
}

/// Says whether tags are few and short.
pub(super) fn check_tags(tags: &[String]) -> Result<(), JobError> {
    let fit = tags.iter().all(|tag| (1..=limits::JOB_TAG_BYTES_MAX).contains(&tag.len()));
    if tags.len() > limits::JOB_TAGS_MAX || !fit {
        let (most, bytes) = (limits::JOB_TAGS_MAX, limits::JOB_TAG_BYTES_MAX);
        return Err(JobError::Field(format!("tags are not at most {most} texts of 1 to {bytes} bytes")));
    }
    Ok(())
}

/// What does not change while a job lives, and is not for pages. Times are milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Terms {
    /// How long a worker may be silent.
    #[serde(skip_serializing_if = "is_lease_default")]
    pub lease_ms: u64,
    /// How long a run may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// The wait between attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// How many leases it may lose.
    #[serde(skip_serializing_if = "is_stalls_default")]
    pub max_stalls: u32,
    /// It has to begin to run within this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued_ms: Option<u64>,
    /// How long it is kept when it has ended.
    #[serde(skip_serializing_if = "is_result_default")]
    pub result_ms: u64,
    /// An external queue has to report within this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_after_ms: Option<u64>,
    /// The unique key that it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unique: Option<String>,
    /// Until when it holds the key though it may have ended; Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unique_until: Option<u64>,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            lease_ms: limits::LEASE_MS_DEFAULT,
            timeout_ms: None,
            backoff: None,
            max_stalls: limits::JOB_STALLS_DEFAULT,
            queued_ms: None,
            result_ms: limits::RESULT_MS_DEFAULT,
            stale_after_ms: None,
            unique: None,
            unique_until: None,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_lease_default(ms: &u64) -> bool {
    *ms == limits::LEASE_MS_DEFAULT
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_stalls_default(stalls: &u32) -> bool {
    *stalls == limits::JOB_STALLS_DEFAULT
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_result_default(ms: &u64) -> bool {
    *ms == limits::RESULT_MS_DEFAULT
}

impl Terms {
    /// Says whether the values are within their bounds.
    pub(super) fn check(&self) -> Result<(), JobError> {
        let within = |name: &str, value: Option<u64>, least: u64, most: u64| match value {
            Some(value) if !(least..=most).contains(&value) => {
                Err(JobError::Field(format!("{name} is {value}, not {least} to {most}")))
            }
            _ => Ok(()),
        };
        let (lease, run) = (limits::LEASE_MS, limits::JOB_RUN_MS);
        within("lease_ms", Some(self.lease_ms), *lease.start(), *lease.end())?;
        within("timeout_ms", self.timeout_ms, *run.start(), *run.end())?;
        within("max_stalls", Some(self.max_stalls.into()), 0, limits::JOB_STALLS_MAX.into())?;
        within("ttl.queued_ms", self.queued_ms, 1, limits::JOB_DELAY_MS_MAX)?;
        within("ttl.result_ms", Some(self.result_ms), 1, limits::RESULT_MS_MAX)?;
        within("stale_after_ms", self.stale_after_ms, *run.start(), *run.end())?;
        let is_key = |key: &String| {
            (1..=limits::JOB_UNIQUE_KEY_BYTES_MAX).contains(&key.len()) && !key.chars().any(char::is_control)
        };
        if !self.unique.as_ref().is_none_or(is_key) {
            let most = limits::JOB_UNIQUE_KEY_BYTES_MAX;
            return Err(JobError::Field(format!(
                "unique.key is not 1 to {most} bytes without control characters"
            )));
        }
        self.backoff.as_ref().map_or(Ok(()), Backoff::check)
    }
}

/// How the wait between attempts grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackoffKind {
    /// It doubles with each.
    #[default]
    Exponential,
    /// It is the same.
    Fixed,
}

/// The wait between attempts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backoff {
    /// How it grows.
    pub kind: BackoffKind,
    /// The first wait, in milliseconds.
    pub base_ms: u64,
    /// The longest wait, in milliseconds.
    pub max_ms: u64,
    /// The share of the wait that is random, 0–1, so that jobs which failed together do not come back together.
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            kind: BackoffKind::Exponential,
            base_ms: limits::BACKOFF_BASE_MS_DEFAULT,
            max_ms: limits::BACKOFF_MAX_MS_DEFAULT,
            jitter: 0.5,
        }
    }
}

impl Backoff {
    fn check(&self) -> Result<(), JobError> {
        let most = limits::BACKOFF_MS_MAX;
        if self.base_ms > most || self.max_ms > most || !(0.0..=1.0).contains(&self.jitter) {
            return Err(JobError::Field(format!(
                "backoff has waits of up to {most} ms and a jitter of 0 to 1"
            )));
        }
        Ok(())
    }

    /// The wait after the `attempt`-th run failed, in milliseconds. `random` is any number.
    ///
    /// ```
    /// use tidings_core::job::Backoff;
    /// let backoff = Backoff { jitter: 0.0, ..Backoff::default() };
    /// assert_eq!((backoff.wait_ms(1, 7), backoff.wait_ms(3, 7), backoff.wait_ms(60, 7)), (1_000, 4_000, 60_000));
    /// assert!((500..=1_000).contains(&Backoff::default().wait_ms(1, 7)));
    /// ```
    #[must_use]
    pub fn wait_ms(&self, attempt: u32, random: u64) -> u64 {
        let factor = match self.kind {
            BackoffKind::Exponential => 1_u64.checked_shl(attempt.saturating_sub(1)).unwrap_or(u64::MAX),
            BackoffKind::Fixed => 1,
        };
        let wait = self.base_ms.saturating_mul(factor).min(self.max_ms.max(self.base_ms));
        // In parts of a thousand: waits are at most a day, so nothing overflows.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "jitter is 0 to 1")]
        let random_part = wait.saturating_mul((self.jitter * 1_000.0) as u64) / 1_000;
        wait - random_part + if random_part == 0 { 0 } else { random % (random_part + 1) }
    }
}
