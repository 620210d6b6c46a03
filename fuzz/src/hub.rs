//! One hub in memory for all inputs of a process, and its router.

use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt;
use tidings::log::Retention;
use tidings::{Hub, Settings};
use tokio::runtime::Runtime;
use tower::ServiceExt;

/// Longer answers are streams, or wait for something that does not come.
pub(crate) const IMPATIENT: Duration = Duration::from_millis(20);

/// What is answered at once is answered within this, however busy the machine is.
pub(crate) const PATIENT: Duration = Duration::from_secs(15);

pub(crate) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
});

/// Small, so that millions of inputs fit into memory.
pub(crate) fn settings() -> Settings {
    let retention =
        Retention::default().events_max(64).channels_max(2_000).horizon_ms(1_000).log_bytes_max(32 << 20);
    Settings::in_memory()
        .dev(true)
        .shards(1)
        .tail_bytes(1 << 20)
        .retention(retention)
        .streams_per_address(u32::MAX)
        .streams_per_second(u32::MAX)
        .drain(Duration::from_millis(10))
}

pub(crate) fn hub() -> &'static (Hub, Router) {
    static HUB: OnceLock<(Hub, Router)> = OnceLock::new();
    HUB.get_or_init(|| {
        let _inside = RUNTIME.enter();
        let hub = Hub::open(settings()).unwrap();
        let router = hub.router();
        (hub, router)
    })
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// As much of the body as came in time.
    pub(crate) body: Vec<u8>,
}

/// What the router answers; none while it waits.
pub(crate) fn ask(request: Request<Bytes>, patience: Duration) -> Option<Answer> {
    let router = hub().1.clone();
    RUNTIME.block_on(async {
        let answered = router.oneshot(request.map(Body::from));
        let answer: Response<Body> = tokio::time::timeout(patience, answered).await.ok()?.unwrap();
        let (parts, mut body) = answer.into_parts();
        let is_stream =
            parts.headers.get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"text/ev"));
        let mut bytes = Vec::new();
        while let Ok(Some(frame)) = tokio::time::timeout(IMPATIENT, body.frame()).await {
            bytes.extend_from_slice(frame.unwrap().data_ref().map_or(&b""[..], |data| &data[..]));
            if is_stream {
                break;
            }
        }
        Some(Answer { status: parts.status, headers: parts.headers, body: bytes })
    })
}

/// What holds for every answer, whatever was asked.
pub(crate) fn holds(answer: &Answer) {
    let header = |name: &str| answer.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_ne!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(header("x-content-type-options").as_deref(), Some("nosniff"), "{}", answer.status);
    assert_eq!(header("vary").as_deref(), Some("origin, cookie, authorization"));
    assert!(header("cache-control").is_some());
    let kind = header("content-type").unwrap_or_default();
    if answer.status.as_u16() >= 400 && !answer.body.is_empty() {
        assert_eq!(kind, "application/problem+json", "{}", answer.status);
        let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(problem["status"], answer.status.as_u16());
        assert!(
            problem["code"].as_str().is_some_and(|code| !code.is_empty() && code != "internal"),
            "{problem}"
        );
        assert!(answer.body.len() < 16 * 1024, "a problem does not echo what was sent");
    }
    if kind.starts_with("text/event-stream") {
        assert_eq!(answer.status, StatusCode::OK);
    }
}
