//! What grants want to know of a job.
//!
//! Owns: those few facts of its document. Does not know: grants.
//! Flow: an id → the live job or the ended one → its type, its queue, its subject.

use tidings_core::grant::JobFacts;
use tidings_core::job::{Document, JobId};

use super::{Jobs, JobsError, record};

/// What of a job never changes, or hardly ever.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    job_type: String,
    queue: String,
    subject: Option<String>,
}

impl Facts {
    fn new(document: &Document) -> Self {
        Self {
            job_type: document.job_type.clone(),
            queue: document.queue.clone(),
            subject: document.subject.clone(),
        }
    }

    /// The facts of the job of that id.
    pub(crate) fn of<'a>(&'a self, id: &'a JobId) -> JobFacts<'a> {
        let Self { job_type, queue, subject } = self;
        JobFacts { id: id.as_str(), job_type, queue, subject: subject.as_deref() }
    }
}

impl Jobs {
    /// The facts of a job. `None` if there is no such job.
    pub(crate) async fn facts(&self, id: &JobId) -> Result<Option<Facts>, JobsError> {
        if let Some(entry) = self.hub.0.jobs.live(id) {
            return Ok(Some(Facts::new(entry.turn().await.job.document())));
        }
        Ok(record::ended(&*self.hub.0.log, id)?.map(|ended| Facts::new(&ended.document)))
    }
}
