//! `tidings log verify | dump | export | repair`.
//!
//! Owns: what the commands print, and their exit codes. Does not know: the bytes of a log.
//! Flow: a folder → the tools of the disk engine → lines on standard output; 1 where something is wrong.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use tidings::log::OpenError;
use tidings::log::disk::io::{Disk, RealDisk};
use tidings::log::disk::tools::{self, Repaired, Report};

use crate::cli::{FolderFlags, LogCommand};

/// Runs one of the commands.
pub(crate) fn run(command: &LogCommand) -> Result<ExitCode> {
    let (LogCommand::Verify(flags)
    | LogCommand::Dump(flags)
    | LogCommand::Export(flags)
    | LogCommand::Repair(flags)) = command;
    let disk = folder(flags)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let done = match command {
        LogCommand::Verify(_) => verify(&disk, &mut out),
        LogCommand::Dump(_) => judged(&tools::dump(&disk, &mut out), false),
        LogCommand::Export(_) => judged(&tools::export(&disk, &mut out), true),
        LogCommand::Repair(_) => repair(&disk, &mut out),
    };
    let done = done.and_then(|code| Ok(out.flush().map(|()| code)?));
    match done {
        // Whoever reads the lines has seen enough.
        Err(error) if is_closed(&error) => Ok(ExitCode::SUCCESS),
        done => done,
    }
}

fn is_closed(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// The folder, if there is a log in it: a wrong path must not pass for a whole log.
fn folder(flags: &FolderFlags) -> Result<RealDisk> {
    let disk = RealDisk::new(&flags.data);
    let names = disk.list().with_context(|| format!("cannot read {}", flags.data.display()))?;
    let is_log = |name: &String| name == "epochs" || name == "checkpoint" || name.ends_with(".seg");
    if !names.iter().any(is_log) {
        bail!("there is no log in {}", flags.data.display());
    }
    Ok(disk)
}

fn verify(disk: &RealDisk, out: &mut dyn Write) -> Result<ExitCode> {
    let report = tools::verify(disk)?;
    for problem in &report.problems {
        writeln!(out, "{}", problem_line(disk.path(), &problem.to_string()))?;
    }
    if let Some(incomplete) = &report.incomplete {
        writeln!(out, "note: {}", problem_line(disk.path(), &incomplete.to_string()))?;
    }
    let Report { segments, frames, events, head, .. } = report;
    let problems = report.problems.len();
    writeln!(
        out,
        "{segments} segments, {frames} commits, {events} events up to {head}: {}",
        match problems {
            0 => "no problems".to_owned(),
            1 => "1 problem".to_owned(),
            more => format!("{more} problems"),
        }
    )?;
    Ok(if problems == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn problem_line(folder: &Path, problem: &str) -> String {
    folder.join(problem).display().to_string()
}

/// Lines were printed up to and past damage; where there is some, the exit code says so.
fn judged(report: &io::Result<Report>, says_so: bool) -> Result<ExitCode> {
    let report = match report {
        Ok(report) => report,
        Err(error) => return Err(io::Error::new(error.kind(), error.to_string()).into()),
    };
    if report.problems.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    if says_so {
        // Standard output holds events only.
        report.problems.iter().try_for_each(|problem| writeln!(io::stderr(), "tidings: {problem}"))?;
    }
    Ok(ExitCode::FAILURE)
}

fn repair(disk: &RealDisk, out: &mut dyn Write) -> Result<ExitCode> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let done = match tools::repair(disk, u64::try_from(now.as_millis()).unwrap_or(u64::MAX)) {
        Err(OpenError::Locked(path)) => {
            bail!("{} is in use by a running server: stop it, then repair", path.display())
        }
        done => done?,
    };
    let Repaired { damage, aside, kept, lost, lost_bytes, .. } = done;
    let Some(aside) = aside else {
        writeln!(out, "nothing keeps this log from opening: nothing was changed")?;
        return Ok(ExitCode::SUCCESS);
    };
    for problem in &damage {
        writeln!(out, "{}", problem_line(disk.path(), &problem.to_string()))?;
    }
    match lost {
        Some((first, last)) => writeln!(
            out,
            "kept every event up to {kept}; lost {first} to {last}, {lost_bytes} bytes of segments"
        )?,
        None => writeln!(out, "kept every event up to {kept}; no event is known to be lost")?,
    }
    writeln!(out, "what was changed or removed is in {} as it was", aside.display())?;
    writeln!(out, "every client with an older id is told by a reset, once")?;
    Ok(ExitCode::SUCCESS)
}
