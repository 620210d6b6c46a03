//! The server under torture: a process that is started, stopped, frozen and killed.
//!
//! Owns: the process, its port and its data folder. Does not know: what is published.
//! Flow: `Server::start` → ready · `kill -9` · start again on the same port and folder.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use super::http;

/// How long a start may take before it counts as a server that does not come back.
const START: Duration = Duration::from_secs(20);

/// What to run and where.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) binary: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) address: SocketAddr,
    /// Flags that say who is known.
    pub(crate) access: Vec<String>,
}

/// Everybody may do everything.
pub(crate) fn open_to_all() -> Vec<String> {
    vec!["--dev".into()]
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) place: Place,
    child: Child,
}

impl Server {
    /// Starts it and waits until it is ready for a durable publish.
    pub(crate) async fn start(place: &Place) -> Result<Self> {
        let log = OpenOptions::new().create(true).append(true).open(&place.log)?;
        let child = command(place).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let child = child.with_context(|| format!("cannot start {}", place.binary.display()))?;
        let mut server = Self { place: place.clone(), child };
        let until = Instant::now() + START;
        loop {
            if let Ok((200, _)) = http::get(place.address, "/readyz").await {
                return Ok(server);
            }
            if let Some(status) = server.child.try_wait()? {
                bail!("the server ended at its start with {status}\n{}", tail(&place.log));
            }
            if Instant::now() > until {
                bail!("the server is not ready after {START:?}\n{}", tail(&place.log));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// `kill -9`, also of a process that is stopped.
    pub(crate) fn kill(mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the server had ended by itself with {status}\n{}", tail(&self.place.log));
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count())
    }

    /// What it has in memory, in KiB.
    pub(crate) fn memory_kib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    pub(crate) fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Stops it and waits until no thread of it runs; one that is inside the kernel cannot come back from there.
    pub(crate) async fn freeze_wholly(&self) -> Result<()> {
        self.freeze()?;
        let threads = PathBuf::from(format!("/proc/{}/task", self.child.id()));
        for _ in 0..2_000 {
            let mut states = std::fs::read_dir(&threads)?.filter_map(|thread| {
                let stat = std::fs::read_to_string(thread.ok()?.path().join("stat")).ok()?;
                // The name of a thread stands in brackets and may hold anything.
                stat.rsplit(") ").next()?.chars().next()
            });
            if states.all(|state| matches!(state, 'T' | 't' | 'D' | 'Z' | 'X')) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        bail!("the server does not stop");
    }

    pub(crate) fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

/// Small segments, so that they roll over; retention that trims nothing, so that no reset is right.
fn command(place: &Place) -> Command {
    let mut command = Command::new(&place.binary);
    command
        .arg("serve")
        .args(&place.access)
        .args(["--keepalive-s", "2", "--stall-s", "30", "--segment-mib", "1"])
        .args(["--disk-reserve-mib", "0", "--retain-events", "100000000"])
        .args(["--retain-channel-mib", "1000000", "--retain-log-mib", "1000000"])
        .arg("--listen")
        .arg(place.address.to_string())
        .arg("--data")
        .arg(&place.data)
        .env_remove("TIDINGS_LOG")
        .env_remove("LISTEN_FDS");
    command
}

/// A free port below those that the kernel gives to outgoing connections: while the server is down, a client that
/// connects to one of those can meet itself.
pub(crate) fn free_address(seed: u64) -> Result<SocketAddr> {
    for n in 0..200 {
        let port = 20_000 + u16::try_from((seed.wrapping_add(n * 37)) % 10_000)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no free port between 20000 and 30000");
}

/// The end of a log, for an error.
pub(crate) fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n")
}

/// Lines that the server should never have written.
pub(crate) fn said(path: &Path, wrong: &[&str]) -> Vec<String> {
    let Ok(file) = File::open(path) else { return Vec::new() };
    let lines = std::io::BufRead::lines(std::io::BufReader::new(file)).map_while(Result::ok);
    lines.filter(|line| wrong.iter().any(|text| line.contains(text))).take(5).collect()
}
