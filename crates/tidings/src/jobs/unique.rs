//! Unique keys: of the jobs with one key, only one has not ended.
//!
//! Owns: who holds a key, and until when. Does not know: what becomes of a holder that has to go.
//! Flow: a new job with a key → its turn → the holder, if there is one → the new job holds it · an end → it is free.
//!
//! Keys of jobs that have not ended are found with these at a start. A key with a time to live may outlast its job: then
//! it is an event of its own, in the same append as the job.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidings_core::ChannelName;
use tidings_core::job::{Hidden, JobId};

use super::turns::{Turn, Turns};
use crate::clock;
use crate::frame::fields;
use crate::log::{Append, Flags, Log, event_at};
use crate::publish::key_hash;

/// Keys with a time of their own are looked through when there are twice as many as after the last look.
const SWEEP_MIN: usize = 1_024;

#[derive(Debug, Clone)]
struct Holder {
    job: JobId,
    /// It holds the key until then, whether or not it has ended.
    until_ms: Option<u64>,
    is_live: bool,
}

#[derive(Debug, Default)]
struct Held {
    by_key: HashMap<String, Holder>,
    sweep_at: usize,
}

/// All keys.
#[derive(Debug)]
pub(super) struct Unique {
    held: Mutex<Held>,
    turns: Turns,
}

impl Unique {
    /// Reads the keys that outlasted their jobs.
    pub(super) fn open(log: &dyn Log) -> Self {
        let mut by_key = HashMap::new();
        for (channel, window) in log.channels(CHANNELS) {
            let Ok(Some(record)) = event_at(log, &channel, window.head) else { continue };
            let data = fields(&record.body).data;
            let Ok(Stored { job, key }) = serde_json::from_str(&data) else { continue };
            let (Ok(job), Some(until_ms)) = (JobId::parse(&job), record.expires_at_ms) else { continue };
            by_key.insert(key, Holder { job, until_ms: Some(until_ms), is_live: false });
        }
        Self { held: Mutex::new(Held { by_key, sweep_at: SWEEP_MIN }), turns: Turns::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else judges this key.
    pub(super) async fn turn(&self, key: &str) -> Option<Turn> {
        self.turns.of(key).await
    }

    /// The job that holds a key now.
    pub(super) fn holder(&self, key: &str) -> Option<JobId> {
        let now_ms = clock::unix_ms();
        let held = self.lock();
        let holder = held.by_key.get(key)?;
        let holds = holder.is_live || holder.until_ms.is_some_and(|until| until > now_ms);
        holds.then(|| holder.job.clone())
    }

    /// A job that was made holds its key.
    pub(super) fn hold(&self, job: &JobId, hidden: &Hidden) {
        let Some(key) = &hidden.terms.unique else { return };
        let mut held = self.lock();
        if held.by_key.len() >= held.sweep_at {
            let now_ms = clock::unix_ms();
            held.by_key.retain(|_, h| h.is_live || h.until_ms.is_some_and(|until| until > now_ms));
            held.sweep_at = SWEEP_MIN.max(held.by_key.len() * 2);
        }
        let until_ms = hidden.terms.unique_until;
        held.by_key.insert(key.clone(), Holder { job: job.clone(), until_ms, is_live: true });
    }

    /// A job has ended: its key is free, unless it has time left.
    pub(super) fn release(&self, job: &JobId, hidden: &Hidden) {
        let Some(key) = &hidden.terms.unique else { return };
        let mut held = self.lock();
        let Some(holder) = held.by_key.get_mut(key).filter(|holder| holder.job == *job) else { return };
        holder.is_live = false;
        if holder.until_ms.is_none_or(|until| until <= clock::unix_ms()) {
            held.by_key.remove(key);
        }
    }
}

/// Before the hash of a key, in the name of its channel.
const CHANNELS: &str = "tidings:unique:";

#[derive(serde::Serialize, serde::Deserialize)]
struct Stored {
    job: String,
    key: String,
}

/// The event of a key that may outlast its job.
pub(super) fn event(job: &JobId, hidden: &Hidden, now_ms: u64) -> Option<Append> {
    let (key, until_ms) = (hidden.terms.unique.as_ref()?, hidden.terms.unique_until?);
    let channel = ChannelName::parse(&format!("{CHANNELS}{:032x}", key_hash("unique", key))).ok()?;
    let stored = Stored { job: job.as_str().to_owned(), key: key.clone() };
    let body =
        super::record::body(&channel, "message", now_ms, &serde_json::to_string(&stored).ok()?).ok()?;
    Some(Append {
        channel,
        body,
        private: None,
        expected_prev: None,
        key: None,
        time_ms: now_ms,
        expires_at_ms: Some(until_ms),
        flags: Flags::default(),
    })
}
