//! Real-time updates for web pages over plain HTTP: durable, in order, once.
//!
//! Owns: the log, delivery, jobs and the HTTP surface. Does not know: flags, files of settings, signals.
//! Flow: publish → `log` (group commit) → tail → shards → sockets.

mod clock;

mod turns;

pub mod auth;

mod settings;

mod metrics;

mod publish;

mod writer;

pub mod log;

mod frame;

mod tail;

mod subscribe;

mod control;

mod shard;

mod pace;

mod memory;

mod failures;

mod hub;

pub mod jobs;

mod http;

pub use http::arrival::{Role, peer};
pub use http::mounts::PathError;
pub use http::serve::{serve, serve_all, serve_hub};
pub use hub::Hub;
pub use publish::{Publication, PublishError, Published};
pub use settings::Settings;
pub use tidings_core as core;
pub use turns::take_turns;
pub use writer::CommitError;

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
