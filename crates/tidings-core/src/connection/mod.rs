//! A connection as values: where it stands, when it is due, and how long others are asked to wait.
//!
//! Owns: position, keep-alive, stall, drain and retry rules. Does not know: sockets, timers, frames, randomness (it is given
//! a seed).
//! Flow: what a socket took → `Place`, `Timers` → what to send, or that it is over.

mod jitter;
mod place;
mod timers;

pub use jitter::{Retry, Seed};
pub use place::Place;
pub use timers::{Due, Taken, Timers, Timing};

// An idle connection may cost 1 KB of user space in all; its state is tens of bytes of it.
const _: () = assert!(size_of::<Place>() + size_of::<Timers>() <= 40);
