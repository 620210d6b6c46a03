//! When to try again.
//!
//! Owns: the wait before each attempt. Does not know: why the last one failed, the clock, randomness.
//! Flow: in ← how long a stream was open, `retry:`, `Retry-After`, `tidings.drain`, a random number · out → a wait.

use std::time::Duration;

/// `retry:` and `Retry-After` hold a client back for at most this long, whatever a proxy in between invents.
const FLOOR_MAX: Duration = Duration::from_secs(600);

/// How a subscription comes back after a disconnect: full jitter, growing, on top of what the server asks for.
///
/// ```
/// use std::time::Duration;
/// use tidings_client::Retry;
/// let retry = Retry::default().base(Duration::from_millis(100)).max(Duration::from_secs(5));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retry {
    pub(crate) base: Duration,
    pub(crate) max: Duration,
    pub(crate) reset_after: Duration,
    pub(crate) floor_max: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(500),
            max: Duration::from_secs(30),
            reset_after: Duration::from_secs(10),
            floor_max: FLOOR_MAX,
        }
    }
}

impl Retry {
    /// The random part of the first wait is below this (500 ms); it doubles with every attempt.
    #[must_use]
    pub fn base(self, base: Duration) -> Self {
        Self { base, ..self }
    }

    /// The random part of a wait never exceeds this (30 s).
    #[must_use]
    pub fn max(self, max: Duration) -> Self {
        Self { max, ..self }
    }

    /// A stream that was open for this long (10 s) begins again at `base`.
    #[must_use]
    pub fn reset_after(self, reset_after: Duration) -> Self {
        Self { reset_after, ..self }
    }

    /// What the server asks for with `retry:` or `Retry-After` counts up to this (10 minutes). Zero ignores it,
    /// which is for tests.
    #[must_use]
    pub fn floor_max(self, floor_max: Duration) -> Self {
        Self { floor_max, ..self }
    }
}

/// The state between attempts.
#[derive(Debug)]
pub(crate) struct Backoff {
    retry: Retry,
    attempts: u32,
    server_retry: Duration,
    drain_spread: Option<Duration>,
}

impl Backoff {
    pub(crate) fn new(retry: Retry) -> Self {
        Self { retry, attempts: 0, server_retry: Duration::ZERO, drain_spread: None }
    }

    /// The stream said `retry:`.
    pub(crate) fn handle_retry(&mut self, retry: Duration) {
        self.server_retry = retry;
    }

    /// The server is about to end its streams and wants the next attempts spread over `spread`.
    pub(crate) fn handle_drain(&mut self, spread: Duration) {
        self.drain_spread = Some(spread);
    }

    /// A stream that was open for `open` ended.
    pub(crate) fn handle_ended(&mut self, open: Duration) {
        if open >= self.retry.reset_after {
            self.attempts = 0;
        }
    }

    /// Attempts since the last stream that stayed open.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The wait before the next attempt. `random` is uniform in 0..1.
    ///
    /// What the server asked for is a floor and the jitter comes on top: a floor that all clients share would bring
    /// them back together.
    pub(crate) fn poll_wait(&mut self, retry_after: Option<Duration>, random: f64) -> Duration {
        let attempt = self.attempts;
        self.attempts = attempt.saturating_add(1);
        if let Some(spread) = self.drain_spread.take() {
            return spread.min(self.retry.floor_max).mul_f64(random);
        }
        let floor = self.server_retry.max(retry_after.unwrap_or_default()).min(self.retry.floor_max);
        let window = self.retry.base.saturating_mul(2_u32.saturating_pow(attempt)).min(self.retry.max);
        floor + window.mul_f64(random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(backoff: &mut Backoff, random: f64) -> u128 {
        backoff.poll_wait(None, random).as_millis()
    }

    #[test]
    fn the_window_doubles_up_to_its_maximum_and_jitter_is_full() {
        let mut backoff = Backoff::new(Retry::default());
        let windows: Vec<u128> = (0..8).map(|_| millis(&mut backoff, 1.0)).collect();
        assert_eq!(windows, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        assert_eq!(millis(&mut backoff, 0.0), 0);
        assert_eq!(millis(&mut backoff, 0.5), 15_000);
        for _ in 0..100 {
            assert!(millis(&mut backoff, 1.0) <= 30_000);
        }
    }

    #[test]
    fn only_a_stream_that_stayed_open_begins_again() {
        let mut backoff = Backoff::new(Retry::default());
        for _ in 0..4 {
            millis(&mut backoff, 1.0);
        }
        backoff.handle_ended(Duration::from_millis(9_999));
        assert_eq!(millis(&mut backoff, 1.0), 8_000);
        backoff.handle_ended(Duration::from_secs(10));
        assert_eq!(millis(&mut backoff, 1.0), 500);
    }

    #[test]
    fn what_the_server_asks_for_is_a_bounded_floor_below_the_jitter() {
        let mut backoff = Backoff::new(Retry::default());
        backoff.handle_retry(Duration::from_millis(2_317));
        assert_eq!(millis(&mut backoff, 0.0), 2_317);
        assert_eq!(backoff.poll_wait(Some(Duration::from_secs(7)), 0.5).as_millis(), 7_500);
        let endless = Some(Duration::from_secs(u64::from(u32::MAX)));
        assert_eq!(backoff.poll_wait(endless, 0.0), FLOOR_MAX);
    }

    #[test]
    fn after_a_drain_the_first_attempt_falls_anywhere_in_the_spread() {
        let mut backoff = Backoff::new(Retry::default());
        backoff.handle_retry(Duration::from_millis(2_317));
        backoff.handle_drain(Duration::from_secs(20));
        assert_eq!(millis(&mut backoff, 0.25), 5_000);
        assert_eq!(millis(&mut backoff, 0.0), 2_317, "the second attempt is an ordinary one");
    }
}
