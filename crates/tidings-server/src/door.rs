//! Who is let in: listeners, origins, proxies, and how much of everything.
//!
//! Owns: the flags for these, and what they set. Does not know: credentials, what is asked for.
//! Flow: arguments and environment → settings of the library.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use tidings::core::address::Network;
use tidings::core::site::Origin;
use tidings::{Role, Settings};

/// Flags of `serve` about who is let in.
#[derive(Debug, Args)]
pub(crate) struct DoorFlags {
    /// Address for back ends: once it is set, API keys count only there
    #[arg(long, env = "TIDINGS_PUBLISH_LISTEN", value_name = "ADDRESS")]
    pub(crate) publish_listen: Option<SocketAddr>,
    /// Address for operators: once it is set, connections, revocations, metrics and readiness are only there
    #[arg(long, env = "TIDINGS_ADMIN_LISTEN", value_name = "ADDRESS")]
    pub(crate) admin_listen: Option<SocketAddr>,
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
    /// MiB of memory beyond which new streams are refused and the slowest readers closed; 0 is three quarters of all
    #[arg(long, env = "TIDINGS_MEMORY_MIB", default_value_t = 0, value_name = "MIB")]
    pub(crate) memory_mib: u64,
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

/// A listener's address, and what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) flag: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) role: Role,
}

impl DoorFlags {
    /// All listeners, the public one first. Each has an address of its own, and with --dev all are on loopback.
    pub(crate) fn places(&self, listen: SocketAddr, is_dev: bool) -> Result<Vec<Place>> {
        let app =
            if self.admin_listen.is_some() { Role::everything().without_admin() } else { Role::everything() };
        let public = if self.publish_listen.is_some() { app.without_api_keys() } else { app };
        let mut places = vec![Place { flag: "--listen", address: listen, role: public }];
        let more = [
            ("--publish-listen", self.publish_listen, app),
            ("--admin-listen", self.admin_listen, Role::admin()),
        ];
        for (flag, address, role) in more {
            let Some(address) = address else { continue };
            if let Some(other) = places.iter().find(|place| collide(place.address, address)) {
                bail!(
                    "{} and {flag} are both {address}: give each listener an address of its own",
                    other.flag
                );
            }
            if is_dev && !address.ip().is_loopback() {
                bail!(
                    "--dev means no authentication, so {flag} {address} is refused: it is not a loopback address"
                );
            }
            places.push(Place { flag, address, role });
        }
        Ok(places)
    }

    /// Sets what the flags say.
    pub(crate) fn apply(&self, settings: Settings, connections_allowed: usize) -> Settings {
        let seconds = |seconds: u64| Duration::from_secs(seconds.max(1));
        let settings = match self.memory_mib {
            0 => settings,
            mib => settings.memory_bytes(mib.saturating_mul(1 << 20)),
        };
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

/// Whether two listeners cannot both be had. Port 0 is another one each time.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let all = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && (one.ip() == other.ip() || all)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        door: DoorFlags,
    }

    fn places(listen: &str, more: &[&str], is_dev: bool) -> Result<Vec<Place>> {
        let flags = Flags::try_parse_from(["x"].iter().chain(more)).unwrap();
        flags.door.places(listen.parse().unwrap(), is_dev)
    }

    #[test]
    fn each_listener_has_its_role() {
        let all = Role::everything();
        let roles = |more: &[&str]| -> Vec<Role> {
            places("127.0.0.1:4080", more, true).unwrap().iter().map(|place| place.role).collect()
        };
        assert_eq!(roles(&[]), [all]);
        assert_eq!(roles(&["--publish-listen", "127.0.0.1:4081"]), [all.without_api_keys(), all]);
        assert_eq!(roles(&["--admin-listen", "127.0.0.1:4081"]), [all.without_admin(), Role::admin()]);
        let both = ["--publish-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let app = all.without_admin();
        assert_eq!(roles(&both), [app.without_api_keys(), app, Role::admin()]);
    }

    #[test]
    fn two_listeners_on_one_address_are_refused_in_one_sentence() {
        for (listen, flag, other) in [
            ("127.0.0.1:4080", "--admin-listen", "127.0.0.1:4080"),
            ("0.0.0.0:4080", "--publish-listen", "127.0.0.1:4080"),
            ("127.0.0.1:4080", "--publish-listen", "[::]:4080"),
        ] {
            let error = places(listen, &[flag, other], false).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("--listen and {flag} are both {other}: give each listener an address of its own")
            );
        }
        let two = ["--publish-listen", "127.0.0.1:4081", "--admin-listen", "127.0.0.1:4081"];
        let error = places("127.0.0.1:4080", &two, false).unwrap_err().to_string();
        assert!(error.starts_with("--publish-listen and --admin-listen are both 127.0.0.1:4081"), "{error}");
        assert!(places("127.0.0.1:4080", &["--admin-listen", "0.0.0.0:4081"], true).is_err());
        assert!(places("0.0.0.0:4080", &["--admin-listen", "0.0.0.0:4081"], false).is_ok());
    }
}
