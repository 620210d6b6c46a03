//! `cargo xtask test`: everything that has to hold before a change is taken.
//!
//! Owns: which steps there are and in which order. Does not know: how a step is run or reported.
//! Flow: names of steps (none means all) → each in turn → the summary.

use std::ffi::OsStr;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::step::{STEP_LIMIT, Summary, command};
use crate::{deny, fuzz, install, no_std, tidy, torture};

type Step = (&'static str, fn() -> Result<()>);

/// Cheap verdicts first; what builds the same things stands together.
const STEPS: &[Step] = &[
    ("install", install::run),
    ("fmt", || cargo(&["fmt", "--all", "--check"])),
    ("tidy", tidy::run),
    ("deny", deny::run),
    ("no_std", no_std::run),
    ("build", || cargo(&["build", "--workspace", "--locked"])),
    ("clippy", || cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])),
    ("tests", tests),
    ("doctests", || cargo(&["test", "--workspace", "--doc", "--no-fail-fast"])),
    ("docs", docs),
    ("js", js),
    ("fuzz", fuzz::step),
    ("e2e", e2e),
    ("torture", torture_all),
];

/// Runs all steps, or those that are named.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    std::env::set_current_dir(crate::root()?)?;
    if arguments.iter().any(|argument| argument == "--list") {
        STEPS.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(unknown) = arguments.iter().find(|name| STEPS.iter().all(|(step, _)| step != name)) {
        bail!("there is no step {unknown:?}; cargo xtask test --list shows them");
    }
    let mut summary = Summary::default();
    for (name, work) in STEPS {
        if arguments.is_empty() || arguments.iter().any(|argument| argument == name) {
            summary.step(name, work);
        }
    }
    Ok(summary.finish())
}

fn cargo(arguments: &[&str]) -> Result<()> {
    program("cargo", arguments, STEP_LIMIT)
}

fn program<A: AsRef<OsStr>>(name: &str, arguments: &[A], limit: Duration) -> Result<()> {
    let mut program = Command::new(name);
    program.args(arguments);
    command(program, limit)
}

/// More at once than there are cores: those that talk to servers mostly wait.
fn tests() -> Result<()> {
    let threads = 4 * std::thread::available_parallelism()?.get();
    let mut tests = Command::new("cargo");
    tests.args(["test", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"]);
    tests.env("RUST_TEST_THREADS", threads.to_string());
    command(tests, STEP_LIMIT)
}

fn docs() -> Result<()> {
    let mut docs = Command::new("cargo");
    docs.args(["doc", "--workspace", "--no-deps", "--lib"]).env("RUSTDOCFLAGS", "-D warnings");
    command(docs, STEP_LIMIT)
}

/// The npm packages: types, tests against the real binary, on Node, Bun and Deno, and what would be published.
fn js() -> Result<()> {
    cargo(&["build", "--workspace", "--locked"])?;
    for packages in ["js", "js/runtimes"] {
        program("npm", &["ci", "--prefix", packages, "--no-audit", "--no-fund"], STEP_LIMIT)?;
    }
    for generated in ["js/scripts/codes.js", "js/scripts/worker.js"] {
        program("node", &[generated, "--check"], STEP_LIMIT)?;
    }
    for script in ["typecheck", "publint", "attw", "knip", "size", "test"] {
        program("npm", &["run", script, "--prefix", "js"], STEP_LIMIT)?;
    }
    Ok(())
}

/// The real binary in real browsers. It is built here again so that this step can be run alone.
fn e2e() -> Result<()> {
    cargo(&["build", "--workspace", "--locked"])?;
    for packages in ["js", "e2e", "examples/bullmq"] {
        program("npm", &["ci", "--prefix", packages, "--no-audit", "--no-fund"], STEP_LIMIT)?;
    }
    program("npm", &["run", "build", "--prefix", "js"], STEP_LIMIT)?;
    program("npm", &["test", "--prefix", "e2e"], STEP_LIMIT)
}

/// A minute of everything at once, and most of one for jobs and for grants; `cargo xtask torture --minutes 5` is the long
/// run of the first, and with `--jobs` and `--grants` of the others.
fn torture_all() -> Result<()> {
    torture::step(&[&["--seconds", "60"], &["--jobs", "--seconds", "45"], &["--grants", "--seconds", "40"]])
}
