//! `cargo xtask torture` and `cargo xtask sabotage`: the program of `torture/`, which needs a client, a runtime and tokens.
//!
//! Owns: building and running it. Does not know: its arguments. It is apart so that chores are built in seconds.
//! Flow: arguments → build → the program, with them.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::step::{STEP_LIMIT, command};

const PROGRAM: &str = "target/debug/tidings-torture";

/// Becomes the program; returns only if it cannot.
pub(crate) fn run(name: &str, arguments: &[String]) -> Result<ExitCode> {
    std::env::set_current_dir(crate::root()?)?;
    build()?;
    Err(Command::new(PROGRAM).arg(name).args(arguments).exec()).context(PROGRAM)
}

/// Builds it, and runs it with each of these arguments in turn: a step of `cargo xtask test`.
pub(crate) fn step(runs: &[&[&str]]) -> Result<()> {
    build()?;
    for arguments in runs {
        let mut program = Command::new(PROGRAM);
        program.arg("torture").args(*arguments);
        command(program, STEP_LIMIT)?;
    }
    Ok(())
}

/// For the whole workspace, like everything that tests run: alone, it would have other features of other people's crates.
fn build() -> Result<()> {
    let mut build = Command::new("cargo");
    build.args(["build", "--quiet", "--workspace", "--bin", "tidings-torture"]);
    command(build, STEP_LIMIT)
}
