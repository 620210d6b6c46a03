//! `cargo xtask torture --jobs`: worker processes that are killed and stopped, a server that is killed, then the checker.
//!
//! Owns: the plan of a run and its summary. Does not know: what is right (`checker`).
//! Flow: build → server → workers, makers of jobs, faults → healing → one more restart → the final read → the verdict.

mod checker;
mod connection;
mod crowd;
mod journal;
mod producer;
mod reading;
mod trace;
mod worker;
mod writer;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use tokio::task::{JoinSet, LocalSet, spawn_local};
use tokio::time::{Instant, sleep};

use self::connection::Connection;
use self::crowd::Crowd;
use self::journal::micros;
use self::trace::{Cancel, Made, Trace};
use super::order::Order;
use super::{Phase, Place, Random, Server, build, free_address, open_to_all, said, workspace};
use crate::checker::Fact;

/// The queues, of which one is nearly idle.
const QUEUES: &[&str] = &["exports", "mail", "thumbnails"];
const TYPES: &[&str] = &["csv", "pdf", "invoice", "newsletter", "resize"];
/// Requests that make jobs are under way so many at once.
const PRODUCERS: u64 = 4;
/// How long the jobs have to end once nothing is broken any more.
const HEALING: Duration = Duration::from_secs(90);

/// The shared state of a run: one thread, so plain cells.
#[derive(Debug)]
struct Run {
    seed: u64,
    address: SocketAddr,
    jobs: u64,
    phase: Cell<Phase>,
    made: RefCell<Vec<Made>>,
    cancels: RefCell<Vec<Cancel>>,
    counts: RefCell<BTreeMap<&'static str, u64>>,
    complaints: RefCell<Vec<String>>,
}

impl Run {
    fn phase(&self) -> Phase {
        self.phase.get()
    }

    fn count(&self, what: &'static str) {
        *self.counts.borrow_mut().entry(what).or_default() += 1;
    }

    fn complain(&self, complaint: String) {
        let mut complaints = self.complaints.borrow_mut();
        if complaints.len() < 20 {
            complaints.push(complaint);
        }
    }

    /// A number that follows from an id, to pick some of them.
    fn number(&self, id: &str) -> usize {
        let mixed = id.bytes().fold(self.seed, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        usize::try_from(mixed % 1_000).unwrap_or_default()
    }
}

/// How much of everything.
struct Size {
    time: Duration,
    seed: u64,
    jobs: u64,
    workers: usize,
}

impl Size {
    /// What the issue asks for: 5,000 jobs, 50 workers and 30 kills in five minutes; less time, less.
    fn of(time: Duration, seed: u64) -> Self {
        let seconds = time.as_secs();
        let jobs = (seconds * 50 / 3).clamp(100, 5_000);
        let workers = usize::try_from(seconds / 2).unwrap_or(50).clamp(20, 50);
        Self { time, seed, jobs, workers }
    }

    fn planned(&self) -> Vec<(&'static str, u64)> {
        let seconds = self.time.as_secs();
        vec![
            ("kills", seconds / 10),
            ("worker kills", seconds / 2),
            ("worker stops", seconds / 8),
            ("jobs acknowledged", self.jobs * 9 / 10),
            ("completed", self.jobs / 3),
            ("failed", self.jobs / 50),
            ("cancelled", self.jobs / 100),
            ("expired", self.jobs / 150),
            ("cancels", self.jobs / 40),
            ("stalled", self.jobs / 20),
            ("failed to be tried again", self.jobs / 50),
            ("released", self.jobs / 50),
            ("stale writes refused", self.jobs / 20),
            ("repeats recognised", seconds / 100),
            ("unique keys that were held", self.jobs / 200),
            ("streams that ended for good", self.jobs / 20),
        ]
    }
}

/// Reads the arguments and runs.
pub(super) fn run(arguments: &[String]) -> Result<ExitCode> {
    if let Some(("--jobs-worker", rest)) = arguments.split_first().map(|(a, rest)| (a.as_str(), rest)) {
        return worker::run(rest);
    }
    let order = Order::read(arguments, " --jobs", Duration::from_secs(300))?;
    let Order { time, seed, .. } = order;
    let binary = build(&workspace())?;
    let size = Size::of(time, seed);
    let seconds = time.as_secs();
    println!(
        "torture: {seconds} s, seed {seed}, {} jobs, {} worker processes, server of the dev profile",
        size.jobs, size.workers
    );
    let (report, summary) = torture(&binary, &size)?;
    println!("faults: {summary}");
    Ok(order.tell(&report, report.passed()))
}

fn torture(binary: &Path, size: &Size) -> Result<(checker::Report, String)> {
    let folder = tempfile::tempdir_in(workspace().join("target"))?;
    let place = Place {
        binary: binary.to_path_buf(),
        data: folder.path().join("data"),
        log: folder.path().join("server.log"),
        address: free_address(size.seed)?,
        access: open_to_all(),
    };
    let journals = folder.path().join("journals");
    std::fs::create_dir(&journals)?;
    let run = Rc::new(Run {
        seed: size.seed,
        address: place.address,
        jobs: size.jobs,
        phase: Cell::new(Phase::Faults),
        made: RefCell::default(),
        cancels: RefCell::default(),
        counts: RefCell::default(),
        complaints: RefCell::default(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let trace = LocalSet::new().block_on(&runtime, live(&run, &place, &journals, size))?;
    let mut report = checker::check(&trace);
    report.invalid.extend(run.complaints.take());
    let wrong = said(&place.log, &["panicked at", "ERROR"]);
    report.invalid.extend(wrong.into_iter().map(|line| format!("the server said: {line}")));
    if !report.passed() {
        let kept = workspace().join("target/torture-jobs-failed");
        if kept.exists() {
            std::fs::remove_dir_all(&kept)?;
        }
        std::fs::rename(folder.path(), &kept)?;
        println!("log, data and journals: {}", kept.display());
    }
    let counts = run.counts.take();
    let summary: Vec<String> = counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
    Ok((report, summary.join(", ")))
}

async fn live(run: &Rc<Run>, place: &Place, journals: &Path, size: &Size) -> Result<Trace> {
    let server = Server::start(place).await?;
    let crowd = spawn_local(Crowd::start(run, journals, size.workers)?.suffer());
    let mut producers = JoinSet::new();
    for number in 0..PRODUCERS {
        // The last jobs are made while there are faults to come.
        let time = size.time.mul_f64(0.85);
        producers.spawn_local(producer::run(Rc::clone(run), number, PRODUCERS, time));
    }
    let (server, mut starts) = faults(run, server, size.time).await?;
    run.phase.set(Phase::Healing);
    while let Some(made) = producers.join_next().await {
        made??;
    }
    let crowd = crowd.await??;
    let mut connection = Connection::new(run.address);
    let begun = Instant::now();
    while reading::waiting(&mut connection).await? > 0 {
        if begun.elapsed() > HEALING {
            run.complain(format!("jobs have not ended after {HEALING:?}"));
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    println!("all jobs had ended {:.1} s after the last fault", begun.elapsed().as_secs_f64());
    drop(crowd);
    // What nobody but the disk can still know.
    let server = restart(run, server, Duration::ZERO, &mut starts).await?;
    let streams = reading::everything(run).await?;
    drop(server);
    let mut trace = Trace {
        made: run.made.take(),
        cancels: run.cancels.take(),
        streams,
        starts,
        facts: facts(&run.counts.borrow(), size),
        ..Trace::default()
    };
    for journal in std::fs::read_dir(journals)? {
        trace.take_journal(&std::fs::read_to_string(journal?.path())?);
    }
    Ok(trace)
}

fn facts(counts: &BTreeMap<&'static str, u64>, size: &Size) -> Vec<Fact> {
    let done = |name: &str| counts.get(name).copied().unwrap_or_default();
    size.planned().into_iter().map(|(name, planned)| Fact { name, planned, done: done(name) }).collect()
}

/// Kills the server every few seconds; it is up again afterwards.
async fn faults(run: &Rc<Run>, mut server: Server, time: Duration) -> Result<(Server, Vec<u64>)> {
    let mut random = Random::of(run.seed, 1);
    let (until, mut starts) = (Instant::now() + time, Vec::new());
    while Instant::now() < until {
        sleep(random.millis(2_500, 9_500)).await;
        server = restart(run, server, random.millis(0, 700), &mut starts).await?;
    }
    Ok((server, starts))
}

/// `kill -9`, some time without a server, and a new one in its place. It begins to count leases anew when it is started,
/// and no later than when it is ready.
async fn restart(run: &Run, server: Server, pause: Duration, starts: &mut Vec<u64>) -> Result<Server> {
    let place = server.place.clone();
    server.kill()?;
    run.count("kills");
    sleep(pause).await;
    starts.push(micros());
    let server = Server::start(&place).await?;
    starts.push(micros());
    Ok(server)
}
