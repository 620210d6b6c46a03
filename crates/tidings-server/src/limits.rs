//! The open-file limit of the process.
//!
//! Owns: raising it, and what it allows. Does not know: what files are for.
//! Flow: soft limit → hard limit → streams that fit.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are no streams: segments, epoll, listener, publishers and their answers.
const OTHERS: usize = 512;

/// Raises the soft limit to the hard one; says how many streams that allows.
pub(crate) fn raise_open_files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the open-file limit");
    }
    let files =
        getrlimit(Resource::Nofile).current.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let streams = files.saturating_sub(OTHERS).clamp(16, 10_000_000);
    tracing::info!(open_files = files, streams_max = streams, "open-file limit");
    streams
}
