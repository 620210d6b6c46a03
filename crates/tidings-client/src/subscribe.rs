//! What to subscribe to.
//!
//! Owns: channels or a job, the first position, options; the request. Does not know: what comes back.
//! Flow: in ← options · out → a `Subscription`, and the request of each of its attempts.

use bytes::Bytes;
use form_urlencoded::Serializer;
use http::Request;
use http::header::{ACCEPT, CACHE_CONTROL, HeaderValue};
use http_body_util::Full;
use tidings_core::job::JobId;

use crate::backoff::Retry;
use crate::client::Client;
use crate::problem::Problem;
use crate::subscription::Subscription;

/// Where a subscription begins. From then on it continues behind the last event that it handed out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum From {
    /// With what is published from now on.
    #[default]
    Now,
    /// With the oldest event that the server still has.
    Start,
    /// With the last N events over all channels.
    LastN(u32),
    /// Behind an event id that was seen earlier.
    Id(String),
}

/// Why a subscription cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The server refused, and would refuse again.
    #[error("{0}")]
    Refused(Problem),
    /// The id to begin behind cannot be sent: it holds a control character.
    #[error("event id {0:?} cannot be sent in a header")]
    Id(String),
    /// The channels do not fit a URL.
    #[error("the channels do not fit a request: {0}")]
    Request(String),
}

impl SubscribeError {
    /// The stable code: the server's own for a refusal.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Refused(problem) => &problem.code,
            Self::Id(_) => "event_id_invalid",
            Self::Request(_) => "request_invalid",
        }
    }
}

/// A subscription that is being put together: [`Client::subscribe`] … [`Subscribe::open`].
#[derive(Debug, Clone)]
#[must_use]
pub struct Subscribe {
    client: Client,
    source: Source,
    from: From,
    retry: Retry,
}

/// Whose stream it is.
#[derive(Debug, Clone)]
enum Source {
    Channels(Vec<String>),
    Job(JobId),
}

impl Subscribe {
    pub(crate) fn new(client: Client, channels: Vec<String>) -> Self {
        Self { client, source: Source::Channels(channels), from: From::default(), retry: Retry::default() }
    }

    /// The stream of a job, which begins with its state and ends with it.
    pub(crate) fn job(client: Client, id: JobId) -> Self {
        Self { client, source: Source::Job(id), from: From::default(), retry: Retry::default() }
    }

    /// Where to begin ([`From::Now`]).
    pub fn from(self, from: From) -> Self {
        Self { from, ..self }
    }

    /// How to come back after a disconnect.
    pub fn retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// The subscription. It connects when its first item is asked for.
    ///
    /// # Errors
    /// [`SubscribeError::Id`] or [`SubscribeError::Request`] for what can never be sent.
    pub fn open(self) -> Result<Subscription, SubscribeError> {
        let last_id = match &self.from {
            From::Id(id) if !id.is_empty() => Some(id.clone()),
            _ => None,
        };
        self.request(last_id.as_deref())?;
        Ok(Subscription::new(self, last_id))
    }

    /// The request of one attempt.
    pub(crate) fn request(&self, last_id: Option<&str>) -> Result<Request<Full<Bytes>>, SubscribeError> {
        let mut query = Serializer::new(String::new());
        let path = match &self.source {
            Source::Channels(channels) => {
                for channel in channels {
                    query.append_pair("channel", channel);
                }
                "/events".to_owned()
            }
            Source::Job(id) => format!("/v1/jobs/{id}/events"),
        };
        match (&self.from, last_id) {
            (From::Start, None) => drop(query.append_pair("from", "start")),
            (From::LastN(count), None) => drop(query.append_pair("from", &format!("last:{count}"))),
            _ => {}
        }
        let url = self.client.url(&format!("{path}?{}", query.finish()));
        let mut request = Request::get(url)
            .header(ACCEPT, "text/event-stream, application/problem+json")
            .header(CACHE_CONTROL, "no-store");
        if let Some(id) = last_id {
            let value = HeaderValue::from_str(id).map_err(|_| SubscribeError::Id(id.into()))?;
            request = request.header("last-event-id", value);
        }
        request.body(Full::default()).map_err(|error| SubscribeError::Request(error.to_string()))
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn backoff(&self) -> Retry {
        self.retry.clone()
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(from: From, last_id: Option<&str>, expected: Expect) {
        let client = Client::new("http://h:1/p").unwrap();
        let request = client.subscribe(["a&b", "c+d"]).from(from).request(last_id).unwrap();
        let id = request.headers().get("last-event-id").map_or("none", |id| id.to_str().unwrap());
        expected.assert_eq(&format!("{} id: {id}", request.uri()));
    }

    #[test]
    fn the_last_id_takes_the_place_of_from() {
        check(From::Now, None, expect!["http://h:1/p/events?channel=a%26b&channel=c%2Bd id: none"]);
        check(
            From::Start,
            None,
            expect!["http://h:1/p/events?channel=a%26b&channel=c%2Bd&from=start id: none"],
        );
        check(
            From::LastN(3),
            None,
            expect!["http://h:1/p/events?channel=a%26b&channel=c%2Bd&from=last%3A3 id: none"],
        );
        check(
            From::LastN(3),
            Some("k-1"),
            expect!["http://h:1/p/events?channel=a%26b&channel=c%2Bd id: k-1"],
        );
    }

    #[test]
    fn what_can_never_be_sent_is_refused_at_once() {
        let client = Client::new("http://h:1").unwrap();
        let opened = client.subscribe(["a"]).from(From::Id("k-1\n".into())).open();
        assert_eq!(opened.unwrap_err().code(), "event_id_invalid");
        let opened = client.subscribe(["x".repeat(100_000)]).open();
        assert_eq!(opened.unwrap_err().code(), "request_invalid");
    }
}
