//! Uploads of the files of jobs.
//!
//! Owns: the request's body as a reader, what of its headers matters. Does not know: leases, where files are stored.
//! Flow: a request → its body, piece by piece → `crate::jobs` → what became of it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Json;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::{Buf, Bytes};
use http::header;
use tokio::io::{AsyncRead, ReadBuf};

use super::caller::Caller;
use super::jobs::job_id;
use super::path::Path;
use super::problem::{Code, Problem};
use super::reports;
use crate::Hub;
use crate::jobs::{ArtifactError, JobsError, NewFile};

/// The lease of a worker that sends a file: the body has no room for it.
const LEASE: &str = "tidings-lease";
/// How long the rest of a refused body is read and thrown away. Many clients read no answer before they have sent
/// everything, and would see a reset instead of the reason.
const LINGER: Duration = Duration::from_secs(2);

/// `PUT`: stores the body as a file of the job.
pub(super) async fn upload(
    State(hub): State<Hub>,
    caller: Caller,
    Path((id, name)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let text = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let file = NewFile {
        name: &name,
        content_type: text(header::CONTENT_TYPE.as_str()),
        declared: body.size_hint().exact(),
    };
    let lease = text(LEASE).map(str::to_owned);
    let mut reader = BodyReader { body, piece: Bytes::new(), drip: Drip::default(), since_ms: None };
    let stored = async {
        let id = job_id(&id)?;
        reports::require_work(&hub, &caller, &id).await?;
        if parts.headers.contains_key(header::CONTENT_RANGE) {
            // Taken for a whole file, a part would replace it (RFC 9110, 14.5).
            return Err(Problem::new(Code::FieldInvalid, "a part of a file cannot be stored").uncommitted());
        }
        hub.jobs().upload(&id, lease, file, &mut reader).await.map_err(refused)
    };
    match stored.await {
        Ok(reported) => Ok(Json(reports::answer(&reported)).into_response()),
        Err(problem) => {
            if !matches!(problem.code, Code::RequestTimeout) {
                tokio::spawn(reader.discard());
            }
            Err(problem)
        }
    }
}

fn refused(error: JobsError) -> Problem {
    match error {
        JobsError::Artifact(ArtifactError::Incomplete(error)) if error.kind() == BROKEN => {
            Problem::new(Code::FramingInvalid, format!("the file did not arrive whole: {error}"))
                .uncommitted()
        }
        error => error.into(),
    }
}

/// What a body is called that is not the whole of what was announced.
const BROKEN: io::ErrorKind = io::ErrorKind::InvalidData;

/// The body of a request, as it comes.
struct BodyReader {
    body: Body,
    /// What did not fit the last time.
    piece: Bytes,
    drip: Drip,
    /// Since when the client is waited for.
    since_ms: Option<u64>,
}

/// Tells a client that sends next to nothing from one that is slow: it would hold its place for ever.
#[derive(Debug, Default)]
struct Drip {
    waited_ms: u64,
    bytes: u64,
}

/// So much has to come while the client is waited for.
const BYTES_PER_SECOND_MIN: u64 = 1_024;
/// Over how long that is looked at.
const DRIP_MS: u64 = 30_000;

impl Drip {
    /// So many bytes came after so long a wait; whether that is enough.
    fn took(&mut self, waited_ms: u64, bytes: usize) -> bool {
        self.waited_ms += waited_ms;
        self.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
        if self.waited_ms < DRIP_MS {
            return true;
        }
        let enough = self.bytes >= BYTES_PER_SECOND_MIN * self.waited_ms / 1_000;
        *self = Self::default();
        enough
    }
}

impl BodyReader {
    async fn discard(mut self) {
        let rest = async { tokio::io::copy(&mut self, &mut tokio::io::sink()).await };
        // Read to its end or not, the answer is on its way.
        tokio::time::timeout(LINGER, rest).await.map(drop).unwrap_or_default();
    }
}

impl AsyncRead for BodyReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.piece.is_empty() {
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                self.since_ms.get_or_insert_with(crate::clock::now_ms);
                return Poll::Pending;
            };
            match frame {
                None => return Poll::Ready(Ok(())),
                Some(Ok(frame)) => {
                    self.piece = frame.into_data().unwrap_or_default();
                    let since_ms = self.since_ms.take();
                    let waited_ms = since_ms.map_or(0, |since| crate::clock::now_ms().saturating_sub(since));
                    let bytes = self.piece.len();
                    if !self.drip.took(waited_ms, bytes) {
                        let reason = "less than 1 KiB a second came";
                        return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, reason)));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Err(io::Error::new(BROKEN, error))),
            }
        }
        let count = self.piece.len().min(into.remaining());
        into.put_slice(self.piece.get(..count).unwrap_or_default());
        self.piece.advance(count);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_drips_is_told_from_one_that_is_slow_and_from_one_that_the_disk_delays() {
        let mut drip = Drip::default();
        assert!((0..29).all(|_| drip.took(1_000, 1)), "there is time");
        assert!(!drip.took(1_000, 1), "30 bytes in 30 s");
        assert!((0..300).all(|_| drip.took(1_000, 1_024)), "slow, but it comes");
        assert!((0..100_000).all(|_| drip.took(0, 1)), "nobody waited for it");
        // What came quickly once does not pay for ever.
        assert!(drip.took(30_000, 1_000_000));
        assert!((0..29).all(|_| drip.took(1_000, 1)) && !drip.took(1_000, 1));
    }
}
