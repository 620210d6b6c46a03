//! The HTTP surface.
//!
//! Owns: requests and answers, cookies, CORS; the only place that knows axum. Does not know: storage engines, delivery
//! rules.
//! Flow: request → `edge` (host, origin, CORS) → a handler → the hub → an answer or a problem.

mod problem;

pub(crate) mod arrival;

mod edge;

mod params;

mod path;

mod caller;

mod stream;

mod body;

mod publish;

mod channels;

mod connections;

mod grants;

mod jobs;

mod reports;

mod worker;
mod workers;

mod upload;

mod schedules;

mod conditional;

mod download;

mod health;

pub(crate) mod mounts;

pub(crate) mod serve;

use std::convert::Infallible;

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use http::Method;
use tower::{Layer, ServiceExt, service_fn};

use self::arrival::{Group, Role};
use self::caller::Caller;
use crate::Hub;
use crate::jobs::JobRoute;

impl Hub {
    /// The routes of `spec/openapi.yaml`, to be mounted in an axum application or given to [`crate::serve`].
    ///
    /// Inside another server, streams go through response bodies; [`crate::serve`] has the fast path for HTTP/1.1.
    /// Unless `Settings::dev` is set, no host and no origin is refused here: that is the application's business. What a
    /// page of another site may do with a cookie is not.
    pub fn router(&self) -> Router {
        self.router_with(Router::new())
    }

    /// The same, with routes of the application's own behind the same checks of host and origin.
    pub fn router_with(&self, own: Router) -> Router {
        self.build(Role::everything(), own)
    }

    /// The routes of one listener among several.
    ///
    /// ```no_run
    /// # fn routers(hub: &tidings::Hub) {
    /// use tidings::Role;
    /// let public = hub.router_for(Role::everything().without_admin().without_api_keys());
    /// let back_ends = hub.router_for(Role::everything().without_admin());
    /// let operators = hub.router_for(Role::admin());
    /// # }
    /// ```
    pub fn router_for(&self, role: Role) -> Router {
        self.build(role, Router::new())
    }

    fn build(&self, role: Role, own: Router) -> Router {
        self.jobs().start();
        self.routes(role)
            .fallback(problem::not_found)
            .with_state(self.clone())
            .merge(own)
            .layer(self.edge(role))
    }

    fn edge(&self, role: Role) -> edge::EdgeLayer {
        edge::EdgeLayer { origins: edge::Origins::new(&self.0.settings), role }
    }

    fn routes(&self, role: Role) -> Router<Self> {
        let mut router = Router::new();
        for (path, methods) in table() {
            if role.has(group(path)) {
                router = router.route(path, methods);
            }
        }
        if !role.has(Group::App) {
            return router;
        }
        for route in &self.0.settings.job_routes {
            router = mount(router, route);
        }
        let extra = self.0.settings.events_paths.iter().map(String::as_str);
        for path in extra {
            router = router.route(path, stream_route(stream::events));
        }
        router
    }
}

/// Every route that is always there. `spec/openapi.yaml` has the same ones.
fn table() -> Vec<(&'static str, MethodRouter<Hub>)> {
    vec![
        ("/events", stream_route(stream::events)),
        ("/v1/events", stream_route(stream::events)),
        (publish::PATH, only(post(publish::publish))),
        ("/v1/history", only(get(channels::history))),
        ("/v1/channels", only(get(channels::show).delete(channels::delete))),
        ("/v1/connections", only(get(connections::list).delete(connections::close_subject))),
        ("/v1/connections/{id}", only(axum::routing::delete(connections::close))),
        ("/v1/connections/{id}/auth", only(post(connections::authorize))),
        ("/v1/connections/{id}/channels", only(post(connections::join))),
        ("/v1/tickets", only(post(grants::ticket))),
        ("/v1/revocations", only(post(grants::revoke).get(grants::revocations))),
        ("/v1/jobs", only(post(jobs::create).get(jobs::list))),
        ("/v1/jobs:report", only(post(reports::batch))),
        ("/v1/jobs/{id}", only(get(jobs::show).put(jobs::upsert).delete(jobs::delete))),
        ("/v1/jobs/{id}/events", stream_route(jobs::events)),
        ("/v1/jobs/{id}/cancel", only(post(jobs::cancel))),
        ("/v1/jobs/{id}/retry", only(post(jobs::retry))),
        ("/v1/jobs/{id}/progress", only(post(reports::progress))),
        ("/v1/jobs/{id}/logs", only(post(reports::append_logs).get(reports::logs))),
        ("/v1/jobs/{id}/output", only(post(reports::output))),
        ("/v1/jobs/{id}/complete", only(post(reports::complete))),
        ("/v1/jobs/{id}/fail", only(post(reports::fail))),
        ("/v1/jobs/{id}/heartbeat", only(post(reports::heartbeat))),
        ("/v1/jobs/{id}/release", only(post(reports::release))),
        ("/v1/jobs/{id}/artifacts/{name}", only(axum::routing::put(upload::upload))),
        ("/v1/jobs/{id}/download", only(get(download::download))),
        ("/v1/jobs/{id}/download/{name}", only(get(download::download_named))),
        ("/v1/queues", only(get(workers::queues))),
        ("/v1/queues/{queue}/lease", only(post(workers::lease))),
        ("/v1/leases:renew", only(post(workers::renew))),
        ("/v1/workers", only(get(workers::list))),
        ("/v1/workers/{id}", only(axum::routing::put(workers::tell))),
        ("/v1/schedules", only(get(schedules::list))),
        ("/v1/schedules/{name}", only(get(schedules::show).put(schedules::put).delete(schedules::delete))),
        ("/tidings/worker.js", only(get(worker::script))),
        ("/healthz", only(get(health::healthz))),
        ("/readyz", only(get(health::readyz))),
        ("/metrics", only(get(health::metrics))),
    ]
}

/// The way of a publish past the router, which costs half as much as the publish itself. It answers as the router would, where
/// the hub is all that a listener has.
#[derive(Debug)]
struct Shortcut {
    hub: Hub,
    edge: edge::EdgeLayer,
}

impl Shortcut {
    /// `None` if a listener of this role takes no publishes.
    fn new(hub: &Hub, role: Role) -> Option<Self> {
        role.has(group(publish::PATH)).then(|| Self { hub: hub.clone(), edge: hub.edge(role) })
    }

    fn is_for(request: &Request) -> bool {
        request.method() == Method::POST && request.uri().path() == publish::PATH
    }

    async fn answer(&self, request: Request) -> Result<Response, Infallible> {
        let publish =
            async |request| Ok(publish::publish(State(self.hub.clone()), request).await.into_response());
        self.edge.layer(service_fn(publish)).oneshot(request).await
    }
}

/// Whom a path is for.
fn group(path: &str) -> Group {
    match path {
        "/healthz" => Group::Health,
        "/v1/connections" | "/v1/connections/{id}" | "/v1/revocations" | "/readyz" | "/metrics" => {
            Group::Admin
        }
        _ => Group::App,
    }
}

/// Mounts a job type at a path of the application's own.
fn mount(router: Router<Hub>, route: &JobRoute) -> Router<Hub> {
    let own = route.clone();
    let create = move |State(hub): State<Hub>, caller: Caller, request: Request| {
        jobs::create_at(hub, caller, own.clone(), request)
    };
    let [path, events, file, named] = mounts::of_a_job_route(route);
    router
        .route(&path, only(post(create)))
        .route(&events, stream_route(jobs::events))
        .route(&file, only(get(download::download)))
        .route(&named, only(get(download::download_named)))
}

/// A stream answers GET and HEAD; the handler tells them apart.
fn stream_route<H: Handler<T, Hub>, T: 'static>(handler: H) -> MethodRouter<Hub> {
    only(get(handler))
}

/// Other methods get 405; axum adds `Allow`.
fn only(route: MethodRouter<Hub>) -> MethodRouter<Hub> {
    route.fallback(problem::method_not_allowed)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_router_and_its_description_have_the_same_paths() {
        let description = include_str!("../../../../spec/openapi.yaml");
        let paths: Vec<&str> =
            description.lines().filter_map(|l| l.strip_prefix("  /")?.strip_suffix(':')).collect();
        let routes: Vec<&str> = super::table().iter().map(|(path, _)| path.trim_start_matches('/')).collect();
        assert_eq!(paths, routes, "spec/openapi.yaml names the routes in the same order");
    }
}
