//! What a job's events carry: the document in sight, and a private part beside it.
//!
//! Owns: the private part, and reading a job back. Does not know: reports.
//! Flow: a live job → the events of a change · the last state of a channel → a live job, or the end of one.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidings_core::job::{Audience, Change, Document, Entries, Hidden, Job, JobEvent, JobId, Level};
use tidings_core::wire::sse::encode;
use tidings_core::{ChannelName, EventName, Payload, PayloadError, Seq};

use super::Snapshot;
use crate::frame::fields;
use crate::log::{Append, Flags, Log, LogError, Record, event_at};

/// What is stored beside the document and never sent.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Private {
    /// The machine's own.
    #[serde(default)]
    pub(super) hidden: Hidden,
    #[serde(default)]
    pub(super) fixed: Fixed,
    /// The document, where the event in sight does not have it all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) document: Option<Box<RawValue>>,
}

/// The part that does not change.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Fixed {
    /// The input, unless it is so large that it has a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) input: Option<Box<RawValue>>,
    /// The input has a file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) input_has_file: bool,
    /// Where the job was started, for its URLs: they are fixed when it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) alias: Option<String>,
    /// Channels that get the same events.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) publish_to: Vec<String>,
}

/// Beside log lines and output, so that a repeat of them is known after a restart too.
#[derive(Debug, Serialize, Deserialize)]
struct Counted {
    n: u64,
}

/// What a change adds to the job's channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct News<'a> {
    pub(super) change: Change,
    /// Behind the state, if that changed at all.
    pub(super) entries: Option<&'a Entries>,
    /// Progress is held that has to come first.
    pub(super) has_held: bool,
}

/// An event of a job, or of its log or output.
struct Shown {
    event: JobEvent,
    /// It has the document.
    is_state: bool,
}

/// The events of a change, for the job's channel and for those that listen along. `own` of them are on the job's channel;
/// the first event that shows the document is the `state`-th of these.
pub(super) struct Events {
    pub(super) appends: Vec<Append>,
    pub(super) own: usize,
    pub(super) state: Option<usize>,
}

/// The events of a change.
pub(super) fn events(
    id: &JobId,
    job: &Job,
    fixed: &Fixed,
    news: News<'_>,
    head: Seq,
    now_ms: u64,
) -> Result<Events, PayloadError> {
    let mut events = Events { appends: Vec::new(), own: 0, state: None };
    let own = shown(job, news, Audience::Job, now_ms);
    for (index, Shown { event, is_state }) in own.iter().enumerate() {
        let mut append = append(id.channel().clone(), event, now_ms)?;
        append.expected_prev = (index == 0).then_some(head);
        append.flags.is_pinned = *is_state && !event.is_final;
        append.private = private(job, fixed, event, *is_state);
        if *is_state && !event.is_final {
            events.state = Some(index);
        }
        events.appends.push(append);
    }
    events.own = own.len();
    for channel in &fixed.publish_to {
        let Ok(channel) = ChannelName::parse(channel) else { continue };
        for Shown { event, .. } in shown(job, news, Audience::PublishTo, now_ms) {
            events.appends.push(append(channel.clone(), &event, now_ms)?);
        }
    }
    Ok(events)
}

impl Fixed {
    /// A channel that gets copies and is finished takes no more of them: the job goes on without it. `false` if it is none of
    /// those.
    pub(super) fn leave_out(&mut self, finished: &ChannelName) -> bool {
        let before = self.publish_to.len();
        self.publish_to.retain(|channel| channel != finished.as_str());
        self.publish_to.len() < before
    }
}

fn shown(job: &Job, news: News<'_>, audience: Audience, now_ms: u64) -> Vec<Shown> {
    let is_end = matches!(news.change, Change::Complete | Change::Error);
    let mut shown = Vec::new();
    // The end is two events: the state as every other change has it, and the terminal one.
    let has_state = match news.change {
        Change::Duplicate => false,
        Change::Entries => news.has_held,
        Change::Progress | Change::State => true,
        Change::Complete | Change::Error => audience == Audience::Job,
    };
    if has_state {
        shown.extend(job.event(Change::State, audience).map(|event| Shown { event, is_state: true }));
    }
    let entries = news.entries.map(|entries| lines(job, entries, now_ms)).unwrap_or_default();
    shown.extend(entries.into_iter().map(|event| Shown { event, is_state: false }));
    if is_end {
        shown.extend(job.event(news.change, audience).map(|event| Shown { event, is_state: true }));
    }
    shown
}

/// The data of `log`.
#[derive(Serialize)]
struct LogData<'a> {
    #[serde(rename = "jobId")]
    job_id: &'a str,
    level: Level,
    message: &'a str,
    ts: u64,
}

/// The data of `output`.
#[derive(Serialize)]
struct OutputData<'a> {
    #[serde(rename = "jobId")]
    job_id: &'a str,
    chunk: &'a RawValue,
}

fn lines(job: &Job, entries: &Entries, now_ms: u64) -> Vec<JobEvent> {
    let job_id = job.document().id.as_str();
    let event = |event, data: serde_json::Result<String>| {
        // Plain structs with text keys are always JSON.
        data.ok().map(|data| JobEvent { event, data, is_final: false })
    };
    match entries {
        Entries::Logs(lines) => lines
            .iter()
            .filter_map(|line| {
                let ts = line.ts.unwrap_or(now_ms);
                let data = LogData { job_id, level: line.level, message: &line.message, ts };
                event("log", serde_json::to_string(&data))
            })
            .collect(),
        Entries::Output(chunks) => chunks
            .iter()
            .filter_map(|chunk| event("output", serde_json::to_string(&OutputData { job_id, chunk })))
            .collect(),
    }
}

fn private(job: &Job, fixed: &Fixed, event: &JobEvent, is_state: bool) -> Option<Bytes> {
    let bytes = if is_state {
        let document = event.is_final.then(|| serde_json::value::to_raw_value(job.document()).ok()).flatten();
        serde_json::to_vec(&Private { hidden: job.hidden().clone(), fixed: fixed.clone(), document })
    } else {
        serde_json::to_vec(&Counted { n: job.hidden().n? })
    };
    bytes.ok().map(Bytes::from)
}

fn append(channel: ChannelName, event: &JobEvent, now_ms: u64) -> Result<Append, PayloadError> {
    Ok(Append {
        body: body(&channel, event.event, now_ms, &event.data)?,
        channel,
        private: None,
        expected_prev: None,
        key: None,
        time_ms: now_ms,
        expires_at_ms: None,
        flags: Flags { is_final: event.is_final, ..Flags::default() },
    })
}

pub(super) fn body(
    channel: &ChannelName,
    event: &str,
    time_ms: u64,
    json: &str,
) -> Result<Bytes, PayloadError> {
    // The names of job events are valid event types.
    let event = EventName::parse(event).unwrap_or_else(|_| EventName::message());
    Ok(Bytes::from(encode::body(&event, channel, time_ms, &Payload::json(json)?)))
}

/// A job as it stands in the log.
#[derive(Debug)]
pub(super) struct Restored {
    pub(super) job: Job,
    pub(super) fixed: Fixed,
    pub(super) head: Seq,
    pub(super) snapshot: Snapshot,
    pub(super) stored_ms: u64,
}

/// Reads every job that has not ended back.
pub(super) fn restore(log: &dyn Log) -> Vec<(JobId, Restored)> {
    let mut jobs = Vec::new();
    for (channel, _) in log.unfinished("job:") {
        let Some(id) = JobId::of_channel(&channel) else { continue };
        match unfinished(log, &id) {
            Ok(Some(restored)) => jobs.push((id, restored)),
            Ok(None) => tracing::warn!(job = id.as_str(), "the state of a job is gone"),
            Err(error) => tracing::error!(%error, job = id.as_str(), "the state of a job cannot be read"),
        }
    }
    jobs
}

fn unfinished(log: &dyn Log, id: &JobId) -> Result<Option<Restored>, LogError> {
    let channel = id.channel();
    let Some(window) = log.window(channel) else { return Ok(None) };
    let at = window.pinned.unwrap_or(window.head);
    let Some(mut restored) = event_at(log, channel, at)?.and_then(restored) else { return Ok(None) };
    if window.head > at {
        // Log lines and output came behind the state: the newest counter is theirs.
        let last = event_at(log, channel, window.head)?;
        let counted = last.and_then(|r| serde_json::from_slice::<Counted>(r.private.as_deref()?).ok());
        if let Some(Counted { n }) = counted {
            let mut hidden = restored.job.hidden().clone();
            hidden.n = Some(n);
            restored.job = Job::restore(restored.job.document().clone(), hidden);
        }
        restored.head = window.head;
    }
    Ok(Some(restored))
}

fn restored(record: Record) -> Option<Restored> {
    let private: Private = serde_json::from_slice(record.private.as_deref()?).ok()?;
    let document: Document = serde_json::from_str(&fields(&record.body).data).ok()?;
    let job = Job::restore(document, private.hidden);
    let snapshot = Snapshot { seq: record.seq, body: record.body };
    Some(Restored { job, fixed: private.fixed, head: record.seq, snapshot, stored_ms: record.time_ms })
}

/// A job that has ended.
#[derive(Debug)]
pub(crate) struct EndedJob {
    pub(super) document: Document,
    pub(super) hidden: Hidden,
    pub(super) fixed: Fixed,
    /// The document as it was stored.
    pub(super) json: String,
    pub(super) snapshot: Snapshot,
}

impl EndedJob {
    /// When the job is forgotten, Unix milliseconds.
    pub(super) fn kept_until(&self) -> u64 {
        self.document.finished_at.unwrap_or(0).saturating_add(self.hidden.terms.result_ms)
    }
}

/// A job that has ended, from its final event. `None` if the log has no such job any more.
pub(super) fn ended(log: &dyn Log, id: &JobId) -> Result<Option<EndedJob>, LogError> {
    let channel = id.channel();
    let Some(last_seq) = log.window(channel).and_then(|w| w.finished) else { return Ok(None) };
    let Some(record) = event_at(log, channel, last_seq)? else { return Ok(None) };
    let private: Option<Private> = record.private.as_deref().and_then(|p| serde_json::from_slice(p).ok());
    let Some(Private { hidden, fixed, document: Some(json) }) = private else { return Ok(None) };
    let Ok(document) = serde_json::from_str(json.get()) else { return Ok(None) };
    let body = body(channel, "progress", record.time_ms, json.get()).map_err(|e| LogError::Io {
        context: format!("the document of job {}", id.as_str()),
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, e.to_string()),
    })?;
    let snapshot = Snapshot { seq: record.prev, body };
    Ok(Some(EndedJob { document, hidden, fixed, json: json.get().to_owned(), snapshot }))
}

/// The state of a job as the log has it now, whether or not it has ended.
pub(super) fn stored(log: &dyn Log, id: &JobId) -> Result<Option<Snapshot>, LogError> {
    match log.window(id.channel()) {
        None => Ok(None),
        Some(window) if window.finished.is_some() => Ok(ended(log, id)?.map(|e| e.snapshot)),
        Some(_) => Ok(unfinished(log, id)?.map(|r| r.snapshot)),
    }
}
