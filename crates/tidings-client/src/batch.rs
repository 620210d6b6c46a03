//! Publishing many events in one group commit.
//!
//! Owns: the lines of a batch and of its answer. Does not know: how a single publish is retried.
//! Flow: in ← a slice of `Publish` · out → one result for each, in order.

use bytes::Bytes;
use serde_json::Value;

use crate::client::Client;
use crate::problem::{Problem, PublishError};
use crate::publish::{Publish, Published};

impl Client {
    /// Publishes up to 1,000 events as one batch: those that the server accepts are stored together, adjacently, or
    /// not at all; each refused one has its [`Problem`]. The results stand in the order of `batch`.
    ///
    /// The batch is repeated after a failure only if every event carries an idempotency key.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use tidings_client::{Client, Publish};
    /// let client = Client::new("http://127.0.0.1:4080")?;
    /// let batch: Vec<_> = (0..100).map(|n| Publish::to("ticks").data(n)).collect();
    /// for result in client.publish_batch(&batch).await? {
    ///     println!("{:?}", result?.id);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`PublishError`] if the batch as a whole failed.
    pub async fn publish_batch(
        &self,
        batch: &[Publish],
    ) -> Result<Vec<Result<Published, PublishError>>, PublishError> {
        let mut body = String::new();
        for publish in batch {
            body.push_str(&publish.line()?);
            body.push('\n');
        }
        let is_repeatable = batch.iter().all(Publish::is_repeatable);
        let answer = self.post_publish("application/x-ndjson", Bytes::from(body), is_repeatable).await?;
        let results: Option<Vec<_>> =
            answer.body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).map(result).collect();
        // A missing line would shift every later result to the wrong event.
        results.filter(|results| results.len() == batch.len()).ok_or_else(|| PublishError::answer(&answer))
    }
}

/// Reads a result line; `None` if it is not one.
fn result(line: &[u8]) -> Option<Result<Published, PublishError>> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let object = value.as_object()?;
    if object.contains_key("code") {
        return Some(Err(PublishError::Refused(Problem::read(0, line))));
    }
    let is_result = object.contains_key("id") || object.contains_key("ids");
    serde_json::from_value(value).ok().filter(|_| is_result).map(Ok)
}
