//! Randomness for jitter and for names.
//!
//! Owns: a number, a name. Does not know: what they are for.
//! Flow: in ← the system's generator · out → a number in 0..1, or 128 bits as text.

use std::fmt::Write;

/// Uniform in 0..1.
pub(crate) fn unit() -> f64 {
    // Without a generator every client would wait the middle: worse than jitter, better than a panic.
    let bits = getrandom::u32().unwrap_or(u32::MAX / 2);
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

/// 128 random bits as text; `None` without a generator, since a name that others have too is worse than none.
pub(crate) fn name() -> Option<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes.iter().fold(String::new(), |mut name, byte| {
        write!(name, "{byte:02x}").unwrap_or_default();
        name
    }))
}
