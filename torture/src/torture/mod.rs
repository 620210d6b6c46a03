//! `cargo xtask torture`: publishers, two hundred subscribers and every fault at once, then the checker.
//!
//! Owns: the plan of a run and its summary. Does not know: what is right (`checker`).
//! Flow: build → server → publishers, readers, faults → healing → one more restart → the final read → the verdict.

mod fault;
pub(crate) mod grants;
pub(crate) mod http;
mod jobs;
mod library;
mod oneoff;
mod order;
mod publisher;
mod random;
pub(crate) mod reader;
mod reading;
mod server;
mod world;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep};

use self::order::Order;
pub(crate) use self::publisher::{Form, Job, Publisher};
pub(crate) use self::random::Random;
pub(crate) use self::reader::{Pace, Plan};
pub(crate) use self::reading::everything;
pub(crate) use self::server::{Place, Server, free_address, open_to_all, said};
pub(crate) use self::world::{Phase, World};
use crate::checker::{self, Item, Report, Start};

/// Channels that live through a run.
const CHANNELS: u16 = 24;
/// How much of everything.
#[derive(Debug, Clone)]
pub(crate) struct Size {
    pub(crate) time: Duration,
    /// How long clients have to catch up once nothing is broken any more.
    pub(crate) healing: Duration,
    pub(crate) seed: u64,
    pub(crate) readers: u16,
    pub(crate) libraries: u16,
    pub(crate) publishers: u64,
    pub(crate) pause_ms: u64,
    pub(crate) planned: Vec<(&'static str, u64)>,
}

impl Size {
    /// What the issue asks for.
    pub(crate) fn full(time: Duration, seed: u64) -> Self {
        let seconds = time.as_secs();
        // Ten kills a minute; less time, fewer.
        let planned = vec![
            ("publishes acknowledged", (seconds * 20).min(1_000)),
            ("kills", seconds / 6),
            ("stops", seconds / 30),
            ("reconnects", (seconds * 20).min(1_000)),
            ("disconnects", seconds),
            ("connection resets", seconds),
            ("half closes", seconds),
            ("stalls", seconds),
            ("finals", seconds / 4),
            ("streams that ended for good", seconds / 4),
            ("ephemeral deliveries", seconds * 20),
            ("retries", seconds / 4),
            ("duplicates recognised", seconds / 30 + 1),
            ("answers thrown away", seconds / 6),
            ("subscriptions dropped", seconds / 10),
            ("connections behind at once", 1),
        ];
        Self {
            time,
            healing: Duration::from_secs(60),
            seed,
            readers: 190,
            libraries: 10,
            publishers: 6,
            pause_ms: 60,
            planned,
        }
    }
}

/// Reads the arguments and runs.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    if arguments.iter().any(|a| a == "--power") {
        return crate::power::run(arguments);
    }
    if arguments.iter().any(|a| a == "--vanish") {
        return crate::vanish::run();
    }
    if arguments.iter().any(|a| a == "--jobs" || a == "--jobs-worker") {
        return jobs::run(arguments);
    }
    if arguments.iter().any(|a| a == "--grants") {
        return grants::run(arguments);
    }
    let order = Order::read(arguments, "", Duration::from_secs(60))?;
    let Order { time, seed, .. } = order;
    let binary = build(&workspace())?;
    let size = Size::full(time, seed);
    let seconds = time.as_secs();
    println!(
        "torture: {seconds} s, seed {seed}, {} subscribers, server of the dev profile",
        size.readers + size.libraries
    );
    let (report, summary) = torture(&binary, &size)?;
    println!("faults: {summary}");
    Ok(order.tell(&report, report.passed()))
}

pub(crate) fn fresh_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) ^ (now.as_secs() & 0xffff)
}

pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// The cargo that runs this, or the one of the folder.
pub(crate) fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// What cargo is told to build the server: with the dev profile, which is quick, and has overflow checks and debug assertions.
/// The whole workspace says which features it has, as for the tests: nothing is built twice.
pub(crate) const BUILD: [&str; 5] = ["build", "--quiet", "--workspace", "--bin", "tidings"];

/// Builds the server of a workspace.
pub(crate) fn build(workspace: &Path) -> Result<PathBuf> {
    let built = Command::new(cargo()).args(BUILD).current_dir(workspace).status()?;
    if !built.success() {
        bail!("the server does not build");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    Ok(target.join("debug/tidings"))
}

/// One run with a given binary: the verdict, and what was done to it.
pub(crate) fn torture(binary: &Path, size: &Size) -> Result<(Report, String)> {
    let folder = tempfile::tempdir()?;
    let place = Place {
        binary: binary.to_path_buf(),
        data: folder.path().join("data"),
        log: folder.path().join("server.log"),
        address: free_address(size.seed)?,
        access: open_to_all(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let world = World::new(size.seed, place.address, CHANNELS);
    LocalSet::new().block_on(&runtime, live(&world, &place, size))
}

async fn live(world: &Rc<World>, place: &Place, size: &Size) -> Result<(Report, String)> {
    let server = Server::start(place).await?;
    for number in 0..size.readers {
        spawn_local(reader::run(Rc::clone(world), plan(world, number)));
    }
    for number in 0..size.libraries {
        let plan =
            Plan { name: format!("library {number}"), start: Start::Now, ..plan(world, 1_000 + number) };
        spawn_local(library::run(Rc::clone(world), plan));
    }
    let mut publishers = Vec::new();
    for number in 0..size.publishers {
        let publisher = Publisher::new(world, number).context("a publisher")?;
        publishers.push(spawn_local(publisher.run(size.pause_ms)));
    }
    if let Some(publisher) = Publisher::new(world, 60) {
        publishers.push(spawn_local(publisher.whisper()));
    }
    publishers.extend((0..2).map(|number| spawn_local(oneoff::run(Rc::clone(world), number))));
    let server = fault::run(Rc::clone(world), server, size.time).await?;
    world.phase.send_replace(Phase::Healing);
    let begun = Instant::now();
    let until = begun + size.healing;
    for publisher in publishers {
        if tokio::time::timeout_at(until, publisher).await.is_err() {
            world.complain("a publisher did not finish".into());
        }
    }
    mark(world).await;
    while world.done.get() < world.clients.borrow().len() && Instant::now() < until {
        sleep(Duration::from_millis(20)).await;
    }
    world.at_least("ms until all had caught up", u64::try_from(begun.elapsed().as_millis()).unwrap_or(0));
    world.phase.send_replace(Phase::Over);
    // What nobody but the disk can still know.
    let server = fault::restart(world, server, Duration::ZERO).await?;
    let log = everything(world).await?;
    drop(server);
    Ok(judge(world, place, log, &size.planned, &["panicked at", "ERROR"]))
}

/// Checks the trace; complaints and what the server should never say fail the run too.
pub(crate) fn judge(
    world: &World,
    place: &Place,
    log: Vec<checker::Logged>,
    planned: &[(&'static str, u64)],
    wrong: &[&str],
) -> (Report, String) {
    let mut report = checker::check(&world.trace(log, planned));
    report.invalid.extend(world.complaints.take());
    report.invalid.extend(said(&place.log, wrong).into_iter().map(|line| format!("the server said: {line}")));
    if !report.passed() {
        // The folder goes, so what the server said stays where the next run finds it.
        let kept = workspace().join("target/torture-failed.log");
        match std::fs::copy(&place.log, &kept) {
            Ok(_) => println!("what the server said: {}", kept.display()),
            Err(error) => println!("what the server said is lost: {error}"),
        }
    }
    (report, world.counts())
}

/// The last event of every regular channel: who has it has caught up.
pub(crate) async fn mark(world: &Rc<World>) {
    let value = world.value();
    let items = world.regular.iter().map(|&channel| Item { channel, value, key: None }).collect();
    world.markers.borrow_mut().insert(value);
    let job = Job { form: Form::Many, items, retried: true, is_final: false, deaf: None };
    if let Some(mut publisher) = Publisher::new(world, 99) {
        publisher.publish(job).await;
    }
}

/// A subscriber: half of them are slow or stall.
fn plan(world: &World, number: u16) -> Plan {
    let mut random = Random::of(world.seed, 10_000 + u64::from(number));
    let pace = match number % 4 {
        0 => Pace::Slow,
        1 => Pace::Stalling,
        _ => Pace::Fast,
    };
    let count = match random.below(10) {
        0..=4 => 1,
        5..=7 => random.between(2, 4),
        8 => random.between(5, 12),
        _ => u64::from(CHANNELS),
    };
    let start = match random.below(10) {
        0 => Start::Last(random.between(1, 500)),
        1 | 2 => Start::Oldest,
        _ => Start::Now,
    };
    Plan {
        name: format!("reader {number}"),
        channels: random.some(&world.regular, usize::try_from(count).unwrap_or(1)),
        start,
        pace,
        must_end: false,
        cuts: true,
    }
}
