//! Files of jobs on their way from the server.
//!
//! Owns: reading one piece by piece. Does not know: where it goes.
//! Flow: in ← the answer to a download · out → pieces of the file.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, LOCATION};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tidings_core::job::JobId;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::reporter::escape;
use super::{Jobs, JobsError};
use crate::problem::Problem;
use crate::transport::{NoAnswer, REFUSAL_BYTES_MAX, whole};

/// How long the answer, or the next piece of it, may take.
const STALL: Duration = Duration::from_secs(60);

/// A file that is being downloaded.
#[derive(Debug)]
pub struct Download {
    head: http::HeaderMap,
    body: Incoming,
}

impl Jobs {
    /// Downloads a file of a finished job: its first one, or the one of that name.
    ///
    /// # Errors
    /// [`JobsError::Elsewhere`] with the address of a file that is not in the server's store; otherwise a refusal, such as
    /// `job_not_finished`, `artifact_not_found` or `artifact_gone`.
    pub async fn download(&self, id: &str, name: Option<&str>) -> Result<Download, JobsError> {
        let id = JobId::parse(id)?;
        let name = name.map_or_else(String::new, |name| format!("/{}", escape(name)));
        let request = Request::get(self.client.url(&format!("/v1/jobs/{id}/download{name}")))
            .header(ACCEPT, "*/*")
            .body(Full::default())
            .map_err(|error| JobsError::Invalid(error.to_string()))?;
        let response = timeout(STALL, self.client.transport().stream(request)).await;
        let no_answer = |error: NoAnswer| JobsError::NoAnswer(error.to_string());
        let response = response.map_err(|error| no_answer(NoAnswer::new(error)))?.map_err(no_answer)?;
        let (head, body) = response.into_parts();
        match head.status {
            StatusCode::OK => Ok(Download { head: head.headers, body }),
            StatusCode::SEE_OTHER | StatusCode::FOUND => {
                let to = head.headers.get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or_default();
                Err(JobsError::Elsewhere(to.to_owned()))
            }
            status => {
                let refusal = timeout(STALL, whole(body, REFUSAL_BYTES_MAX)).await;
                let body = refusal.ok().and_then(Result::ok).unwrap_or_default();
                Err(JobsError::Refused(Problem::read(status.as_u16(), &body)))
            }
        }
    }
}

impl Download {
    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.text(CONTENT_LENGTH)?.parse().ok()
    }

    /// Its media type.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.text(CONTENT_TYPE)
    }

    /// The `Content-Disposition`, which names it.
    #[must_use]
    pub fn content_disposition(&self) -> Option<&str> {
        self.text(CONTENT_DISPOSITION)
    }

    /// The next piece; `None` at the end of a file that is whole.
    ///
    /// # Errors
    /// [`JobsError::NoAnswer`] if it broke off.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, JobsError> {
        let broken = |error: NoAnswer| JobsError::NoAnswer(error.to_string());
        loop {
            let frame = timeout(STALL, self.body.frame()).await.map_err(|e| broken(NoAnswer::new(e)))?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|error| broken(NoAnswer::new(error)))?;
            if let Ok(bytes) = frame.into_data() {
                return Ok(Some(bytes));
            }
        }
    }

    /// Writes the rest to `writer` and returns how many bytes that were.
    ///
    /// # Errors
    /// [`JobsError::NoAnswer`] if the download broke off, [`JobsError::Io`] if the writer failed.
    pub async fn copy_to(&mut self, writer: &mut (impl AsyncWrite + Unpin)) -> Result<u64, JobsError> {
        let io = |error: std::io::Error| JobsError::Io(format!("cannot write the file: {error}"));
        let mut written = 0_u64;
        while let Some(bytes) = self.chunk().await? {
            writer.write_all(&bytes).await.map_err(io)?;
            written = written.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        }
        writer.flush().await.map_err(io)?;
        Ok(written)
    }

    fn text(&self, name: HeaderName) -> Option<&str> {
        self.head.get(name)?.to_str().ok()
    }
}
