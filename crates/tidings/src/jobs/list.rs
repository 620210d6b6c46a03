//! Lists of jobs.
//!
//! Owns: filters and pages. Does not know: HTTP.
//! Flow: a filter and a cursor → live jobs, newest first, then ended ones, the last to end first → documents.

use std::sync::{Arc, PoisonError};

use tidings_core::Grant;
use tidings_core::grant::JobFacts;
use tidings_core::job::{Document, JobId, State};

use super::index::{Counts, JobFigures};
use super::record;
use super::workers::{Worker, WorkerState};
use super::{Jobs, JobsError};

/// Jobs that one page looks at: what a filter leaves out makes a page short, not slow.
const LOOK_MAX: usize = 10_000;

/// Which jobs are wanted.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    pub(crate) queue: Option<String>,
    pub(crate) state: Option<State>,
    pub(crate) job_type: Option<String>,
    pub(crate) tag: Option<String>,
    pub(crate) parent: Option<String>,
    pub(crate) subject: Option<String>,
    /// Who asks: jobs that it may not read are left out.
    pub(crate) reader: Arc<Grant>,
}

impl Filter {
    fn takes(&self, document: &Document) -> bool {
        self.queue.as_ref().is_none_or(|queue| *queue == document.queue)
            && self.state.is_none_or(|state| state == document.state)
            && self.job_type.as_ref().is_none_or(|job_type| *job_type == document.job_type)
            && self.tag.as_ref().is_none_or(|tag| document.tags.contains(tag))
            && self.subject.as_ref().is_none_or(|subject| document.subject.as_ref() == Some(subject))
            && self.reader.may_read_job(facts(document))
            && self.parent.as_ref().is_none_or(|parent| document.parent.as_ref() == Some(parent))
    }

    fn wants_live(&self) -> bool {
        self.state.is_none_or(|state| !state.is_finished())
    }

    fn wants_ended(&self) -> bool {
        self.state.is_none_or(State::is_finished)
    }
}

fn facts(document: &Document) -> JobFacts<'_> {
    JobFacts {
        id: &document.id,
        job_type: &document.job_type,
        queue: &document.queue,
        subject: document.subject.as_deref(),
    }
}

/// Where a list goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cursor {
    /// Behind this live job.
    Live(u64, JobId),
    /// Behind the job that ended there.
    Ended(u64),
}

impl Cursor {
    /// Reads what `Display` wrote.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Some(end) = text.strip_prefix("e.") {
            return end.parse().ok().map(Self::Ended);
        }
        let (created, id) = text.strip_prefix("l.")?.split_once('.')?;
        Some(Self::Live(created.parse().ok()?, JobId::parse(id).ok()?))
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Live(created, id) => write!(f, "l.{created}.{id}"),
            Self::Ended(end) => write!(f, "e.{end}"),
        }
    }
}

impl Jobs {
    /// A page of jobs as JSON documents, and where to go on.
    pub(crate) async fn list(
        &self,
        filter: &Filter,
        cursor: Option<Cursor>,
        max: usize,
    ) -> Result<(Vec<String>, Option<Cursor>), JobsError> {
        let mut found = Vec::new();
        let mut looked = 0;
        let mut before = match &cursor {
            Some(Cursor::Live(created, id)) => Some((*created, id.clone())),
            _ => None,
        };
        while filter.wants_live() && !matches!(cursor, Some(Cursor::Ended(_))) {
            let page = self.hub.0.jobs.index.page(before.as_ref(), PAGE);
            let Some(last) = page.last().cloned() else { break };
            for (created, id) in page {
                looked += 1;
                found.extend(self.live_document(&id, filter).await);
                if found.len() >= max || looked >= LOOK_MAX {
                    return Ok((found, Some(Cursor::Live(created, id))));
                }
            }
            before = Some(last);
        }
        if !filter.wants_ended() {
            return Ok((found, None));
        }
        let before = match cursor {
            Some(Cursor::Ended(end)) => Some(end),
            _ => None,
        };
        let (jobs, filter) = (self.clone(), filter.clone());
        let ended = tokio::task::spawn_blocking(move || jobs.list_ended(&filter, before, found, max, looked));
        ended.await.map_err(|_| JobsError::from(crate::writer::CommitError::Closing))?
    }

    fn list_ended(
        &self,
        filter: &Filter,
        mut before: Option<u64>,
        mut found: Vec<String>,
        max: usize,
        mut looked: usize,
    ) -> Result<(Vec<String>, Option<Cursor>), JobsError> {
        loop {
            let page = self.hub.0.jobs.ended.page(before, PAGE);
            if page.is_empty() {
                return Ok((found, None));
            }
            for (end, id) in page {
                looked += 1;
                before = Some(end);
                if let Some(ended) = record::ended(&*self.hub.0.log, &id)?
                    && filter.takes(&ended.document)
                {
                    found.push(ended.json);
                }
                if found.len() >= max || looked >= LOOK_MAX {
                    return Ok((found, Some(Cursor::Ended(end))));
                }
            }
        }
    }

    async fn live_document(&self, id: &JobId, filter: &Filter) -> Option<String> {
        let entry = self.hub.0.jobs.live(id)?;
        let live = entry.turn().await;
        let document = live.job.document();
        if document.state.is_finished() || !filter.takes(document) {
            return None;
        }
        serde_json::to_string(document).ok()
    }

    /// How many jobs of each queue stand where.
    pub(crate) fn queues(&self) -> Vec<(String, Counts)> {
        let counts = self.hub.0.jobs.index.counts();
        counts.into_iter().map(|(queue, counts)| (queue.to_string(), counts)).collect()
    }

    /// What operators see of all queues.
    pub(crate) fn figures(&self) -> JobFigures {
        self.hub.0.jobs.index.figures()
    }

    /// Workers that were heard of lately.
    pub(crate) fn workers(&self) -> Vec<Worker> {
        let state = &self.hub.0.jobs;
        let mut workers = state.workers.list();
        for worker in &mut workers {
            worker.jobs = state.index.jobs_of(&worker.id);
        }
        workers
    }

    /// Tells a worker what to do. `None`: nobody has heard of it.
    pub(crate) fn tell_worker(&self, id: &tidings_core::job::WorkerId, to: WorkerState) -> Option<Worker> {
        let state = &self.hub.0.jobs;
        let mut worker = state.workers.tell(id, to)?;
        worker.jobs = state.index.jobs_of(&worker.id);
        Some(worker)
    }

    /// A worker is heard of, beside a lease request. What it is to do.
    pub(crate) fn worker_seen(&self, id: &tidings_core::job::WorkerId) -> WorkerState {
        *self.hub.0.jobs.workers.seen(id, None).borrow()
    }

    /// How many jobs have not ended.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.hub.0.jobs.live.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Jobs that are taken from the index at once.
const PAGE: usize = 1_000;
