//! Making a job.
//!
//! Owns: what a new job may say of itself. Does not know: what the server allows.
//! Flow: in ← a `NewJob` · out → the id of a durable job.

use std::time::Duration;

use http::HeaderValue;
use http::header::HeaderName;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;
use tidings_core::job::State;

use super::{JobsError, millis};
use crate::random;

pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A job to make.
///
/// ```
/// use std::time::Duration;
/// use serde_json::json;
/// use tidings_client::jobs::{NewJob, RetryPolicy, Unique};
///
/// let export = NewJob::new("generate-report")
///     .queue("exports")
///     .input(json!({"customer": 42}))
///     .tag("user:42")
///     .retry(RetryPolicy::attempts(5).fixed(Duration::from_secs(10)))
///     .unique(Unique::key("export-of-42").replace());
/// ```
#[derive(Debug, Clone, Serialize)]
#[must_use]
pub struct NewJob {
    #[serde(rename = "type")]
    job_type: String,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "input")]
    input: Option<Result<Box<RawValue>, String>>,
    #[serde(flatten)]
    options: Options,
    #[serde(skip)]
    idempotency_key: Option<String>,
}

#[derive(Debug, Clone, Default, Serialize)]
struct Options {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<i32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<RetryPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_stalls: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unique: Option<Unique>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<Ttl>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    publish_to: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Ttl {
    #[serde(skip_serializing_if = "Option::is_none")]
    queued_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result_ms: Option<u64>,
}

/// How often a job runs, and how long it waits in between.
#[derive(Debug, Clone, Serialize)]
#[must_use]
pub struct RetryPolicy {
    max_attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    backoff: Option<Backoff>,
}

#[derive(Debug, Clone, Serialize)]
struct Backoff {
    kind: &'static str,
    base_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jitter: Option<f64>,
}

impl RetryPolicy {
    /// Up to this many runs, the first included.
    pub fn attempts(max_attempts: u32) -> Self {
        Self { max_attempts, backoff: None }
    }

    /// A wait that begins with `base` and doubles up to `max` (1 s and 60 s).
    pub fn exponential(self, base: Duration, max: Duration) -> Self {
        let backoff =
            Backoff { kind: "exponential", base_ms: millis(base), max_ms: Some(millis(max)), jitter: None };
        Self { backoff: Some(backoff), ..self }
    }

    /// The same wait each time.
    pub fn fixed(self, wait: Duration) -> Self {
        let backoff = Backoff { kind: "fixed", base_ms: millis(wait), max_ms: None, jitter: None };
        Self { backoff: Some(backoff), ..self }
    }

    /// The share of the wait that is random, 0–1 (0.5). Behind [`RetryPolicy::exponential`] or [`RetryPolicy::fixed`].
    pub fn jitter(mut self, share: f64) -> Self {
        if let Some(backoff) = &mut self.backoff {
            backoff.jitter = Some(share);
        }
        self
    }
}

/// At most one job holds a key at a time.
#[derive(Debug, Clone, Serialize)]
#[must_use]
pub struct Unique {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_conflict: Option<&'static str>,
}

impl Unique {
    /// The key. While a job holds it, the answer to a new one is that job.
    pub fn key(key: impl Into<String>) -> Self {
        Self { key: key.into(), ttl_ms: None, on_conflict: None }
    }

    /// Holds the key at least this long, also beyond the job's end.
    pub fn ttl(self, ttl: Duration) -> Self {
        Self { ttl_ms: Some(millis(ttl)), ..self }
    }

    /// A new job is refused with `unique_conflict` while the key is held.
    pub fn reject(self) -> Self {
        Self { on_conflict: Some("reject"), ..self }
    }

    /// A new job cancels the one that holds the key, and takes it.
    pub fn replace(self) -> Self {
        Self { on_conflict: Some("replace"), ..self }
    }
}

/// A job that was made, or was there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Created {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub state: State,
    /// It was there: the idempotency key was used before, or another job holds the unique key.
    #[serde(default)]
    pub duplicate: bool,
    /// Where it is on the server.
    #[serde(default)]
    pub urls: Urls,
}

/// Where a job is on the server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Urls {
    /// The document.
    #[serde(rename = "self", default)]
    pub this: Option<String>,
    /// The stream.
    #[serde(default)]
    pub events: Option<String>,
    /// Where to call it off.
    #[serde(default)]
    pub cancel: Option<String>,
    /// Its first file, once it is complete.
    #[serde(default)]
    pub download: Option<String>,
}

impl NewJob {
    /// A job of a type.
    pub fn new(job_type: impl Into<String>) -> Self {
        let (job_type, options) = (job_type.into(), Options::default());
        Self { job_type, input: None, options, idempotency_key: None }
    }

    /// What its worker gets. What cannot be JSON is refused when the job is made.
    pub fn input(self, input: impl Serialize) -> Self {
        let input = serde_json::value::to_raw_value(&input).map_err(|error| error.to_string());
        Self { input: Some(input), ..self }
    }

    /// What its worker gets, as JSON text; it is checked when the job is made.
    pub fn input_json(self, json: impl Into<String>) -> Self {
        let input = RawValue::from_string(json.into()).map_err(|error| error.to_string());
        Self { input: Some(input), ..self }
    }

    /// An id of one's own; without, the server makes one.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.options.id = Some(id.into());
        self
    }

    /// The queue that it waits in (`default`).
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.options.queue = Some(queue.into());
        self
    }

    /// −100 to 100 (0); higher ones are leased first.
    pub fn priority(mut self, priority: i32) -> Self {
        self.options.priority = Some(priority);
        self
    }

    /// One more tag, for filters.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.options.tags.push(tag.into());
        self
    }

    /// Runs not before this time has passed.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.options.delay_ms = Some(millis(delay));
        self
    }

    /// Runs not before this time, Unix milliseconds.
    pub fn run_at(mut self, unix_ms: u64) -> Self {
        self.options.run_at = Some(unix_ms);
        self
    }

    /// How long a run may take (no bound).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout_ms = Some(millis(timeout));
        self
    }

    /// How long a worker may be silent (30 s).
    pub fn lease(mut self, lease: Duration) -> Self {
        self.options.lease_ms = Some(millis(lease));
        self
    }

    /// How often it runs, and how long it waits in between (3 times, from 1 s to 60 s).
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.options.retry = Some(retry);
        self
    }

    /// How many lost leases it survives (2).
    pub fn max_stalls(mut self, stalls: u32) -> Self {
        self.options.max_stalls = Some(stalls);
        self
    }

    /// At most one job holds the key at a time.
    pub fn unique(mut self, unique: Unique) -> Self {
        self.options.unique = Some(unique);
        self
    }

    /// Expires if it did not begin to run within this time (never).
    pub fn expires_after(mut self, queued: Duration) -> Self {
        self.options.ttl.get_or_insert_default().queued_ms = Some(millis(queued));
        self
    }

    /// How long it is kept when it has ended (24 h).
    pub fn keep(mut self, result: Duration) -> Self {
        self.options.ttl.get_or_insert_default().result_ms = Some(millis(result));
        self
    }

    /// The job that it belongs to.
    pub fn parent(mut self, id: impl Into<String>) -> Self {
        self.options.parent = Some(id.into());
        self
    }

    /// One more channel that gets its events.
    pub fn publish_to(mut self, channel: impl Into<String>) -> Self {
        self.options.publish_to.push(channel.into());
        self
    }

    /// A repeat with the same key is one job, for 24 hours. Without, the client makes a key up, so that its own repeats
    /// after a failure are safe.
    pub fn idempotency_key(self, key: impl Into<String>) -> Self {
        Self { idempotency_key: Some(key.into()), ..self }
    }

    /// The key to send, if there is one.
    pub(super) fn key(&self) -> Result<Option<HeaderValue>, JobsError> {
        let Some(key) = self.idempotency_key.clone().or_else(random::name) else { return Ok(None) };
        let refused = |_| JobsError::Invalid(format!("idempotency key {key:?} cannot be sent in a header"));
        HeaderValue::from_str(&key).map(Some).map_err(refused)
    }

    /// The body of the request.
    pub(super) fn body(&self) -> Result<Vec<u8>, JobsError> {
        serde_json::to_vec(self).map_err(|error| JobsError::Invalid(error.to_string()))
    }
}

fn input<S: Serializer>(
    input: &Option<Result<Box<RawValue>, String>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match input {
        Some(Ok(json)) => json.serialize(serializer),
        Some(Err(error)) => Err(serde::ser::Error::custom(format!("the input is not JSON: {error}"))),
        None => Value::Null.serialize(serializer),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(job: &NewJob, expected: Expect) {
        let body = job.body().map(|body| String::from_utf8(body).unwrap());
        expected.assert_eq(&body.unwrap_or_else(|error| error.to_string()));
    }

    #[test]
    fn a_new_job_says_nothing_that_was_not_said() {
        check(&NewJob::new("t"), expect![[r#"{"type":"t"}"#]]);
        check(&NewJob::new("t").input(()), expect![[r#"{"type":"t","input":null}"#]]);
        check(
            &NewJob::new("t")
                .input_json("{\"a\":1}")
                .id("i")
                .queue("q")
                .priority(-3)
                .tag("x")
                .tag("y")
                .delay(Duration::from_secs(2))
                .timeout(Duration::from_secs(3))
                .lease(Duration::from_secs(4))
                .retry(RetryPolicy::attempts(5).fixed(Duration::from_secs(1)).jitter(0.0))
                .max_stalls(0)
                .unique(Unique::key("k").ttl(Duration::from_secs(5)).reject())
                .keep(Duration::from_secs(6))
                .parent("p")
                .publish_to("user:1"),
            expect![[
                r#"{"type":"t","input":{"a":1},"id":"i","queue":"q","priority":-3,"tags":["x","y"],"delay_ms":2000,"timeout_ms":3000,"lease_ms":4000,"retry":{"max_attempts":5,"backoff":{"kind":"fixed","base_ms":1000,"jitter":0.0}},"max_stalls":0,"unique":{"key":"k","ttl_ms":5000,"on_conflict":"reject"},"ttl":{"result_ms":6000},"parent":"p","publish_to":["user:1"]}"#
            ]],
        );
        check(
            &NewJob::new("t").input_json("{]"),
            expect!["the input is not JSON: key must be a string at line 1 column 2"],
        );
    }

    #[test]
    fn every_job_has_a_key_and_ones_own_wins() {
        let job = NewJob::new("t");
        let (one, two) = (job.key().unwrap().unwrap(), job.key().unwrap().unwrap());
        assert_ne!(one, two, "each job that is made is one of its own");
        let own = NewJob::new("t").idempotency_key("order-7");
        assert_eq!(own.key().unwrap().unwrap(), "order-7");
        assert_eq!(NewJob::new("t").idempotency_key("a\nb").key().unwrap_err().code(), "request_invalid");
    }
}
