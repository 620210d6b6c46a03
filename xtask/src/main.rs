//! Chores of this repository: `cargo xtask <command>`.
//!
//! Owns: the names of the commands. Does not know: what they do; each is a module.
//! Flow: arguments → one command → its exit code.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks to its user")]

mod step;

mod install;

mod no_std;

mod tidy;

mod deny;

mod test;

mod torture;

mod bench;

mod fuzz;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let result = match command.as_str() {
        "test" => test::run(&rest),
        "torture" => torture::run("torture", &rest),
        "sabotage" => torture::run("sabotage", &rest),
        "bench" => bench::run(&rest),
        "fuzz" => fuzz::run(&rest),
        _ => Err(anyhow::anyhow!(
            "usage: cargo xtask test [--list] [STEP…] | torture [--jobs | --grants] [--minutes M | --seconds S | --power | --vanish] | sabotage | bench [--jobs] [SCENARIO…] | fuzz [--list] [--seconds N] [--keep] [TARGET…]"
        )),
    };
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}

/// The folder of the workspace.
fn root() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")
}
