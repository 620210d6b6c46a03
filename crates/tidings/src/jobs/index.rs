//! What is next: which jobs may be leased, who waits for one, and what is due when.
//!
//! Owns: the order in which jobs are handed out, waiting workers, timers, and counts of what stands where. Does not know:
//! the log, what a job is for, leases.
//! Flow: a change of a job → `sync` → a waiting worker, a lane, a timer · a worker → `pick`, `pick_or_wait` → a job.
//!
//! One lock, held for moments and never over an await. A *lane* is one type in one queue.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidings_core::job::{Job, JobId, JobType, Mode, QueueName, State};
use tokio::sync::{Notify, oneshot};

use super::lease::Picked;

/// Lease requests that wait at once.
pub(super) const WAITERS_MAX: usize = 10_000;

/// Where a job stands in its lane: higher priority, then longer ready, then earlier entered.
type Place = (Reverse<i32>, u64, u64);

/// What the index knows of a job. It lives with the job, so that what is no longer true is found and taken out.
#[derive(Debug, Default)]
pub(super) struct Mark {
    place: Option<Place>,
    timer: Option<u64>,
    counted: Option<(State, Option<String>)>,
    created: Option<u64>,
}

/// What does not change about a managed job, for the index.
#[derive(Debug, Clone)]
pub(super) struct Lane {
    pub(super) queue: QueueName,
    pub(super) job_type: JobType,
}

#[derive(Debug, Default)]
struct Waiting {
    jobs: BTreeMap<Place, JobId>,
    /// The turn in which this lane was last served: among equals, the one that waited longest is next.
    served: u64,
}

/// A worker that waits.
#[derive(Debug)]
struct Waiter {
    queue: Option<QueueName>,
    types: Option<Vec<JobType>>,
    hand: oneshot::Sender<Picked>,
}

impl Waiter {
    fn takes(&self, lane: &Lane) -> bool {
        self.queue.as_ref().is_none_or(|queue| *queue == lane.queue)
            && self.types.as_ref().is_none_or(|types| types.contains(&lane.job_type))
    }
}

/// How many jobs of a queue stand where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) scheduled: u64,
    pub(crate) queued: u64,
    pub(crate) retrying: u64,
    pub(crate) running: u64,
}

impl Counts {
    fn of(&mut self, state: State) -> Option<&mut u64> {
        match state {
            State::Scheduled => Some(&mut self.scheduled),
            State::Queued => Some(&mut self.queued),
            State::Retrying => Some(&mut self.retrying),
            State::Running => Some(&mut self.running),
            State::Completed | State::Failed | State::Cancelled | State::Expired => None,
        }
    }

    fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// Figures of all queues.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct JobFigures {
    pub(crate) counts: Counts,
    pub(crate) lease_requests_waiting: usize,
}

#[derive(Debug, Default)]
struct Inner {
    lanes: HashMap<QueueName, HashMap<JobType, Waiting>>,
    waiters: VecDeque<Waiter>,
    timers: BTreeSet<(u64, JobId)>,
    counts: BTreeMap<QueueName, Counts>,
    /// Jobs that each worker runs.
    workers: HashMap<String, u64>,
    /// By when they were made, for lists.
    by_age: BTreeSet<(u64, JobId)>,
    turn: u64,
}

/// What a worker gets that asks for a job.
#[derive(Debug)]
pub(super) enum Next {
    /// This one.
    Job(JobId),
    /// A place in line.
    Wait(oneshot::Receiver<Picked>),
    /// Too many stand in line.
    Crowded,
}

/// What is next.
#[derive(Debug, Default)]
pub(super) struct Index {
    inner: Mutex<Inner>,
    /// The first timer is another one.
    timers_changed: Notify,
}

impl Index {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the index say of a job what is true now. `wake_ms` is when the caller wants to hear of it, beside the job's
    /// own deadlines. `hand` makes what a waiting worker is given.
    pub(super) fn sync(
        &self,
        (id, lane): (&JobId, &Lane),
        job: &Job,
        mark: &mut Mark,
        now_ms: u64,
        wake_ms: Option<u64>,
        hand: impl FnOnce() -> Picked,
    ) {
        let mut inner = self.lock();
        inner.count(id, lane, job, mark);
        let ready_at = job.ready_at();
        let is_ready = job.is_ready(now_ms);
        let later = ready_at.filter(|_| !is_ready);
        let wake = [job.due_ms(), later, wake_ms].into_iter().flatten().min();
        if inner.set_timer(id, mark, wake) {
            self.timers_changed.notify_one();
        }
        match (is_ready, mark.place) {
            (true, None) => {
                let ready_at = ready_at.unwrap_or(now_ms);
                mark.place = inner.offer(id, lane, job.document().priority, ready_at, hand());
            }
            (false, Some(place)) => {
                inner.remove(lane, place);
                mark.place = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// Asks to hear of a job at a time, whatever its deadlines are: something could not be done now.
    pub(super) fn remind(&self, id: &JobId, mark: &mut Mark, at_ms: u64) {
        let mut inner = self.lock();
        // Not at the deadline that has passed.
        inner.set_timer(id, mark, None);
        inner.set_timer(id, mark, Some(at_ms));
        drop(inner);
        self.timers_changed.notify_one();
    }

    /// Takes the next job of a queue, or of any, whose type is wanted.
    pub(super) fn pick(&self, queue: Option<&QueueName>, types: Option<&[JobType]>) -> Option<JobId> {
        self.lock().pick(queue, types)
    }

    /// Takes the next job, or stands in line for one.
    pub(super) fn pick_or_wait(&self, queue: Option<QueueName>, types: Option<Vec<JobType>>) -> Next {
        let mut inner = self.lock();
        if let Some(id) = inner.pick(queue.as_ref(), types.as_deref()) {
            return Next::Job(id);
        }
        // Those that gave up are found here.
        inner.waiters.retain(|waiter| !waiter.hand.is_closed());
        if inner.waiters.len() >= WAITERS_MAX {
            return Next::Crowded;
        }
        let (hand, taken) = oneshot::channel();
        inner.waiters.push_back(Waiter { queue, types, hand });
        Next::Wait(taken)
    }

    /// Jobs whose time has come, at most `max`, and when the next one is.
    pub(super) fn take_due(&self, now_ms: u64, max: usize) -> (Vec<JobId>, Option<u64>) {
        let mut inner = self.lock();
        let mut due = Vec::new();
        while due.len() < max {
            match inner.timers.first() {
                Some((at, _)) if *at <= now_ms => {}
                next => return (due, next.map(|(at, _)| *at)),
            }
            due.extend(inner.timers.pop_first().map(|(_, id)| id));
        }
        (due, Some(now_ms))
    }

    /// Returns when the first timer may have changed.
    pub(super) async fn timers_changed(&self) {
        self.timers_changed.notified().await;
    }

    /// The timer of a job went off.
    pub(super) fn rang(mark: &mut Mark) {
        mark.timer = None;
    }

    /// The job was picked: it stands in no lane.
    pub(super) fn picked(mark: &mut Mark) {
        mark.place = None;
    }

    pub(super) fn counts(&self) -> Vec<(QueueName, Counts)> {
        self.lock().counts.iter().map(|(queue, counts)| (queue.clone(), *counts)).collect()
    }

    /// What operators see of all queues.
    pub(super) fn figures(&self) -> JobFigures {
        let inner = self.lock();
        let mut counts = Counts::default();
        for queue in inner.counts.values() {
            counts.scheduled += queue.scheduled;
            counts.queued += queue.queued;
            counts.retrying += queue.retrying;
            counts.running += queue.running;
        }
        let lease_requests_waiting = inner.waiters.iter().filter(|waiter| !waiter.hand.is_closed()).count();
        JobFigures { counts, lease_requests_waiting }
    }

    /// How many jobs a worker runs.
    pub(super) fn jobs_of(&self, worker: &str) -> u64 {
        self.lock().workers.get(worker).copied().unwrap_or(0)
    }

    /// Jobs that have not ended, newest first, from behind a place on.
    pub(super) fn page(&self, before: Option<&(u64, JobId)>, max: usize) -> Vec<(u64, JobId)> {
        let inner = self.lock();
        match before {
            None => inner.by_age.iter().rev().take(max).cloned().collect(),
            Some(before) => inner.by_age.range(..before.clone()).rev().take(max).cloned().collect(),
        }
    }
}

impl Inner {
    /// Counts a job where it stands now, and no longer where it stood.
    fn count(&mut self, id: &JobId, lane: &Lane, job: &Job, mark: &mut Mark) {
        let document = job.document();
        let is_live = !document.state.is_finished();
        if mark.created.is_none() && is_live {
            mark.created = Some(document.created_at);
            self.by_age.insert((document.created_at, id.clone()));
        } else if let Some(created) = mark.created.filter(|_| !is_live) {
            mark.created = None;
            self.by_age.remove(&(created, id.clone()));
        }
        let worker = job.lease().map(|lease| lease.worker.clone());
        let now = (is_live && document.mode == Mode::Managed).then_some((document.state, worker));
        if now == mark.counted {
            return;
        }
        let counts = self.counts.entry(lane.queue.clone()).or_default();
        if let Some((state, worker)) = mark.counted.take() {
            if let Some(count) = counts.of(state) {
                *count = count.saturating_sub(1);
            }
            if let Some(worker) = worker
                && let Some(count) = self.workers.get_mut(&worker)
            {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.workers.remove(&worker);
                }
            }
        }
        if let Some((state, worker)) = &now {
            if let Some(count) = counts.of(*state) {
                *count += 1;
            }
            if let Some(worker) = worker {
                *self.workers.entry(worker.clone()).or_default() += 1;
            }
        }
        if counts.is_empty() {
            self.counts.remove(&lane.queue);
        }
        mark.counted = now;
    }

    /// Whether the first timer is another one now.
    fn set_timer(&mut self, id: &JobId, mark: &mut Mark, wake: Option<u64>) -> bool {
        // A timer that goes off too early costs less than moving it with every heartbeat.
        if mark.timer.is_some_and(|at| wake.is_some_and(|wake| at <= wake)) {
            return false;
        }
        if let Some(at) = mark.timer.take() {
            self.timers.remove(&(at, id.clone()));
        }
        let Some(wake) = wake else { return false };
        mark.timer = Some(wake);
        self.timers.insert((wake, id.clone()));
        self.timers.first().is_some_and(|(at, first)| *at == wake && first == id)
    }

    /// Gives a ready job to the worker that has waited longest for one like it, or puts it into its lane.
    fn offer(
        &mut self,
        id: &JobId,
        lane: &Lane,
        priority: i32,
        ready_at: u64,
        mut picked: Picked,
    ) -> Option<Place> {
        while let Some(at) = self.waiters.iter().position(|waiter| waiter.takes(lane)) {
            let Some(waiter) = self.waiters.remove(at) else { break };
            match waiter.hand.send(picked) {
                Ok(()) => return None,
                Err(back) => picked = back,
            }
        }
        picked.keep();
        self.turn += 1;
        let place = (Reverse(priority), ready_at, self.turn);
        let turn = self.turn;
        let types = self.lanes.entry(lane.queue.clone()).or_default();
        // A lane that was empty stands behind those that have waited.
        let waiting = types
            .entry(lane.job_type.clone())
            .or_insert_with(|| Waiting { jobs: BTreeMap::new(), served: turn });
        waiting.jobs.insert(place, id.clone());
        Some(place)
    }

    fn remove(&mut self, lane: &Lane, place: Place) {
        let Some(types) = self.lanes.get_mut(&lane.queue) else { return };
        if let Some(waiting) = types.get_mut(&lane.job_type) {
            waiting.jobs.remove(&place);
            if waiting.jobs.is_empty() {
                types.remove(&lane.job_type);
            }
        }
        if types.is_empty() {
            self.lanes.remove(&lane.queue);
        }
    }

    fn pick(&mut self, queue: Option<&QueueName>, types: Option<&[JobType]>) -> Option<JobId> {
        let wanted = |job_type: &JobType| types.is_none_or(|types| types.contains(job_type));
        let best = self
            .lanes
            .iter()
            .filter(|(name, _)| queue.is_none_or(|queue| queue == *name))
            .flat_map(|(name, types)| types.iter().map(move |(job_type, waiting)| (name, job_type, waiting)))
            .filter(|(_, job_type, _)| wanted(job_type))
            .filter_map(|(name, job_type, waiting)| {
                let ((priority, ..), _) = waiting.jobs.first_key_value()?;
                Some(((*priority, waiting.served), name, job_type))
            })
            .min_by(|a, b| a.0.cmp(&b.0));
        let (queue, job_type) = best.map(|(_, queue, job_type)| (queue.clone(), job_type.clone()))?;
        self.turn += 1;
        let turn = self.turn;
        let types = self.lanes.get_mut(&queue)?;
        let waiting = types.get_mut(&job_type)?;
        waiting.served = turn;
        let (_, id) = waiting.jobs.pop_first()?;
        if waiting.jobs.is_empty() {
            types.remove(&job_type);
            if types.is_empty() {
                self.lanes.remove(&queue);
            }
        }
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_done_is_tried_again_then_and_not_at_the_deadline_that_has_passed() {
        let (index, mut mark) = (Index::default(), Mark::default());
        let id = JobId::parse("7").unwrap();
        index.lock().set_timer(&id, &mut mark, Some(1_000));
        index.remind(&id, &mut mark, 2_000);
        assert_eq!((mark.timer, index.lock().timers.len()), (Some(2_000), 1));
    }
}
