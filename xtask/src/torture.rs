//! `cargo xtask torture` and `cargo xtask sabotage`: the program of `torture/`, which needs a client, a runtime and tokens.
//!
//! Owns: building and running it. Does not know: its arguments. It is apart so that chores are built in seconds.
//! Flow: arguments → build → the program, with them.

use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, anyhow};

use crate::step::{STEP_LIMIT, command};

const PROGRAM: &str = "target/debug/tidings-torture";

/// Becomes the program; returns only if it cannot.
pub(crate) fn run(name: &str, arguments: &[String]) -> Result<ExitCode> {
    std::env::set_current_dir(crate::root()?)?;
    build()?;
    Err(Command::new(PROGRAM).arg(name).args(arguments).exec()).context(PROGRAM)
}

/// Builds it, and runs it with each of these arguments: a step of `cargo xtask test`. Side by side, because each spends most
/// of its time waiting; what one of them says comes in one piece, when it ends.
pub(crate) fn step(runs: &[&[&str]]) -> Result<()> {
    build()?;
    std::thread::scope(|scope| {
        let running: Vec<_> = runs.iter().map(|arguments| scope.spawn(|| one(arguments))).collect();
        let ended: Vec<Result<()>> =
            running.into_iter().map(|run| run.join().map_err(|_| anyhow!("a run panicked"))?).collect();
        ended.into_iter().collect()
    })
}

fn one(arguments: &[&str]) -> Result<()> {
    let mut said = tempfile::tempfile()?;
    let mut program = Command::new(PROGRAM);
    program.arg("torture").args(arguments).stdout(said.try_clone()?).stderr(said.try_clone()?);
    let ended = command(program, STEP_LIMIT);
    let mut text = String::new();
    said.rewind()?;
    said.read_to_string(&mut text)?;
    print!("\n{text}");
    ended
}

/// For the whole workspace, like everything that tests run: alone, it would have other features of other people's crates.
fn build() -> Result<()> {
    let mut build = Command::new("cargo");
    build.args(["build", "--quiet", "--workspace", "--bin", "tidings-torture"]);
    command(build, STEP_LIMIT)
}
