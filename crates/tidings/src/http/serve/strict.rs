//! What a request may not have, whichever protocol it came by.
//!
//! Owns: fields that may come once, encodings, expectations, bodies of reads, the authority of HTTP/2. Does not know: the
//! form of HTTP/1 (`wire::http1` does), routes.
//! Flow: a request → nothing, or the problem that answers it.

use axum::body::HttpBody;
use axum::extract::Request;
use http::{HeaderMap, HeaderName, Method, Version, header};
use tidings_core::limits;
use tidings_core::site::is_host;

use crate::http::problem::{Code, Problem};

/// Of these a second one would leave open which counts.
const ONCE: [HeaderName; 7] = [
    header::HOST,
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    header::EXPECT,
    header::ORIGIN,
    HeaderName::from_static("last-event-id"),
    HeaderName::from_static("tidings-lease"),
];

/// Why a request is refused, if it is.
pub(super) fn refusal(request: &Request) -> Option<Problem> {
    let headers = request.headers();
    // Only if any field came twice is it worth asking which.
    if headers.len() != headers.keys_len()
        && let Some(name) = ONCE.iter().find(|name| headers.get_all(*name).iter().nth(1).is_some())
    {
        return Some(Problem::new(Code::HeaderRepeated, format!("there is more than one {name}")));
    }
    if headers.contains_key(header::CONTENT_ENCODING) {
        let detail = "send the body as it is, without Content-Encoding";
        return Some(Problem::new(Code::ContentEncodingUnsupported, detail));
    }
    if headers.get(header::EXPECT).is_some_and(|e| !e.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Some(Problem::new(
            Code::ExpectationFailed,
            "the only expectation that is known is 100-continue",
        ));
    }
    if request.version() == Version::HTTP_2 { http2(request, headers) } else { None }
}

/// What `wire::http1` checks for the other protocol.
fn http2(request: &Request, headers: &HeaderMap) -> Option<Problem> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > limits::TARGET_BYTES_MAX {
        return Some(Problem::new(Code::UriTooLong, "the target of a request has at most 8 KiB"));
    }
    if headers.len() > limits::HEAD_FIELDS_MAX {
        return Some(Problem::new(Code::HeadersTooLarge, "a request has at most 64 header fields"));
    }
    let host = |code| Some(Problem::new(Code::HostInvalid, code));
    let asked = request.uri().authority().map(http::uri::Authority::as_str);
    let named = headers.get(header::HOST).map(|host| host.to_str().unwrap_or_default());
    match (asked, named) {
        (None, None) => return host("there is neither :authority nor Host"),
        (Some(asked), Some(named)) if !asked.eq_ignore_ascii_case(named) => {
            return host(":authority and Host are not the same");
        }
        (Some(name), _) | (None, Some(name)) if !is_host(name) => {
            return host("the authority is not a name or an address, with or without a port");
        }
        (Some(_), _) | (None, Some(_)) => {}
    }
    if matches!(*request.method(), Method::GET | Method::HEAD) && !request.body().is_end_stream() {
        return Some(Problem::new(Code::BodyUnexpected, "GET and HEAD have no body"));
    }
    None
}
