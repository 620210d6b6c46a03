//! One request with a whole answer, and its repeats.
//!
//! Owns: when a request is sent again. Does not know: what is asked for.
//! Flow: in ← a `Call` · out → a successful answer, or why there is none.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use tokio::time::Instant;

use crate::backoff::{Backoff, Retry};
use crate::client::Client;
use crate::problem::Problem;
use crate::random;
use crate::transport::Answer;
use crate::verdict::retry_after;

/// How long one attempt may take: the server itself gives up waiting after 5 s.
pub(crate) const ATTEMPT: Duration = Duration::from_secs(30);
/// Attempts at a request that may be repeated.
const ATTEMPTS_MAX: u32 = 5;
/// A caller waits for the answer, so `Retry-After` counts for less than on a stream.
const FLOOR_MAX: Duration = Duration::from_secs(10);
/// An answer that is read whole, unless more is said to be needed: one result line for each of 1,000 lines of a batch.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// How often a request that failed is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeats {
    /// Never: a second one could take effect twice.
    Never,
    /// A few times.
    Few,
    /// Until this much time has passed.
    For(Duration),
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    method: Method,
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
    limit: Duration,
    answer_bytes_max: usize,
    repeats: Repeats,
}

/// Why there is no successful answer.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The server refused; with `is_repeat` an earlier attempt may have taken effect.
    Refused { problem: Problem, is_repeat: bool, retry_after: Option<Duration> },
    /// No answer came.
    NoAnswer(String),
}

impl Call {
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            headers: Vec::new(),
            body: Bytes::new(),
            limit: ATTEMPT,
            answer_bytes_max: ANSWER_BYTES_MAX,
            repeats: Repeats::Never,
        }
    }

    pub(crate) fn body(mut self, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        self.headers.push((CONTENT_TYPE, HeaderValue::from_static(content_type)));
        self.body = body.into();
        self
    }

    pub(crate) fn json(self, body: impl Into<Bytes>) -> Self {
        self.body("application/json", body)
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// One attempt may take this long (30 s).
    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    pub(crate) fn answer_bytes_max(mut self, bytes: usize) -> Self {
        self.answer_bytes_max = bytes;
        self
    }

    pub(crate) fn repeats(mut self, repeats: Repeats) -> Self {
        self.repeats = repeats;
        self
    }

    fn request(&self, client: &Client) -> Result<Request<Full<Bytes>>, CallError> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(client.url(&self.path))
            .header(ACCEPT, "application/json, application/x-ndjson, application/problem+json");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(Full::new(self.body.clone())).map_err(|error| CallError::NoAnswer(error.to_string()))
    }

    /// Sends the request until the server has taken or refused it, or it is not to be repeated.
    pub(crate) async fn send(&self, client: &Client) -> Result<Answer, CallError> {
        let begun = Instant::now();
        let mut backoff = Backoff::new(Retry::default().floor_max(FLOOR_MAX));
        loop {
            let is_repeat = backoff.attempts() > 0;
            let request = self.request(client)?;
            // On the heap: every method of the client is a future that holds this one.
            let exchange = Box::pin(client.transport().exchange(request, self.limit, self.answer_bytes_max));
            let (error, retry_after) = match exchange.await {
                Ok(answer) if answer.status.is_success() => return Ok(answer),
                Ok(answer) => {
                    let problem = Problem::read(answer.status.as_u16(), &answer.body);
                    let retry_after = retry_after(&answer.headers);
                    let error = CallError::Refused { problem, is_repeat, retry_after };
                    if !passes(answer.status) {
                        return Err(error);
                    }
                    (error, retry_after)
                }
                Err(error) => (CallError::NoAnswer(error.to_string()), None),
            };
            let is_over = match self.repeats {
                Repeats::Never => true,
                Repeats::Few => backoff.attempts() + 1 >= ATTEMPTS_MAX,
                Repeats::For(patience) => begun.elapsed() >= patience,
            };
            if is_over {
                return Err(error);
            }
            tokio::time::sleep(backoff.poll_wait(retry_after, random::unit())).await;
        }
    }
}

/// Whether a refusal may pass by itself.
pub(crate) fn passes(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}
