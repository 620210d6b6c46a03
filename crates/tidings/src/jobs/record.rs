//! What a job's events carry: the document in sight, and a private part beside it.
//!
//! Owns: the private part, and reading a job back. Does not know: reports.
//! Flow: a live job → the events of a change · the last event of a channel → a live job, or the end of one.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidings_core::job::{Audience, Change, Document, Job, JobEvent, JobId};
use tidings_core::wire::sse::encode;
use tidings_core::{ChannelName, EventName, Payload, PayloadError, Seq};

use super::Snapshot;
use crate::frame::fields;
use crate::log::{Append, Flags, Log, LogError, Record, event_at};

/// What is stored beside the document and never sent.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Private {
    /// The newest counter of the reporter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) n: Option<u64>,
    /// The input, unless it is so large that it has a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) input: Option<Box<RawValue>>,
    /// Where the job was started, for its URLs: they are fixed when it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) alias: Option<String>,
    /// Channels that get the same events.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) publish_to: Vec<String>,
    /// The document, where the event in sight does not have it all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) document: Option<Box<RawValue>>,
}

/// A job that has not ended.
#[derive(Debug)]
pub(super) struct Live {
    /// With all reports that were taken.
    pub(super) job: Job,
    pub(super) private: Private,
    /// The last event of its channel.
    pub(super) head: Seq,
    /// The last event that is stored, as its stream begins.
    pub(super) snapshot: Snapshot,
    /// When progress was last stored, Unix milliseconds.
    pub(super) stored_ms: Option<u64>,
    /// Progress was taken that is not stored.
    pub(super) held: bool,
    /// A handler of this process has it.
    pub(super) running: bool,
}

/// The events of a change, for the job's channel and for those that listen along.
pub(super) fn events(
    job: &Job,
    private: &Private,
    change: Change,
    head: Seq,
    now_ms: u64,
) -> Result<Vec<Append>, PayloadError> {
    let id = job.document().id.as_str();
    let is_end = matches!(change, Change::Complete | Change::Error);
    // The end is two events: the state as every other change has it, and the terminal one.
    let shown = if is_end { vec![Change::State, change] } else { vec![change] };
    let mut appends = Vec::new();
    for (index, change) in shown.iter().enumerate() {
        let Some(event) = job.event(*change, Audience::Job) else { continue };
        let mut private = Private { n: job.n(), ..private.clone() };
        if event.is_final {
            private.document = serde_json::value::to_raw_value(job.document()).ok();
        }
        let Ok(channel) = ChannelName::parse(&format!("job:{id}")) else { continue };
        let mut append = append(channel, &event, now_ms)?;
        append.private = serde_json::to_vec(&private).ok().map(Bytes::from);
        append.expected_prev = (index == 0).then_some(head);
        appends.push(append);
    }
    for channel in &private.publish_to {
        let Ok(channel) = ChannelName::parse(channel) else { continue };
        if let Some(event) = job.event(change, Audience::PublishTo) {
            appends.push(append(channel, &event, now_ms)?);
        }
    }
    Ok(appends)
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
        flags: Flags { is_final: event.is_final, is_text: false },
    })
}

fn body(channel: &ChannelName, event: &str, time_ms: u64, json: &str) -> Result<Bytes, PayloadError> {
    // The names of job events are valid event types.
    let event = EventName::parse(event).unwrap_or_else(|_| EventName::message());
    Ok(Bytes::from(encode::body(&event, channel, time_ms, &Payload::json(json)?)))
}

/// Reads every job that has not ended back from the last event of its channel.
pub(super) fn restore(log: &dyn Log) -> Vec<(JobId, Live)> {
    let unfinished = log.channels("job:").into_iter().filter(|(_, window)| window.finished.is_none());
    let mut jobs = Vec::new();
    for (channel, window) in unfinished {
        let Some(id) = JobId::of_channel(&channel) else { continue };
        match event_at(log, &channel, window.head) {
            Ok(Some(record)) => jobs.extend(live(record).map(|live| (id, live))),
            // Its last event was trimmed: nobody has reported for as long as events are kept.
            Ok(None) => tracing::warn!(job = id.as_str(), "the state of a job was trimmed"),
            Err(error) => tracing::error!(%error, job = id.as_str(), "the state of a job cannot be read"),
        }
    }
    jobs
}

fn live(record: Record) -> Option<Live> {
    let private: Private = serde_json::from_slice(record.private.as_deref()?).ok()?;
    let document = fields(&record.body).data;
    let job = Job::restore(serde_json::from_str::<Document>(&document).ok()?, private.n);
    let snapshot = Snapshot { seq: record.seq, body: record.body, document };
    let stored_ms = Some(record.time_ms);
    Some(Live { job, private, head: record.seq, snapshot, stored_ms, held: false, running: false })
}

/// A job that has ended, from its final event. `None` if the log has no such job any more.
pub(super) fn ended(log: &dyn Log, id: &JobId) -> Result<Option<Snapshot>, LogError> {
    let channel = id.channel();
    let Some(last_seq) = log.window(channel).and_then(|w| w.finished) else { return Ok(None) };
    let Some(record) = event_at(log, channel, last_seq)? else { return Ok(None) };
    let private: Option<Private> = record.private.as_deref().and_then(|p| serde_json::from_slice(p).ok());
    let Some(document) = private.and_then(|p| p.document) else { return Ok(None) };
    let body = body(channel, "progress", record.time_ms, document.get()).map_err(|e| LogError::Io {
        context: format!("the document of job {}", id.as_str()),
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, e.to_string()),
    })?;
    Ok(Some(Snapshot { seq: record.prev, body, document: document.get().to_owned() }))
}

/// The document and the counter of a job that has ended.
pub(super) fn ended_job(log: &dyn Log, id: &JobId) -> Result<Option<(Document, Option<u64>)>, LogError> {
    let Some(last_seq) = log.window(id.channel()).and_then(|w| w.finished) else { return Ok(None) };
    let Some(record) = event_at(log, id.channel(), last_seq)? else { return Ok(None) };
    let private: Option<Private> = record.private.as_deref().and_then(|p| serde_json::from_slice(p).ok());
    Ok(private.and_then(|p| Some((serde_json::from_str(p.document?.get()).ok()?, p.n))))
}

/// The state of a job as the log has it now, whether or not it has ended.
pub(super) fn stored(log: &dyn Log, id: &JobId) -> Result<Option<Snapshot>, LogError> {
    let Some(window) = log.window(id.channel()) else { return Ok(None) };
    if window.finished.is_some() {
        return ended(log, id);
    }
    let record = event_at(log, id.channel(), window.head)?;
    Ok(record.and_then(live).map(|live| live.snapshot))
}
