//! The edge: which hosts and origins are answered, and the headers that every answer has.
//!
//! Owns: the `Host` check against DNS rebinding, CORS (Fetch standard), the site of a request, `no-store`. Does not know:
//! routes, credentials.
//! Flow: request → 421 / 403 / preflight, or the router, told the site → headers on whatever it answers.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use pin_project_lite::pin_project;
use tidings_core::site::{Evidence, Origin, Site, is_loopback_host, is_loopback_origin, site};
use tower::{Layer, Service};

use super::arrival::{Arrival, Role};
use super::problem::{Code, Problem};
use crate::settings::Settings;

const ALLOW_METHODS: &str = "GET, HEAD, POST, PUT, DELETE, OPTIONS";
const ALLOW_HEADERS: &str = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Range, If-Range, If-None-Match, Tidings-Lease";
const EXPOSE_HEADERS: &str = "Retry-After, ETag, Content-Disposition, Content-Range, Accept-Ranges";
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const MAX_AGE_SECONDS: &str = "600";
/// What answers depend on, whether or not this one does.
const VARY: &str = "origin, cookie, authorization";

/// The origin that may read the answer; kept for streams, whose head is not written here.
#[derive(Debug, Clone, Default)]
pub(crate) struct AllowedOrigin(Option<HeaderValue>);

/// Which pages may do what.
#[derive(Debug)]
pub(super) struct Origins {
    listed: Vec<Origin>,
    /// The origin of the public URL.
    public: Option<Origin>,
    is_dev: bool,
}

impl Origins {
    pub(super) fn new(settings: &Settings) -> Arc<Self> {
        let public = Origin::of_url(&settings.public_url).ok();
        Arc::new(Self { listed: settings.allowed_origins.clone(), public, is_dev: settings.dev })
    }

    /// Where a request comes from, and whether the page there may read the answer.
    pub(super) fn judge(&self, request: &Request) -> (Site, AllowedOrigin) {
        let headers = request.headers();
        let (origin, fetch_site) = (only(headers, &header::ORIGIN), only(headers, &SEC_FETCH_SITE));
        if origin.is_none() && fetch_site.is_none() {
            return (Site::Unknown, AllowedOrigin::default());
        }
        let is = |name: &HeaderName, value: &str| only(headers, name) == Some(value);
        let navigates = is(&SEC_FETCH_MODE, "navigate") && is(&SEC_FETCH_DEST, "document");
        let host = host(request);
        let mut found =
            site(&Evidence { origin, fetch_site, navigates, host }, &self.listed, self.public.as_ref());
        let is_local = self.is_dev && origin.is_some_and(is_loopback_origin);
        if found == Site::Foreign && is_local {
            found = Site::Listed;
        }
        // A page that is asked for by its own name needs no leave, but it may be ours by another name.
        let by_name = || origin.is_some_and(|text| self.public.as_ref().is_some_and(|own| own.is_text(text)));
        let may_read = found == Site::Listed || is_local || (found == Site::Own && by_name());
        (found, AllowedOrigin(headers.get(header::ORIGIN).filter(|_| may_read).cloned()))
    }

    /// Answers a request that does not reach the routes, so that a page of an allowed origin can read why.
    pub(super) fn refuse(&self, request: &Request, problem: Problem) -> Response {
        let mut response = problem.into_response();
        dress(&self.judge(request).1, response.headers_mut());
        response
    }

    /// The same for what never became a request: of it, there is at most an origin.
    pub(super) fn dress(&self, origin: Option<&str>, headers: &mut HeaderMap) {
        let is_own = |text: &str| self.public.as_ref().is_some_and(|own| own.is_text(text));
        let allows = |text: &&str| {
            let is_local = self.is_dev && is_loopback_origin(text);
            is_local || is_own(text) || self.listed.iter().any(|known| known.is_text(text))
        };
        let allowed = origin.filter(allows).and_then(|text| HeaderValue::from_str(text).ok());
        dress(&AllowedOrigin(allowed), headers);
    }

    /// What the edge answers itself.
    fn refusal(&self, request: &Request, allowed: &AllowedOrigin) -> Option<Response> {
        if self.is_dev && !host(request).is_some_and(is_loopback_host) {
            let detail = "with --dev only localhost, 127.0.0.1 and [::1] are answered";
            return Some(Problem::new(Code::Misdirected, detail).into_response());
        }
        if self.is_dev && allowed.0.is_none() && request.headers().contains_key(header::ORIGIN) {
            let detail = "with --dev only origins on localhost, 127.0.0.1 and [::1] are allowed, and those that are listed";
            return Some(Problem::new(Code::OriginNotAllowed, detail).into_response());
        }
        (request.method() == Method::OPTIONS).then(|| preflight(allowed))
    }
}

/// Puts the edge around routes. A layer of our own rather than a function: it is in the way of every publish.
#[derive(Debug, Clone)]
pub(super) struct EdgeLayer {
    pub(super) origins: Arc<Origins>,
    pub(super) role: Role,
}

impl EdgeLayer {
    /// Tells a request its site, or answers it.
    fn admit(&self, request: &mut Request) -> (AllowedOrigin, Option<Response>) {
        let (site, allowed) = self.origins.judge(request);
        let own = self.origins.refusal(request, &allowed);
        if own.is_none() {
            let (extensions, role) = (request.extensions_mut(), self.role);
            match extensions.get_mut::<Arrival>() {
                // It is there already: nothing is allocated.
                Some(arrival) => (arrival.site, arrival.role) = (site, role),
                None => drop(extensions.insert(Arrival { site, role, ..Arrival::UNKNOWN })),
            }
            if allowed.0.is_some() {
                extensions.insert(allowed.clone());
            }
        }
        (allowed, own)
    }
}

impl<S> Layer<S> for EdgeLayer {
    type Service = Edge<S>;

    fn layer(&self, inner: S) -> Edge<S> {
        Edge { inner, edge: self.clone() }
    }
}

/// Routes behind the edge.
#[derive(Debug, Clone)]
pub(super) struct Edge<S> {
    inner: S,
    edge: EdgeLayer,
}

impl<S: Service<Request, Response = Response, Error = Infallible>> Service<Request> for Edge<S> {
    type Response = Response;
    type Error = Infallible;
    type Future = Answer<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Answer<S::Future> {
        let (allowed, own) = self.edge.admit(&mut request);
        let inner = own.is_none().then(|| self.inner.call(request));
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
        dress(this.allowed, response.headers_mut());
        Poll::Ready(Ok(response))
    }
}

/// The headers that every answer has.
fn dress(allowed: &AllowedOrigin, headers: &mut HeaderMap) {
    allowed.apply(headers);
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
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

/// The value of a field; empty if it came more than once or is no text.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    Some(first.to_str().ok().filter(|_| values.next().is_none()).unwrap_or(""))
}
