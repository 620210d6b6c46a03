//! What a job's maker says, as JSON.
//!
//! Owns: the fields of a new job. Does not know: who sent them.
//! Flow: the body of `POST /v1/jobs`, or the `job` of a schedule → `Create` → `NewJob`.

use serde::Deserialize;
use serde_json::value::RawValue;
use tidings_core::ChannelName;
use tidings_core::job::{Backoff, JobId, Mode};

use super::JobsError;
use super::new::{NewJob, OnConflict, Unique};

/// A job that is to be made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Create<'a> {
    #[serde(rename = "type")]
    job_type: String,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    id: Option<String>,
    queue: Option<String>,
    mode: Option<Mode>,
    #[serde(default)]
    priority: i32,
    delay_ms: Option<u64>,
    run_at: Option<u64>,
    timeout_ms: Option<u64>,
    lease_ms: Option<u64>,
    retry: Option<RetryField>,
    max_stalls: Option<u32>,
    unique: Option<UniqueField>,
    ttl: Option<TtlField>,
    stale_after_ms: Option<u64>,
    #[serde(default)]
    tags: Vec<String>,
    parent: Option<String>,
    subject: Option<String>,
    #[serde(default)]
    publish_to: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetryField {
    max_attempts: Option<u32>,
    backoff: Option<Backoff>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UniqueField {
    key: String,
    ttl_ms: Option<u64>,
    #[serde(default)]
    on_conflict: OnConflict,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TtlField {
    queued_ms: Option<u64>,
    result_ms: Option<u64>,
}

impl Create<'_> {
    /// What is asked for. Values out of their bounds are found when the job is made.
    pub(crate) fn into_job(self) -> Result<NewJob, JobsError> {
        let mut new = NewJob::new(&self.job_type)?.tags(self.tags).publish_to(channels(&self.publish_to)?);
        new = new.priority(self.priority);
        if let Some(input) = self.input {
            new = new.input(input)?;
        }
        if let Some(id) = self.id {
            new = new.id(JobId::parse(&id)?);
        }
        if let Some(queue) = self.queue {
            new = new.queue(&queue)?;
        }
        let core = &mut new.core;
        core.mode = self.mode.unwrap_or(Mode::Managed);
        (core.run_at, core.parent, core.subject) = (self.run_at, self.parent, self.subject);
        let terms = &mut core.terms;
        (terms.timeout_ms, terms.stale_after_ms) = (self.timeout_ms, self.stale_after_ms);
        terms.lease_ms = self.lease_ms.unwrap_or(terms.lease_ms);
        terms.max_stalls = self.max_stalls.unwrap_or(terms.max_stalls);
        if let Some(TtlField { queued_ms, result_ms }) = self.ttl {
            terms.queued_ms = queued_ms;
            terms.result_ms = result_ms.unwrap_or(terms.result_ms);
        }
        if let Some(RetryField { max_attempts, backoff }) = self.retry {
            core.max_attempts = max_attempts.unwrap_or(core.max_attempts);
            core.terms.backoff = Some(backoff.unwrap_or_default());
        }
        if let Some(UniqueField { key, ttl_ms, on_conflict }) = self.unique {
            core.terms.unique = Some(key);
            new.unique = Some(Unique { ttl_ms, on_conflict });
        }
        new.delay_ms = self.delay_ms;
        Ok(new)
    }
}

/// Channels that users may publish to.
pub(crate) fn channels(names: &[String]) -> Result<Vec<ChannelName>, JobsError> {
    let parse = |name: &String| Ok(ChannelName::parse(name)?.publishable()?);
    names.iter().map(parse).collect()
}
