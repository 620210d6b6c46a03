//! The edge: which hosts and origins are answered, and the headers that every answer has.
//!
//! Owns: the `Host` check against DNS rebinding, CORS (Fetch standard), `no-store`. Does not know: routes.
//! Flow: request → 421 / 403 / preflight, or the router → headers on whatever it answers.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::problem::{Code, Problem};
use crate::Hub;

const ALLOW_METHODS: &str = "GET, HEAD, POST, PUT, DELETE, OPTIONS";
const ALLOW_HEADERS: &str = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID";
const EXPOSE_HEADERS: &str = "Retry-After, ETag, Content-Disposition";
const MAX_AGE_SECONDS: &str = "600";
/// What answers depend on, whether or not this one does.
const VARY: &str = "origin, cookie, authorization";

/// The origin that may read the answer; kept for streams, whose head is not written here.
#[derive(Debug, Clone)]
pub(crate) struct AllowedOrigin(Option<HeaderValue>);

pub(super) async fn edge(State(hub): State<Hub>, mut request: Request, next: Next) -> Response {
    let is_dev = hub.0.settings.dev;
    let origin = request.headers().get(header::ORIGIN).cloned();
    let allowed = AllowedOrigin(origin.clone().filter(|o| is_dev && is_local_origin(o)));
    let mut response = if is_dev && !host(&request).is_some_and(|h| is_local_host(&h)) {
        let detail = "with --dev only localhost, 127.0.0.1 and [::1] are answered".to_owned();
        Problem::new(Code::Misdirected, detail).into_response()
    } else if is_dev && origin.is_some() && allowed.0.is_none() {
        let detail = "with --dev only origins on localhost, 127.0.0.1 and [::1] are allowed".to_owned();
        Problem::new(Code::OriginNotAllowed, detail).into_response()
    } else if request.method() == Method::OPTIONS {
        preflight(&allowed)
    } else {
        request.extensions_mut().insert(allowed.clone());
        next.run(request).await
    };
    let headers = response.headers_mut();
    allowed.apply(headers);
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

impl AllowedOrigin {
    /// Adds what lets the origin read an answer. `Vary` is there for everybody, so that no cache mixes them up.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        headers.insert(header::VARY, HeaderValue::from_static(VARY));
        let Some(origin) = &self.0 else { return };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        set(headers, header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
        set(headers, header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSE_HEADERS);
    }
}

fn preflight(allowed: &AllowedOrigin) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    if allowed.0.is_some() {
        set(headers, header::ACCESS_CONTROL_ALLOW_METHODS, ALLOW_METHODS);
        set(headers, header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOW_HEADERS);
        set(headers, header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECONDS);
    }
    response
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    headers.insert(name, HeaderValue::from_static(value));
}

/// The authority that was asked for: of the target (HTTP/2, absolute form), else `Host` if there is exactly one.
fn host(request: &Request) -> Option<String> {
    if let Some(authority) = request.uri().authority() {
        return Some(authority.as_str().to_owned());
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let only = hosts.next().filter(|_| hosts.next().is_none())?;
    only.to_str().ok().map(str::to_owned)
}

fn is_local_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    // Names of hosts are the same in any case.
    matches!(&*name.to_ascii_lowercase(), "localhost" | "127.0.0.1" | "[::1]")
}

fn is_local_origin(origin: &HeaderValue) -> bool {
    let text = origin.to_str().unwrap_or_default();
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(is_local_host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_local() {
        for good in ["localhost", "localhost:4080", "127.0.0.1:1", "[::1]:80", "[::1]"] {
            assert!(is_local_host(good), "{good}");
        }
        for bad in
            ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "localhost:x", "::1"]
        {
            assert!(!is_local_host(bad), "{bad}");
        }
        assert!(is_local_origin(&HeaderValue::from_static("https://localhost:3000")));
        for bad in
            ["null", "localhost", "ftp://localhost", "http://localhost@evil.example", "http://localhost/x"]
        {
            assert!(!is_local_origin(&HeaderValue::from_static(bad)), "{bad}");
        }
    }
}
