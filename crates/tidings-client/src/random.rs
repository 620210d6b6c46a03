//! Randomness for jitter.
//!
//! Owns: one number. Does not know: what it spreads.
//! Flow: in ← the system's generator · out → a number in 0..1.

/// Uniform in 0..1.
pub(crate) fn unit() -> f64 {
    // Without a generator every client would wait the middle: worse than jitter, better than a panic.
    let bits = getrandom::u32().unwrap_or(u32::MAX / 2);
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}
