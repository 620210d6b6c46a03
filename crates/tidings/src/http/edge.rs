//! The edge: which hosts and origins are answered, and the headers that every answer has.
//!
//! Owns: the `Host` check against DNS rebinding, CORS (Fetch standard), `no-store`. Does not know: routes.
//! Flow: request → 421 / 403 / preflight, or the router → headers on whatever it answers.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::problem::{Code, Problem};

const ALLOW_METHODS: &str = "GET, HEAD, POST, PUT, DELETE, OPTIONS";
const ALLOW_HEADERS: &str = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Range, If-Range, If-None-Match, Tidings-Lease";
const EXPOSE_HEADERS: &str = "Retry-After, ETag, Content-Disposition, Content-Range, Accept-Ranges";
const MAX_AGE_SECONDS: &str = "600";
/// What answers depend on, whether or not this one does.
const VARY: &str = "origin, cookie, authorization";

/// The origin that may read the answer; kept for streams, whose head is not written here.
#[derive(Debug, Clone, Default)]
pub(crate) struct AllowedOrigin(Option<HeaderValue>);

/// Puts the edge around routes. A layer of our own rather than a function: it is in the way of every publish.
#[derive(Debug, Clone)]
pub(super) struct EdgeLayer {
    pub(super) is_dev: bool,
}

impl<S> Layer<S> for EdgeLayer {
    type Service = Edge<S>;

    fn layer(&self, inner: S) -> Edge<S> {
        Edge { inner, is_dev: self.is_dev }
    }
}

/// Routes behind the edge.
#[derive(Debug, Clone)]
pub(super) struct Edge<S> {
    inner: S,
    is_dev: bool,
}

impl<S: Service<Request, Response = Response, Error = Infallible>> Service<Request> for Edge<S> {
    type Response = Response;
    type Error = Infallible;
    type Future = Answer<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Answer<S::Future> {
        let origin = request.headers().get(header::ORIGIN);
        let allowed = AllowedOrigin(origin.filter(|o| self.is_dev && is_local_origin(o)).cloned());
        let own = refusal(&request, self.is_dev, &allowed);
        let inner = match own {
            Some(_) => None,
            None => {
                if allowed.0.is_some() {
                    request.extensions_mut().insert(allowed.clone());
                }
                Some(self.inner.call(request))
            }
        };
        Answer { inner, own, allowed }
    }
}

pin_project! {
    /// An answer on its way: the routes', or the edge's own.
    pub(super) struct Answer<F> {
        #[pin]
        inner: Option<F>,
        own: Option<Response>,
        allowed: AllowedOrigin,
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for Answer<F> {
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = match (this.own.take(), this.inner.as_pin_mut()) {
            (Some(own), _) => own,
            (None, Some(inner)) => match inner.poll(cx) {
                Poll::Ready(Ok(response)) => response,
                Poll::Ready(Err(never)) => match never {},
                Poll::Pending => return Poll::Pending,
            },
            // Polled again after it was ready, which nobody may do.
            (None, None) => return Poll::Pending,
        };
        let headers = response.headers_mut();
        this.allowed.apply(headers);
        if !headers.contains_key(header::CACHE_CONTROL) {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        Poll::Ready(Ok(response))
    }
}

/// What the edge answers itself.
fn refusal(request: &Request, is_dev: bool, allowed: &AllowedOrigin) -> Option<Response> {
    if is_dev && !host(request).is_some_and(is_local_host) {
        let detail = "with --dev only localhost, 127.0.0.1 and [::1] are answered";
        return Some(Problem::new(Code::Misdirected, detail).into_response());
    }
    if is_dev && allowed.0.is_none() && request.headers().contains_key(header::ORIGIN) {
        let detail = "with --dev only origins on localhost, 127.0.0.1 and [::1] are allowed";
        return Some(Problem::new(Code::OriginNotAllowed, detail).into_response());
    }
    (request.method() == Method::OPTIONS).then(|| preflight(allowed))
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
fn host(request: &Request) -> Option<&str> {
    if let Some(authority) = request.uri().authority() {
        return Some(authority.as_str());
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let only = hosts.next().filter(|_| hosts.next().is_none())?;
    only.to_str().ok()
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
