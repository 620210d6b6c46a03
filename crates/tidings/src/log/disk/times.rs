//! When events were written, coarsely.
//!
//! Owns: up to which position everything is older than a given time. Does not know: the clock.
//! Flow: in ← positions with their times · out → the floor that an age gives.

use std::collections::VecDeque;

use tidings_core::Seq;

/// How many steps an age is divided into: an event outlives its age by at most this part of it.
const STEPS: u64 = 1024;

/// A run of events and the newest time up to its end. Clocks jump; a position counts as old only when everything
/// before it is old as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) last: Seq,
    pub(super) from_ms: u64,
    pub(super) to_ms: u64,
}

#[derive(Debug)]
pub(super) struct Times {
    step_ms: u64,
    // Invariant: rising in every field, and at most `STEPS_MAX` long.
    steps: VecDeque<Step>,
}

/// Beyond, neighbours are joined: the age is kept more coarsely, and memory stays bounded.
const STEPS_MAX: usize = 8 * 1024;

impl Times {
    pub(super) fn new(age_ms: u64) -> Self {
        Self { step_ms: (age_ms / STEPS).max(1), steps: VecDeque::new() }
    }

    pub(super) fn push(&mut self, seq: Seq, time_ms: u64) {
        match self.steps.back_mut() {
            // At the start, events are met again that a checkpoint knows.
            Some(step) if seq <= step.last => {}
            Some(step) if time_ms < step.from_ms.saturating_add(self.step_ms) => {
                step.last = step.last.max(seq);
                step.to_ms = step.to_ms.max(time_ms);
            }
            _ => self.steps.push_back(Step { last: seq, from_ms: time_ms, to_ms: time_ms }),
        }
        if self.steps.len() > STEPS_MAX {
            self.halve();
        }
    }

    fn halve(&mut self) {
        let mut joined = VecDeque::with_capacity(STEPS_MAX);
        let mut steps = self.steps.drain(..);
        while let Some(first) = steps.next() {
            let end = steps.next().unwrap_or(first);
            joined.push_back(Step { from_ms: first.from_ms, ..end });
        }
        drop(steps);
        self.steps = joined;
    }

    /// The newest position up to which every event's time is below `time_ms`.
    pub(super) fn before(&self, time_ms: u64) -> Option<Seq> {
        self.steps.iter().take_while(|step| step.to_ms < time_ms).last().map(|step| step.last)
    }

    /// Forgets what is of no use any more: positions up to `floor`.
    pub(super) fn trim(&mut self, floor: Seq) {
        while self.steps.front().is_some_and(|step| step.last <= floor) {
            self.steps.pop_front();
        }
    }

    pub(super) fn steps(&self) -> impl ExactSizeIterator<Item = Step> + '_ {
        self.steps.iter().copied()
    }

    /// Takes a step as a checkpoint had it.
    pub(super) fn restore(&mut self, step: Step) {
        self.steps.push_back(step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_old_only_when_everything_before_it_is() {
        let mut times = Times::new(1_000);
        for (seq, time) in [(1, 10), (2, 20), (3, 500), (4, 30), (5, 600)] {
            times.push(Seq(seq), time);
        }
        assert_eq!(times.before(10), None);
        assert_eq!(times.before(11), Some(Seq(1)));
        assert_eq!(times.before(400), Some(Seq(2)));
        assert_eq!(times.before(501), Some(Seq(4)));
        assert_eq!(times.before(601), Some(Seq(5)));
    }

    #[test]
    fn a_clock_that_jumps_ahead_and_back_makes_no_event_older_than_it_is() {
        let mut times = Times::new(1_000);
        for (seq, time) in [(1, 10), (2, 1_000_000), (3, 20), (4, 30)] {
            times.push(Seq(seq), time);
        }
        // What came behind the jump stays for as long as the jump was, or until other bounds take it.
        assert_eq!(times.before(500), Some(Seq(1)));
        assert_eq!(times.before(1_000_000), Some(Seq(1)));
        assert_eq!(times.before(1_000_001), Some(Seq(4)));
    }

    #[test]
    fn memory_stays_bounded_and_joining_never_makes_an_event_older() {
        let mut times = Times::new(1);
        for n in 0..100_000 {
            times.push(Seq(n + 1), n);
        }
        assert!(times.steps().len() <= STEPS_MAX);
        for now in (0..100_000).step_by(997) {
            assert!(times.before(now).is_none_or(|seq| seq.0 <= now), "{now}");
        }
    }
}
