//! The one thread that appends.
//!
//! Owns: group commit and the order of a commit: write, fsync, frames into the tail, head moves, shards are woken,
//! publishers are answered. Does not know: what is published, by whom, or who listens.
//! Flow: in ← groups from publishers and jobs · out → frames to the tail, a wake-up to the shards, outcomes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::frame::Frame;
use crate::log::{Append, AppendError, Group, Log, Outcome};
use crate::metrics::Metrics;
use crate::shard::Shards;
use crate::tail::Tail;

/// Groups that wait for the writer.
const QUEUE_GROUPS_MAX: usize = 8_192;
/// Bytes of all groups that wait or are being committed.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// A commit takes what waits, up to about this many events: beyond, one fsync more costs less than the wait.
const COMMIT_EVENTS_MAX: usize = 4_096;
/// … and this many bytes.
const COMMIT_BYTES_MAX: usize = 8 << 20;
/// Where there is one core, how long a commit lets delivery of the one before it go first. All is done in turns there: it would
/// make nothing earlier, and whatever is published meanwhile shares the commit.
const DELIVERY_FIRST: Duration = Duration::from_millis(20);
/// … if that one answered so many: publishers that are few and wait for their answers would share nothing.
const SHARING_MIN: usize = 4;
/// How long a publisher waits for its turn before it is told 503.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Why a group was not acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// Not begun within 5 s; nothing was committed.
    #[error("the server is overloaded; nothing was committed")]
    Overloaded,
    /// The hub is closing; nothing was committed.
    #[error("the server is stopping; nothing was committed")]
    Closing,
    /// No space; nothing was committed.
    #[error("{0}; nothing was committed")]
    Full(String),
    /// The log failed earlier; nothing was committed.
    #[error("{0}; nothing was committed")]
    Poisoned(String),
    /// The log failed during this commit.
    #[error("the log failed during the commit; the outcome is known only after a restart")]
    OutcomeUnknown,
    /// More than one commit can hold; nothing was committed.
    #[error("the publish is too large for one commit")]
    TooLarge,
}

/// Groups on their way to the writer: one commit holds them all, adjacent and in order.
#[derive(Debug)]
struct Request {
    groups: Vec<Group>,
    claim: Arc<Claim>,
    reply: Reply,
    room: OwnedSemaphorePermit,
}

type Reply = oneshot::Sender<Result<Vec<Outcome>, CommitError>>;

/// Who has a request: a publisher that gives up before the writer took it knows that nothing was committed.
#[derive(Debug, Default)]
struct Claim(AtomicU8);

impl Claim {
    const WRITER: u8 = 1;
    const WITHDRAWN: u8 = 2;

    fn take(&self, who: u8) -> bool {
        self.0.compare_exchange(0, who, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Withdraws a request that nobody waits for any more, such as when a publisher's connection is gone.
struct Withdraw<'a>(&'a Claim);

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        self.0.take(Claim::WITHDRAWN);
    }
}

/// The publishers' end.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Request>,
    room: Arc<Semaphore>,
}

/// What the writer's thread works with.
#[derive(Debug)]
pub(crate) struct WriterParts {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) tail: Arc<Tail>,
    pub(crate) shards: Arc<Shards>,
    pub(crate) metrics: Arc<Metrics>,
    /// How long a commit lets delivery of the one before it go first.
    pub(crate) delivery_first: Duration,
}

/// How long a commit lets delivery go first where there are so many cores for both.
pub(crate) fn delivery_first(cores: usize) -> Duration {
    if cores == 1 { DELIVERY_FIRST } else { Duration::ZERO }
}

impl Writer {
    /// Starts the thread. It ends when every `Writer` is dropped and the queue is empty.
    pub(crate) fn start(parts: WriterParts) -> std::io::Result<(Self, std::thread::JoinHandle<()>)> {
        let (queue, requests) = mpsc::channel(QUEUE_GROUPS_MAX);
        let thread =
            std::thread::Builder::new().name("tidings-writer".into()).spawn(move || run(&parts, requests))?;
        Ok((Self { queue, room: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)) }, thread))
    }

    /// Appends groups with one commit; the answer, one outcome for each, comes when they are durable and visible.
    pub(crate) async fn commit(&self, groups: Vec<Group>) -> Result<Vec<Outcome>, CommitError> {
        let bytes = bytes_of(&groups).min(QUEUE_BYTES_MAX);
        let permits = u32::try_from(bytes).map_err(|_| CommitError::TooLarge)?;
        let room = self.room(permits).await?;
        let (reply, mut answer) = oneshot::channel();
        let claim = Arc::new(Claim::default());
        let request = Request { groups, claim: Arc::clone(&claim), reply, room };
        self.enqueue(request).await?;
        let _withdraw = Withdraw(&claim);
        if let Ok(answer) = tokio::time::timeout(PATIENCE, &mut answer).await {
            return answer.unwrap_or(Err(CommitError::OutcomeUnknown));
        }
        if claim.take(Claim::WITHDRAWN) {
            return Err(CommitError::Overloaded);
        }
        // The writer has begun: its answer comes, however slow the disk is.
        answer.await.unwrap_or(Err(CommitError::OutcomeUnknown))
    }

    /// Room in the queue, which there is nearly always. Whoever waits for some is not overtaken: until then there is none.
    async fn room(&self, permits: u32) -> Result<OwnedSemaphorePermit, CommitError> {
        if let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(permits) {
            return Ok(room);
        }
        let room = tokio::time::timeout(PATIENCE, Arc::clone(&self.room).acquire_many_owned(permits)).await;
        room.map_err(|_| CommitError::Overloaded)?.map_err(|_| CommitError::Closing)
    }

    async fn enqueue(&self, request: Request) -> Result<(), CommitError> {
        let request = match self.queue.try_send(request) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(request) | TrySendError::Closed(request)) => request,
        };
        let sent = tokio::time::timeout(PATIENCE, self.queue.send(request)).await;
        sent.map_err(|_| CommitError::Overloaded)?.map_err(|_| CommitError::Closing)
    }
}

fn run(parts: &WriterParts, mut requests: mpsc::Receiver<Request>) {
    let (mut waiting, mut answered) = (None, 0);
    while let Some(first) = waiting.take().or_else(|| requests.blocking_recv()) {
        while !parts.tail.wait_for_room(PATIENCE) {
            tracing::warn!("delivery is behind: publishers wait");
        }
        let_others_go_first(&parts.tail, parts.delivery_first, answered);
        let mut batch = Batch::default();
        batch.push(first);
        while !batch.is_full() {
            let Ok(next) = requests.try_recv() else { break };
            if batch.fits(&next) {
                batch.push(next);
            } else {
                waiting = Some(next);
                break;
            }
        }
        answered = batch.requests.len();
        batch.commit(parts);
    }
}

/// Where cores are few, the next groups are being made by threads that wait for this core: let them, so that one fsync serves
/// them too. Where nobody waits, this returns at once.
fn let_others_go_first(tail: &Tail, delivery_first: Duration, answered: usize) {
    if answered >= SHARING_MIN && !delivery_first.is_zero() {
        tail.wait_for_shards(delivery_first);
    }
    std::thread::yield_now();
}

/// What goes into one commit.
#[derive(Debug, Default)]
struct Batch {
    /// Who waits, for how many of the groups, and the room that the request takes in the queue.
    requests: Vec<(Reply, usize, OwnedSemaphorePermit)>,
    groups: Vec<Group>,
    events: usize,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, request: Request) {
        if !request.claim.take(Claim::WRITER) {
            return;
        }
        self.events += request.groups.iter().map(|g| g.events.len()).sum::<usize>();
        self.bytes += bytes_of(&request.groups);
        self.requests.push((request.reply, request.groups.len(), request.room));
        self.groups.extend(request.groups);
    }

    fn is_full(&self) -> bool {
        self.events >= COMMIT_EVENTS_MAX || self.bytes >= COMMIT_BYTES_MAX
    }

    fn fits(&self, next: &Request) -> bool {
        self.groups.is_empty() || self.bytes + bytes_of(&next.groups) <= COMMIT_BYTES_MAX
    }

    fn commit(self, parts: &WriterParts) {
        if self.groups.is_empty() {
            return;
        }
        let started = crate::clock::now_us();
        let result = parts.log.append(&self.groups);
        parts.metrics.commit_seconds.observe(crate::clock::seconds_since_us(started));
        match result {
            Ok(outcomes) => {
                show(parts, &self.groups, &outcomes);
                let mut outcomes = outcomes.into_iter();
                for (reply, count, _room) in self.requests {
                    // A publisher that went away needs no answer; its events stand.
                    reply.send(Ok(outcomes.by_ref().take(count).collect())).ok();
                }
            }
            Err(error) => {
                tracing::error!(%error, "commit failed");
                let error = CommitError::from(&error);
                for (reply, _, _room) in self.requests {
                    reply.send(Err(error.clone())).ok();
                }
            }
        }
    }
}

/// Puts what was committed in front of readers: frames, head, wake-up, in this order.
fn show(parts: &WriterParts, groups: &[Group], outcomes: &[Outcome]) {
    let epochs = parts.log.epochs();
    let mut frames = Vec::new();
    for (group, outcome) in groups.iter().zip(outcomes) {
        let Outcome::Appended(places) = outcome else { continue };
        for (event, place) in group.events.iter().zip(places) {
            frames.push(Arc::new(Frame::appended(event, place.seq, epochs.id(place.seq))));
        }
    }
    parts.metrics.published.inc_by(u64::try_from(frames.len()).unwrap_or(0));
    parts.tail.push(frames);
    parts.shards.wake();
}

fn bytes_of(groups: &[Group]) -> usize {
    let bytes = |e: &Append| e.body.len() + e.private.as_ref().map_or(0, Bytes::len) + 128;
    groups.iter().flat_map(|g| &g.events).map(bytes).sum()
}

impl From<&AppendError> for CommitError {
    fn from(error: &AppendError) -> Self {
        match error {
            AppendError::Full { .. } => Self::Full(error.to_string()),
            AppendError::Poisoned(_) => Self::Poisoned(error.to_string()),
            AppendError::OutcomeUnknown(_) => Self::OutcomeUnknown,
            AppendError::TooLarge => Self::TooLarge,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};

    use tidings_core::Seq;

    use super::*;
    use crate::frame::test_frame;

    /// A commit that no shard has delivered.
    fn undelivered() -> Arc<Tail> {
        let tail = Tail::new(Seq::ZERO, 1, 1 << 20);
        tail.push(vec![test_frame(1, "a")]);
        Arc::new(tail)
    }

    /// Tells when the next commit may come.
    fn next_commit(tail: &Arc<Tail>, delivery_first: Duration, answered: usize) -> Receiver<()> {
        let (tell, told) = sync_channel(1);
        let tail = Arc::clone(tail);
        std::thread::spawn(move || {
            let_others_go_first(&tail, delivery_first, answered);
            tell.send(()).unwrap();
        });
        told
    }

    #[test]
    fn on_one_core_a_commit_that_many_share_waits_for_delivery() {
        let tail = undelivered();
        let told = next_commit(&tail, Duration::from_secs(3_600), SHARING_MIN);
        assert_eq!(told.recv_timeout(Duration::from_millis(50)), Err(RecvTimeoutError::Timeout));
        tail.passed(0, Seq(1));
        told.recv_timeout(PATIENCE).expect("delivery wakes the writer");
    }

    #[test]
    fn a_commit_does_not_wait_long_nor_for_few_nor_where_there_are_cores() {
        let hour = Duration::from_secs(3_600);
        for (delivery_first, answered) in
            [(delivery_first(1), SHARING_MIN), (hour, SHARING_MIN - 1), (delivery_first(2), usize::MAX)]
        {
            let told = next_commit(&undelivered(), delivery_first, answered);
            told.recv_timeout(PATIENCE).expect("the commit comes");
        }
    }
}
