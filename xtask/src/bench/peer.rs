//! What is measured: the server, or the floor, on core 0, with a folder of its own.
//!
//! Owns: their processes. Does not know: scenarios.
//! Flow: a kind → a process that listens → load from core 1 → its JSON → the end of the process.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Floor,
    Tidings,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Tidings => "tidings",
        }
    }
}

/// A running server.
#[derive(Debug)]
pub(super) struct Peer {
    child: Child,
    url: String,
    _data: tempfile::TempDir,
}

impl Peer {
    /// Starts it on core 0 and waits until it listens.
    pub(super) fn start(kind: Kind, flags: &[&str]) -> Result<Self> {
        Self::on("0", kind, flags)
    }

    /// The same on any core, for scenarios in which the server waits for its disk.
    pub(super) fn start_anywhere(kind: Kind, flags: &[&str]) -> Result<Self> {
        Self::on("0,1", kind, flags)
    }

    fn on(cores: &str, kind: Kind, flags: &[&str]) -> Result<Self> {
        // Inside the repository, because a folder for temporary files may be in memory, where fsync costs nothing.
        let data = tempfile::tempdir_in("target")?;
        let mut command = Command::new("taskset");
        command.args(["-c", cores]);
        match kind {
            Kind::Floor => {
                command.arg(binary("tidings-load")).args(["floor", "--listen", "127.0.0.1:0"]);
                command.stdout(Stdio::piped());
            }
            Kind::Tidings => {
                command.arg(binary("tidings")).args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data"]);
                command.arg(data.path()).args(flags).stderr(Stdio::piped());
            }
        }
        let mut child = command.spawn().context("taskset cannot be run")?;
        let said: Box<dyn std::io::Read + Send> = match (child.stdout.take(), child.stderr.take()) {
            (Some(out), _) => Box::new(out),
            (None, Some(err)) => Box::new(err),
            (None, None) => bail!("a server without output"),
        };
        let mut lines = BufReader::new(said).lines();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| address(&line));
        // Whatever it says later is read and thrown away, so that it never waits for a full pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let address = address.with_context(|| format!("the {} did not start", kind.name()))?;
        Ok(Self { child, url: format!("http://{address}"), _data: data })
    }

    /// Runs load from core 1, so that the server has core 0 to itself.
    pub(super) fn load(&self, args: &[&str]) -> Result<Value> {
        let mut command = Command::new("taskset");
        command.args(["-c", "1"]).arg(binary("tidings-load"));
        self.run(command, args)
    }

    /// Runs load on any core, for scenarios in which the server waits for its disk.
    pub(super) fn load_unpinned(&self, args: &[&str]) -> Result<Value> {
        self.run(Command::new(binary("tidings-load")), args)
    }

    fn run(&self, mut command: Command, args: &[&str]) -> Result<Value> {
        let pid = self.child.id().to_string();
        command.args(args).args(["--url", &self.url]);
        if args.first() != Some(&"publish") {
            command.args(["--pid", &pid]);
        }
        let output = command.stderr(Stdio::inherit()).output().context("the load cannot be run")?;
        ensure!(output.status.success(), "{} failed", args.join(" "));
        serde_json::from_slice(&output.stdout).context("the load did not print one JSON object")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

fn binary(name: &str) -> PathBuf {
    PathBuf::from("target/release").join(name)
}

/// The address in a line of a server's output, such as `url=http://127.0.0.1:4080` or `"listen":"127.0.0.1:4080"`.
fn address(line: &str) -> Option<String> {
    let from = line.find("127.0.0.1:")?;
    let text = line.get(from..)?;
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(text.len());
    text.get(..end).map(str::to_owned)
}
