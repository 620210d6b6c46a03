//! The script of the SharedWorker that can have the one stream of a browser.
//!
//! Owns: that browsers ask whether theirs is still the one that is here. Does not know: what it does; it is made of the client's
//! sources by `js/scripts/worker.js`, and kept here so that nothing but Rust is needed to build a server.
//! Flow: a request → the script, or that it has not changed.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};

use super::conditional::is_known;

const SCRIPT: &str = include_str!("worker.js");

/// A worker is started for pages of its own origin only, and is the same for everybody.
pub(super) async fn script(asked: HeaderMap) -> Response {
    let etag = format!("\"{:08x}\"", crc32c::crc32c(SCRIPT.as_bytes()));
    let headers = [
        (header::CONTENT_TYPE, "text/javascript; charset=utf-8".to_owned()),
        // Kept, but never used without asking: all tabs of a browser have one worker, whichever of them has started it.
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (header::ETAG, etag.clone()),
    ];
    if is_known(&asked, &etag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, SCRIPT).into_response()
}
