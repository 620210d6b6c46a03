//! Every decision of tidings, as plain values.
//!
//! Owns: names, ids, limits, grants, origins, addresses, the SSE codec, and the rules of resume, connections, conflation and jobs.
//! Does not know: files, sockets, HTTP, the clock, randomness, or which log engine is used. `no_std` proves it.
//! Flow: what a publisher or a browser sent → parsed names and ids → decisions and bytes.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod limits;

pub mod name;

pub mod id;

pub mod event;

pub mod grant;

pub mod site;

pub mod address;

pub mod resume;

pub mod connection;

pub mod conflate;

pub mod job;

pub mod wire;

#[cfg(test)]
mod fixtures;

pub use event::{Payload, PayloadError};
pub use grant::{Grant, GrantError};
pub use id::{Epoch, Epochs, EventId, Seq, Standing};
pub use name::{ChannelName, EventName, Key, NameError};
