//! The hub: everything of one server, behind one handle.
//!
//! Owns: the parts and their life. Does not know: HTTP, flags, signals.
//! Flow: `Hub::open` → publish / stream / close.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use tidings_core::connection::{Retry, Seed};
use tidings_core::wire::sse::encode;
use tidings_core::{ChannelName, Epochs, EventId, Seq};

use crate::auth::{Auth, Revocations};
use crate::control;
use crate::failures::AuthFailures;
use crate::frame::{event_json, fields};
use crate::log::disk::DiskLog;
use crate::log::memory::MemoryLog;
use crate::log::{Log, LogError, OpenError, Outcome, Refusal, Stats, Window, event_at};
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::pace::Pace;
use crate::publish::{Publication, PublishError, Published};
use crate::settings::Settings;
use crate::shard::{Ephemeral, Readers, ShardParts, Shards};
use crate::subscribe::{self, Registry};
use crate::tail::Tail;
use crate::writer::{CommitError, Writer, WriterParts};

/// Threads that read the log for connections that are behind.
const READERS: usize = 2;
/// How often retention and checkpoints are looked after.
const MAINTENANCE: Duration = Duration::from_millis(500);
/// How often, in rounds of maintenance, files of forgotten jobs are removed: each minute.
const SWEEP_ROUNDS: u32 = 120;

/// A running server without its listener. Clones are handles to the same one.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use tidings::core::{ChannelName, Payload};
/// let hub = tidings::Hub::open(tidings::Settings::on_disk("./tidings-data"))?;
/// let orders = ChannelName::parse("orders")?;
/// let published = hub.publish(tidings::Publication::new(orders, Payload::json("7")?)).await?;
/// println!("durable as {}", published.ids[0]);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Hub(pub(crate) Arc<Inner>);

/// The parts of a hub.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) tail: Arc<Tail>,
    pub(crate) shards: Arc<Shards>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) pace: Pace,
    pub(crate) memory: Arc<Memory>,
    pub(crate) failures: AuthFailures,
    pub(crate) jobs: crate::jobs::State,
    pub(crate) auth: Auth,
    draining: AtomicBool,
    writer: Mutex<Option<Writer>>,
    readers: Arc<Readers>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    closing: Arc<(Mutex<bool>, std::sync::Condvar)>,
}

impl Hub {
    /// Opens the log and starts delivery.
    ///
    /// # Errors
    /// [`OpenError`] when the data folder is in use, unusable, damaged or of a newer version, or
    /// [`Settings::check_paths`] refuses a path.
    pub fn open(settings: Settings) -> Result<Self, OpenError> {
        settings.check_paths().map_err(|error| OpenError::Io {
            path: error.path().into(),
            source: std::io::Error::new(std::io::ErrorKind::InvalidInput, error),
        })?;
        let log: Arc<dyn Log> = match &settings.data {
            None => Arc::new(MemoryLog::new(settings.retention)),
            Some(path) => {
                let options = crate::log::disk::Options::default()
                    .retention(settings.retention)
                    .segment_bytes(settings.segment_bytes)
                    .reserve_bytes(settings.disk_reserve_bytes);
                Arc::new(DiskLog::open(path, options)?)
            }
        };
        Self::start(settings, log).map_err(|source| OpenError::Io { path: "threads".into(), source })
    }

    pub(crate) fn start(settings: Settings, log: Arc<dyn Log>) -> std::io::Result<Self> {
        let metrics = Arc::new(Metrics::new());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = settings.shards.unwrap_or(cores);
        let tail = Arc::new(Tail::new(log.head(), count, settings.tail_bytes));
        let (readers, mut threads) = Readers::start(Arc::clone(&log), Arc::clone(&metrics), READERS)?;
        let parts = ShardParts {
            tail: Arc::clone(&tail),
            log: Arc::clone(&log),
            readers: Arc::clone(&readers),
            metrics: Arc::clone(&metrics),
            keepalive: settings.keepalive,
            stall: settings.stall,
            life: settings.stream_life,
        };
        let (shards, shard_threads) = Shards::start(&parts, count)?;
        threads.extend(shard_threads);
        let (writer, writer_thread) = Writer::start(WriterParts {
            log: Arc::clone(&log),
            tail: Arc::clone(&tail),
            shards: Arc::clone(&shards),
            metrics: Arc::clone(&metrics),
            delivery_first: crate::writer::delivery_first(cores),
        })?;
        threads.push(writer_thread);
        let closing = Arc::new((Mutex::new(false), std::sync::Condvar::new()));
        let bounds = crate::jobs::Bounds {
            file_bytes: settings.artifact_bytes_max.min(tidings_core::limits::ARTIFACT_BYTES_MAX),
            total_bytes: settings.artifacts_bytes_max,
            reserve_bytes: settings.disk_reserve_bytes,
        };
        let artifacts = Arc::new(crate::jobs::Artifacts::beside(settings.data.as_deref(), bounds));
        threads.push(count_files(Arc::clone(&artifacts), Arc::clone(&closing))?);
        let revocations = Arc::new(Revocations::open(&*log));
        let kept = Kept {
            log: Arc::clone(&log),
            artifacts: Arc::clone(&artifacts),
            revocations: Arc::clone(&revocations),
        };
        threads.push(maintain(kept, Arc::clone(&closing))?);
        let bounds = subscribe::Bounds {
            streams: settings.streams_max,
            per_address: settings.streams_per_address,
            // With nobody who knows credentials, a subject is what the query says.
            per_subject: (settings.authorize.is_some() && !settings.dev)
                .then_some(settings.streams_per_subject),
        };
        let registry = Registry::new(bounds, Arc::clone(&metrics));
        let failures = AuthFailures::new(settings.auth_failures_per_minute);
        let memory = Memory::new(settings.memory_bytes);
        threads.push(watch_memory(Arc::clone(&memory), Arc::clone(&shards))?);
        let pace = Pace::per_second(settings.streams_per_second);
        let jobs = crate::jobs::State::open(&*log, artifacts);
        let auth = Auth::new(settings.authorize.clone(), revocations);
        Ok(Self(Arc::new(Inner {
            pace,
            memory,
            failures,
            jobs,
            auth,
            settings,
            log,
            tail,
            shards,
            registry,
            metrics,
            draining: AtomicBool::new(false),
            writer: Mutex::new(Some(writer)),
            readers,
            threads: Mutex::new(threads),
            closing,
        })))
    }

    /// Publishes an event. When this returns `Ok`, the event survives `kill -9` and power loss.
    ///
    /// # Errors
    /// [`PublishError`]; its `code()` is what HTTP callers see.
    pub async fn publish(&self, publication: Publication) -> Result<Published, PublishError> {
        publication.check()?;
        if publication.ephemeral {
            return self.publish_ephemeral(&publication);
        }
        let outcomes = self.commit(vec![publication.group()]).await?;
        let outcome = outcomes.into_iter().next().ok_or(CommitError::OutcomeUnknown)?;
        published(outcome, self.0.log.epochs())
    }

    /// Publishes several events with one commit, adjacent and in order: all that are not refused, or none.
    ///
    /// # Errors
    /// [`CommitError`] when the commit failed; what was refused for itself is in the list.
    pub async fn publish_batch(
        &self,
        batch: &[Publication],
    ) -> Result<Vec<Result<Published, PublishError>>, CommitError> {
        let checked: Vec<Result<(), PublishError>> = batch.iter().map(Publication::check).collect();
        let valid = || batch.iter().zip(&checked).filter(|(_, c)| c.is_ok()).map(|(p, _)| p);
        let groups: Vec<_> = valid().filter(|p| !p.ephemeral).map(Publication::group).collect();
        let mut outcomes = match groups.is_empty() {
            true => Vec::new(),
            false => self.commit(groups).await?,
        }
        .into_iter();
        let epochs = self.0.log.epochs();
        let result = |(publication, checked): (&Publication, Result<(), PublishError>)| {
            checked?;
            if publication.ephemeral {
                return self.publish_ephemeral(publication);
            }
            outcomes.next().map_or(Err(CommitError::OutcomeUnknown.into()), |o| published(o, epochs))
        };
        Ok(batch.iter().zip(checked).map(result).collect())
    }

    /// Appends groups that were checked.
    pub(crate) async fn commit(&self, groups: Vec<crate::log::Group>) -> Result<Vec<Outcome>, CommitError> {
        let writer = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        writer.ok_or(CommitError::Closing)?.commit(groups).await
    }

    fn publish_ephemeral(&self, publication: &Publication) -> Result<Published, PublishError> {
        for (index, channel) in publication.channels.iter().enumerate() {
            if self.window(channel).is_some_and(|w| w.finished.is_some()) {
                return Err(Refusal::Finished { index, channel: channel.clone() }.into());
            }
        }
        let time_ms = crate::clock::unix_ms();
        for channel in &publication.channels {
            let Publication { event, from, payload, .. } = publication;
            let mut plain = encode::body_from(event, channel, from.as_ref(), time_ms, payload);
            let mut envelope = Vec::new();
            encode::data(&mut envelope, &event_json(&plain, !publication.payload.is_json(), None));
            envelope.push(b'\n');
            plain.push(b'\n');
            let event =
                Ephemeral { channel: channel.clone(), plain: plain.into(), envelope: envelope.into() };
            let dropped = self.0.shards.ephemeral(&event);
            self.0.metrics.ephemeral_dropped.inc_by(u64::try_from(dropped).unwrap_or(0));
        }
        Ok(Published { ids: Vec::new(), duplicate: false })
    }

    /// Deletes what a channel holds now; streams are told. `None` if there is no such channel.
    ///
    /// # Errors
    /// [`LogError`] when the log cannot make it durable.
    pub async fn delete(&self, channel: &ChannelName) -> Result<Option<Window>, LogError> {
        let (log, name) = (Arc::clone(&self.0.log), channel.clone());
        let deleted = tokio::task::spawn_blocking(move || log.delete(&name)).await;
        let window = deleted.map_err(|e| LogError::Poisoned(e.to_string()))??;
        if let Some(window) = window {
            self.0.shards.deleted(channel, window.floor);
        }
        Ok(window)
    }

    /// What is retained of a channel.
    #[must_use]
    pub fn window(&self, channel: &ChannelName) -> Option<Window> {
        self.0.log.window(channel)
    }

    /// The newest position, as an id.
    #[must_use]
    pub fn head(&self) -> EventId {
        self.0.log.epochs().id(self.0.tail.head())
    }

    /// The data of the newest event of a channel, as its readers get it. `None` if nothing of the channel is retained.
    ///
    /// # Errors
    /// [`LogError`].
    pub async fn newest(&self, channel: &ChannelName) -> Result<Option<String>, LogError> {
        let (log, name) = (Arc::clone(&self.0.log), channel.clone());
        let read = tokio::task::spawn_blocking(move || {
            let Some(window) = log.window(&name) else { return Ok(None) };
            Ok(event_at(&*log, &name, window.head)?.map(|record| fields(&record.body).data))
        });
        read.await.map_err(|e| LogError::Poisoned(e.to_string()))?
    }

    /// Figures of the log.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.log.stats()
    }

    /// Why the hub is not ready, if it is not.
    #[must_use]
    pub fn unready(&self) -> Option<String> {
        if self.is_draining() {
            return Some("draining".into());
        }
        let stats = self.stats();
        let damaged = stats.damaged.first().map(|place| format!("damaged: {place}"));
        stats.refusing.or(damaged)
    }

    /// Whether the hub is stopping.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }

    /// Begins to stop: every stream is told, and closed at a random time within the drain time. New streams are asked to
    /// come back.
    pub fn drain(&self) {
        if !self.0.draining.swap(true, Ordering::AcqRel) {
            self.0.jobs.draining.cancel();
            self.0.shards.drain(self.0.settings.drain);
        }
    }

    /// How many streams are open.
    #[must_use]
    pub fn streams(&self) -> u64 {
        self.0.registry.streams()
    }

    /// Stops for good: what was accepted is committed, then every thread ends. Blocks for a moment.
    ///
    /// # Errors
    /// [`LogError`] when the last checkpoint could not be written; nothing is lost by that.
    pub fn close(&self) -> Result<(), LogError> {
        // The writer's thread ends when its last handle is gone and its queue is empty.
        drop(self.0.writer.lock().unwrap_or_else(PoisonError::into_inner).take());
        *self.0.closing.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.closing.1.notify_all();
        self.0.memory.stop();
        self.0.shards.stop();
        self.0.readers.stop();
        let threads = std::mem::take(&mut *self.0.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread had panicked");
            }
        }
        self.0.log.close()
    }

    /// What a stream gets that cannot be served now.
    pub(crate) fn come_back(&self, soon: bool) -> Bytes {
        self.0.metrics.refused.inc();
        let retry = if soon { Retry::Stream } else { Retry::Overload };
        control::come_back(Seed(crate::clock::random()).retry_ms(retry))
    }
}

/// Names the ids of an outcome.
fn published(outcome: Outcome, epochs: &Epochs) -> Result<Published, PublishError> {
    match outcome {
        Outcome::Appended(places) => {
            Ok(Published { ids: places.iter().map(|p| epochs.id(p.seq)).collect(), duplicate: false })
        }
        Outcome::Duplicate { first, count } => {
            let ids = (0..u64::from(count)).map(|n| epochs.id(Seq(first.0 + n))).collect();
            Ok(Published { ids, duplicate: true })
        }
        Outcome::Refused(refusal) => Err(refusal.into()),
    }
}

/// Beyond the budget, the slowest readers go.
fn watch_memory(memory: Arc<Memory>, shards: Arc<Shards>) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("tidings-memory".into()).spawn(move || memory.watch(|| shards.shed()))
}

/// Finds out beside everything else what the files of earlier runs take: there may be a million of them.
fn count_files(
    artifacts: Arc<crate::jobs::Artifacts>,
    closing: Arc<(Mutex<bool>, std::sync::Condvar)>,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("tidings-files".into()).spawn(move || {
        // Maintenance holds the flag while it works; then it is not being closed yet.
        artifacts.count(|| closing.0.try_lock().is_ok_and(|closing| *closing));
    })
}

/// What is looked after.
struct Kept {
    log: Arc<dyn Log>,
    artifacts: Arc<crate::jobs::Artifacts>,
    revocations: Arc<Revocations>,
}

fn maintain(kept: Kept, closing: Arc<(Mutex<bool>, std::sync::Condvar)>) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("tidings-maintenance".into()).spawn(move || {
        let Kept { log, artifacts, revocations } = kept;
        let (flag, changed) = &*closing;
        let mut stop = flag.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rounds = 0_u32;
        while !*stop {
            rounds = rounds.wrapping_add(1);
            if rounds.is_multiple_of(SWEEP_ROUNDS)
                && let Err(error) = artifacts.sweep(|job| log.window(job.channel()).is_some())
            {
                tracing::warn!(%error, "files of forgotten jobs could not be removed");
            }
            stop = changed.wait_timeout(stop, MAINTENANCE).unwrap_or_else(PoisonError::into_inner).0;
            let now_ms = crate::clock::unix_ms();
            if let Err(error) = revocations.maintain(&*log, now_ms) {
                tracing::warn!(%error, "revocations whose time is over could not be removed");
            }
            if let Err(error) = log.maintain(now_ms) {
                tracing::error!(%error, "maintenance of the log failed");
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;
    use crate::log::disk::Options;
    use crate::log::disk::io::sim::{Fault, SimDisk};

    async fn ask(hub: &Hub, method: &str, target: &str, body: &'static str) -> (u16, serde_json::Value) {
        let request = http::Request::builder().method(method).uri(target);
        let request = request.header("content-type", "application/json").body(Body::from(body)).unwrap();
        let answer = hub.router().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_failed_sync_leaves_the_outcome_unknown_and_then_nothing_is_accepted() {
        let disk = Arc::new(SimDisk::new());
        let options = Options::default().segment_bytes(1 << 20).reserve_bytes(0).disk(Arc::clone(&disk) as _);
        let log = Arc::new(DiskLog::open("/sim", options).unwrap());
        let hub = Hub::start(Settings::in_memory().shards(1), log).unwrap();
        let body = r#"{"channel":"a","data":1}"#;
        assert_eq!(ask(&hub, "POST", "/v1/publish", body).await.0, 201);
        let before = hub.head();

        disk.fail(Some(Fault::Sync(1)));
        let (status, problem) = ask(&hub, "POST", "/v1/publish", body).await;
        assert_eq!((status, &problem["code"]), (503, &"outcome_unknown".into()));
        assert_eq!(problem.get("committed"), None, "nobody knows");
        let (status, problem) = ask(&hub, "POST", "/v1/publish", body).await;
        assert_eq!((status, &problem["code"]), (503, &"log_poisoned".into()));
        assert_eq!(problem["committed"], false);

        let (status, ready) = ask(&hub, "GET", "/readyz", "").await;
        assert_eq!((status, &ready["ready"]), (503, &false.into()));
        assert!(ready["reason"].as_str().unwrap().starts_with("poisoned"), "{ready}");
        assert_eq!(hub.head(), before, "nobody is shown what may not be there");
        let (status, page) = ask(&hub, "GET", "/v1/history?channel=a", "").await;
        assert_eq!((status, page["events"].as_array().map(Vec::len)), (200, Some(1)));
        hub.close().unwrap_or_default();
    }
}
