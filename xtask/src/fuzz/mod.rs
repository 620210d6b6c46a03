//! `cargo xtask fuzz`: inputs that nobody would think of, found by coverage, against the targets of `fuzz/`.
//!
//! Owns: building the targets, for how long each runs, where inputs come from and where crashes go. Does not know: what a
//! target does.
//! Flow: sources → one executable with coverage counters → seeds, corpus and regressions → the targets, two at once on two
//! cores → a line for each, or the input that broke it.
//!
//! What cargo-fuzz would do, without installing it, and in our own crates alone (`fuzz/instrument.sh`). There is no
//! address sanitizer: it needs unstable flags, is thirteen times slower, and there is no `unsafe` of ours to watch.

mod seeds;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::step::{STEP_LIMIT, command};

/// Adds coverage counters to our own crates.
const INSTRUMENT: &str = "fuzz/instrument.sh";

/// What this machine found, and what the targets start from.
const FOUND: &str = "target/fuzz";

/// How long a target runs in `cargo xtask test`, beside the corpus and the regressions.
const STEP_SECONDS: u64 = 2;

/// How long a target runs if nobody says.
const SECONDS: u64 = 30;

/// An input that takes longer hangs.
const INPUT_SECONDS: u64 = 20;

/// What a process may take: every target bounds what it keeps.
const MEMORY_MIB: u64 = 1_024;

/// Inputs that are longer find little that shorter ones do not.
const INPUT_BYTES: usize = 4_096;

/// Bytes of a kept input, and inputs of a target that are kept: the corpus is loaded at every run.
const KEPT_BYTES: u64 = 1_024;
const KEPT_INPUTS: usize = 50;

const USAGE: &str = "usage: cargo xtask fuzz [--list] [--seconds N] [--keep] [TARGET…]";

/// Runs the targets that are named, or all of them.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    std::env::set_current_dir(crate::root()?)?;
    let all = targets()?;
    let (mut seconds, mut keep, mut wanted) = (SECONDS, false, Vec::new());
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--list" => {
                all.iter().for_each(|target| println!("{target}"));
                return Ok(ExitCode::SUCCESS);
            }
            "--seconds" => {
                seconds = arguments.next().and_then(|text| text.parse().ok()).context(USAGE)?;
            }
            "--keep" => keep = true,
            name if all.iter().any(|target| target == name) => wanted.push(name.to_owned()),
            other => bail!("there is no target {other:?}; {USAGE}"),
        }
    }
    let wanted = if wanted.is_empty() { all } else { wanted };
    let program = build()?;
    fuzz(&program, &wanted, seconds)?;
    if keep {
        for target in &wanted {
            self::keep(&program, target)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The step of `cargo xtask test`: everything that ever broke a target, the corpus, and a few seconds beyond.
pub(crate) fn step() -> Result<()> {
    fuzz(&build()?, &targets()?, STEP_SECONDS)
}

/// The targets are the files in `fuzz/fuzz_targets`, but for the one that holds all.
fn targets() -> Result<Vec<String>> {
    let mut targets = Vec::new();
    for entry in std::fs::read_dir("fuzz/fuzz_targets")? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if name != "any" {
            targets.push(name);
        }
    }
    targets.sort();
    Ok(targets)
}

fn build() -> Result<PathBuf> {
    let mut build = Command::new("cargo");
    build.args([
        "build",
        "--locked",
        "--manifest-path",
        "fuzz/Cargo.toml",
        "--bin",
        "any",
        "--target-dir",
        "target",
    ]);
    build.env("RUSTC_WRAPPER", Path::new(INSTRUMENT).canonicalize()?);
    command(build, STEP_LIMIT)?;
    Ok(PathBuf::from("target/debug/any"))
}

/// Runs the targets, as many at once as there are cores.
fn fuzz(program: &Path, targets: &[String], seconds: u64) -> Result<()> {
    let next = AtomicUsize::new(0);
    // Those of its targets that were broken.
    let lane = || -> Result<Vec<&str>> {
        let mut broken = Vec::new();
        while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
            if !one(program, target, seconds)? {
                broken.push(target.as_str());
            }
        }
        Ok(broken)
    };
    let mut broken = Vec::new();
    let lanes = std::thread::available_parallelism()?.get();
    std::thread::scope(|scope| -> Result<()> {
        let running: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
        for one in running {
            broken.extend(one.join().map_err(|_| anyhow!("a lane panicked"))??);
        }
        Ok(())
    })?;
    ensure!(broken.is_empty(), "broken: {}; the inputs are in fuzz/artifacts", broken.join(", "));
    Ok(())
}

/// Runs one target and says how it went; whether nothing broke it.
fn one(program: &Path, target: &str, seconds: u64) -> Result<bool> {
    let folders = Folders::of(target)?;
    seeds::write(target, &folders.seeds)?;
    let started = Instant::now();
    let mut fuzzer = folders.fuzzer(program, target);
    fuzzer.args([
        &format!("-max_total_time={seconds}"),
        &format!("-timeout={INPUT_SECONDS}"),
        &format!("-rss_limit_mb={MEMORY_MIB}"),
        &format!("-max_len={INPUT_BYTES}"),
        &format!("-artifact_prefix={}/", folders.crashes.display()),
        "-print_final_stats=1",
    ]);
    let log = folders.work.with_extension("log");
    let passed = logged(fuzzer, &log, Duration::from_secs(seconds) + STEP_LIMIT)?;
    let text = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
    let (runs, coverage) = (figure(&text, "stat::number_of_executed_units:"), coverage(&text));
    let took = started.elapsed().as_secs_f64();
    let mut said = format!("{target:<12} {runs:>10} inputs {coverage:>6} edges {took:>6.1} s\n");
    if !passed {
        let from = text.lines().count().saturating_sub(40);
        text.lines().skip(from).for_each(|line| said.push_str(&format!("    {line}\n")));
        let (program, crashes) = (program.display(), folders.crashes.display());
        said.push_str(&format!("    repeat: TIDINGS_FUZZ={target} {program} {crashes}/…\n"));
    }
    // In one piece: others say how they went too.
    print!("{said}");
    Ok(passed)
}

/// Where a target's inputs are.
struct Folders {
    /// What this machine found so far; not in the repository.
    work: PathBuf,
    /// Made from `spec/fixtures`.
    seeds: PathBuf,
    /// Kept: few and small, and together they reach what was reached.
    corpus: PathBuf,
    /// Inputs that broke something which was repaired since.
    regressions: PathBuf,
    /// Inputs that break something.
    crashes: PathBuf,
}

impl Folders {
    fn of(target: &str) -> Result<Self> {
        let folders = Self {
            work: Path::new(FOUND).join("corpus").join(target),
            seeds: Path::new(FOUND).join("seeds").join(target),
            corpus: Path::new("fuzz/corpus").join(target),
            regressions: Path::new("fuzz/regressions").join(target),
            crashes: Path::new("fuzz/artifacts").join(target),
        };
        for folder in [&folders.work, &folders.seeds, &folders.crashes] {
            std::fs::create_dir_all(folder)?;
        }
        Ok(folders)
    }

    fn fuzzer(&self, program: &Path, target: &str) -> Command {
        let mut fuzzer = Command::new(program);
        fuzzer.env("TIDINGS_FUZZ", target).env("RUST_BACKTRACE", "1").arg(&self.work);
        fuzzer.args([&self.seeds, &self.corpus, &self.regressions].into_iter().filter(|f| f.is_dir()));
        fuzzer
    }
}

/// Whether the command succeeded; its output is in the log.
fn logged(mut fuzzer: Command, log: &Path, limit: Duration) -> Result<bool> {
    let file = std::fs::File::create(log)?;
    let mut child = fuzzer.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn()?;
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if started.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            bail!("{} was still running after {} s", log.display(), limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn figure<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines().find_map(|line| line.strip_prefix(name)).map_or("?", str::trim)
}

fn coverage(text: &str) -> &str {
    let last = text.lines().rev().find_map(|line| line.split_once(" cov: "));
    last.and_then(|(_, rest)| rest.split(' ').next()).unwrap_or("?")
}

/// Replaces what is kept by the fewest inputs that reach what this machine ever reached.
fn keep(program: &Path, target: &str) -> Result<()> {
    let folders = Folders::of(target)?;
    let merged = folders.work.with_extension("merged");
    if merged.is_dir() {
        std::fs::remove_dir_all(&merged)?;
    }
    std::fs::create_dir_all(&merged)?;
    let mut fuzzer = Command::new(program);
    fuzzer.env("TIDINGS_FUZZ", target).arg("-merge=1").arg(&merged).args([&folders.corpus, &folders.work]);
    std::fs::create_dir_all(&folders.corpus)?;
    ensure!(logged(fuzzer, &folders.work.with_extension("log"), STEP_LIMIT)?, "{target} was not merged");
    let mut inputs: Vec<(u64, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(&merged)? {
        let entry = entry?;
        inputs.push((entry.metadata()?.len(), entry.path()));
    }
    inputs.retain(|(bytes, _)| *bytes <= KEPT_BYTES);
    inputs.sort();
    std::fs::remove_dir_all(&folders.corpus)?;
    std::fs::create_dir_all(&folders.corpus)?;
    // Of too many, every n-th: the short ones alone would all be alike.
    let step = inputs.len().div_ceil(KEPT_INPUTS).max(1);
    for (_, path) in inputs.iter().step_by(step) {
        std::fs::copy(path, folders.corpus.join(path.file_name().unwrap_or_default()))?;
    }
    println!("{target:<12} keeps {} of {} inputs", inputs.len().div_ceil(step), inputs.len());
    Ok(())
}
