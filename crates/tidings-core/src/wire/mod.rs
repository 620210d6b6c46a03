//! What travels: the text of streams, and the form of requests.
//!
//! Owns: bytes. Does not know: who they are for.
//! Flow: payload → `sse::encode` → … → `sse::parse` → payload; what a client sends → `http1` → what a server may read.

pub mod sse;

pub mod problem;

pub mod http1;
