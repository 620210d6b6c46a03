//! The command line of `tidings jobs`.
//!
//! Owns: names, defaults and help of flags, and how durations and states are written. Does not know: what commands do.
//! Flow: arguments and environment → values.

use std::time::Duration;

use clap::{Args, Subcommand};
use tidings_client::State;

use crate::cli::ServerFlags;

/// What to do with jobs.
#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// Make a job and print its id
    Create(CreateFlags),
    /// List jobs: those that have not ended, then the others, newest first
    Ls(ListFlags),
    /// Show all that is known of a job
    Show(ShowFlags),
    /// Watch jobs to their end; exit code 0 if all were completed
    Watch(WatchFlags),
    /// Ask for jobs to be called off
    Cancel(CancelFlags),
    /// Make a new job like a finished one, and print its id
    Retry(RetryFlags),
}

/// Flags of `jobs create`.
#[derive(Debug, Args)]
pub(crate) struct CreateFlags {
    #[command(flatten)]
    pub(crate) server: ServerFlags,
    /// Type of the job: what runs
    #[arg(value_name = "TYPE")]
    pub(crate) job_type: String,
    /// What its worker gets, as JSON; `-` reads it from standard input
    #[arg(long, env = "TIDINGS_INPUT", value_name = "JSON")]
    pub(crate) input: Option<String>,
    /// An id of your own
    #[arg(long, env = "TIDINGS_ID")]
    pub(crate) id: Option<String>,
    /// Queue that it waits in
    #[arg(long, env = "TIDINGS_QUEUE")]
    pub(crate) queue: Option<String>,
    /// From -100 to 100; higher ones run first
    #[arg(long, env = "TIDINGS_PRIORITY", value_name = "NUMBER", allow_negative_numbers = true)]
    pub(crate) priority: Option<i32>,
    /// Run it not before this time has passed, such as 500ms, 30s, 5m, 2h or 1d
    #[arg(long, env = "TIDINGS_DELAY", value_name = "DURATION", value_parser = duration)]
    pub(crate) delay: Option<Duration>,
    /// How long a run may take, such as 10m
    #[arg(long, env = "TIDINGS_TIMEOUT", value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// How often it runs at most, the first time included
    #[arg(long, env = "TIDINGS_MAX_ATTEMPTS", value_name = "COUNT")]
    pub(crate) max_attempts: Option<u32>,
    /// Tag, for filters; may be given several times
    #[arg(long = "tag", env = "TIDINGS_TAG", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    /// While a job holds this key, no second one is made: the answer is the first
    #[arg(long, env = "TIDINGS_UNIQUE", value_name = "KEY")]
    pub(crate) unique: Option<String>,
    /// A repeat with the same key makes one job
    #[arg(long, env = "TIDINGS_IDEMPOTENCY_KEY", value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    /// Watch it to its end
    #[arg(long, env = "TIDINGS_WATCH")]
    pub(crate) watch: bool,
}

/// Flags of `jobs ls`.
#[derive(Debug, Args)]
pub(crate) struct ListFlags {
    #[command(flatten)]
    pub(crate) server: ServerFlags,
    /// Only those in a state: scheduled, queued, running, retrying, completed, failed, cancelled or expired
    #[arg(long, env = "TIDINGS_STATE", value_parser = state)]
    pub(crate) state: Option<State>,
    /// Only those of a queue
    #[arg(long, env = "TIDINGS_QUEUE")]
    pub(crate) queue: Option<String>,
    /// Only those of a type
    #[arg(long = "type", env = "TIDINGS_TYPE", value_name = "TYPE")]
    pub(crate) job_type: Option<String>,
    /// Only those with a tag
    #[arg(long, env = "TIDINGS_TAG")]
    pub(crate) tag: Option<String>,
    /// How many at most
    #[arg(long, env = "TIDINGS_LIMIT", value_name = "COUNT", default_value_t = 50)]
    pub(crate) limit: usize,
    /// Print each job's document as one line of JSON
    #[arg(long, env = "TIDINGS_JSON")]
    pub(crate) json: bool,
}

/// Flags of `jobs show`.
#[derive(Debug, Args)]
pub(crate) struct ShowFlags {
    #[command(flatten)]
    pub(crate) server: ServerFlags,
    /// Id of the job
    pub(crate) id: String,
    /// Print the document as JSON
    #[arg(long, env = "TIDINGS_JSON")]
    pub(crate) json: bool,
}

/// Flags of `jobs watch`.
#[derive(Debug, Args)]
pub(crate) struct WatchFlags {
    #[command(flatten)]
    pub(crate) server: ServerFlags,
    /// Ids of the jobs
    #[arg(required = true)]
    pub(crate) ids: Vec<String>,
    /// Begin with the first event that is retained, so with the log lines so far
    #[arg(long, env = "TIDINGS_FROM_START")]
    pub(crate) from_start: bool,
    /// Print each event as one line of JSON
    #[arg(long, env = "TIDINGS_JSON")]
    pub(crate) json: bool,
}

/// Flags of `jobs cancel`.
#[derive(Debug, Args)]
pub(crate) struct CancelFlags {
    #[command(flatten)]
    pub(crate) server: ServerFlags,
    /// Ids of the jobs
    #[arg(required = true)]
    pub(crate) ids: Vec<String>,
    /// Why, for its worker
    #[arg(long, env = "TIDINGS_REASON", value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// How long a running job has to stop by itself, such as 30s
    #[arg(long, env = "TIDINGS_GRACE", value_name = "DURATION", value_parser = duration)]
    pub(crate) grace: Option<Duration>,
}

/// Flags of `jobs retry`.
#[derive(Debug, Args)]
pub(crate) struct RetryFlags {
    #[command(flatten)]
    pub(crate) server: ServerFlags,
    /// Id of the finished job
    pub(crate) id: String,
    /// Watch the new one to its end
    #[arg(long, env = "TIDINGS_WATCH")]
    pub(crate) watch: bool,
}

/// A duration as people write it: a whole number and a unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let refused = || format!("{text:?} is not a duration such as 500ms, 30s, 5m, 2h or 1d");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(refused)?;
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60 * 1_000,
        "h" => 60 * 60 * 1_000,
        "d" => 24 * 60 * 60 * 1_000,
        _ => return Err(refused()),
    };
    let number: u64 = number.parse().map_err(|_| refused())?;
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(refused)
}

fn state(text: &str) -> Result<State, String> {
    let states = [
        State::Scheduled,
        State::Queued,
        State::Running,
        State::Retrying,
        State::Completed,
        State::Failed,
        State::Cancelled,
        State::Expired,
    ];
    let names = || states.map(State::as_str).join(", ");
    let found = states.into_iter().find(|state| state.as_str() == text);
    found.ok_or_else(|| format!("{text:?} is none of {}", names()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        for (text, ms) in [("0s", 0), ("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("1d", 86_400_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "5", "5 s", "-5s", "1.5s", "5w", "99999999999999999999s", "9999999999999999d"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn states_are_those_of_the_contract() {
        assert_eq!(state("failed"), Ok(State::Failed));
        assert!(state("stalled").unwrap_err().contains("scheduled, queued"));
    }
}
