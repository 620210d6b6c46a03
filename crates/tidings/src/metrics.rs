//! What operators see.
//!
//! Owns: the names of metrics. Does not know: who scrapes them.
//! Flow: in ← counts from every part · out → the text of `/metrics`.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use tidings_core::job::State;

use crate::jobs::JobFigures;
use crate::log::Stats;

/// A figure for each state of jobs.
type ByState<M> = Family<[(&'static str, &'static str); 1], M>;

/// Counters of a hub.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) connections: Gauge,
    pub(crate) behind: Gauge,
    pub(crate) published: Counter,
    pub(crate) ephemeral_dropped: Counter,
    pub(crate) delivered: Counter,
    pub(crate) delivered_bytes: Counter,
    pub(crate) resumes: Counter,
    pub(crate) resets: Counter,
    pub(crate) unauthorized: Counter,
    pub(crate) stalled: Counter,
    pub(crate) aged: Counter,
    pub(crate) shed: Counter,
    pub(crate) memory: Gauge,
    pub(crate) refused: Counter,
    pub(crate) connections_refused: Counter,
    pub(crate) commit_seconds: Histogram,
    pub(crate) jobs_made: Counter,
    pub(crate) leases: Counter,
    jobs_ended: ByState<Counter>,
    jobs: ByState<Gauge>,
    lease_requests_waiting: Gauge,
    log_bytes: Gauge,
    channels: Gauge,
    keys: Gauge,
    commits: Counter,
    fsync_seconds: Counter<f64, std::sync::atomic::AtomicU64>,
    damaged: Gauge,
    artifacts_bytes: Gauge,
    registry: std::sync::Mutex<Registry>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("tidings");
        let r = &mut registry;
        Self {
            connections: gauge(r, "connections", "Streams that are open"),
            behind: gauge(r, "connections_behind", "Streams that have a cursor of their own"),
            published: counter(r, "published", "Events that were committed"),
            ephemeral_dropped: counter(r, "ephemeral_dropped", "Ephemeral events dropped under pressure"),
            delivered: counter(r, "delivered", "Events handed to sockets"),
            delivered_bytes: counter(r, "delivered_bytes", "Bytes handed to sockets"),
            resumes: counter(r, "resumes", "Streams that came with a position"),
            resets: counter(r, "resets", "tidings.reset events sent"),
            unauthorized: counter(r, "unauthorized", "streams that were refused, or whose grant was over"),
            stalled: counter(r, "stalled", "Streams closed because they took no byte for the stall time"),
            shed: counter(r, "shed", "Streams closed because memory ran out, to resume"),
            memory: gauge(r, "memory_bytes", "Anonymous memory of the process"),
            aged: counter(r, "aged", "Streams closed at the end of their life, to resume"),
            refused: counter(r, "streams_refused", "Streams answered with overload or drain"),
            connections_refused: counter(r, "connections_refused", "Connections closed: too many"),
            commit_seconds: commit_histogram(r),
            jobs_made: counter(r, "jobs_made", "Jobs that were made"),
            leases: counter(r, "job_leases", "Leases that were granted"),
            jobs_ended: by_state(r, "jobs_ended", "Jobs that ended, by how"),
            jobs: by_state(r, "jobs", "Managed jobs that have not ended, by state"),
            lease_requests_waiting: gauge(r, "lease_requests_waiting", "Workers that wait for a job"),
            log_bytes: gauge(r, "log_bytes", "Bytes of the log on its medium"),
            channels: gauge(r, "channels", "Channels that the log has a record of"),
            keys: gauge(r, "idempotency_keys", "Idempotency keys remembered"),
            commits: counter(r, "commits", "Commits of the log"),
            fsync_seconds: {
                let metric = Counter::default();
                r.register_with_unit("fsync", "Time spent in fsync", Unit::Seconds, metric.clone());
                metric
            },
            damaged: gauge(r, "log_damaged", "Damaged places met in the log"),
            artifacts_bytes: gauge(r, "artifacts_bytes", "Bytes of jobs' files, uploads included"),
            registry: std::sync::Mutex::new(registry),
        }
    }

    /// A job ended.
    pub(crate) fn job_ended(&self, state: State) {
        self.jobs_ended.get_or_create(&[("state", state.as_str())]).inc();
    }

    /// The text of `/metrics`, in the OpenMetrics format.
    pub(crate) fn text(&self, stats: &Stats, artifacts_bytes: u64, jobs: &JobFigures) -> String {
        let set = |state: State, count| {
            self.jobs
                .get_or_create(&[("state", state.as_str())])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        };
        set(State::Scheduled, jobs.counts.scheduled);
        set(State::Queued, jobs.counts.queued);
        set(State::Retrying, jobs.counts.retrying);
        set(State::Running, jobs.counts.running);
        self.lease_requests_waiting.set(i64::try_from(jobs.lease_requests_waiting).unwrap_or(i64::MAX));
        let int = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.log_bytes.set(int(stats.log_bytes));
        self.channels.set(int(stats.channels));
        self.keys.set(int(stats.keys));
        self.artifacts_bytes.set(int(artifacts_bytes));
        self.damaged.set(i64::try_from(stats.damaged.len()).unwrap_or(i64::MAX));
        self.commits.inc_by(stats.commits.saturating_sub(self.commits.get()));
        self.fsync_seconds.inc_by((stats.fsync_seconds - self.fsync_seconds.get()).max(0.0));
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Writing to a string cannot fail.
        encode(&mut text, &registry).unwrap_or_default();
        text
    }
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let metric = Gauge::default();
    registry.register(name, help, metric.clone());
    metric
}

fn by_state<M>(registry: &mut Registry, name: &str, help: &str) -> ByState<M>
where
    M: Clone
        + Default
        + std::fmt::Debug
        + prometheus_client::encoding::EncodeMetric
        + TypedMetric
        + Send
        + Sync
        + 'static,
{
    let metric = ByState::default();
    registry.register(name, help, metric.clone());
    metric
}

fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let metric = Counter::default();
    registry.register(name, help, metric.clone());
    metric
}

fn commit_histogram(registry: &mut Registry) -> Histogram {
    let metric = Histogram::new(exponential_buckets(0.000_1, 2.0, 16));
    registry.register_with_unit("commit", "Time of a commit, fsync included", Unit::Seconds, metric.clone());
    metric
}
