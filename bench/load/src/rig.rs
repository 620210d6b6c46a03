//! Subscribers and publishers on one thread.
//!
//! Owns: the loop. Does not know: what is measured.
//! Flow: readiness → fleet and publishers → answers.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::clock;
use crate::connect::Target;
use crate::fleet::{Fleet, Spec};
use crate::publishers::{Answered, Publishers};

/// Connections that are being made at once, so that no listen backlog overflows.
const CONNECTING_MAX: usize = 256;
/// Subscribers that are read between two looks at the publishers: about half a millisecond.
const TURN_EVENTS: usize = 64;
/// The token of the publishers; subscribers have those below.
const PUBLISHERS: Token = Token(usize::MAX - 1);
/// How long a scenario waits for something that has to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// One process of the load generator.
#[derive(Debug)]
pub(crate) struct Rig {
    poll: Poll,
    events: Events,
    pub(crate) fleet: Fleet,
    pub(crate) publishers: Publishers,
}

impl Rig {
    pub(crate) fn new(target: &Target, channels: usize, publishers: usize) -> Result<Self> {
        let poll = Poll::new()?;
        let publishers = Publishers::new(target.clone(), publishers)?;
        poll.registry().register(&mut SourceFd(&publishers.fd()), PUBLISHERS, Interest::READABLE)?;
        let fleet = Fleet::new(target.clone(), channels);
        Ok(Self { poll, events: Events::with_capacity(TURN_EVENTS), fleet, publishers })
    }

    /// Waits for readiness, at most `timeout`, and handles it.
    pub(crate) fn turn(&mut self, timeout: Duration) -> Result<Vec<Answered>> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(Vec::new()),
            result => result?,
        }
        for event in self.events.iter().filter(|event| event.token() != PUBLISHERS) {
            self.fleet.handle(event)?;
        }
        self.publishers.answers()
    }

    /// Opens `count` more subscribers, and returns when all their streams have begun.
    pub(crate) fn subscribe(&mut self, count: usize, spec: impl Fn(usize) -> Spec) -> Result<()> {
        self.subscribe_within(count, CONNECTING_MAX, spec)
    }

    /// The same with at most `connecting_max` under way at once.
    pub(crate) fn subscribe_within(
        &mut self,
        count: usize,
        connecting_max: usize,
        spec: impl Fn(usize) -> Spec,
    ) -> Result<()> {
        let all = self.fleet.len() + count;
        let deadline = clock::micros() + clock::to_micros(PATIENCE);
        let mut index = 0;
        while self.fleet.open < all {
            while index < count && self.fleet.len() - self.fleet.open < connecting_max {
                self.fleet.add(self.poll.registry(), spec(index))?;
                index += 1;
            }
            self.turn(Duration::from_millis(100))?;
            ensure!(clock::micros() < deadline, "{} of {all} streams have begun", self.fleet.open);
        }
        Ok(())
    }

    /// Turns until `is_done`.
    pub(crate) fn run_until(&mut self, what: &str, is_done: impl Fn(&Self) -> bool) -> Result<()> {
        let deadline = clock::micros() + clock::to_micros(PATIENCE);
        while !is_done(self) {
            self.turn(Duration::from_millis(100))?;
            (clock::micros() < deadline).then_some(()).with_context(|| format!("waiting for {what}"))?;
        }
        Ok(())
    }

    /// Turns for `time`.
    pub(crate) fn run_for(&mut self, time: Duration) -> Result<()> {
        let until = clock::micros() + clock::to_micros(time);
        while let Some(left) = until.checked_sub(clock::micros()).filter(|left| *left > 0) {
            self.turn(Duration::from_micros(left))?;
        }
        Ok(())
    }
}
