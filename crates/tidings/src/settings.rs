//! What an embedder may set, with its default and why.
//!
//! Owns: numbers of a running hub. Does not know: flags and files (the binary's business).
//! Flow: read once by `Hub::open`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidings_core::address::Network;
use tidings_core::limits;
use tidings_core::site::Origin;

use crate::auth::Authorize;
use crate::jobs::JobRoute;
use crate::log::Retention;

/// Settings of a hub.
///
/// ```
/// let settings = tidings::Settings::in_memory().shards(1);
/// assert_eq!(settings.shards, Some(1));
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Settings {
    /// The data folder; `None` keeps everything in memory, where a restart forgets it.
    pub data: Option<PathBuf>,
    /// What the log keeps.
    pub retention: Retention,
    /// Bytes per log segment. Default 64 MiB.
    pub segment_bytes: u64,
    /// Free disk space below which publishes and files are refused with 507. Default 512 MiB.
    pub disk_reserve_bytes: u64,
    /// Bytes that one file of a job may have. Default, and the most that is possible, 1 GiB.
    pub artifact_bytes_max: u64,
    /// Bytes that the files of all jobs may have together. Default 10 GiB.
    pub artifacts_bytes_max: u64,
    /// Delivery threads. Default: one for each core.
    pub shards: Option<usize>,
    /// Streams at once. Default: what the open-file limit allows.
    pub streams_max: usize,
    /// Streams of one client address. Peers on loopback and trusted proxies count only by the address that they
    /// forward. Default 100.
    pub streams_per_address: u32,
    /// Streams of one subject, where somebody knows credentials. Default 20.
    pub streams_per_subject: u32,
    /// New streams per second. Default 2,000.
    pub streams_per_second: u32,
    /// How old a stream may become, and a fifth more or less; then it is closed, and resumes. Default 1 h.
    pub stream_life: Duration,
    /// Proxies whose `X-Forwarded-For` is believed, beside those on loopback. Default: none.
    pub trusted_proxies: Vec<Network>,
    /// Wrong credentials of one client address in a minute; then it is not listened to. Default 10.
    pub auth_failures_per_minute: u32,
    /// Silence after which a stream gets a comment. Default 15 s.
    pub keepalive: Duration,
    /// A reader that takes no byte for this long is closed; it resumes by its id. Default 5 min.
    pub stall: Duration,
    /// How long a request's head may take, the first one from when the connection is made. Default 10 s.
    pub head_timeout: Duration,
    /// How long a connection may wait for its next request. Default 60 s.
    pub idle_timeout: Duration,
    /// How long the peer may take nothing of an answer that is no stream. Default 30 s.
    pub write_timeout: Duration,
    /// Connections that are no streams; beyond, the one that is idle for longest is closed. Default 10,000.
    pub connections_max: usize,
    /// Such connections of one address, unless it is a proxy's or on loopback; more are closed. Default 256.
    pub connections_per_address: u32,
    /// New connections per second; more have to wait. Default 5,000.
    pub connections_per_second: u32,
    /// Frames kept in memory for readers that are slightly behind. Default 16 MiB.
    pub tail_bytes: usize,
    /// Anonymous memory of the process, in bytes, beyond which new streams are refused and the slowest readers closed; they
    /// resume. Default: three quarters of what the machine, or the process' control group, has.
    pub memory_bytes: Option<u64>,
    /// How long a graceful stop takes. Default 10 s.
    pub drain: Duration,
    /// Prefix of every URL that is given out, such as `https://app.example/rt`. Default: none.
    pub public_url: String,
    /// Further paths of the stream of events, such as `/api/events`.
    pub events_paths: Vec<String>,
    /// Job types at paths of the application's own.
    pub job_routes: Vec<JobRoute>,
    /// Who turns credentials into grants. Default: nobody, and everything is granted; the layers around the router decide.
    pub authorize: Option<Arc<dyn Authorize>>,
    /// Origins whose pages may use this server with credentials, beside its own. Default: none.
    pub allowed_origins: Vec<Origin>,
    /// For development on this machine: loopback hosts only, and loopback origins as well as listed ones. Default: off.
    pub dev: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data: None,
            retention: Retention::default(),
            segment_bytes: 64 << 20,
            disk_reserve_bytes: 512 << 20,
            artifact_bytes_max: limits::ARTIFACT_BYTES_MAX,
            artifacts_bytes_max: 10 << 30,
            shards: None,
            streams_max: 100_000,
            streams_per_address: 100,
            streams_per_subject: 20,
            streams_per_second: 2_000,
            stream_life: Duration::from_secs(3_600),
            trusted_proxies: Vec::new(),
            auth_failures_per_minute: 10,
            keepalive: Duration::from_secs(15),
            stall: Duration::from_secs(300),
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            connections_max: 10_000,
            connections_per_address: 256,
            connections_per_second: 5_000,
            tail_bytes: 16 << 20,
            memory_bytes: None,
            drain: Duration::from_secs(10),
            public_url: String::new(),
            events_paths: Vec::new(),
            job_routes: Vec::new(),
            authorize: None,
            allowed_origins: Vec::new(),
            dev: false,
        }
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $value:expr;)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name(mut self, $name: $type) -> Self {
            self.$name = $value;
            self
        }
    )*};
}

impl Settings {
    /// Everything in memory: for tests and for events that a restart may forget.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::default()
    }

    /// Durable, in a folder.
    #[must_use]
    pub fn on_disk(data: impl Into<PathBuf>) -> Self {
        Self { data: Some(data.into()), ..Self::default() }
    }

    setters! {
        /// What the log keeps.
        retention: Retention = retention;
        /// Bytes per log segment.
        segment_bytes: u64 = segment_bytes;
        /// Free disk space below which publishes are refused.
        disk_reserve_bytes: u64 = disk_reserve_bytes;
        /// Bytes that one file of a job may have.
        artifact_bytes_max: u64 = artifact_bytes_max.min(limits::ARTIFACT_BYTES_MAX);
        /// Bytes that the files of all jobs may have together.
        artifacts_bytes_max: u64 = artifacts_bytes_max;
        /// Delivery threads.
        shards: usize = Some(shards.max(1));
        /// Streams at once.
        streams_max: usize = streams_max;
        /// Streams of one client address.
        streams_per_address: u32 = streams_per_address;
        /// Streams of one subject.
        streams_per_subject: u32 = streams_per_subject;
        /// New streams per second.
        streams_per_second: u32 = streams_per_second.max(1);
        /// How old a stream may become.
        stream_life: Duration = stream_life;
        /// Proxies whose `X-Forwarded-For` is believed.
        trusted_proxies: Vec<Network> = trusted_proxies;
        /// Wrong credentials of one client address in a minute.
        auth_failures_per_minute: u32 = auth_failures_per_minute.max(1);
        /// Silence after which a stream gets a comment.
        keepalive: Duration = keepalive;
        /// How long a reader may take no byte.
        stall: Duration = stall;
        /// How long a request's head may take.
        head_timeout: Duration = head_timeout;
        /// How long a connection may wait for its next request.
        idle_timeout: Duration = idle_timeout;
        /// How long the peer may take nothing of an answer.
        write_timeout: Duration = write_timeout;
        /// Connections that are no streams.
        connections_max: usize = connections_max.max(1);
        /// Connections of one address.
        connections_per_address: u32 = connections_per_address;
        /// New connections per second.
        connections_per_second: u32 = connections_per_second.max(1);
        /// Frames kept in memory.
        tail_bytes: usize = tail_bytes;
        /// Memory beyond which new streams are refused.
        memory_bytes: u64 = Some(memory_bytes);
        /// How long a graceful stop takes.
        drain: Duration = drain;
        /// Prefix of every URL that is given out.
        public_url: String = public_url;
        /// Further paths of the stream of events.
        events_paths: Vec<String> = events_paths;
        /// Job types at paths of the application's own.
        job_routes: Vec<JobRoute> = job_routes;
        /// Who turns credentials into grants.
        authorize: Arc<dyn Authorize> = Some(authorize);
        /// Origins whose pages may use this server with credentials.
        allowed_origins: Vec<Origin> = allowed_origins;
        /// Loopback hosts and origins only.
        dev: bool = dev;
    }
}
