//! Plain HTTP/1.1 requests.
//!
//! Owns: connections and their reuse. Does not know: what is asked for.
//! Flow: in ← a request · out → a streamed answer, or a whole one of bounded size.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::bearer::Bearer;
use crate::upload::UploadBody;

/// A refusal that is read whole in place of a stream.
pub(crate) const REFUSAL_BYTES_MAX: usize = 1024 * 1024;
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);
/// Idle connections are given up before servers usually close them, so that a publish rarely meets a closing one.
const IDLE: Duration = Duration::from_secs(10);
/// Idle connections that are kept for publishing.
const IDLE_CONNECTIONS_MAX: usize = 64;

/// A request that got no usable answer. Whether it took effect is unknown.
#[derive(Debug)]
pub(crate) struct NoAnswer(Box<dyn Error + Send + Sync>);

/// A whole answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// The connections of one client.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    // Apart from `requests`, because a stream ends with its connection, and must not begin on one that is closing.
    streams: Http<HttpConnector, Full<Bytes>>,
    requests: Http<HttpConnector, Full<Bytes>>,
    uploads: Http<HttpConnector, UploadBody>,
    bearer: Arc<Bearer>,
}

impl Transport {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        let streams = Http::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector.clone());
        let uploads = Http::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector.clone());
        let requests = Http::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(connector);
        Self { streams, requests, uploads, bearer: Arc::default() }
    }

    /// The same connections, with other credentials.
    pub(crate) fn with_bearer(self, bearer: Arc<Bearer>) -> Self {
        Self { bearer, ..self }
    }

    /// Sends a request on a connection of its own and returns when the head of the answer is there. If its credentials are
    /// refused and there are others, it is sent once more: nothing was done.
    pub(crate) async fn stream(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, NoAnswer> {
        let mut first = request.clone();
        let used = self.bearer.apply(first.headers_mut()).await;
        let response = self.streams.request(first).await.map_err(NoAnswer::new)?;
        if !is_refused(response.status()) || !self.bearer.renew(used.as_ref()).await {
            return Ok(response);
        }
        let mut second = request;
        self.bearer.apply(second.headers_mut()).await;
        self.streams.request(second).await.map_err(NoAnswer::new)
    }

    /// Whether there are other credentials than those that were refused in mid-stream.
    pub(crate) async fn renew(&self) -> bool {
        let mut headers = HeaderMap::new();
        let used = self.bearer.apply(&mut headers).await;
        self.bearer.renew(used.as_ref()).await
    }

    /// Sends a body as it is read, and reads the whole answer. The caller bounds the time.
    pub(crate) async fn upload(&self, mut request: Request<UploadBody>) -> Result<Answer, NoAnswer> {
        self.bearer.apply(request.headers_mut()).await;
        let response = self.uploads.request(request).await.map_err(NoAnswer::new)?;
        let (head, body) = response.into_parts();
        let body = whole(body, REFUSAL_BYTES_MAX).await?;
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    /// Sends a request and reads the whole answer, of at most `bytes_max`, within `limit`.
    pub(crate) async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        limit: Duration,
        bytes_max: usize,
    ) -> Result<Answer, NoAnswer> {
        let exchange = async {
            let mut first = request.clone();
            let used = self.bearer.apply(first.headers_mut()).await;
            let mut response = self.requests.request(first).await.map_err(NoAnswer::new)?;
            if is_refused(response.status()) && self.bearer.renew(used.as_ref()).await {
                let mut second = request;
                self.bearer.apply(second.headers_mut()).await;
                response = self.requests.request(second).await.map_err(NoAnswer::new)?;
            }
            let (head, body) = response.into_parts();
            let body = whole(body, bytes_max).await?;
            Ok(Answer { status: head.status, headers: head.headers, body })
        };
        tokio::time::timeout(limit, exchange).await.map_err(NoAnswer::new)?
    }
}

/// Whether other credentials might help.
fn is_refused(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

/// Reads a body of bounded size.
pub(crate) async fn whole(body: Incoming, bytes_max: usize) -> Result<Bytes, NoAnswer> {
    Ok(Limited::new(body, bytes_max).collect().await.map_err(NoAnswer)?.to_bytes())
}

impl NoAnswer {
    pub(crate) fn new(error: impl Error + Send + Sync + 'static) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Display for NoAnswer {
    /// The whole chain, since "client error (Connect)" alone helps nobody.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
