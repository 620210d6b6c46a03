//! Schedules: jobs that are made by the clock.
//!
//! Owns: the state of each schedule, an event on its own channel `tidings:schedule:<name>`, and who changes it next.
//! Does not know: HTTP.
//! Flow: put / delete / a due time → the schedule's turn → one append that expects the previous state → the new one counts.

mod cron;

mod times;

mod document;

mod due;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidings_core::job::{Job, JobError, Mode, ScheduleName};
use tidings_core::{ChannelName, Seq, limits};
use tokio::sync::{Notify, OwnedMutexGuard};

use self::document::Document;
pub(crate) use self::document::Wanted;
pub(super) use self::due::run;
use self::times::Times;
use super::create::Create;
use super::new::NewJob;
use super::{Jobs, JobsError, record};
use crate::clock;
use crate::frame::fields;
use crate::log::{Append, Flags, Group, Log, Outcome, event_at};
use crate::publish::key_hash;
use crate::writer::CommitError;

/// Before the name of a schedule, in the name of its channel.
const CHANNELS: &str = "tidings:schedule:";
/// The type of the events there.
const EVENT: &str = "schedule";
/// Schedules that change side by side; those that meet in one place wait for each other.
const TURNS: usize = 256;

/// A schedule, ready to run.
#[derive(Debug, Clone)]
struct Kept {
    document: Document,
    times: Times,
    /// What its `job` says.
    job: NewJob,
    /// The last event of its channel.
    head: Seq,
}

#[derive(Debug, Default)]
struct Held {
    by_name: BTreeMap<ScheduleName, Kept>,
    due: BTreeSet<(u64, ScheduleName)>,
}

/// All schedules.
#[derive(Debug)]
pub(super) struct Schedules {
    held: Mutex<Held>,
    turns: Vec<Arc<tokio::sync::Mutex<()>>>,
    changed: Notify,
    /// When this server started, Unix milliseconds.
    since_ms: u64,
}

impl Schedules {
    /// Reads what the log holds.
    pub(super) fn open(log: &dyn Log) -> Self {
        let turns = (0..TURNS).map(|_| Arc::default()).collect();
        let since_ms = clock::unix_ms();
        let schedules = Self { held: Mutex::default(), turns, changed: Notify::new(), since_ms };
        for (channel, window) in log.unfinished(CHANNELS) {
            let Some(name) = channel.as_str().strip_prefix(CHANNELS) else { continue };
            let Ok(name) = ScheduleName::parse(name) else { continue };
            // One that was deleted has left its channel's record, without a state.
            let Some(at) = window.pinned else { continue };
            let kept = match event_at(log, &channel, at) {
                Ok(Some(event)) => Kept::restore(&fields(&event.body).data, window.head),
                Ok(None) => Err("its state is gone".into()),
                Err(error) => Err(error.to_string()),
            };
            match kept {
                Ok(kept) => schedules.set(&name, kept),
                Err(error) => {
                    tracing::error!(error, schedule = name.as_str(), "a schedule cannot be read");
                }
            }
        }
        schedules
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else changes this schedule.
    async fn turn(&self, name: &ScheduleName) -> Option<OwnedMutexGuard<()>> {
        let place = usize::try_from(key_hash("schedule", name.as_str()) % TURNS as u128).unwrap_or(0);
        let turn = self.turns.get(place)?;
        Some(Arc::clone(turn).lock_owned().await)
    }

    fn find(&self, name: &ScheduleName) -> Option<Kept> {
        self.lock().by_name.get(name).cloned()
    }

    fn set(&self, name: &ScheduleName, kept: Kept) {
        let mut held = self.lock();
        held.forget(name);
        if let Some(at) = kept.document.next_at {
            held.due.insert((at, name.clone()));
        }
        held.by_name.insert(name.clone(), kept);
        drop(held);
        self.changed.notify_one();
    }

    /// The new state is stored.
    fn moved(&self, log: &dyn Log, name: &ScheduleName, kept: Kept) {
        // Nobody else writes to this channel while it is this schedule's turn.
        let head = channel(name).ok().and_then(|channel| log.window(&channel)).map_or(kept.head, |w| w.head);
        self.set(name, Kept { head, ..kept });
    }

    /// Wakes up for a schedule again.
    fn remind(&self, name: &ScheduleName, at_ms: u64) {
        self.lock().due.insert((at_ms, name.clone()));
    }

    /// Takes schedules that are due, and says when the next one is.
    fn take_due(&self, now_ms: u64, max: usize) -> (Vec<ScheduleName>, Option<u64>) {
        let mut held = self.lock();
        let mut due = Vec::new();
        while due.len() < max && held.due.first().is_some_and(|(at, _)| *at <= now_ms) {
            due.extend(held.due.pop_first().map(|(_, name)| name));
        }
        (due, held.due.first().map(|(at, _)| *at))
    }
}

impl Held {
    fn forget(&mut self, name: &ScheduleName) {
        if let Some(Kept { document: Document { next_at: Some(at), .. }, .. }) = self.by_name.remove(name) {
            self.due.remove(&(at, name.clone()));
        }
    }
}

impl Kept {
    fn restore(json: &str, head: Seq) -> Result<Self, String> {
        let document: Document = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let Document { cron, every_ms, tz, created_at, job, .. } = &document;
        let times = Times::parse(cron.as_deref(), *every_ms, tz.as_deref(), *created_at)?;
        let create: Create<'_> = serde_json::from_str(job.get()).map_err(|error| error.to_string())?;
        let job = create.into_job().map_err(|error| error.to_string())?;
        Ok(Self { document, times, job, head })
    }

    fn with(&self, document: Document) -> Self {
        Self { document, ..self.clone() }
    }

    fn json(&self) -> String {
        // A plain struct with text keys is always JSON.
        serde_json::to_string(&self.document).unwrap_or_default()
    }

    /// The event that makes this the state.
    fn append(&self, name: &ScheduleName, now_ms: u64) -> Result<Append, JobsError> {
        let channel = channel(name)?;
        Ok(Append {
            body: record::body(&channel, EVENT, now_ms, &self.json())?,
            channel,
            private: None,
            expected_prev: Some(self.head),
            key: None,
            time_ms: now_ms,
            expires_at_ms: None,
            // Retention leaves the newest one.
            flags: Flags { is_pinned: true, ..Flags::default() },
        })
    }
}

fn channel(name: &ScheduleName) -> Result<ChannelName, JobsError> {
    Ok(ChannelName::parse(&format!("{CHANNELS}{}", name.as_str()))?)
}

impl Jobs {
    /// Makes or replaces a schedule; `new` is what its `job` says. Says whether it is new, and what it is now, as JSON.
    ///
    /// # Errors
    /// [`JobsError`], such as `schedule_invalid`.
    pub(crate) async fn put_schedule(
        &self,
        name: ScheduleName,
        wanted: Wanted,
        new: NewJob,
    ) -> Result<(bool, String), JobsError> {
        self.check_scheduled(&wanted, &new).await?;
        let jobs = self.clone();
        // What was begun is seen through, whoever waits.
        let put = tokio::spawn(async move { jobs.put_schedule_now(&name, wanted, new).await });
        put.await.unwrap_or_else(|_| Err(CommitError::OutcomeUnknown.into()))
    }

    async fn put_schedule_now(
        &self,
        name: &ScheduleName,
        wanted: Wanted,
        job: NewJob,
    ) -> Result<(bool, String), JobsError> {
        let schedules = &self.hub.0.jobs.schedules;
        let _turn = schedules.turn(name).await;
        let before = schedules.find(name);
        if before.is_none() && schedules.lock().by_name.len() >= limits::SCHEDULES_MAX {
            return Err(JobsError::SchedulesTooMany);
        }
        let documented = before.as_ref().map(|kept| &kept.document);
        let (document, times) =
            Document::of(name, wanted, documented, clock::unix_ms()).map_err(JobsError::Schedule)?;
        if let Some(before) = &before
            && before.document.wants_the_same(&document)
        {
            return Ok((false, before.json()));
        }
        let head = match &before {
            Some(kept) => kept.head,
            // A schedule that was deleted has left its channel's record.
            None => self.hub.window(&channel(name)?).map_or(Seq::ZERO, |window| window.head),
        };
        let kept = Kept { document, times, job, head };
        let json = kept.json();
        self.store_schedule(name, kept).await?;
        Ok((before.is_none(), json))
    }

    /// Refuses a job that could not be made when its time has come.
    async fn check_scheduled(&self, wanted: &Wanted, new: &NewJob) -> Result<(), JobsError> {
        let bytes = wanted.job.get().len();
        if bytes > limits::SCHEDULE_JOB_BYTES_MAX {
            return Err(
                JobError::TooLarge { field: "job", bytes, max: limits::SCHEDULE_JOB_BYTES_MAX }.into()
            );
        }
        let theirs = [
            ("id", new.id.is_some()),
            ("unique", new.unique.is_some()),
            ("delay_ms", new.delay_ms.is_some()),
            ("run_at", new.core.run_at.is_some()),
            ("mode", new.core.mode == Mode::External),
        ];
        if let Some((field, _)) = theirs.iter().find(|(_, is_there)| *is_there) {
            return Err(JobError::Field(format!("the job of a schedule has no `{field}`")).into());
        }
        let now_ms = clock::unix_ms();
        let id = new.core.id.clone();
        Job::create(now_ms, new.clone().settled(id, now_ms)?.core)?;
        match &new.core.parent {
            Some(parent) => self.require_parent(parent).await,
            None => Ok(()),
        }
    }

    /// Appends the state of a schedule whose turn it is.
    async fn store_schedule(&self, name: &ScheduleName, kept: Kept) -> Result<(), JobsError> {
        let events = vec![kept.append(name, clock::unix_ms())?];
        match self.commit(Group { events, idempotency: None }).await? {
            Outcome::Appended(places) => {
                let head = places.first().map_or(kept.head, |place| place.seq);
                self.hub.0.jobs.schedules.set(name, Kept { head, ..kept });
                Ok(())
            }
            Outcome::Refused(_) | Outcome::Duplicate { .. } => Err(CommitError::OutcomeUnknown.into()),
        }
    }

    /// A schedule, as JSON.
    pub(crate) fn schedule(&self, name: &ScheduleName) -> Result<String, JobsError> {
        let kept = self.hub.0.jobs.schedules.find(name);
        Ok(kept.ok_or_else(|| JobsError::ScheduleNotFound(name.as_str().to_owned()))?.json())
    }

    /// The type of a schedule's jobs. `None` if there is no such schedule.
    pub(crate) fn schedule_type(&self, name: &ScheduleName) -> Option<String> {
        let kept = self.hub.0.jobs.schedules.find(name)?;
        Some(kept.job.core.job_type.as_str().to_owned())
    }

    /// Schedules by name, each as JSON, of the types that `takes` takes.
    pub(crate) fn schedules(&self, takes: impl Fn(&str) -> bool) -> Vec<String> {
        let held = self.hub.0.jobs.schedules.lock();
        let taken = held.by_name.values().filter(|kept| takes(kept.job.core.job_type.as_str()));
        taken.map(Kept::json).collect()
    }

    /// Forgets a schedule. Its jobs stay.
    pub(crate) async fn delete_schedule(&self, name: ScheduleName) -> Result<(), JobsError> {
        let jobs = self.clone();
        let deleted = tokio::spawn(async move {
            let schedules = &jobs.hub.0.jobs.schedules;
            let _turn = schedules.turn(&name).await;
            if schedules.find(&name).is_none() {
                return Err(JobsError::ScheduleNotFound(name.as_str().to_owned()));
            }
            jobs.hub.delete(&channel(&name)?).await?;
            schedules.lock().forget(&name);
            Ok(())
        });
        deleted.await.unwrap_or_else(|_| Err(CommitError::OutcomeUnknown.into()))
    }
}
