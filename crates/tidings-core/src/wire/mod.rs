//! What travels: the text of streams.
//!
//! Owns: bytes. Does not know: who they are for.
//! Flow: payload → `sse::encode` → … → `sse::parse` → payload.

pub mod sse;

pub mod problem;
