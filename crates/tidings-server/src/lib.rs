//! The tidings server: real-time updates for web pages over plain HTTP.
//!
//! Owns: flags, environment, signals, logs. Does not know: anything that an embedder needs (that is in `tidings`).
//! Flow: command line → settings → hub and listener → signals → exit.
//!
//! A library only so that what reads tokens and settings can be fuzzed; the binary calls [`main`], and nobody else should.

mod cli;

mod settings;

mod listen;

mod door;

mod limits;

mod serve;

mod auth;

mod environment;

mod health;

mod publish;

mod tail;

mod jobs;

mod log;

mod demo;

#[cfg(feature = "testing")]
pub mod testing;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

/// The binary: reads the command line and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    run(cli).unwrap_or_else(|error| {
        // One sentence: what failed and why.
        #[allow(clippy::print_stderr, reason = "the last words of a command")]
        {
            eprintln!("tidings: {}", sentence(&error));
        }
        ExitCode::FAILURE
    })
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let done = match cli.command {
        Command::Log(command) => return log::run(&command),
        Command::Jobs(command) => return runtime()?.block_on(jobs::run(command)),
        Command::Health(flags) => return health::run(&flags),
        Command::Token(command) => return runtime()?.block_on(auth::token(command)),
        Command::Key(command) => return auth::key(command),
        Command::Serve(flags) => serve::run(&flags),
        Command::Demo(flags) => demo::run(&flags),
        Command::Publish(flags) => runtime()?.block_on(publish::run(flags)),
        Command::Tail(flags) => runtime()?.block_on(tail::run(flags)),
    };
    done.map(|()| ExitCode::SUCCESS)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// An error and its causes on one line, none said twice.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
    }
    text
}
