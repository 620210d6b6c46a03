//! What was asked of a run, and how its end is told.
//!
//! Owns: the arguments that all runs have, and the words of the verdict. Does not know: what a run does.
//! Flow: arguments → time and seed → a run → its report → an exit code, and how to do it again.

use std::fmt::Display;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::fresh_seed;

/// For how long, and with which seed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    /// The flag of the run, behind a space; empty for the first one.
    mode: &'static str,
    pub(super) time: Duration,
    pub(super) seed: u64,
}

impl Order {
    /// Reads the arguments of the run with the flag `mode`, which takes `time` unless they say otherwise.
    pub(super) fn read(arguments: &[String], mode: &'static str, time: Duration) -> Result<Self> {
        let mut order = Self { mode, time, seed: fresh_seed() };
        let mut rest = arguments.iter().filter(|argument| *argument != mode.trim_start());
        while let Some(argument) = rest.next() {
            let mut number = || -> Result<u64> {
                let text = rest.next().with_context(|| format!("{argument} needs a number"))?;
                text.parse().with_context(|| format!("{text} is not a number"))
            };
            match argument.as_str() {
                "--minutes" => order.time = Duration::from_secs(60 * number()?),
                "--seconds" => order.time = Duration::from_secs(number()?),
                "--seed" => order.seed = number()?,
                other => {
                    let runs = if mode.is_empty() { ", --power, --vanish, --jobs, --grants" } else { "" };
                    bail!("torture{mode} does not know {other}: --minutes M, --seconds S, --seed N{runs}")
                }
            }
        }
        Ok(order)
    }

    /// Tells how it ended.
    pub(super) fn tell(self, report: &impl Display, passed: bool) -> ExitCode {
        let Self { mode, time, seed } = self;
        print!("{report}");
        println!("torture: {}", if passed { "passed" } else { "FAILED" });
        if passed {
            return ExitCode::SUCCESS;
        }
        println!("again: cargo xtask torture{mode} --seconds {} --seed {seed}", time.as_secs());
        ExitCode::FAILURE
    }
}
