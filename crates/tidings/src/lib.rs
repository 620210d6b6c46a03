//! Real-time updates for web pages over plain HTTP: durable, in order, once.
//!
//! Owns: the log, delivery, jobs and the HTTP surface. Does not know: flags, files of settings, signals.
//! Flow: publish → `log` (group commit) → tail → shards → sockets.

pub mod log;

pub use tidings_core as core;
