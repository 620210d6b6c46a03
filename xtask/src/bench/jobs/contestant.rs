//! Who takes part: a server, and the client that makes and runs jobs.
//!
//! Owns: their processes, and one measurement. Does not know: the order of turns, the table.
//! Flow: a contestant → a fresh server → a producer and workers, then reporters → figures.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::peer::{Kind, Peer, binary};

/// Jobs that are run as fast as they go.
const JOBS: u64 = 10_000;
/// Jobs a second of the run whose latency is measured: below what everybody can do, so that none waits in a queue.
const RATE: u64 = 400;
/// Jobs of that run.
const PACED: u64 = 1_600;
/// Jobs that are reported.
const REPORTED: &str = "16000";
/// Seconds of reports.
const REPORT_S: &str = "4";

/// The server.
#[derive(Debug, Clone, Copy)]
pub(super) enum Store {
    Redis(&'static str),
    Tidings,
}

/// The client.
#[derive(Debug, Clone, Copy)]
pub(super) enum Client {
    /// bench/compare, with its module of this name.
    Node(&'static str),
    /// bench/load.
    Rust,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Contestant {
    pub(super) name: &'static str,
    pub(super) store: Store,
    pub(super) client: Client,
    /// Jobs at once.
    pub(super) workers: &'static str,
    /// Reports do not depend on the number of workers, so one row of each client has them.
    pub(super) reports: bool,
}

impl Contestant {
    /// One turn.
    pub(super) fn measure(&self) -> Result<Value> {
        let server = match self.store {
            Store::Redis(fsync) => Peer::redis(fsync)?,
            Store::Tidings => Peer::start_anywhere(Kind::Tidings, &[])?,
        };
        let fast = self.jobs(&server, JOBS, &["--batch", "100"])?;
        let rate = RATE.to_string();
        let batch = if matches!(self.client, Client::Rust) { "64" } else { "1" };
        let paced = self.jobs(&server, PACED, &["--batch", batch, "--rate", &rate])?;
        let mut figures = vec![
            ("jobs_per_s", fast.jobs_per_s),
            ("server_cpu_s", fast.server_cpu_s),
            ("worker_cpu_s", fast.worker_cpu_s),
            ("p50_us", paced.p50_us),
            ("p99_us", paced.p99_us),
        ];
        if self.reports {
            figures.push(("reports_per_s", self.report(&server, "1")?));
            figures.push(("batched_per_s", self.report(&server, "100")?));
        }
        Ok(figures.into_iter().map(|(name, figure)| (name.to_owned(), Value::from(figure))).collect())
    }

    /// A producer and workers, each a process of its own.
    fn jobs(&self, server: &Peer, jobs: u64, shape: &[&str]) -> Result<Figures> {
        let mut workers = self.start(server, "work", &["--workers", self.workers])?;
        // It says so when its workers wait.
        workers.line::<Worked>()?;
        let before = cpu_s(server.pid())?;
        let count = jobs.to_string();
        let mut producer = self.start(server, "produce", &[&["--jobs", &count], shape].concat())?;
        let made: Produced = producer.line()?;
        while workers.line::<Worked>()?.done < jobs {}
        let server_cpu_s = cpu_s(server.pid())? - before;
        let worker_cpu_s = cpu_s(workers.child.id())?;
        drop(workers.child.stdin.take());
        let (took, last) = loop {
            let line: Worked = workers.line()?;
            if let Some(last) = line.last {
                break (line.took_us, last);
            }
        };
        ensure!(took.count == jobs, "{} of {jobs} jobs were run", took.count);
        let thousands = jobs as f64 / 1e3;
        Ok(Figures {
            jobs_per_s: jobs as f64 / (last.saturating_sub(made.started) as f64 / 1e6),
            server_cpu_s: server_cpu_s / thousands,
            worker_cpu_s: worker_cpu_s / thousands,
            p50_us: took.p50,
            p99_us: took.p99,
        })
    }

    /// Reports a second.
    fn report(&self, server: &Peer, batch: &str) -> Result<f64> {
        let shape = ["--jobs", REPORTED, "--reporters", "16", "--batch", batch, "--seconds", REPORT_S];
        let reported: Reported = self.start(server, "report", &shape)?.line()?;
        Ok(reported.reports / reported.seconds)
    }

    fn start(&self, server: &Peer, role: &str, shape: &[&str]) -> Result<Role> {
        let mut command = match self.client {
            Client::Node(side) => {
                let mut node = Command::new("node");
                node.args(["bench/compare/main.js", side, role]);
                node
            }
            Client::Rust => {
                let mut load = Command::new(binary("tidings-load"));
                load.args(["jobs", role]);
                load
            }
        };
        command.args(["--url", server.url()]).args(shape);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Role { child, lines })
    }
}

/// A process that prints JSON, one object on each line.
struct Role {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Role {
    fn line<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        ensure!(!line.is_empty(), "a client ended before it was done");
        serde_json::from_str(&line).with_context(|| format!("{line:.200}"))
    }
}

/// What a producer prints.
#[derive(Debug, Deserialize)]
struct Produced {
    started: u64,
}

/// What workers print as they go, and at their end.
#[derive(Debug, Deserialize)]
struct Worked {
    done: u64,
    last: Option<u64>,
    #[serde(default)]
    took_us: Took,
}

/// From create to the answer of complete.
#[derive(Debug, Default, Deserialize)]
struct Took {
    count: u64,
    p50: f64,
    p99: f64,
}

/// What reporters print.
#[derive(Debug, Deserialize)]
struct Reported {
    reports: f64,
    seconds: f64,
}

/// Of one run; CPU is for 1,000 jobs.
struct Figures {
    jobs_per_s: f64,
    server_cpu_s: f64,
    worker_cpu_s: f64,
    p50_us: f64,
    p99_us: f64,
}

impl Drop for Role {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

/// User and system time of a process so far. Linux tells programs hundredths of a second on every architecture.
fn cpu_s(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name stands in brackets and may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
    Ok(ticks.sum::<u64>() as f64 / 100.0)
}
