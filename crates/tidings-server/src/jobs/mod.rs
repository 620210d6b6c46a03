//! `tidings jobs`.
//!
//! Owns: the commands about jobs. Does not know: HTTP (that is the client's).
//! Flow: arguments → the client → tables, documents, bars and ids on standard output; the exit code says how it went.

mod flags;

mod text;

mod create;

mod list;

mod show;

mod watch;

mod estimate;

mod view;

mod bars;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use anyhow::{Error, Result};
use tidings_client::jobs::{Jobs, JobsError};

pub(crate) use flags::{JobsCommand, duration};
pub(crate) use text::clean;

use crate::cli::ServerFlags;

/// Does what the command line says.
pub(crate) async fn run(command: JobsCommand) -> Result<ExitCode> {
    match command {
        JobsCommand::Create(flags) => create::create(flags).await,
        JobsCommand::Ls(flags) => list::list(flags).await,
        JobsCommand::Show(flags) => show::show(flags).await,
        JobsCommand::Watch(flags) => watch::watch(flags).await,
        JobsCommand::Cancel(flags) => cancel(flags).await,
        JobsCommand::Retry(flags) => create::retry(flags).await,
    }
}

async fn cancel(flags: flags::CancelFlags) -> Result<ExitCode> {
    let jobs = jobs(&flags.server)?;
    let mut code = ExitCode::SUCCESS;
    for id in &flags.ids {
        match jobs.cancel(id, flags.reason.as_deref(), flags.grace).await {
            Ok(state) if state.is_finished() => print(&format!("{id} is {}", state.as_str()))?,
            Ok(state) => print(&format!("{id} is {} and was asked to stop", state.as_str()))?,
            Err(error) if flags.ids.len() == 1 => return Err(explained(error, &flags.server)),
            // The others are to be cancelled all the same.
            Err(error) => {
                writeln!(std::io::stderr(), "tidings: {id}: {}", explained(error, &flags.server))?;
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// The jobs of the server. Somebody waits at a terminal, so a request that fails is not sent again.
fn jobs(server: &ServerFlags) -> Result<Jobs> {
    Ok(server.client()?.jobs().once())
}

/// An error as somebody at a terminal wants it.
fn explained(error: JobsError, server: &ServerFlags) -> Error {
    match error {
        JobsError::NoAnswer(reason) => anyhow::anyhow!("no answer from {}: {reason}", server.url),
        JobsError::Refused(problem) => {
            let text = problem.detail.as_deref().unwrap_or(&problem.title);
            anyhow::anyhow!("{} ({})", clean(text), problem.code)
        }
        other => other.into(),
    }
}

/// Writes a line. A reader that has gone away has seen enough.
fn print(line: &str) -> Result<()> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
