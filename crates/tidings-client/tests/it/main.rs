//! The client against a scripted server.
//!
//! Owns: what a caller sees. Does not know: the client's inside.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected has to fail"
)]

mod bearer;
mod fake;
mod jobs;
mod publish;
mod subscribe;
mod worker;
