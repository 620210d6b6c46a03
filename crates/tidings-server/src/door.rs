//! Who is let in: origins, proxies, and how much of everything.
//!
//! Owns: the flags for these, and what they set. Does not know: credentials, what is asked for.
//! Flow: arguments and environment → settings of the library.

use std::time::Duration;

use clap::Args;
use tidings::Settings;
use tidings::core::address::Network;
use tidings::core::site::Origin;

/// Flags of `serve` about who is let in.
#[derive(Debug, Args)]
pub(crate) struct DoorFlags {
    /// Origin whose pages may use this server with credentials, such as https://app.example; repeat it for more
    #[arg(long, env = "TIDINGS_ALLOW_ORIGIN", value_delimiter = ',', value_name = "ORIGIN")]
    pub(crate) allow_origin: Vec<Origin>,
    /// Network of proxies whose X-Forwarded-For is believed, such as 10.0.0.0/8; those on loopback are
    #[arg(long, env = "TIDINGS_TRUSTED_PROXY", value_delimiter = ',', value_name = "NETWORK")]
    pub(crate) trusted_proxy: Vec<Network>,
    /// Streams of one client address; a proxy that is believed counts by the address that it forwards
    #[arg(long, env = "TIDINGS_STREAMS_PER_ADDRESS", default_value_t = 100, value_name = "COUNT")]
    pub(crate) streams_per_address: u32,
    /// Streams of one subject; with --dev there is no such limit
    #[arg(long, env = "TIDINGS_STREAMS_PER_SUBJECT", default_value_t = 20, value_name = "COUNT")]
    pub(crate) streams_per_subject: u32,
    /// New streams per second; more have to wait
    #[arg(long, env = "TIDINGS_STREAMS_PER_SECOND", default_value_t = 2_000, value_name = "COUNT")]
    pub(crate) streams_per_second: u32,
    /// Minutes that a stream may last, and a fifth more or less; then it resumes
    #[arg(long, env = "TIDINGS_STREAM_LIFE_MIN", default_value_t = 60, value_name = "MINUTES")]
    pub(crate) stream_life_min: u32,
    /// Connections that are no streams; at most a quarter of the open-file limit
    #[arg(long, env = "TIDINGS_CONNECTIONS_MAX", default_value_t = 10_000, value_name = "COUNT")]
    pub(crate) connections_max: usize,
    /// Connections of one address that are no streams, unless it is a proxy's or on loopback
    #[arg(long, env = "TIDINGS_CONNECTIONS_PER_ADDRESS", default_value_t = 256, value_name = "COUNT")]
    pub(crate) connections_per_address: u32,
    /// New connections per second; more have to wait
    #[arg(long, env = "TIDINGS_CONNECTIONS_PER_SECOND", default_value_t = 5_000, value_name = "COUNT")]
    pub(crate) connections_per_second: u32,
    /// Seconds that the head of a request may take
    #[arg(long, env = "TIDINGS_HEAD_S", default_value_t = 10, value_name = "SECONDS")]
    pub(crate) head_s: u64,
    /// Seconds that a connection may wait for its next request
    #[arg(long, env = "TIDINGS_IDLE_S", default_value_t = 60, value_name = "SECONDS")]
    pub(crate) idle_s: u64,
    /// Seconds that a client may take nothing of an answer that is no stream
    #[arg(long, env = "TIDINGS_WRITE_S", default_value_t = 30, value_name = "SECONDS")]
    pub(crate) write_s: u64,
    /// Wrong credentials of one client address in a minute; then it is not listened to
    #[arg(long, env = "TIDINGS_AUTH_FAILURES", default_value_t = 10, value_name = "COUNT")]
    pub(crate) auth_failures: u32,
}

impl DoorFlags {
    /// Sets what the flags say.
    pub(crate) fn apply(&self, settings: Settings, connections_allowed: usize) -> Settings {
        let seconds = |seconds: u64| Duration::from_secs(seconds.max(1));
        settings
            .connections_max(self.connections_max.min(connections_allowed))
            .connections_per_address(self.connections_per_address)
            .connections_per_second(self.connections_per_second)
            .head_timeout(seconds(self.head_s))
            .idle_timeout(seconds(self.idle_s))
            .write_timeout(seconds(self.write_s))
            .allowed_origins(self.allow_origin.clone())
            .trusted_proxies(self.trusted_proxy.clone())
            .streams_per_address(self.streams_per_address)
            .streams_per_subject(self.streams_per_subject)
            .streams_per_second(self.streams_per_second)
            .stream_life(Duration::from_secs(60 * u64::from(self.stream_life_min.max(1))))
            .auth_failures_per_minute(self.auth_failures)
    }
}
