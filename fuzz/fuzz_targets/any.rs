#![no_main]
//! All targets in one executable, so that what they share is linked once: `TIDINGS_FUZZ` names the one to run.

use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let wanted = std::env::var("TIDINGS_FUZZ").unwrap_or_default();
    let found = tidings_fuzz::TARGETS.iter().find(|(name, _)| *name == wanted);
    found.unwrap_or_else(|| panic!("TIDINGS_FUZZ={wanted:?} is no target")).1
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));
