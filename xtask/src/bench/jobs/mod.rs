//! `cargo xtask bench --jobs`: jobs side by side with BullMQ on Redis, and what tidings promises about them.
//!
//! Owns: which scenarios run, in which order. Does not know: how load is made (`bench/load`, `bench/compare`).
//! Flow: release build → scenarios → one table of the comparison, one of the rest.
//!
//! Servers and clients may use both cores: three processes share them on either side, and Redis uses one at most.

mod compare;
mod contestant;
mod own;

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};

use super::rows::Table;

type Scenario = (&'static str, fn(&mut Table) -> Result<()>);

/// The scenarios by name, in the order of the table.
const SCENARIOS: [Scenario; 5] = [
    ("compare", compare::run),
    ("coalesce", own::coalesce),
    ("lease", own::lease),
    ("start", own::start),
    ("retention", own::retention),
];

/// Runs all scenarios, or those that are named.
pub(super) fn run(arguments: &[String]) -> Result<ExitCode> {
    let wanted: Vec<&String> = arguments.iter().filter(|word| *word != "--jobs").collect();
    let known = |name: &str| SCENARIOS.iter().any(|(known, _)| *known == name);
    if let Some(unknown) = wanted.iter().find(|name| !known(name)) {
        let names: Vec<&str> = SCENARIOS.iter().map(|(name, _)| *name).collect();
        bail!("{unknown} is no scenario of jobs; there are: {}", names.join(" "));
    }
    super::build()?;
    let mut table = Table::default();
    for (name, scenario) in SCENARIOS {
        if wanted.is_empty() || wanted.iter().any(|wanted| *wanted == name) {
            println!("==> {name}");
            scenario(&mut table)?;
        }
    }
    table.print();
    Ok(ExitCode::SUCCESS)
}

/// BullMQ and its Redis client, as the lock file has them.
fn install() -> Result<()> {
    let mut npm = Command::new("npm");
    npm.args(["ci", "--prefix", "bench/compare", "--no-audit", "--no-fund", "--silent"]);
    let status = npm.status().context("npm cannot be run: cargo xtask test install")?;
    ensure!(status.success(), "npm ci failed");
    Ok(())
}
