//! Files that workers and handlers give to their jobs.
//!
//! Owns: when a file counts, and whose. Does not know: how files are stored, HTTP.
//! Flow: is the lease good? → the file, staged, while the lease is renewed → in the job's turn: is it good still? → its
//! name → the document names it.

use std::pin::pin;
use std::time::Duration;

use tidings_core::job::{Claim, JobId};
use tokio::io::AsyncRead;

use super::artifact::Staged;
use super::report::{Told, lease_hash};
use super::{Jobs, JobsError, Report, Reported};
use crate::clock;
use crate::writer::CommitError;

/// How long an upload may be silent.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often an upload renews its lease: well below the shortest, 1 s.
const BEAT: Duration = Duration::from_millis(300);

/// A file that is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewFile<'a> {
    pub(crate) name: &'a str,
    pub(crate) content_type: Option<&'a str>,
    /// Its size in bytes, if that is known before it is read.
    pub(crate) declared: Option<u64>,
}

impl Jobs {
    /// Takes a file of a worker or of another queue. What can be refused is refused before a byte is read.
    ///
    /// # Errors
    /// [`JobsError`]; then nothing is stored.
    pub(crate) async fn upload(
        &self,
        id: &JobId,
        lease: Option<String>,
        file: NewFile<'_>,
        reader: impl AsyncRead + Send,
    ) -> Result<Reported, JobsError> {
        self.report(id, Report::Heartbeat(Told::of(lease.clone()))).await?;
        let mut upload = self.hub.0.jobs.artifacts.begin(id, file.name, file.declared).await?;
        {
            let filling = pin!(upload.fill(reader, Some(PATIENCE)));
            let lost = pin!(self.beat(id, lease.clone()));
            tokio::select! {
                filled = filling => filled?,
                // Somebody else has the job: the rest is not worth reading.
                lost = lost => return Err(lost),
            }
        }
        let staged = upload.finish().await?;
        self.keep(id, lease, staged, file.content_type).await
    }

    /// Takes a file of a handler of this process, which is as patient as its reader is slow.
    pub(super) async fn store_file(
        &self,
        id: &JobId,
        lease: String,
        name: &str,
        reader: impl AsyncRead + Send,
    ) -> Result<(), JobsError> {
        let mut upload = self.hub.0.jobs.artifacts.begin_in_turn(id, name).await?;
        upload.fill(reader, None).await?;
        let staged = upload.finish().await?;
        self.keep(id, Some(lease), staged, None).await.map(drop)
    }

    /// Renews a lease for as long as it is good: whoever sends is there, also if it can do nothing else meanwhile.
    async fn beat(&self, id: &JobId, lease: Option<String>) -> JobsError {
        loop {
            tokio::time::sleep(BEAT).await;
            if let Err(lost) = self.report(id, Report::Heartbeat(Told::of(lease.clone()))).await {
                return lost;
            }
        }
    }

    /// Names a file in the job's document. Seen through when nobody waits for it any more: else a file could have its name
    /// that the document does not know.
    async fn keep(
        &self,
        id: &JobId,
        lease: Option<String>,
        staged: Staged,
        content_type: Option<&str>,
    ) -> Result<Reported, JobsError> {
        let artifact = staged.artifact(content_type);
        let (jobs, id) = (self.clone(), id.clone());
        let task = tokio::spawn(async move {
            let claim = Claim { lease: lease.as_deref().map(lease_hash), attempt: None, n: None };
            let report = Report::Artifact { lease, artifact: artifact.clone() };
            let Some(entry) = jobs.hub.0.jobs.live(&id) else { return jobs.report_to_ended(&id, report) };
            let live = jobs.turn_now_due(&entry).await?;
            // Tried first: a stale lease must not replace a file of the run that has the job now.
            let mut tried = live.job.clone();
            tried.handle_artifact(clock::unix_ms(), claim, artifact)?;
            let named = tried.document().artifacts.iter().map(|artifact| artifact.name.clone()).collect();
            staged.publish(named).await?;
            jobs.report_to(&entry, live, report).await
        });
        task.await.unwrap_or_else(|_| Err(CommitError::OutcomeUnknown.into()))
    }
}

#[cfg(test)]
mod tests {
    use crate::jobs::NewJob;
    use crate::{Hub, Settings};

    #[tokio::test]
    async fn a_lease_that_is_lost_while_the_file_comes_gives_it_no_name() {
        let hub = Hub::open(Settings::in_memory().shards(1)).unwrap();
        let jobs = hub.jobs();
        let id = jobs.create(NewJob::new("x").unwrap()).await.unwrap();
        let artifacts = &hub.0.jobs.artifacts;
        let mut upload = artifacts.begin(&id, "a", None).await.unwrap();
        upload.write(b"stale").await.unwrap();
        let staged = upload.finish().await.unwrap();
        let kept = jobs.keep(&id, Some("1.lost".to_owned()), staged, None).await;
        assert_eq!(kept.unwrap_err().code(), "lease_lost");
        assert!(artifacts.open(&id, "a").await.is_err());
        hub.close().unwrap();
    }
}
