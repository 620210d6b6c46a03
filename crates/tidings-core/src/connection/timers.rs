//! When a connection is due: keep-alive, cursor, stall, end of life, drain.
//!
//! Owns: the times. Does not know: clocks (it is told the time), sockets, what a frame is.
//! Flow: `handle_*` says what the socket did → `poll_timeout` says when to ask → `poll` says what is due.

use super::jitter::Seed;

/// The settings of all connections, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// The longest silence. Default 15 s: proxies give up from 30 s on.
    pub keepalive_ms: u32,
    /// How long a socket may take no byte of what it is owed. Default 5 min.
    pub stall_ms: u32,
    /// How often, at most, a quiet stream is told its position. Default 5 min.
    pub cursor_ms: u32,
    /// How old a stream may become, and a fifth more or less; then it is closed, and resumes. Default 1 h.
    ///
    /// What is wrong with a connection that nobody notices, and how streams are spread over servers, is mended by this.
    pub life_ms: u32,
}

impl Default for Timing {
    fn default() -> Self {
        Self { keepalive_ms: 15_000, stall_ms: 300_000, cursor_ms: 300_000, life_ms: 3_600_000 }
    }
}

/// What a socket took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Something is still owed that it had no room for.
    pub owed: bool,
    /// An event with an id was among it.
    pub id: bool,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Send a comment.
    KeepAlive,
    /// Send `tidings.cursor` in its place.
    Cursor,
    /// Close it: it took no byte for the stall time. It resumes by its id.
    Stalled,
    /// Close it: the server stops.
    Drained,
    /// Close it: it is as old as a stream may become. It resumes by its id.
    Aged,
}

/// The times of one connection. Ticks are milliseconds modulo 2^32; no time that is compared lies more than 24 days back,
/// because a connection is polled at least once per keep-alive or stall time, and at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// When the socket last took a byte, or since when it takes none of what it is owed.
    since: u32,
    /// When an id was last sent.
    told: u32,
    /// When it is closed.
    close: u32,
    /// Low bits of the seed: enough to spread keep-alives.
    seed: u16,
    owed: bool,
    /// `told` lies so far back that a cursor may be sent; it stays so however long the log does not move.
    stale: bool,
    drains: bool,
}

/// Half the range of ticks: a setting above it could not be told from the past.
const TICKS_MAX: u32 = u32::MAX / 2;
/// With a fifth more, a life still fits the ticks: about 20 days.
const LIFE_MS_MAX: u32 = TICKS_MAX / 6 * 5;

impl Timers {
    /// A connection that was just opened.
    ///
    /// ```
    /// use tidings_core::connection::{Due, Seed, Timers, Timing};
    /// let timing = Timing::default();
    /// let mut timers = Timers::new(0, Seed(1), &timing);
    /// let due_ms = timers.poll_timeout(0, &timing);
    /// assert!(due_ms <= 15_000);
    /// assert_eq!(timers.poll(due_ms, &timing, false), Some(Due::KeepAlive));
    /// ```
    #[must_use]
    pub fn new(now_ms: u64, seed: Seed, timing: &Timing) -> Self {
        let now = tick(now_ms);
        let close = now.wrapping_add(seed.life_ms(timing.life_ms.min(LIFE_MS_MAX)));
        // Sixteen bits spread keep-alives enough.
        let seed = (seed.0 >> 48) as u16 ^ (seed.0 & 0xffff) as u16;
        Self { since: now, told: now, close, seed, owed: false, stale: false, drains: false }
    }

    /// The socket took bytes.
    pub fn handle_taken(&mut self, now_ms: u64, taken: Taken) {
        self.since = tick(now_ms);
        self.owed = taken.owed;
        if taken.id {
            (self.told, self.stale) = (self.since, false);
        }
    }

    /// The socket took nothing of what it is owed.
    pub fn handle_refused(&mut self, now_ms: u64) {
        if !self.owed {
            (self.since, self.owed) = (tick(now_ms), true);
        }
    }

    /// The server stops, and closes its connections over `spread_ms`. Only the first time counts.
    pub fn handle_drain(&mut self, now_ms: u64, spread_ms: u32, seed: Seed) {
        if !self.drains {
            let now = tick(now_ms);
            let after = seed.drain_ms(spread_ms.min(TICKS_MAX)).min(until(self.close, now));
            (self.close, self.drains) = (now.wrapping_add(after), true);
        }
    }

    /// For how long the socket has taken nothing of what it is owed. `None` if it is owed nothing.
    #[must_use]
    pub fn waited_ms(&self, now_ms: u64) -> Option<u32> {
        self.owed.then(|| tick(now_ms).wrapping_sub(self.since))
    }

    /// When to poll, at the latest; not before `now_ms`.
    #[must_use]
    pub fn poll_timeout(&self, now_ms: u64, timing: &Timing) -> u64 {
        let now = tick(now_ms);
        let quiet = now.wrapping_sub(self.since);
        let wait = self.patience_ms(timing).saturating_sub(quiet).min(until(self.close, now));
        now_ms + u64::from(wait)
    }

    /// What is due now, if anything. `moved`: the stream stands behind the newest id that was sent on it.
    ///
    /// What is due stays due until `handle_taken` or `handle_refused` says that something was done about it.
    pub fn poll(&mut self, now_ms: u64, timing: &Timing, moved: bool) -> Option<Due> {
        let now = tick(now_ms);
        self.stale |= now.wrapping_sub(self.told) >= timing.cursor_ms.min(TICKS_MAX);
        if until(self.close, now) == 0 {
            return Some(if self.drains { Due::Drained } else { Due::Aged });
        }
        if now.wrapping_sub(self.since) < self.patience_ms(timing) {
            return None;
        }
        Some(match (self.owed, self.stale && moved) {
            (true, _) => Due::Stalled,
            (false, true) => Due::Cursor,
            (false, false) => Due::KeepAlive,
        })
    }

    /// How long the present silence may last.
    fn patience_ms(&self, timing: &Timing) -> u32 {
        if self.owed {
            return timing.stall_ms.min(TICKS_MAX);
        }
        Seed(u64::from(self.seed)).keepalive_ms(timing.keepalive_ms.min(TICKS_MAX))
    }
}

/// Milliseconds modulo 2^32.
fn tick(now_ms: u64) -> u32 {
    u32::try_from(now_ms & u64::from(u32::MAX)).unwrap_or(0)
}

/// How long it is until a tick, 0 if it has passed.
fn until(at: u32, now: u32) -> u32 {
    let wait = at.wrapping_sub(now);
    if wait > TICKS_MAX { 0 } else { wait }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::vec::Vec;

    use super::*;

    /// The same rules over plain times that never wrap.
    #[derive(Debug)]
    struct Model {
        since: u64,
        told: u64,
        owed: bool,
        close: u64,
        drains: bool,
        keepalive: u64,
    }

    impl Model {
        fn due(&self, now: u64, timing: &Timing, moved: bool) -> Option<Due> {
            let quiet = now - self.since;
            if self.close <= now {
                Some(if self.drains { Due::Drained } else { Due::Aged })
            } else if self.owed {
                (quiet >= u64::from(timing.stall_ms)).then_some(Due::Stalled)
            } else if quiet < self.keepalive {
                None
            } else if moved && now - self.told >= u64::from(timing.cursor_ms) {
                Some(Due::Cursor)
            } else {
                Some(Due::KeepAlive)
            }
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Taken(bool, bool),
        Refused,
        Drain(u32),
        /// Wait for part of the time until the next poll, in tenths.
        Wait(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<(Step, bool)>> {
        let step = prop_oneof![
            3 => any::<(bool, bool)>().prop_map(|(owed, id)| Step::Taken(owed, id)),
            1 => Just(Step::Refused),
            1 => (0_u32..100_000).prop_map(Step::Drain),
            6 => (0_u64..=10).prop_map(Step::Wait),
        ];
        proptest::collection::vec((step, any::<bool>()), 0..80)
    }

    proptest! {
        #[test]
        fn ticks_that_wrap_decide_as_plain_times_do(
            steps in steps(), seed: u64, start in prop_oneof![any::<u32>().prop_map(u64::from),
            (u64::from(u32::MAX) - 100_000)..(u64::from(u32::MAX) + 10)],
            timing in (1_u32..20_000, 1_u32..400_000, 1_u32..400_000, 20_000_u32..2_000_000),
        ) {
            let timing = Timing { keepalive_ms: timing.0, stall_ms: timing.1, cursor_ms: timing.2, life_ms: timing.3 };
            let (mut now, seed) = (start, Seed(seed));
            let mut timers = Timers::new(now, seed, &timing);
            let keepalive = timers.poll_timeout(now, &timing) - now;
            prop_assert!(keepalive <= u64::from(timing.keepalive_ms));
            prop_assert!(keepalive * 5 >= u64::from(timing.keepalive_ms) * 4);
            let mut model = Model { since: now, told: now, owed: false, close: now + u64::from(seed.life_ms(timing.life_ms)), drains: false, keepalive };
            for (step, moved) in steps {
                match step {
                    Step::Taken(owed, id) => {
                        timers.handle_taken(now, Taken { owed, id });
                        (model.since, model.owed) = (now, owed);
                        model.told = if id { now } else { model.told };
                    }
                    Step::Refused => {
                        timers.handle_refused(now);
                        model.since = if model.owed { model.since } else { now };
                        model.owed = true;
                    }
                    Step::Drain(spread) => {
                        timers.handle_drain(now, spread, seed);
                        if !model.drains {
                            model.drains = true;
                            model.close = model.close.min(now + u64::from(seed.drain_ms(spread))).max(now);
                        }
                    }
                    Step::Wait(tenths) => {
                        let at = timers.poll_timeout(now, &timing);
                        prop_assert!(at >= now);
                        if at > now {
                            prop_assert_eq!(model.due(at - 1, &timing, moved), None, "never late");
                        }
                        prop_assert!(model.due(at, &timing, moved).is_some(), "never early");
                        now += (at - now) * tenths / 10;
                    }
                }
                prop_assert_eq!(timers.poll(now, &timing, moved), model.due(now, &timing, moved));
            }
        }
    }

    #[test]
    fn a_stream_that_is_quiet_until_ticks_come_round_still_gets_its_cursor() {
        let timing = Timing::default();
        let (mut timers, mut now) = (Timers::new(0, Seed(3), &Timing { life_ms: u32::MAX, ..timing }), 0);
        while now < 1 << 32 {
            // Nobody has lived so long; the rule for cursors holds all the same.
            timers.close = tick(now).wrapping_add(TICKS_MAX);
            now = timers.poll_timeout(now, &timing);
            assert_eq!(timers.poll(now, &timing, false), Some(Due::KeepAlive));
            timers.handle_taken(now, Taken { owed: false, id: false });
        }
        now = timers.poll_timeout(now, &timing);
        assert_eq!(timers.poll(now, &timing, true), Some(Due::Cursor));
        timers.handle_taken(now, Taken { owed: false, id: true });
        now = timers.poll_timeout(now, &timing);
        assert_eq!(timers.poll(now, &timing, true), Some(Due::KeepAlive));
    }
}
