//! How long a job has run and will run yet, as of now.
//!
//! Owns: the step from the server's clock to this one's. Does not know: how it is shown.
//! Flow: in ← a document and when it came · out → durations.
//!
//! Only differences of the server's times are used, and what has passed here since: the two clocks need not agree.

use std::time::Duration;

use tidings_client::State;
use tidings_client::jobs::Document;

/// Below this a guess would jump about.
const PROGRESS_MIN: f64 = 2.0;
/// Before this a guess would jump about.
const ELAPSED_MIN_MS: u64 = 1_500;

/// How long a job will take yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) ms: u64,
    /// From the pace so far, because its worker says nothing.
    pub(super) is_guess: bool,
}

/// How long ago the job began to run, or if it did not, was made; `since` is how long ago the document came.
pub(super) fn elapsed_ms(job: &Document, since: Duration) -> u64 {
    let begun = job.started_at.unwrap_or(job.created_at);
    let until = job.finished_at.unwrap_or(job.updated_at);
    let since = if job.state.is_finished() { 0 } else { millis(since) };
    until.saturating_sub(begun).saturating_add(since)
}

/// How long the job will take yet: what its worker says, or else what follows from its pace in the first attempt.
pub(super) fn left(job: &Document, since: Duration) -> Option<Left> {
    if job.state != State::Running {
        return None;
    }
    if let Some(ms) = job.eta_ms {
        return Some(Left { ms: ms.saturating_sub(millis(since)), is_guess: false });
    }
    let elapsed = job.updated_at.checked_sub(job.started_at?)?;
    let is_steady = job.attempt <= 1 && elapsed >= ELAPSED_MIN_MS;
    if !is_steady || !(PROGRESS_MIN..100.0).contains(&job.progress) {
        return None;
    }
    let left = Duration::from_millis(elapsed).mul_f64((100.0 - job.progress) / job.progress);
    let ms = millis(left).saturating_sub(millis(since));
    // A guess that has run out was wrong.
    (ms > 0).then_some(Left { ms, is_guess: true })
}

/// How long until a job that waits for its time may run.
pub(super) fn wait_ms(job: &Document, since: Duration) -> Option<u64> {
    let waits = matches!(job.state, State::Scheduled | State::Retrying);
    let wait = job.run_at.filter(|_| waits)?.saturating_sub(job.updated_at).saturating_sub(millis(since));
    (wait > 0).then_some(wait)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_of(json: &str, since_s: u64) -> Option<(u64, bool)> {
        let json = format!(
            r#"{{"id":"j","mode":"managed","state":"running","attempt":1,"started_at":1000,"updated_at":5000{json}}}"#
        );
        let job = serde_json::from_str(&json).unwrap();
        left(&job, Duration::from_secs(since_s)).map(|left| (left.ms, left.is_guess))
    }

    #[test]
    fn the_workers_word_goes_before_a_guess_and_both_run_down() {
        assert_eq!(left_of(r#","progress":50,"eta_ms":9000"#, 2), Some((7_000, false)));
        assert_eq!(left_of(r#","progress":50"#, 0), Some((4_000, true)));
        assert_eq!(left_of(r#","progress":50"#, 1), Some((3_000, true)));
        assert_eq!(left_of(r#","progress":50"#, 60), None);
        for none in [r#","progress":1"#, r#","progress":100"#, ""] {
            assert_eq!(left_of(none, 0), None, "{none}");
        }
    }

    #[test]
    fn a_job_that_has_ended_grows_no_older() {
        let job = r#"{"id":"j","mode":"managed","state":"completed","started_at":1000,"finished_at":5000}"#;
        assert_eq!(elapsed_ms(&serde_json::from_str(job).unwrap(), Duration::from_secs(9)), 4_000);
        let job = r#"{"id":"j","mode":"managed","state":"queued","created_at":1000,"updated_at":1000}"#;
        assert_eq!(elapsed_ms(&serde_json::from_str(job).unwrap(), Duration::from_secs(9)), 9_000);
    }
}
