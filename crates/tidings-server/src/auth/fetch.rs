//! Asking somebody else, over HTTP.
//!
//! Owns: connections, their number, how long an answer may take and how large it may be. Does not know: what is asked.
//! Flow: a URL of the settings and headers → status, headers, body. Redirects are answers like any other.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::Semaphore;

/// Idle connections are given up before servers usually close them.
const IDLE: Duration = Duration::from_secs(4);

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Connections to one place.
pub(super) struct Fetch {
    http: Http,
    /// One for each connection that may be busy.
    permits: Semaphore,
    limit: Duration,
}

enum Http {
    Plain(Client<HttpConnector, Empty<Bytes>>),
    Tls(Client<HttpsConnector<HttpConnector>, Empty<Bytes>>),
}

impl fmt::Debug for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetch").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Fetch {
    /// At most `connections` at once, and `limit` for an answer, the wait for a connection included.
    pub(super) fn new(url: &Uri, connections: usize, limit: Duration) -> Result<Self> {
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).pool_max_idle_per_host(connections);
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(limit));
        let http = match url.scheme_str() {
            Some("https") => {
                connector.enforce_http(false);
                let tls = HttpsConnectorBuilder::new()
                    .with_native_roots()
                    .context("there are no root certificates on this machine, so https cannot be used")?;
                Http::Tls(builder.build(tls.https_only().enable_http1().wrap_connector(connector)))
            }
            Some("http") => Http::Plain(builder.build(connector)),
            _ => bail!("it is not an http or https address"),
        };
        Ok(Self { http, permits: Semaphore::new(connections), limit })
    }

    /// Asks, and reads the whole answer.
    pub(super) async fn get(&self, url: &Uri, headers: HeaderMap, bytes_max: usize) -> Result<Answer> {
        let asking = async {
            let _permit = self.permits.acquire().await?;
            let mut request = Request::get(url.clone()).body(Empty::new())?;
            *request.headers_mut() = headers;
            let response = self.send(request).await?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, bytes_max).collect().await;
            let body = body.map_err(|error| anyhow!("its answer could not be read: {error}"))?.to_bytes();
            Ok(Answer { status: head.status, headers: head.headers, body })
        };
        let waited = tokio::time::timeout(self.limit, asking).await;
        waited.unwrap_or_else(|_| Err(anyhow!("no answer within {} ms", self.limit.as_millis())))
    }

    async fn send(&self, request: Request<Empty<Bytes>>) -> Result<Response<Incoming>> {
        let sent = match &self.http {
            Http::Plain(client) => client.request(request).await,
            Http::Tls(client) => client.request(request).await,
        };
        sent.context("it could not be asked")
    }
}

/// Reads an address of the settings.
pub(super) fn url(flag: &str, text: &str) -> Result<Uri> {
    let url: Uri = text.parse().map_err(|_| anyhow!("{flag} is not an http or https address"))?;
    let has_host = url.host().is_some_and(|host| !host.is_empty());
    if !has_host || !matches!(url.scheme_str(), Some("http" | "https")) {
        bail!("{flag} is not an http or https address");
    }
    if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        bail!("{flag} has a name or password in it, which would end up in logs");
    }
    Ok(url)
}

/// Whether an address is this machine's own.
pub(super) fn is_loopback(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
