//! What is measured: the server, or the floor, on core 0, with a folder of its own.
//!
//! Owns: their processes. Does not know: scenarios.
//! Flow: a kind → a process that listens → load from core 1 → its JSON → the end of the process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Floor,
    Tidings,
    /// The server without --dev: its flags say who is known.
    Guarded,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Tidings => "tidings",
            Self::Guarded => "tidings with credentials",
        }
    }
}

/// How long a start may take before the measurement has failed.
const START: Duration = Duration::from_secs(120);

/// A running server.
#[derive(Debug)]
pub(super) struct Peer {
    child: Child,
    url: String,
    data: Rc<tempfile::TempDir>,
}

impl Peer {
    /// Starts it on core 0 and waits until it listens.
    pub(super) fn start(kind: Kind, flags: &[&str]) -> Result<Self> {
        Self::on("0", kind, flags, folder()?)
    }

    /// The same on any core, for scenarios in which the server waits for its disk.
    pub(super) fn start_anywhere(kind: Kind, flags: &[&str]) -> Result<Self> {
        Self::on("0,1", kind, flags, folder()?)
    }

    /// Redis on any core, with an append-only file that is synced `always` or `everysec`, and no snapshots.
    pub(super) fn redis(fsync: &str) -> Result<Self> {
        let data = folder()?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
        command.args(["--appendonly", "yes", "--appendfsync", fsync, "--dir"]).arg(data.path());
        let child = command.stdout(Stdio::null()).spawn();
        let child = child.context("redis-server cannot be run: cargo xtask test install")?;
        let peer = Self { child, url: format!("redis://127.0.0.1:{port}"), data };
        peer.answers("PING\r\n", "+PONG")?;
        Ok(peer)
    }

    /// Ends it, by `SIGTERM` or by `kill -9`, and starts it again on the same folder; how long that took until it was ready
    /// for durable publishes. Flags are not repeated.
    pub(super) fn restart(mut self, signal: Signal) -> Result<(Self, Duration)> {
        kill_process(Pid::from_child(&self.child), signal)?;
        self.child.wait()?;
        let begun = Instant::now();
        let peer = Self::on("0,1", Kind::Tidings, &[], Rc::clone(&self.data))?;
        peer.answers("GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "HTTP/1.1 200")?;
        Ok((peer, begun.elapsed()))
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn data(&self) -> &Path {
        self.data.path()
    }

    /// Asks until the answer begins as it should.
    fn answers(&self, request: &str, wanted: &str) -> Result<()> {
        let address = self.url.rsplit('/').next().unwrap_or_default();
        let ask = || -> Result<bool> {
            let mut socket = TcpStream::connect(address)?;
            socket.set_read_timeout(Some(Duration::from_secs(5)))?;
            socket.write_all(request.as_bytes())?;
            let mut answer = vec![0; wanted.len()];
            socket.read_exact(&mut answer)?;
            Ok(answer == wanted.as_bytes())
        };
        let begun = Instant::now();
        while !ask().unwrap_or(false) {
            ensure!(begun.elapsed() < START, "{} is not ready", self.url);
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn on(cores: &str, kind: Kind, flags: &[&str], data: Rc<tempfile::TempDir>) -> Result<Self> {
        let mut command = Command::new("taskset");
        command.args(["-c", cores]);
        match kind {
            Kind::Floor => {
                command.arg(binary("tidings-load")).args(["floor", "--listen", "127.0.0.1:0"]);
                command.stdout(Stdio::piped());
            }
            Kind::Tidings | Kind::Guarded => {
                command.arg(binary("tidings")).args(["serve", "--listen", "127.0.0.1:0", "--data"]);
                command.arg(data.path()).args(flags).stderr(Stdio::piped());
                if kind == Kind::Tidings {
                    command.arg("--dev");
                }
            }
        }
        let mut child = command.spawn().context("taskset cannot be run")?;
        let said: Box<dyn Read + Send> = match (child.stdout.take(), child.stderr.take()) {
            (Some(out), _) => Box::new(out),
            (None, Some(err)) => Box::new(err),
            (None, None) => bail!("a server without output"),
        };
        let mut lines = BufReader::new(said).lines();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| address(&line));
        // Whatever it says later is read and thrown away, so that it never waits for a full pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let address = address.with_context(|| format!("the {} did not start", kind.name()))?;
        Ok(Self { child, url: format!("http://{address}"), data })
    }

    /// Runs load from core 1, so that the server has core 0 to itself.
    pub(super) fn load(&self, args: &[&str]) -> Result<Value> {
        self.run(load_on_core_1(), args)
    }

    /// Starts the same, to be told when to measure.
    pub(super) fn spawn_load(&self, args: &[&str]) -> Result<Child> {
        let mut command = load_on_core_1();
        self.with_args(&mut command, args);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        child.context("the load cannot be run")
    }

    /// Runs load on any core, for scenarios in which the server waits for its disk.
    pub(super) fn load_unpinned(&self, args: &[&str]) -> Result<Value> {
        self.run(Command::new(binary("tidings-load")), args)
    }

    fn with_args(&self, command: &mut Command, args: &[&str]) {
        command.args(args).args(["--url", &self.url]);
        if !matches!(args.first(), Some(&"publish" | &"jobs")) {
            command.args(["--pid", &self.child.id().to_string()]);
        }
    }

    fn run(&self, mut command: Command, args: &[&str]) -> Result<Value> {
        self.with_args(&mut command, args);
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

/// Inside the repository, because a folder for temporary files may be in memory, where fsync costs nothing.
fn folder() -> Result<Rc<tempfile::TempDir>> {
    Ok(Rc::new(tempfile::tempdir_in("target")?))
}

fn load_on_core_1() -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "1"]).arg(binary("tidings-load"));
    command
}

pub(super) fn binary(name: &str) -> PathBuf {
    PathBuf::from("target/release").join(name)
}

/// The address in a line of a server's output, such as `url=http://127.0.0.1:4080` or `"listen":"127.0.0.1:4080"`.
fn address(line: &str) -> Option<String> {
    let from = line.find("127.0.0.1:")?;
    let text = line.get(from..)?;
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(text.len());
    text.get(..end).map(str::to_owned)
}
