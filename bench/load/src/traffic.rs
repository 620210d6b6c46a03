//! What is published when.
//!
//! Owns: the channels' numbers, pace and order. Does not know: HTTP, subscribers.
//! Flow: in ← a rig · out → publishes: as fast as they are delivered, or at an offered rate.

use std::fmt::Write;
use std::time::Duration;

use anyhow::Result;

use crate::clock;
use crate::payload;
use crate::publishers::{Answered, Kind};
use crate::rig::Rig;

/// How fast to publish.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// The next event when fewer than this many are published and not yet at their last subscriber.
    Closed(u64),
    /// So many events per second, late or not.
    Rate(f64),
}

/// The events of a run.
#[derive(Debug)]
pub(crate) struct Traffic {
    names: Vec<String>,
    bytes: usize,
    /// The next number of each channel.
    next: Vec<u64>,
    /// The channel on which each publisher waits for an answer. A channel has one request at a time, so that its
    /// numbers arrive in order.
    busy: Vec<Option<usize>>,
    is_busy: Vec<bool>,
    random: u64,
    pub(crate) published: u64,
}

impl Traffic {
    pub(crate) fn new(prefix: &str, channels: usize, publishers: usize, bytes: usize) -> Self {
        Self {
            names: (0..channels).map(|index| channel(prefix, index)).collect(),
            bytes,
            next: vec![1; channels],
            busy: vec![None; publishers],
            is_busy: vec![false; channels],
            random: 0x9e37_79b9_7f4a_7c15,
            published: 0,
        }
    }

    /// Publishes at `pace` for `time`, and returns when every event is with its last subscriber.
    pub(crate) fn run(&mut self, rig: &mut Rig, pace: Pace, time: Duration) -> Result<()> {
        let start = clock::micros();
        let end = start + clock::to_micros(time);
        let (published, completed) = (self.published, rig.fleet.tally.completed);
        loop {
            let now = clock::micros();
            if now >= end {
                break;
            }
            let sent = self.published - published;
            let wait = match pace {
                Pace::Closed(open_max) => {
                    let mut open = sent - (rig.fleet.tally.completed - completed);
                    while open < open_max && self.publish_one(rig, now)? {
                        open += 1;
                    }
                    Duration::from_millis(100)
                }
                Pace::Rate(rate) => self.offer(rig, rate, start, now, sent)?,
            };
            self.turn(rig, wait)?;
        }
        let due = completed + self.published - published;
        let deadline = clock::micros() + clock::to_micros(crate::rig::PATIENCE);
        while rig.fleet.tally.completed < due {
            self.turn(rig, Duration::from_millis(100))?;
            anyhow::ensure!(
                clock::micros() < deadline,
                "{} of {due} events delivered",
                rig.fleet.tally.completed
            );
        }
        while self.busy.iter().any(Option::is_some) {
            self.turn(rig, Duration::from_millis(10))?;
        }
        Ok(())
    }

    /// Publishes what is due at `rate` and returns how long to wait for the next. An event carries the time at which
    /// it was due, so that waiting for a publisher counts as latency.
    fn offer(&mut self, rig: &mut Rig, rate: f64, start: u64, now: u64, mut sent: u64) -> Result<Duration> {
        let due_at = |index: u64| start + (index as f64 / rate * 1e6) as u64;
        while due_at(sent) <= now && self.publish_one(rig, due_at(sent))? {
            sent += 1;
        }
        Ok(Duration::from_micros(due_at(sent).saturating_sub(now).clamp(50, 100_000)))
    }

    fn turn(&mut self, rig: &mut Rig, wait: Duration) -> Result<()> {
        for Answered { publisher, .. } in rig.turn(wait)? {
            if let Some(channel) = self.busy.get_mut(publisher).and_then(Option::take) {
                self.is_busy[channel] = false;
            }
        }
        Ok(())
    }

    /// Publishes the next event of a random channel; `false` if no publisher, or the channel, is free.
    fn publish_one(&mut self, rig: &mut Rig, t: u64) -> Result<bool> {
        let Some(publisher) = self.busy.iter().position(Option::is_none) else { return Ok(false) };
        // xorshift: the order only has to look random.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let channel = usize::try_from(self.random % self.names.len() as u64)?;
        if self.is_busy[channel] {
            return Ok(false);
        }
        let mut body = Vec::with_capacity(self.bytes + 64);
        line(&mut body, &self.names[channel], self.next[channel], t, self.bytes);
        rig.publishers.publish(publisher, Kind::Json, &body)?;
        self.next[channel] += 1;
        self.published += 1;
        self.busy[publisher] = Some(channel);
        self.is_busy[channel] = true;
        Ok(true)
    }
}

/// The name of a channel.
pub(crate) fn channel(prefix: &str, index: usize) -> String {
    format!("{prefix}:{index}")
}

/// One publish as JSON.
pub(crate) fn line(out: &mut Vec<u8>, channel: &str, n: u64, t: u64, bytes: usize) {
    let mut head = String::new();
    write!(head, "{{\"channel\":\"{channel}\",\"data\":").ok();
    out.extend_from_slice(head.as_bytes());
    payload::write(out, n, t, bytes);
    out.push(b'}');
}
