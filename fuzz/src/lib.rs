//! What is fuzzed, as plain functions of bytes, one file a target: each panics if something does not hold.
//!
//! Owns: the targets, and oracles that are written without a look at the code they judge. Does not know: libFuzzer; the
//! few lines in `fuzz_targets/` hand its bytes to these functions.
//! Flow: bytes → `Input` takes them apart → the code under test and the oracle → the same, or a crash.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a target that meets the unexpected has to crash"
)]

mod input;

mod oracle;

mod hub;

pub mod sse_encode;

pub mod sse_parse;

pub mod ids;

pub mod resume;

pub mod names;

pub mod grants;

pub mod http1;

pub mod jwt;

pub mod jwks;

pub mod settings;

pub mod job;

pub mod publish;

pub mod request;

pub mod recovery;

pub mod server;

/// Every target by name. Each has a file in `fuzz_targets/` too, which is how cargo-fuzz finds it.
pub const TARGETS: &[(&str, fn(&[u8]))] = &[
    ("sse_encode", sse_encode::run),
    ("sse_parse", sse_parse::run),
    ("ids", ids::run),
    ("resume", resume::run),
    ("names", names::run),
    ("grants", grants::run),
    ("http1", http1::run),
    ("jwt", jwt::run),
    ("jwks", jwks::run),
    ("settings", settings::run),
    ("job", job::run),
    ("publish", publish::run),
    ("request", request::run),
    ("recovery", recovery::run),
    ("server", server::run),
];
