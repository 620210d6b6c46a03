//! From flags to the settings of a hub.
//!
//! Owns: the rules that only the binary has: who is known, and without authentication loopback only. Does not know:
//! defaults of the library.
//! Flow: flags → checked settings, or one clear sentence.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tidings::Settings;
use tidings::log::Retention;

use crate::cli::ServeFlags;
use crate::limits::Allowed;

/// Checks flags and makes settings of them.
pub(crate) fn settings(flags: &ServeFlags, allowed: Allowed) -> Result<Settings> {
    match (flags.dev, flags.auth.source()) {
        (true, Some(source)) => {
            bail!("--dev means no authentication, and {source} asks for some: leave one of them out")
        }
        (true, None) if !flags.listen.ip().is_loopback() => bail!(
            "--dev means no authentication, so {} is refused: listen on a loopback address such as 127.0.0.1:4080",
            flags.listen
        ),
        (false, None) => bail!(
            "nobody could do anything: say who is known with --jwt-key, --jwks-url, --api-key-file, --forward-auth or --anonymous, or run it with --dev on a loopback address"
        ),
        (true, None) | (false, Some(_)) => {}
    }
    flags.door.places(flags.listen, flags.dev)?;
    let retention = Retention::default()
        .events_max(flags.log.retain_events)
        .age_ms_max(flags.log.retain_hours.saturating_mul(3_600_000))
        .channel_bytes_max(mib(flags.log.retain_channel_mib))
        .log_bytes_max(mib(flags.log.retain_log_mib));
    let streams_max = match flags.streams_max {
        0 => allowed.streams,
        wanted => wanted.min(allowed.streams),
    };
    let mut settings = Settings::on_disk(&flags.data)
        .dev(flags.dev)
        .retention(retention)
        .segment_bytes(mib(flags.log.segment_mib))
        .disk_reserve_bytes(mib(flags.log.disk_reserve_mib))
        .artifact_bytes_max(mib(flags.log.artifact_mib))
        .artifacts_bytes_max(mib(flags.log.artifacts_mib))
        .keepalive(Duration::from_secs(flags.keepalive_s.max(1)))
        .stall(Duration::from_secs(flags.stall_s.max(1)))
        .drain(Duration::from_secs(flags.drain_s))
        .streams_max(streams_max)
        .public_url(flags.public_url.clone())
        .events_paths(flags.events_path.clone())
        .job_routes(flags.job_route.clone());
    settings.check_paths().context("--events-path and --job-route")?;
    if flags.shards > 0 {
        settings = settings.shards(flags.shards);
    }
    Ok(flags.door.apply(settings, allowed.connections))
}

fn mib(count: u64) -> u64 {
    count.saturating_mul(1 << 20)
}
