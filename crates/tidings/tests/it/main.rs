//! Black box: a running server over real sockets, on every log engine.
//!
//! Owns: what a client, a publisher and an operator see. Does not know: the inside of the crate.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    unreachable_pub,
    reason = "a test that meets the unexpected has to fail"
)]

/// Runs each case on every log engine.
macro_rules! on_each_engine {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::server::Engine::Memory).await })*
        }
        mod disk {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::server::Engine::Disk).await })*
        }
    };
}

mod server;

mod client;

mod http;

mod subscribe;

mod resume;

mod finished;

mod shapes;

mod jobs;

mod queue;

mod reports;

mod artifacts;

mod schedules;

mod publish;

mod slow;

mod connections;

mod protocols;

mod edge;

mod door;

mod frames;

mod floods;

mod health;

mod grants;

mod openapi;

mod model;
