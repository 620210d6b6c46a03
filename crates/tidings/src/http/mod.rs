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

mod jobs;

mod health;

pub(crate) mod serve;

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::routing::{MethodRouter, get, post};

use crate::Hub;
use crate::jobs::JobRoute;

impl Hub {
    /// The routes of `spec/openapi.yaml`, to be mounted in an axum application or given to [`crate::serve`].
    ///
    /// Inside another server, streams go through response bodies; [`crate::serve`] has the fast path for HTTP/1.1.
    /// Unless `Settings::dev` is set, neither the host nor the origin is checked: that is the application's business.
    pub fn router(&self) -> Router {
        self.router_with(Router::new())
    }

    /// The same, with routes of the application's own behind the same checks of host and origin.
    pub fn router_with(&self, own: Router) -> Router {
        self.routes()
            .fallback(problem::not_found)
            .with_state(self.clone())
            .merge(own)
            .layer(axum::middleware::from_fn_with_state(self.clone(), edge::edge))
    }

    fn routes(&self) -> Router<Self> {
        let mut router = Router::new()
            .route("/v1/publish", only(post(publish::publish)))
            .route("/v1/channels", only(get(channels::show).delete(channels::delete)))
            .route("/v1/history", only(get(channels::history)))
            .route("/v1/connections", only(get(connections::list).delete(connections::close_subject)))
            .route("/v1/connections/{id}", only(axum::routing::delete(connections::close)))
            .route("/healthz", only(get(health::healthz)))
            .route("/readyz", only(get(health::readyz)))
            .route("/metrics", only(get(health::metrics)));
        router = router
            .route("/v1/jobs", only(post(jobs::create)))
            .route("/v1/jobs/{id}", only(get(jobs::show).put(jobs::upsert)))
            .route("/v1/jobs/{id}/events", stream_route(jobs::events))
            .route("/v1/jobs/{id}/progress", only(post(jobs::progress)))
            .route("/v1/jobs/{id}/complete", only(post(jobs::complete)))
            .route("/v1/jobs/{id}/fail", only(post(jobs::fail)))
            .route("/v1/jobs/{id}/download", only(get(jobs::download)))
            .route("/v1/jobs/{id}/download/{name}", only(get(jobs::download_named)));
        for route in &self.0.settings.job_routes {
            router = mount(router, route);
        }
        let extra = self.0.settings.events_paths.iter().map(String::as_str);
        for path in ["/events", "/v1/events"].into_iter().chain(extra) {
            router = router.route(path, stream_route(stream::events));
        }
        router
    }
}

/// Mounts a job type at a path of the application's own.
fn mount(router: Router<Hub>, route: &JobRoute) -> Router<Hub> {
    let path = route.path();
    let own = route.clone();
    let create = move |State(hub): State<Hub>, request: Request| jobs::create_at(hub, own.clone(), request);
    router
        .route(path, only(post(create)))
        .route(&format!("{path}/{{id}}/events"), stream_route(jobs::events))
        .route(&format!("{path}/{{id}}/download"), only(get(jobs::download)))
}

/// A stream answers GET and HEAD; the handler tells them apart.
fn stream_route<H: Handler<T, Hub>, T: 'static>(handler: H) -> MethodRouter<Hub> {
    only(get(handler))
}

/// Other methods get 405; axum adds `Allow`.
fn only(route: MethodRouter<Hub>) -> MethodRouter<Hub> {
    route.fallback(problem::method_not_allowed)
}
