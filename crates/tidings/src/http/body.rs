//! Request bodies.
//!
//! Owns: the bounds of a body in bytes and in time. Does not know: what it holds.
//! Flow: a request → its whole body, or a problem.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::problem::{Code, Problem};

/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads a body of at most `bytes_max`; more is a problem with `too_large`.
pub(super) async fn read(body: Body, bytes_max: usize, too_large: Code) -> Result<Bytes, Problem> {
    let is_larger = || Problem::new(too_large, format!("the body is larger than {bytes_max} bytes"));
    // What is announced as too large is not waited for.
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(is_larger());
    }
    let collected = tokio::time::timeout(PATIENCE, Limited::new(body, bytes_max).collect()).await;
    let Ok(collected) = collected else {
        let seconds = PATIENCE.as_secs();
        return Err(Problem::new(
            Code::RequestTimeout,
            format!("the body did not arrive within {seconds} s"),
        ));
    };
    collected.map(http_body_util::Collected::to_bytes).map_err(|error| {
        if error.is::<LengthLimitError>() {
            is_larger()
        } else {
            // A part of it came, and then something that is no part, such as a chunk without a size.
            Problem::new(Code::FramingInvalid, format!("the body did not arrive whole: {error}"))
        }
    })
}

/// The media type of a request, without parameters, in lower case.
pub(super) fn media_type(headers: &HeaderMap) -> Cow<'_, str> {
    let value = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let kind = value.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    match std::str::from_utf8(kind) {
        Ok(kind) if !kind.bytes().any(|b| b.is_ascii_uppercase()) => Cow::Borrowed(kind),
        Ok(kind) => Cow::Owned(kind.to_ascii_lowercase()),
        Err(_) => Cow::Borrowed(""),
    }
}

/// Parses a JSON object. A list of its values in order would pass for one otherwise.
pub(super) fn object<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Problem> {
    match bytes.trim_ascii_start().first() {
        Some(b'[') => Err(Problem::new(Code::FieldInvalid, "a list is no object")),
        _ => json(bytes),
    }
}

/// Parses JSON; says which field is wrong.
pub(super) fn json<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Problem> {
    // Text is checked once, as a whole; what is none is refused as whatever it is within.
    let parsed = match std::str::from_utf8(bytes) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(bytes),
    };
    parsed.map_err(|error| {
        let text = error.to_string();
        let code = match error.classify() {
            serde_json::error::Category::Data if text.starts_with("unknown field") => Code::FieldUnknown,
            serde_json::error::Category::Data if text.starts_with("missing field") => Code::FieldMissing,
            serde_json::error::Category::Data => Code::FieldInvalid,
            _ => Code::JsonInvalid,
        };
        Problem::new(code, text)
    })
}

/// Requires `application/json`.
pub(super) fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    match &*media_type(headers) {
        "application/json" => Ok(()),
        other => Err(unsupported(other, "application/json")),
    }
}

/// Names the header to add: curl's `-d` sends a form by default.
pub(super) fn unsupported(found: &str, wanted: &str) -> Problem {
    let found = if found.is_empty() { "no content type" } else { found };
    Problem::new(
        Code::MediaTypeUnsupported,
        format!("{found} is not supported: add the header `Content-Type: {wanted}`"),
    )
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use http_body::Frame;

    use super::*;

    /// A part, and then nothing, for ever.
    struct Stuck(Option<Bytes>);

    impl http_body::Body for Stuck {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.take().map_or(Poll::Pending, |part| Poll::Ready(Some(Ok(Frame::data(part)))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_arrive_is_given_up() {
        let stuck = Body::new(Stuck(Some(Bytes::from_static(b"{"))));
        let problem = read(stuck, 10, Code::BodyTooLarge).await.unwrap_err();
        assert_eq!(problem.code, Code::RequestTimeout);
        let large = Body::new(Stuck(Some(Bytes::from_static(b"0123456789x"))));
        assert_eq!(read(large, 10, Code::BodyTooLarge).await.unwrap_err().code, Code::BodyTooLarge);
        let announced = Body::from("0123456789x");
        assert_eq!(read(announced, 10, Code::BodyTooLarge).await.unwrap_err().code, Code::BodyTooLarge);
    }
}
