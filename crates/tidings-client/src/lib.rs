//! Rust client for tidings: subscribe with resume, publish.
