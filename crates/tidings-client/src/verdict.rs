//! What an answer to a subscription means.
//!
//! Owns: the table of statuses. Does not know: bodies, waits.
//! Flow: in ← status and headers · out → a verdict.

use std::time::Duration;

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};

/// What to do with an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Read its body as a stream.
    Open,
    /// Everything was delivered: stop for good.
    Done,
    /// Trying again cannot help.
    Final,
    /// Try again, not before `retry_after`.
    Retry { retry_after: Option<Duration> },
}

/// Judges the head of an answer.
pub(crate) fn judge(status: StatusCode, headers: &HeaderMap) -> Verdict {
    let retry = || Verdict::Retry { retry_after: retry_after(headers) };
    match status.as_u16() {
        // A 200 of another type is a captive portal or a login page in between, and those pass.
        200 if is_stream(headers) => Verdict::Open,
        204 => Verdict::Done,
        408 | 425 | 429 => retry(),
        // 421 is the answer of a server that does not serve this host name: that does not change by itself either.
        400..=499 => Verdict::Final,
        _ => retry(),
    }
}

/// `Retry-After` in seconds. A date is not read: it would need a clock that agrees with the server's.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

fn is_stream(headers: &HeaderMap) -> bool {
    let essence =
        headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).and_then(|v| v.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("text/event-stream"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &'static str)]) -> Verdict {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        judge(StatusCode::from_u16(status).unwrap(), &map)
    }

    #[test]
    fn every_status_has_its_verdict() {
        let retry = Verdict::Retry { retry_after: None };
        assert_eq!(answer(200, &[("content-type", "Text/Event-Stream ; charset=utf-8")]), Verdict::Open);
        assert_eq!(answer(200, &[("content-type", "text/html")]), retry);
        assert_eq!(answer(200, &[("content-type", "text/event-streams")]), retry);
        assert_eq!(answer(200, &[]), retry);
        assert_eq!(answer(204, &[]), Verdict::Done);
        for status in [400, 401, 403, 404, 405, 409, 410, 413, 415, 421, 422, 431] {
            assert_eq!(answer(status, &[]), Verdict::Final, "{status}");
        }
        for status in [301, 302, 307, 408, 425, 429, 500, 502, 503, 504, 507] {
            assert_eq!(answer(status, &[]), retry, "{status}");
        }
    }

    #[test]
    fn retry_after_is_read_in_seconds() {
        let after = |text| answer(503, &[("retry-after", text)]);
        assert_eq!(after("7"), Verdict::Retry { retry_after: Some(Duration::from_secs(7)) });
        for other in ["Wed, 21 Oct 2026 07:28:00 GMT", "-1", "1.5", ""] {
            assert_eq!(after(other), Verdict::Retry { retry_after: None }, "{other:?}");
        }
    }
}
