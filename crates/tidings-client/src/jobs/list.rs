//! Lists of jobs.
//!
//! Owns: filters and pages. Does not know: what jobs are.
//! Flow: in ← a `List` · out → pages of documents, and the cursor of the next.

use form_urlencoded::Serializer;
use serde::{Deserialize, Serialize};
use tidings_core::job::State;

use super::Document;

/// Which jobs to list; without filters all, those that have not ended first, then the rest, newest first.
///
/// ```
/// use tidings_client::State;
/// use tidings_client::jobs::List;
/// let failed = List::new().queue("exports").state(State::Failed).limit(20);
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct List {
    queue: Option<String>,
    state: Option<State>,
    job_type: Option<String>,
    tag: Option<String>,
    parent: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// A part of a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Page {
    /// The jobs; there may be fewer than the limit, even none, while there is a next page.
    pub jobs: Vec<Document>,
    /// The cursor of the next page; none at the end.
    #[serde(default)]
    pub next: Option<String>,
}

impl List {
    /// All jobs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only those of a queue.
    pub fn queue(self, queue: impl Into<String>) -> Self {
        Self { queue: Some(queue.into()), ..self }
    }

    /// Only those in a state.
    pub fn state(self, state: State) -> Self {
        Self { state: Some(state), ..self }
    }

    /// Only those of a type.
    pub fn job_type(self, job_type: impl Into<String>) -> Self {
        Self { job_type: Some(job_type.into()), ..self }
    }

    /// Only those with a tag.
    pub fn tag(self, tag: impl Into<String>) -> Self {
        Self { tag: Some(tag.into()), ..self }
    }

    /// Only those that belong to a job.
    pub fn parent(self, id: impl Into<String>) -> Self {
        Self { parent: Some(id.into()), ..self }
    }

    /// At most this many in a page, 1–1,000 (100).
    pub fn limit(self, limit: u32) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// The page of a cursor: the [`Page::next`] of the one before.
    pub fn cursor(self, cursor: impl Into<String>) -> Self {
        Self { cursor: Some(cursor.into()), ..self }
    }

    pub(super) fn path(&self) -> String {
        let mut query = Serializer::new(String::new());
        let texts = [
            ("queue", self.queue.as_deref()),
            ("state", self.state.map(State::as_str)),
            ("type", self.job_type.as_deref()),
            ("tag", self.tag.as_deref()),
            ("parent", self.parent.as_deref()),
            ("cursor", self.cursor.as_deref()),
        ];
        for (name, value) in texts {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        if let Some(limit) = self.limit {
            query.append_pair("limit", &limit.to_string());
        }
        match query.finish() {
            query if query.is_empty() => "/v1/jobs".to_owned(),
            query => format!("/v1/jobs?{query}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_escaped_and_left_out_if_not_set() {
        assert_eq!(List::new().path(), "/v1/jobs");
        let list = List::new().queue("a&b").state(State::Failed).tag("x y").limit(7).cursor("c=");
        assert_eq!(list.path(), "/v1/jobs?queue=a%26b&state=failed&tag=x+y&cursor=c%3D&limit=7");
    }
}
