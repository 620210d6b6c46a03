//! The HTTP surface.
//!
//! Owns: requests and answers, cookies, CORS; the only place that knows axum. Does not know: storage engines, delivery
//! rules.
//! Flow: request → `edge` (host, origin, CORS) → a handler → the hub → an answer or a problem.

mod problem;

mod edge;

mod params;

mod stream;

mod body;

mod publish;

mod channels;

mod connections;

mod health;

pub(crate) mod serve;

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodRouter, any, get, post};

use crate::Hub;

impl Hub {
    /// The routes of `spec/openapi.yaml`, to be mounted in an axum application or given to [`crate::serve`].
    ///
    /// Inside another server, streams go through response bodies; [`crate::serve`] has the fast path for HTTP/1.1.
    /// Unless `Settings::dev` is set, neither the host nor the origin is checked: that is the application's business.
    pub fn router(&self) -> Router {
        let mut router = Router::new()
            .route("/v1/publish", only(post(publish::publish)))
            .route("/v1/channels", only(get(channels::show).delete(channels::delete)))
            .route("/v1/history", only(get(channels::history)))
            .route("/v1/connections", only(get(connections::list).delete(connections::close_subject)))
            .route("/v1/connections/{id}", only(axum::routing::delete(connections::close)))
            .route("/healthz", only(get(health::healthz)))
            .route("/readyz", only(get(health::readyz)))
            .route("/metrics", only(get(health::metrics)));
        let extra = self.0.settings.events_paths.iter().map(String::as_str);
        for path in ["/events", "/v1/events"].into_iter().chain(extra) {
            router = router.route(path, stream_route(stream::events));
        }
        let fallback = any(problem::not_found).with_state(());
        router
            .fallback_service(fallback)
            .with_state(self.clone())
            .layer(axum::middleware::from_fn_with_state(self.clone(), edge::edge))
    }
}

/// A stream answers GET and HEAD; the handler tells them apart.
fn stream_route<H: Handler<T, Hub>, T: 'static>(handler: H) -> MethodRouter<Hub> {
    only(get(handler))
}

/// Other methods get 405; axum adds `Allow`.
fn only(route: MethodRouter<Hub>) -> MethodRouter<Hub> {
    route.fallback(problem::method_not_allowed)
}
