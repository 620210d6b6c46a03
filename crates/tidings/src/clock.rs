//! The two clocks.
//!
//! Owns: the only calls to the system's clocks. Does not know: what times are used for.
//! Flow: out → milliseconds since the start (never jumps) for time-outs, Unix milliseconds for what users see.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

#[allow(clippy::disallowed_types, reason = "the one place that reads the monotonic clock")]
static START: OnceLock<std::time::Instant> = OnceLock::new();

/// Milliseconds since the program first asked. Never jumps.
#[allow(clippy::disallowed_types, reason = "the one place that reads the monotonic clock")]
pub(crate) fn now_ms() -> u64 {
    let start = START.get_or_init(std::time::Instant::now);
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Microseconds since the program first asked, for measuring.
#[allow(clippy::disallowed_types, reason = "the one place that reads the monotonic clock")]
pub(crate) fn now_us() -> u64 {
    u64::try_from(START.get_or_init(std::time::Instant::now).elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Seconds since a reading of [`now_us`].
#[allow(clippy::cast_precision_loss, reason = "a duration for a histogram")]
pub(crate) fn seconds_since_us(then: u64) -> f64 {
    now_us().saturating_sub(then) as f64 / 1e6
}

/// Unix milliseconds, as events carry them. May jump; order never depends on it.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// 256 random bits as text, for secrets.
///
/// # Errors
/// When the system has no random numbers: then nothing may be made up.
pub(crate) fn random_text() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Random bits from the system, for epochs, connection ids and jitter.
pub(crate) fn random() -> u64 {
    // Without the system's random source nothing here is safe to run; ids must not repeat.
    getrandom::u64().unwrap_or_else(|_| now_ms() ^ unix_ms().rotate_left(32))
}
