//! Publishing connections that are kept alive.
//!
//! Owns: where publishes go, and how long they took. Does not know: what is published and when.
//! Flow: in ← a body · out → an answer.

use std::os::fd::RawFd;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::calls::Calls;
pub(crate) use crate::calls::Kind;
use crate::connect::Target;
use crate::quantiles::Quantiles;

/// 127.3.0.0 is where publishers come from.
const NETWORK: u8 = 3;

/// An answer that came.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) publisher: usize,
    pub(crate) body: Vec<u8>,
}

/// The publishing connections of one process.
#[derive(Debug)]
pub(crate) struct Publishers {
    calls: Calls,
    latencies: Vec<u64>,
}

impl Publishers {
    /// Begins to connect `count` of them.
    pub(crate) fn new(target: Target, count: usize) -> Result<Self> {
        Ok(Self { calls: Calls::new(target, NETWORK, count)?, latencies: Vec::new() })
    }

    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether a publisher has no request under way.
    pub(crate) fn is_free(&self, index: usize) -> bool {
        self.calls.is_free(index)
    }

    /// Publishes `body`; the publisher is free.
    pub(crate) fn publish(&mut self, index: usize, kind: Kind, body: &[u8]) -> Result<()> {
        self.calls.post(index, "/v1/publish", kind, body)
    }

    /// What wakes a poll of others when an answer came.
    pub(crate) fn fd(&self) -> RawFd {
        self.calls.fd()
    }

    /// The answers that came by now.
    pub(crate) fn answers(&mut self) -> Result<Vec<Answered>> {
        let mut answers = Vec::new();
        for answer in self.calls.answers(Duration::ZERO)? {
            let answer = answer.success().context("publish")?;
            self.latencies.push(answer.took_us);
            answers.push(Answered { publisher: answer.connection, body: answer.body });
        }
        Ok(answers)
    }

    /// From request to answer, since the last call.
    pub(crate) fn take_latencies(&mut self) -> Quantiles {
        Quantiles::of(std::mem::take(&mut self.latencies))
    }
}
