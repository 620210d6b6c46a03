//! The page and its parts, embedded in the binary.
//!
//! Owns: their paths and headers. Does not know: what the page does.
//! Flow: a path → embedded bytes.

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::header;

use super::{Folder, upload};

const INDEX: &str = include_str!("../../../../web/demo/index.html");
const STYLE: &str = include_str!("../../../../web/demo/demo.css");
const SCRIPT: &str = include_str!("../../../../web/demo/demo.js");
const ICON: &str = include_str!("../../../../web/demo/favicon.svg");

/// Nothing but this server's own files runs in the page.
const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The demo's own routes.
pub(crate) fn router(folder: Folder) -> Router {
    Router::new()
        .route("/", get(async || file("text/html; charset=utf-8", INDEX)))
        .route("/demo.css", get(async || file("text/css; charset=utf-8", STYLE)))
        .route("/demo.js", get(async || file("text/javascript; charset=utf-8", SCRIPT)))
        .route("/favicon.svg", get(async || file("image/svg+xml", ICON)))
        .route("/favicon.ico", get(async || file("image/svg+xml", ICON)))
        .route(
            "/demo/uploads",
            post(move |request: Request| upload::upload(folder.clone(), request.into_body())),
        )
}

fn file(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CONTENT_SECURITY_POLICY, POLICY)], text).into_response()
}
