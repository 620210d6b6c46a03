//! Paths of the application's own, among those that are always there.
//!
//! Owns: whether something can be mounted at a path, and that nothing is mounted there twice. Does not know: what is
//! answered there.
//! Flow: settings → `Settings::check_paths` → the router, which would panic over what is refused here.

use std::collections::HashSet;

use crate::Settings;
use crate::jobs::JobRoute;

/// Why a path of the application's own was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// No request could ask for it, or it would be a pattern.
    #[error("{0:?} is not a path such as /api/events")]
    Form(String),
    /// Something else is served there.
    #[error(
        "the path {0} would be served twice: choose one that no other stream or job route has, and no route of the server"
    )]
    Taken(String),
}

impl PathError {
    /// The path that was refused.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::Form(path) | Self::Taken(path) => path,
        }
    }
}

impl Settings {
    /// Says whether streams and jobs can be served at the paths of `events_paths` and `job_routes`. [`crate::Hub::open`]
    /// asks, too.
    ///
    /// # Errors
    /// [`PathError`].
    pub fn check_paths(&self) -> Result<(), PathError> {
        let own =
            self.job_routes.iter().map(JobRoute::path).chain(self.events_paths.iter().map(String::as_str));
        if let Some(path) = own.into_iter().find(|path| !is_path(path)) {
            return Err(PathError::Form(path.to_owned()));
        }
        let mut taken: HashSet<String> = super::table().iter().map(|(path, _)| shape(path)).collect();
        let of_jobs = self.job_routes.iter().flat_map(of_a_job_route);
        match of_jobs.chain(self.events_paths.iter().cloned()).find(|path| !taken.insert(shape(path))) {
            Some(path) => Err(PathError::Taken(path)),
            None => Ok(()),
        }
    }
}

/// The paths that a job route has, in the order in which they are mounted.
pub(super) fn of_a_job_route(route: &JobRoute) -> [String; 4] {
    let path = route.path();
    [
        path.to_owned(),
        format!("{path}/{{id}}/events"),
        format!("{path}/{{id}}/download"),
        format!("{path}/{{id}}/download/{{name}}"),
    ]
}

/// Neither a pattern, nor anything that ends the path of a request.
fn is_path(text: &str) -> bool {
    text.starts_with('/') && !text.contains(['{', '}', '*', '?', '#', ' ']) && !text.contains("/:")
}

/// Whatever a name in a path is called, it stands for the same requests.
fn shape(path: &str) -> String {
    let parts = path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;

    use super::*;
    use crate::Hub;
    use crate::log::Retention;
    use crate::log::memory::MemoryLog;

    #[test]
    fn what_is_refused_is_what_the_router_would_panic_over() {
        for (events, jobs, is_fine) in [
            (&["/api/events", "/api/stream"][..], &["/api/exports=t", "/api/imports=t"][..], true),
            (&["/", "/events/", "/v1", "/v1/jobs/7"], &["/v1/jobs/7/jobs=t", "/metrics/x=t"], true),
            (&["/api/exports"], &["/api/exports/deep=t", "/api=t"], true),
            (&["/events"], &[], false),
            (&["/v1/events"], &[], false),
            (&["/healthz"], &[], false),
            (&["/a", "/a"], &[], false),
            (&["/a"], &["/a=t"], false),
            (&[], &["/a=t", "/a/=u"], false),
            (&[], &["/v1/jobs=t"], false),
            (&[], &["/v1/publish=t"], false),
            (&[], &["/events=t"], false),
            (&["events"], &[], false),
            (&[""], &[], false),
            (&["/a/{b"], &[], false),
            (&["/a/{*b}", "/a/{*c}"], &[], false),
            (&["/:a"], &[], false),
            (&["/a/*b"], &[], false),
            (&[], &["/a/:b=t"], false),
        ] {
            let settings = Settings::in_memory()
                .shards(1)
                .events_paths(events.iter().map(ToString::to_string).collect())
                .job_routes(jobs.iter().map(|route| route.parse().unwrap()).collect());
            assert_eq!(settings.check_paths().is_ok(), is_fine, "{events:?} {jobs:?}");
            assert_eq!(Hub::open(settings.clone()).map(|hub| hub.close().unwrap()).is_ok(), is_fine);
            let hub = Hub::start(settings, Arc::new(MemoryLog::new(Retention::default()))).unwrap();
            let built = catch_unwind(AssertUnwindSafe(|| drop(hub.router())));
            assert_eq!(built.is_ok(), is_fine, "{events:?} {jobs:?}");
            hub.close().unwrap();
        }
    }
}
