//! The open-file limit of the process.
//!
//! Owns: raising it, and what it allows. Does not know: what files are for.
//! Flow: soft limit → hard limit → streams and other connections that fit.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are no connections: segments, files of jobs, epoll, listeners.
const OTHERS: usize = 256;

/// What the open-file limit allows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowed {
    pub(crate) streams: usize,
    /// Connections that are no streams.
    pub(crate) connections: usize,
}

impl Allowed {
    /// Whatever one asks for.
    pub(crate) const ALL: Self = Self { streams: usize::MAX, connections: usize::MAX };

    fn of(files: usize) -> Self {
        let connections = (files / 4).min(10_000);
        Self { streams: files.saturating_sub(OTHERS + connections).clamp(16, 10_000_000), connections }
    }
}

/// Raises the soft limit to the hard one; says how much that allows.
pub(crate) fn raise_open_files() -> Allowed {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the open-file limit");
    }
    let files =
        getrlimit(Resource::Nofile).current.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let allowed = Allowed::of(files);
    let Allowed { streams, connections } = allowed;
    tracing::info!(
        open_files = files,
        streams_max = streams,
        connections_max = connections,
        "open-file limit"
    );
    allowed
}
