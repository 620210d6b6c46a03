//! Servers that are killed, cut off, attacked and broken on purpose: `cargo xtask torture` and `cargo xtask sabotage` run this.
//!
//! Owns: the names of the two commands. Does not know: what they do; each is a module.
//! Flow: arguments → one command → its exit code.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks to its user")]

mod checker;

mod torture;

mod power;

mod vanish;

mod sabotage;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.split_first() {
        Some((command, rest)) if command == "torture" => torture::run(rest),
        Some((command, rest)) if command == "sabotage" => sabotage::run(rest),
        _ => Err(anyhow::anyhow!("usage: cargo xtask torture … | cargo xtask sabotage …")),
    };
    result.unwrap_or_else(|error| {
        eprintln!("torture: {error:#}");
        ExitCode::FAILURE
    })
}
