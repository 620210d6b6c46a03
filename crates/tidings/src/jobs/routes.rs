//! Where jobs are mounted: `/v1/jobs`, and aliases at the application's own paths.
//!
//! Owns: the URLs of a job. Does not know: HTTP.
//! Flow: `--job-route /api/exports=generate-report` → `JobRoute` → the URLs that a job gives out.

use std::str::FromStr;

use tidings_core::job::{JobError, JobId, JobType};

use super::Jobs;

/// A job type at a path of the application's own.
///
/// ```
/// let route: tidings::jobs::JobRoute = "/api/exports=generate-report".parse()?;
/// assert_eq!(route.path(), "/api/exports");
/// # Ok::<(), tidings::jobs::RouteError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRoute {
    path: String,
    job_type: String,
}

/// Why a job route was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// Not `/path=type`.
    #[error("{0:?} is not a job route such as /api/exports=generate-report")]
    Form(String),
    /// The type cannot be used.
    #[error(transparent)]
    Type(#[from] JobError),
}

impl JobRoute {
    /// Where jobs are made.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The type of the jobs that are made there.
    #[must_use]
    pub fn job_type(&self) -> &str {
        &self.job_type
    }
}

impl FromStr for JobRoute {
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Self, RouteError> {
        let form = || RouteError::Form(text.chars().take(128).collect());
        let (path, job_type) = text.split_once('=').ok_or_else(form)?;
        let path = path.strip_suffix('/').unwrap_or(path);
        if !path.starts_with('/') || path.contains(['{', '}', '*', '?', '#', ' ']) {
            return Err(form());
        }
        JobType::parse(job_type)?;
        Ok(Self { path: path.to_owned(), job_type: job_type.to_owned() })
    }
}

/// The URLs of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Urls {
    pub(crate) itself: String,
    pub(crate) events: String,
    pub(crate) cancel: String,
    pub(crate) download: String,
}

impl Jobs {
    /// The URLs that a job gives out, fixed by where it was made.
    pub(crate) fn urls(&self, id: &JobId, alias: Option<&str>) -> Urls {
        let public = self.hub.0.settings.public_url.trim_end_matches('/');
        let base = format!("{public}{}/{}", alias.unwrap_or("/v1/jobs"), id.as_str());
        Urls {
            itself: format!("{public}/v1/jobs/{}", id.as_str()),
            events: format!("{base}/events"),
            cancel: format!("{public}/v1/jobs/{}/cancel", id.as_str()),
            download: format!("{base}/download"),
        }
    }
}
