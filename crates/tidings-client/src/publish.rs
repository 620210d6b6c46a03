//! Publishing one event.
//!
//! Owns: what is sent, and what may be sent again. Does not know: streams, batches' result lines.
//! Flow: in ← a `Publish` · out → ids of durable events.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use tidings_core::Payload;

use crate::call::{Call, Repeats};
use crate::client::Client;
use crate::problem::PublishError;
use crate::transport::Answer;

/// An event to publish.
///
/// ```
/// use tidings_client::Publish;
/// let to_one = Publish::to("orders").event("status-update").data(serde_json::json!({"status": "done"}));
/// let to_many = Publish::to_all(["user:1", "user:2"]).text("hello\nworld");
/// let progress = Publish::to("import").json(r#"{"percent":40}"#).key("progress");
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Publish {
    channels: Channels,
    data: Data,
    options: Options,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
enum Channels {
    Channel(String),
    Channels(Vec<String>),
}

#[derive(Debug, Clone)]
enum Data {
    Value(Value),
    Json(String),
    Text(String),
}

#[derive(Debug, Clone, Default, Serialize)]
struct Options {
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(rename = "final", skip_serializing_if = "std::ops::Not::not")]
    is_final: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    ephemeral: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<String>,
}

/// What became of a publish.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Published {
    /// The event's id, where one channel was named. An ephemeral event has none.
    #[serde(default)]
    pub id: Option<String>,
    /// The ids by channel, where several were named.
    #[serde(default)]
    pub ids: BTreeMap<String, String>,
    /// An earlier publish with the same idempotency key took effect, and these are its ids.
    #[serde(default)]
    pub duplicate: bool,
}

impl Publish {
    /// To one channel. The data is `null` until it is given.
    pub fn to(channel: impl Into<String>) -> Self {
        Self::with(Channels::Channel(channel.into()))
    }

    /// To several channels: one event for each, all or none.
    pub fn to_all<C: Into<String>>(channels: impl IntoIterator<Item = C>) -> Self {
        Self::with(Channels::Channels(channels.into_iter().map(Into::into).collect()))
    }

    /// The event type (`message`).
    pub fn event(mut self, event: impl Into<String>) -> Self {
        self.options.event = Some(event.into());
        self
    }

    /// JSON data.
    pub fn data(mut self, data: impl Into<Value>) -> Self {
        self.data = Data::Value(data.into());
        self
    }

    /// JSON data that is text already; it is checked when it is sent.
    pub fn json(mut self, json: impl Into<String>) -> Self {
        self.data = Data::Json(json.into());
        self
    }

    /// Plain text instead of JSON.
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.data = Data::Text(text.into());
        self
    }

    /// The conflation key: a newer event with the same channel and key replaces this one for readers that are behind.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.options.key = Some(key.into());
        self
    }

    /// Finishes its channels: nothing can be published there afterwards, and streams end behind it.
    pub fn finish(mut self) -> Self {
        self.options.is_final = true;
        self
    }

    /// Not stored: only connections that are in step get it, without an id.
    pub fn ephemeral(mut self) -> Self {
        self.options.ephemeral = true;
        self
    }

    /// Past this age the event is neither delivered nor listed.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.options.ttl_ms = Some(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Makes a repeat of this publish take effect once, so that the client repeats it after a failure.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.options.idempotency_key = Some(key.into());
        self
    }

    pub(crate) fn is_repeatable(&self) -> bool {
        self.options.idempotency_key.is_some()
    }

    /// The JSON of this publish, on one line.
    pub(crate) fn line(&self) -> Result<String, PublishError> {
        #[derive(Serialize)]
        struct Line<'a> {
            #[serde(flatten)]
            channels: &'a Channels,
            #[serde(flatten)]
            options: &'a Options,
            #[serde(skip_serializing_if = "Option::is_none")]
            data: Option<Box<RawValue>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            text: Option<&'a str>,
        }
        let (json, text) = match &self.data {
            Data::Value(value) => (Some(value.to_string()), None),
            Data::Json(json) => (Some(json.clone()), None),
            Data::Text(text) => (None, Some(text.as_str())),
        };
        let data = json.map(|json| Payload::json(&json)).transpose()?;
        let data = data.and_then(|data| RawValue::from_string(data.as_str().into()).ok());
        let line = Line { channels: &self.channels, options: &self.options, data, text };
        serde_json::to_string(&line).map_err(|error| PublishError::Answer(error.to_string()))
    }

    fn with(channels: Channels) -> Self {
        Self { channels, data: Data::Value(Value::Null), options: Options::default() }
    }
}

impl Client {
    /// Publishes an event; when this returns it is durable (unless it is ephemeral).
    ///
    /// A publish with an idempotency key is repeated up to four times after a failure that may pass. One without is
    /// sent once, because a repeat could store it twice.
    ///
    /// # Errors
    /// [`PublishError`]: refused, or nobody knows whether it was stored.
    pub async fn publish(&self, publish: &Publish) -> Result<Published, PublishError> {
        let body = Bytes::from(publish.line()?);
        let answer = self.post_publish("application/json", body, publish.is_repeatable()).await?;
        serde_json::from_slice(&answer.body).map_err(|_| PublishError::answer(&answer))
    }

    /// Sends a body until the server has taken or refused it.
    pub(crate) async fn post_publish(
        &self,
        content_type: &'static str,
        body: Bytes,
        is_repeatable: bool,
    ) -> Result<Answer, PublishError> {
        let repeats = if is_repeatable { Repeats::Few } else { Repeats::Never };
        let call = Call::new(Method::POST, "/v1/publish").body(content_type, body).repeats(repeats);
        Ok(call.send(self).await?)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(publish: Publish, expected: Expect) {
        let line = publish.line().map_err(|error| error.code().to_owned());
        expected.assert_eq(&line.unwrap_or_else(|code| code));
    }

    #[test]
    fn a_publish_is_one_line_and_leaves_out_what_was_not_said() {
        check(Publish::to("c"), expect![[r#"{"channel":"c","data":null}"#]]);
        check(Publish::to("c").json("{\"a\":\n1}"), expect![[r#"{"channel":"c","data":{"a": 1}}"#]]);
        check(
            Publish::to_all(["a", "b"]).event("e").text("x\r\ny").key("k").idempotency_key("i"),
            expect![[
                r#"{"channels":["a","b"],"event":"e","key":"k","idempotency_key":"i","text":"x\r\ny"}"#
            ]],
        );
        check(
            Publish::to("c").data(1).finish().ephemeral().ttl(Duration::from_secs(2)),
            expect![[r#"{"channel":"c","final":true,"ephemeral":true,"ttl_ms":2000,"data":1}"#]],
        );
        check(Publish::to("c").json("{]"), expect!["json_invalid"]);
    }
}
