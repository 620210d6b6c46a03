//! `tidings key new | list | inspect | revoke`.
//!
//! Owns: changing a file of keys so that it is whole at every moment. Does not know: what a server does with it.
//! Flow: a name and rights → a key, printed once, and a line with its hash.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

use super::super::api_key::{self, Line};
use super::super::unix_ms;
use super::{ends, in_seconds, secret_text};
use crate::jobs::duration;

/// What to do with API keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key, print it once, and add its hash to the file
    New(NewFlags),
    /// List the keys of a file
    List(FileFlags),
    /// Say which key of the file a text is; it is read from TIDINGS_TOKEN or standard input
    Inspect(InspectFlags),
    /// Take a key out of the file, by its id
    Revoke(RevokeFlags),
}

/// Which file.
#[derive(Debug, Args)]
pub(crate) struct FileFlags {
    /// File of the keys
    #[arg(long, env = "TIDINGS_API_KEY_FILE", default_value = "./tidings.keys", value_name = "FILE")]
    file: PathBuf,
}

/// Flags of `key new`.
#[derive(Debug, Args)]
pub(crate) struct NewFlags {
    #[command(flatten)]
    file: FileFlags,
    /// Whose key it is, such as orders-service; while keys are exchanged, two may have one name
    name: String,
    /// Channels that it may subscribe to; '*' is every channel; repeat it for more
    #[arg(long, value_name = "PATTERN")]
    subscribe: Vec<String>,
    /// Channels that it may publish to; '*' is every channel; repeat it for more
    #[arg(long, value_name = "PATTERN")]
    publish: Vec<String>,
    /// What it may do with jobs, such as 'work:default'; '*' is everything; repeat it for more
    #[arg(long, value_name = "RIGHT")]
    jobs: Vec<String>,
    /// It may administer the server: connections, revocations, metrics
    #[arg(long)]
    admin: bool,
    /// How long it holds, such as 90d; without it, it never ends
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    expires: Option<Duration>,
}

/// Flags of `key inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectFlags {
    #[command(flatten)]
    file: FileFlags,
    /// File that the key is in
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Flags of `key revoke`.
#[derive(Debug, Args)]
pub(crate) struct RevokeFlags {
    #[command(flatten)]
    file: FileFlags,
    /// The key's id: what stands between its two underscores
    id: String,
}

/// Runs one of the commands.
pub(crate) fn run(command: KeyCommand) -> Result<ExitCode> {
    match command {
        KeyCommand::New(flags) => new(flags),
        KeyCommand::List(flags) => list(&flags.file),
        KeyCommand::Inspect(flags) => inspect(&flags),
        KeyCommand::Revoke(flags) => revoke(&flags),
    }
}

fn new(flags: NewFlags) -> Result<ExitCode> {
    if flags.subscribe.is_empty() && flags.publish.is_empty() && flags.jobs.is_empty() && !flags.admin {
        bail!("a key that may do nothing is of no use: give --subscribe, --publish, --jobs or --admin");
    }
    let path = &flags.file.file;
    let mut text = match std::fs::exists(path).with_context(|| format!("cannot read {}", path.display()))? {
        true => {
            api_key::read(path)?;
            std::fs::read_to_string(path)?
        }
        false => String::new(),
    };
    let (key, line) = api_key::make(Line {
        id: String::new(),
        name: flags.name,
        sha256: String::new(),
        subscribe: flags.subscribe,
        publish: flags.publish,
        jobs: flags.jobs,
        admin: flags.admin,
        exp: flags.expires.map(in_seconds),
    })?;
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&serde_json::to_string(&line)?);
    text.push('\n');
    replace(path, &text)?;
    writeln!(std::io::stdout(), "{key}")?;
    writeln!(
        std::io::stderr(),
        "tidings: {} is in {}; the key itself is shown only now. A server that runs reads it at SIGHUP.",
        line.name,
        path.display()
    )?;
    Ok(ExitCode::SUCCESS)
}

fn list(path: &Path) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    for line in api_key::read(path)? {
        writeln!(out, "{}", described(&line))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn described(line: &Line) -> String {
    let mut parts = vec![line.id.clone(), line.name.clone()];
    for (verb, patterns) in [("subscribe", &line.subscribe), ("publish", &line.publish), ("jobs", &line.jobs)]
    {
        if !patterns.is_empty() {
            parts.push(format!("{verb} {}", patterns.join(",")));
        }
    }
    if line.admin {
        parts.push("admin".into());
    }
    parts.push(ends(line.exp, unix_ms()));
    parts.join("  ")
}

fn inspect(flags: &InspectFlags) -> Result<ExitCode> {
    let text = secret_text(flags.token_file.as_deref(), true)?.unwrap_or_default();
    let Some(id) = api_key::id_of(&text) else { bail!("this is no API key: one is tk_<id>_<secret>") };
    let path = &flags.file.file;
    match api_key::read(path)?.iter().find(|line| api_key::is_of(&text, line)) {
        Some(line) => writeln!(std::io::stdout(), "{}", described(line))?,
        None => bail!("the key {id} is not in {}", path.display()),
    }
    Ok(ExitCode::SUCCESS)
}

fn revoke(flags: &RevokeFlags) -> Result<ExitCode> {
    let path = &flags.file.file;
    let is_it = |text: &str| serde_json::from_str::<Line>(text).is_ok_and(|line| line.id == flags.id);
    let lines = api_key::read(path)?;
    let Some(line) = lines.iter().find(|line| line.id == flags.id) else {
        bail!("there is no key with the id {} in {}: tidings key list", flags.id, path.display());
    };
    let text = std::fs::read_to_string(path)?;
    let kept: String = text.lines().filter(|text| !is_it(text)).flat_map(|text| [text, "\n"]).collect();
    replace(path, &kept)?;
    writeln!(std::io::stdout(), "{} {} is out of {}", line.id, line.name, path.display())?;
    writeln!(std::io::stderr(), "tidings: a server that runs knows it until it gets SIGHUP")?;
    Ok(ExitCode::SUCCESS)
}

/// Puts a whole file in the place of another, with its permissions; nobody ever reads half of it.
fn replace(path: &Path, text: &str) -> Result<()> {
    let shown = path.display();
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let beside = PathBuf::from(name);
    let mode = std::fs::metadata(path).map_or(0o600, |found| found.permissions().mode() & 0o777);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    let written = written.and_then(|()| std::fs::rename(&beside, path));
    if let Err(error) = written {
        // A file of somebody who writes at the same time stays.
        if error.kind() != std::io::ErrorKind::AlreadyExists {
            drop(std::fs::remove_file(&beside));
        }
        return Err(error).with_context(|| format!("cannot write {shown}"));
    }
    Ok(())
}
