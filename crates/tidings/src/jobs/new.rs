//! What a job's maker says.
//!
//! Owns: the builder of a job and its defaults. Does not know: the log, HTTP.
//! Flow: `NewJob` → the core's `New`, and the private part of the job's events.

use serde_json::value::RawValue;
use tidings_core::job::{Backoff, JobError, JobId, JobType, New, QueueName};
use tidings_core::{ChannelName, limits};

use super::JobsError;

/// A job that is to be made.
///
/// ```
/// use tidings::jobs::NewJob;
/// let job = NewJob::new("generate-report")?.input(&1_000)?.priority(5).max_attempts(5).tags(vec!["user:42".into()]);
/// # Ok::<(), tidings::jobs::JobsError>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct NewJob {
    pub(crate) id: Option<JobId>,
    /// All but the id, which may have to be made.
    pub(crate) core: New,
    pub(crate) input: Option<Box<RawValue>>,
    pub(crate) delay_ms: Option<u64>,
    pub(crate) unique: Option<Unique>,
    pub(crate) publish_to: Vec<ChannelName>,
    pub(crate) alias: Option<String>,
    pub(crate) idempotency_key: Option<String>,
}

/// What happens when another job holds the unique key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// The holder is the answer.
    #[default]
    Return,
    /// The holder is cancelled, and the new job takes its place.
    Replace,
    /// The new job is refused.
    Reject,
}

/// A key that only one job holds at a time.
#[derive(Debug, Clone)]
pub(crate) struct Unique {
    pub(crate) ttl_ms: Option<u64>,
    pub(crate) on_conflict: OnConflict,
}

impl NewJob {
    /// A job that may run now, with up to three attempts.
    ///
    /// # Errors
    /// [`tidings_core::job::JobError::Type`].
    pub fn new(job_type: &str) -> Result<Self, JobsError> {
        // The real id is known when the job is made.
        let core = New::new(JobId::parse("new")?, JobType::parse(job_type)?);
        Ok(Self {
            id: None,
            core,
            input: None,
            delay_ms: None,
            unique: None,
            publish_to: Vec::new(),
            alias: None,
            idempotency_key: None,
        })
    }

    /// What the worker gets, up to 256 KiB of JSON.
    ///
    /// # Errors
    /// [`JobsError::Input`] when it is no JSON, [`tidings_core::job::JobError::TooLarge`].
    pub fn input<T: serde::Serialize + ?Sized>(mut self, input: &T) -> Result<Self, JobsError> {
        let raw = serde_json::value::to_raw_value(input).map_err(|e| JobsError::Input(e.to_string()))?;
        let (bytes, max) = (raw.get().len(), limits::DATA_BYTES_MAX);
        if bytes > max {
            return Err(JobError::TooLarge { field: "input", bytes, max }.into());
        }
        self.input = Some(raw);
        Ok(self)
    }

    /// An id of one's own.
    pub fn id(mut self, id: JobId) -> Self {
        self.id = Some(id);
        self
    }

    /// The queue it stands in; `default` otherwise.
    ///
    /// # Errors
    /// [`tidings_core::job::JobError::Queue`].
    pub fn queue(mut self, queue: &str) -> Result<Self, JobsError> {
        self.core.queue = QueueName::parse(queue)?;
        Ok(self)
    }

    /// −100 to 100; higher ones are leased first.
    pub fn priority(mut self, priority: i32) -> Self {
        self.core.priority = priority;
        self
    }

    /// How many runs there may be, 1 to 100.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.core.max_attempts = attempts;
        self
    }

    /// The wait between attempts. With it, an error of a handler of this program is tried again too.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.core.terms.backoff = Some(backoff);
        self
    }

    /// Run in so many milliseconds, up to a year.
    pub fn delay_ms(mut self, ms: u64) -> Self {
        self.delay_ms = Some(ms);
        self
    }

    /// How long a run may take, in milliseconds.
    pub fn timeout_ms(mut self, ms: u64) -> Self {
        self.core.terms.timeout_ms = Some(ms);
        self
    }

    /// How long the job is kept when it has ended, in milliseconds, up to 7 days; 24 h otherwise.
    pub fn result_ms(mut self, ms: u64) -> Self {
        self.core.terms.result_ms = ms;
        self
    }

    /// A key that only one job that has not ended holds at a time.
    pub fn unique(mut self, key: impl Into<String>, on_conflict: OnConflict) -> Self {
        self.core.terms.unique = Some(key.into());
        self.unique = Some(Unique { ttl_ms: None, on_conflict });
        self
    }

    /// Texts for filters.
    pub fn tags(mut self, tags: Vec<String>) -> Self {
        self.core.tags = tags;
        self
    }

    /// Channels that get the same events; nothing ends there.
    pub fn publish_to(mut self, channels: Vec<ChannelName>) -> Self {
        self.publish_to = channels;
        self
    }

    /// Whose it is: such that `user:<subject>` is a channel. It may read the job.
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.core.subject = Some(subject.into());
        self
    }

    /// A repeat with the same key makes one job.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Checks what needs no other job, and settles what depends on the time.
    pub(super) fn settled(mut self, id: JobId, now_ms: u64) -> Result<Self, JobsError> {
        let refused = |what: String| Err(JobsError::Job(JobError::Field(what)));
        if self.publish_to.len() > limits::JOB_PUBLISH_TO_MAX {
            return Err(JobsError::PublishTo(self.publish_to.len()));
        }
        if let Some(delay_ms) = self.delay_ms {
            if self.core.run_at.is_some() {
                return refused("a job has either `delay_ms` or `run_at`".into());
            }
            self.core.run_at = Some(now_ms.saturating_add(delay_ms));
        }
        if let Some(ttl_ms) = self.unique.as_ref().and_then(|u| u.ttl_ms) {
            let most = limits::RESULT_MS_MAX;
            if !(1..=most).contains(&ttl_ms) {
                return refused(format!("unique.ttl_ms is {ttl_ms}, not 1 to {most}"));
            }
            self.core.terms.unique_until = Some(now_ms.saturating_add(ttl_ms));
        }
        self.core.id = id;
        Ok(self)
    }
}
