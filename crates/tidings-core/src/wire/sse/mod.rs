//! Server-Sent Events as WHATWG HTML §9.2 defines them.
//!
//! Owns: the encoder and the parser. Does not know: sockets, ids' meaning.
//! Flow: payload → body (before the commit) → frame (when the sequence is known) → parser.

pub mod encode;

pub mod parse;
