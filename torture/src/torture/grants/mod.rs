//! `cargo xtask torture --grants`: subscribers whose tokens end, are renewed and are revoked while they listen.
//!
//! Owns: the plan of a run and its summary. Does not know: what is right (`checker`), how a token is made (`office`).
//! Flow: build → keys → server → publishers, subscribers, revocations, faults → healing → one more restart → the verdict.

mod office;
mod subscriber;

use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep};

use self::office::{Keys, Office};
use super::order::Order;
use super::server::Server;
use super::world::{Phase, World};
use super::{Place, Publisher, Random, build, everything, fault, free_address, judge, mark, workspace};
use crate::checker::Report;

/// Channels of the application, beside one for each subject. The names of some are the beginnings of others.
const CHANNELS: u16 = 16;
/// How long clients have to settle and to catch up once nothing is broken any more.
const HEALING: Duration = Duration::from_secs(60);

/// How much of everything.
#[derive(Debug, Clone)]
pub(crate) struct Size {
    pub(crate) time: Duration,
    pub(crate) healing: Duration,
    pub(crate) seed: u64,
    pub(crate) subscribers: u16,
    pub(crate) planned: Vec<(&'static str, u64)>,
}

impl Size {
    pub(crate) fn full(time: Duration, seed: u64) -> Self {
        let seconds = time.as_secs();
        let planned = vec![
            ("publishes acknowledged", (seconds * 10).min(1_000)),
            ("kills", seconds / 15),
            ("tokens", seconds * 4),
            ("streams that ended with their token", seconds / 2),
            ("streams that were revoked", seconds / 4),
            ("revocations answered", seconds / 2),
            ("open streams that went on with another token", seconds / 2),
            ("open streams that a smaller grant ended", seconds / 15),
            ("resumes behind a refusal", seconds),
            ("stops", seconds / 3),
            ("prying refused", seconds / 8),
            ("tickets used", seconds / 8),
            ("used tickets refused", seconds / 15),
            ("dead tokens refused after a restart", seconds / 15),
            ("reconnects", seconds * 2),
            ("stalls", seconds / 4),
        ];
        Self { time, healing: HEALING, seed, subscribers: 48, planned }
    }
}

/// Reads the arguments and runs.
pub(super) fn run(arguments: &[String]) -> Result<ExitCode> {
    let order = Order::read(arguments, " --grants", Duration::from_secs(60))?;
    let Order { time, seed, .. } = order;
    let binary = build(&workspace())?;
    let size = Size::full(time, seed);
    let seconds = time.as_secs();
    println!(
        "torture: {seconds} s, seed {seed}, {} subscribers with tokens, server of the dev profile",
        size.subscribers
    );
    let (report, summary) = torture(&binary, &size)?;
    println!("grants: {summary}");
    Ok(order.tell(&report, report.passed()))
}

/// One run with a given binary: the verdict, and what was done to it.
pub(crate) fn torture(binary: &Path, size: &Size) -> Result<(Report, String)> {
    let folder = tempfile::tempdir()?;
    let keys = Keys::make(binary, folder.path())?;
    let place = Place {
        binary: binary.to_path_buf(),
        data: folder.path().join("data"),
        log: folder.path().join("server.log"),
        address: free_address(size.seed)?,
        access: keys.flags(),
    };
    let common = (0..CHANNELS).map(|n| format!("torture:{n}"));
    // Two subscribers are one subject's: revoking it ends the streams of both.
    let own = (0..size.subscribers.div_ceil(2)).map(|subject| format!("user:{}", office::subject(subject)));
    let channels: Vec<String> = common.chain(own).collect();
    let world = World::of(size.seed, place.address, &channels, Some(keys.api_key.clone()));
    let office = Office::new(&world, keys, size.subscribers);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, live(&world, &office, &place, size))
}

async fn live(
    world: &Rc<World>,
    office: &Rc<Office>,
    place: &Place,
    size: &Size,
) -> Result<(Report, String)> {
    let server = Server::start(place).await?;
    for who in 0..size.subscribers {
        spawn_local(subscriber::run(Rc::clone(office), who));
    }
    let mut publishers = Vec::new();
    for number in 0..3 {
        let publisher = Publisher::new(world, number).context("a publisher")?;
        publishers.push(spawn_local(publisher.run(40)));
    }
    let revoking = spawn_local(Rc::clone(office).revoke());
    let server = faults(world, office, server, size.time).await?;
    // Whoever is in the middle of a revocation finishes it: what comes then holds.
    office.close();
    revoking.await?;
    world.phase.send_replace(Phase::Healing);
    let begun = Instant::now();
    let until = begun + size.healing;
    for publisher in publishers {
        if tokio::time::timeout_at(until, publisher).await.is_err() {
            world.complain("a publisher did not finish".into());
        }
    }
    let all = usize::from(size.subscribers);
    let done = |count: usize| count >= all || Instant::now() >= until;
    while !done(office.settled.get()) {
        sleep(Duration::from_millis(20)).await;
    }
    mark(world).await;
    while !done(world.done.get()) {
        sleep(Duration::from_millis(20)).await;
    }
    world.at_least("ms until all had caught up", u64::try_from(begun.elapsed().as_millis()).unwrap_or(0));
    world.phase.send_replace(Phase::Over);
    let server = fault::restart(world, server, Duration::ZERO).await?;
    office.probe_the_dead().await;
    let log = everything(world).await?;
    drop(server);
    let (report, summary) = judge(world, place, log, &size.planned, &["panicked at", "ERROR"]);
    Ok((report, format!("{summary}\n{}", office.ends().trim_end())))
}

/// Kills and stops the server, not as often as where that is all there is; it is up again afterwards.
async fn faults(world: &Rc<World>, office: &Office, mut server: Server, time: Duration) -> Result<Server> {
    let mut random = Random::of(world.seed, 1);
    let until = Instant::now() + time;
    while Instant::now() < until {
        sleep(random.millis(3_000, 9_000)).await;
        if random.percent(30) {
            // Tokens end while nothing runs that could say so.
            server.freeze()?;
            world.count("stops of the server");
            sleep(random.millis(300, 2_500)).await;
            server.thaw()?;
            continue;
        }
        server = fault::restart(world, server, random.millis(0, 400)).await?;
        office.probe_the_dead().await;
    }
    Ok(server)
}
