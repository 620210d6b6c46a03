//! `cargo xtask torture --power`: real power loss, because `kill -9` proves nothing about fsync.
//!
//! Owns: a file system in a file, mounted, cut off from its medium, mounted again. Does not know: what is right (`checker`).
//! Flow: image → mount → server and publishers → SIGSTOP, `xfs_io -x -c shutdown`, `kill -9` → unmount → mount → again; at
//! the end everything that was acknowledged has to be there.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{sleep, timeout};

use crate::checker::{Report, Start};
use crate::sabotage;
use crate::torture::{
    Pace, Phase, Place, Plan, Publisher, Random, Server, World, build, everything, free_address, fresh_seed,
    judge, mark, open_to_all, reader, workspace,
};

/// Bytes of the image: some dozens of segments of 1 MiB.
const IMAGE_BYTES: u64 = 256 << 20;
const CHANNELS: u16 = 6;
const PANICS: &[&str] = &["panicked at", "ERROR"];
const PUBLISHERS: u64 = 16;
const READERS: u16 = 12;
/// Publishers are slow to notice a dead disk only if something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads the arguments and runs.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let mut cycles = 20;
    let mut seed = fresh_seed();
    let mut control = true;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut number = || -> Result<u64> {
            let text = rest.next().with_context(|| format!("{argument} needs a number"))?;
            text.parse().with_context(|| format!("{text} is not a number"))
        };
        match argument.as_str() {
            "--power" => {}
            "--cycles" => cycles = number()?,
            "--seed" => seed = number()?,
            "--no-control" => control = false,
            other => bail!("torture --power does not know {other}: --cycles N, --seed N, --no-control"),
        }
    }
    if let Err(why) = possible() {
        println!("power: skipped: {why:#}");
        return Ok(ExitCode::SUCCESS);
    }
    println!("power: {cycles} cycles, seed {seed}, ext4 in a file");
    let (report, summary) = cycle(&build(&workspace())?, cycles, seed)?;
    println!("faults: {summary}");
    print!("{report}");
    let mut passed = report.passed();
    if control {
        passed &= checked(seed)?;
    }
    println!("power: {}", if passed { "passed" } else { "FAILED" });
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The control: a server that never syncs has to be caught, else the cuts prove nothing.
fn checked(seed: u64) -> Result<bool> {
    let binary = sabotage::server("acknowledge before fsync")?;
    let (report, _) = cycle(&binary, 3, seed)?;
    let kinds = report.kinds();
    match report.caught() {
        true => println!("control: a server that never syncs was caught: {kinds}"),
        false => println!("control: a server that never syncs was NOT caught"),
    }
    Ok(report.caught())
}

/// Whether a file system can be mounted and cut off here; why not, if not.
pub(crate) fn possible() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("mounting needs root");
    }
    for tool in ["mkfs.ext4", "mount", "umount", "xfs_io"] {
        let found = std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path)
                .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
                .any(|folder| folder.join(tool).exists())
        });
        if !found {
            bail!("{tool} is missing (on Debian: apt-get install xfsprogs e2fsprogs mount)");
        }
    }
    let folder = tempfile::tempdir()?;
    let disk = Disk::new(folder.path(), 16 << 20)?;
    disk.cut()?;
    disk.unmount()
}

/// So many power cuts under load, on one store.
pub(crate) fn cycle(binary: &Path, cycles: u64, seed: u64) -> Result<(Report, String)> {
    let folder = tempfile::tempdir()?;
    let disk = Disk::new(folder.path(), IMAGE_BYTES)?;
    let place = Place {
        binary: binary.to_path_buf(),
        data: disk.mount.join("data"),
        log: folder.path().join("server.log"),
        address: free_address(seed)?,
        access: open_to_all(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let world = World::new(seed, place.address, CHANNELS);
    let (report, summary) = LocalSet::new().block_on(&runtime, live(&world, &place, &disk, cycles))?;
    disk.unmount()?;
    Ok((report, summary))
}

async fn live(world: &Rc<World>, place: &Place, disk: &Disk, cycles: u64) -> Result<(Report, String)> {
    let mut random = Random::of(world.seed, 2);
    let mut server = Server::start(place).await?;
    for number in 0..READERS {
        let count = usize::from(1 + number % CHANNELS);
        let channels = random.some(&world.regular, count);
        let name = format!("reader {number}");
        let plan = Plan { name, channels, start: Start::Now, pace: Pace::Fast, must_end: false, cuts: false };
        spawn_local(reader::run(Rc::clone(world), plan));
    }
    let publishers: Vec<_> = (0..PUBLISHERS)
        .filter_map(|number| Publisher::new(world, number))
        .map(|publisher| spawn_local(publisher.run(3)))
        .collect();
    for _ in 0..cycles {
        sleep(random.millis(300, 1_000)).await;
        // Power loss stops the processor together with the disk. A sync that is under way when ext4 is shut down can return
        // success though its journal commit was dropped (seen in 1 of 6 cuts): nobody may be told of that success.
        server.freeze_wholly().await?;
        disk.cut()?;
        world.count("power cuts");
        server.kill()?;
        disk.unmount()?;
        disk.remount()?;
        server = match Server::start(place).await {
            Ok(server) => server,
            Err(error) => {
                // What was acknowledged cannot be read any more.
                world.phase.send_replace(Phase::Over);
                world.complain(format!("the server did not start after a power cut: {error:#}"));
                return Ok(judge(world, place, Vec::new(), &[], PANICS));
            }
        };
    }
    world.phase.send_replace(Phase::Healing);
    for publisher in publishers {
        if timeout(PATIENCE, publisher).await.is_err() {
            world.complain("a publisher did not finish".into());
        }
    }
    mark(world).await;
    let mut waited = 0;
    while world.done.get() < world.clients.borrow().len() && waited < 1_000 {
        waited += 1;
        sleep(Duration::from_millis(20)).await;
    }
    world.phase.send_replace(Phase::Over);
    let log = everything(world).await?;
    drop(server);
    let planned =
        [("power cuts", cycles), ("publishes acknowledged", (cycles * 50).max(100)), ("reconnects", cycles)];
    Ok(judge(world, place, log, &planned, PANICS))
}

/// A file system in a file.
#[derive(Debug)]
struct Disk {
    image: PathBuf,
    mount: PathBuf,
}

impl Disk {
    fn new(folder: &Path, bytes: u64) -> Result<Self> {
        let disk = Self { image: folder.join("disk.img"), mount: folder.join("disk") };
        std::fs::File::create(&disk.image)?.set_len(bytes)?;
        std::fs::create_dir_all(&disk.mount)?;
        tool("mkfs.ext4", &["-q", "-F"], &[&disk.image])?;
        disk.remount()?;
        Ok(disk)
    }

    fn remount(&self) -> Result<()> {
        tool("mount", &["-o", "loop"], &[&self.image, &self.mount])
    }

    fn unmount(&self) -> Result<()> {
        tool("umount", &[], &[&self.mount])
    }

    /// From now on nothing reaches the medium, the journal included, and every write fails.
    fn cut(&self) -> Result<()> {
        tool("xfs_io", &["-x", "-c", "shutdown"], &[&self.mount])
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Unmounted already, unless something failed on the way; nobody is left to tell.
        Command::new("umount").arg("-l").arg(&self.mount).output().map(drop).unwrap_or_default();
    }
}

fn tool(name: &str, flags: &[&str], paths: &[&Path]) -> Result<()> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let output = Command::new(name).args(flags).args(paths).env("PATH", path).output();
    let output = output.with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        bail!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
