//! Steps: named, timed, each with a limit, and all of them run even if one fails.
//!
//! Owns: running commands, the summary and the exit code. Does not know: what the steps are.
//! Flow: a step → its output, live → its outcome → one table at the end.

use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long a step may take before it counts as hanging.
pub(crate) const STEP_LIMIT: Duration = Duration::from_secs(15 * 60);

/// How often a running step is looked at.
const POLL_EVERY: Duration = Duration::from_millis(50);

/// What became of the steps so far.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    done: Vec<Outcome>,
}

#[derive(Debug)]
struct Outcome {
    name: String,
    took: Duration,
    failure: Option<String>,
}

impl Summary {
    /// Runs one step and remembers how it went.
    pub(crate) fn step(&mut self, name: &str, work: impl FnOnce() -> Result<()>) {
        println!("\n==> {name}");
        let started = Instant::now();
        let failure = work().err().map(|error| format!("{error:#}"));
        let took = started.elapsed();
        match &failure {
            None => println!("<== {name}: passed in {:.1} s", took.as_secs_f64()),
            Some(why) => println!("<== {name}: FAILED after {:.1} s: {why}", took.as_secs_f64()),
        }
        self.done.push(Outcome { name: name.to_owned(), took, failure });
    }

    /// Prints the table; the exit code is a failure if any step failed.
    pub(crate) fn finish(&self) -> ExitCode {
        println!("\nsummary");
        for outcome in &self.done {
            let verdict =
                outcome.failure.as_deref().map_or("passed".to_owned(), |why| format!("FAILED: {why}"));
            println!("  {:<12} {:>7.1} s  {verdict}", outcome.name, outcome.took.as_secs_f64());
        }
        let took: Duration = self.done.iter().map(|outcome| outcome.took).sum();
        println!("  {:<12} {:>7.1} s", "all", took.as_secs_f64());
        let failed = self.done.iter().filter(|outcome| outcome.failure.is_some()).count();
        println!("\n{} passed, {failed} failed", self.done.len() - failed);
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Runs a command with its output shown, and ends it and its children at the limit.
pub(crate) fn command(mut command: Command, limit: Duration) -> Result<()> {
    println!("$ {}", shown(&command));
    // At a terminal the command stays in our process group, so that Ctrl-C reaches it; elsewhere
    // it gets a group of its own, so that a hanging command is ended with all its children.
    let own_group = !std::io::stdin().is_terminal();
    if own_group {
        command.process_group(0);
    }
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().with_context(|| format!("{name} could not be started"))?;
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            if status.success() {
                return Ok(());
            }
            bail!("{name} ended with {status}");
        }
        if started.elapsed() > limit {
            if own_group {
                Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]).status()?;
            }
            child.kill()?;
            child.wait()?;
            bail!("{name} was still running after {} s and was ended", limit.as_secs());
        }
        std::thread::sleep(POLL_EVERY);
    }
}

fn shown(command: &Command) -> String {
    let mut words: Vec<String> = command
        .get_envs()
        .filter_map(|(name, value)| {
            Some(format!("{}='{}'", name.to_string_lossy(), value?.to_string_lossy()))
        })
        .collect();
    words.push(command.get_program().to_string_lossy().into_owned());
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}
