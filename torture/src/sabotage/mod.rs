//! `cargo xtask sabotage`: a checker that passes a sabotaged build is the bug.
//!
//! Owns: a copy of the workspace, breaking one line of it at a time, and the table of who noticed. Does not know: what the
//! lines mean.
//! Flow: copy → everything passes → for each build: break, compile, ask the catchers, mend → the table.

mod builds;

use std::collections::HashSet;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use self::builds::{BUILDS, Build, Catcher};
use crate::torture::{Size, grants, torture, workspace};
use crate::{power, torture};

/// Tests wait for events that a broken build never sends: one that takes so long has noticed.
const TEST_LIMIT: Duration = Duration::from_secs(90);

/// How long clients may take to catch up: enough for the product as it is on a busy machine.
const HEALING: Duration = Duration::from_secs(20);

/// Reads the arguments and runs.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let mut only = None;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--only" => only = Some(rest.next().context("--only needs a name")?.clone()),
            "--list" => {
                BUILDS.iter().for_each(|build| println!("{}", build.name));
                return Ok(ExitCode::SUCCESS);
            }
            other => bail!("sabotage does not know {other}: --only NAME, --list"),
        }
    }
    let chosen: Vec<&Build> =
        BUILDS.iter().filter(|b| only.as_ref().is_none_or(|only| b.name.contains(only.as_str()))).collect();
    if chosen.is_empty() {
        bail!("no build has that name; cargo xtask sabotage --list shows them");
    }
    let copy = Copied::new()?;
    for build in &chosen {
        copy.check(build)?;
    }
    sound(&copy, &chosen)?;
    let mut rows = Vec::new();
    for build in chosen {
        let begun = Instant::now();
        let caught = attempt(&copy, build)?;
        let row = (build.name, build.file, caught, begun.elapsed().as_secs());
        println!("{}", line(&row));
        rows.push(row);
    }
    println!("\n{:<50} {:<44} {:>4}  caught by", "build", "where", "s");
    rows.iter().for_each(|row| println!("{}", line(row)));
    let missed = rows.iter().filter(|(_, _, caught, _)| caught.is_none()).count();
    println!("sabotage: {} of {} caught", rows.len() - missed, rows.len());
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn line((name, file, caught, seconds): &(&str, &str, Option<String>, u64)) -> String {
    let caught = caught.as_deref().unwrap_or("NOBODY");
    format!("{name:<50} {file:<44} {seconds:>4}  {caught}")
}

/// A server with one line broken.
pub(crate) fn server(name: &str) -> Result<PathBuf> {
    let build = BUILDS.iter().find(|build| build.name == name).with_context(|| format!("no build {name}"))?;
    let copy = Copied::new()?;
    let _mended = copy.break_it(build)?;
    let binary = copy.server()?;
    // The next build in the copy would take its place.
    let kept = copy.target.join("sabotaged");
    std::fs::copy(binary, &kept)?;
    Ok(kept)
}

/// Nobody may complain of the product as it is: a catcher that always fails catches nothing.
fn sound(copy: &Copied, chosen: &[&Build]) -> Result<()> {
    let mut asked = HashSet::new();
    for &catcher in chosen.iter().flat_map(|build| build.catchers) {
        let is_test = matches!(catcher, Catcher::Unit(..) | Catcher::BlackBox(..));
        // One run of each of the long ones says as much as several.
        let key =
            if is_test { format!("{catcher:?}") } else { format!("{:?}", std::mem::discriminant(&catcher)) };
        if asked.insert(key)
            && let Some(complaint) = ask(copy, catcher)?
        {
            bail!("the product as it is does not pass: {complaint}");
        }
    }
    println!("the product as it is: {} catchers pass", asked.len());
    Ok(())
}

fn attempt(copy: &Copied, build: &Build) -> Result<Option<String>> {
    let _mended = copy.break_it(build)?;
    for &catcher in build.catchers {
        if let Some(complaint) = ask(copy, catcher)? {
            return Ok(Some(complaint));
        }
    }
    Ok(None)
}

/// Asks one catcher; what it noticed, if it did.
fn ask(copy: &Copied, catcher: Catcher) -> Result<Option<String>> {
    match catcher {
        Catcher::Unit(package, filter) => copy.test(&["--package", package, "--lib"], filter),
        Catcher::BlackBox(package, filter) => copy.test(&["--package", package, "--test", "it"], filter),
        Catcher::Torture(seconds) => {
            let binary = copy.server()?;
            let full = Size::full(Duration::from_secs(seconds), torture::fresh_seed());
            // Clients of a broken build often wait for ever.
            let size = Size { planned: Vec::new(), healing: HEALING, ..full };
            noticed("torture", torture(&binary, &size))
        }
        Catcher::Grants(seconds) => {
            let binary = copy.server()?;
            let full = grants::Size::full(Duration::from_secs(seconds), torture::fresh_seed());
            let size = grants::Size { planned: Vec::new(), healing: HEALING, ..full };
            noticed("torture --grants", grants::torture(&binary, &size))
        }
        Catcher::Power(cycles) if power::possible().is_ok() => {
            noticed("power", power::cycle(&copy.server()?, cycles, torture::fresh_seed()))
        }
        Catcher::Power(_) => Ok(None),
    }
}

fn noticed(who: &str, run: Result<(crate::checker::Report, String)>) -> Result<Option<String>> {
    match run {
        Ok((report, _)) if report.passed() => Ok(None),
        Ok((report, _)) if report.caught() => Ok(Some(format!("{who}: {}", report.kinds()))),
        Ok((report, _)) => Ok(report.invalid.first().map(|said| format!("{who}: {said:.120}"))),
        // A server that does not start again is noticed too.
        Err(error) => {
            let said = format!("{error:#}");
            Ok(Some(format!("{who}: {:.160}", said.lines().last().unwrap_or_default())))
        }
    }
}

/// A copy of the workspace, with a target folder of its own that later runs use again.
#[derive(Debug)]
struct Copied {
    source: PathBuf,
    target: PathBuf,
    /// Two runs would break each other's lines.
    _lock: std::fs::File,
}

impl Copied {
    fn new() -> Result<Self> {
        let from = workspace();
        let root = from.join("target/sabotage");
        std::fs::create_dir_all(&root)?;
        let lock = std::fs::File::create(root.join("lock"))?;
        lock.lock().context("cannot wait for another run of sabotage")?;
        let copy = Self { source: root.join("source"), target: root.join("target"), _lock: lock };
        let listed = Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
            .current_dir(&from)
            .output()?;
        if !listed.status.success() {
            bail!("git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
        }
        let mut wanted = HashSet::new();
        for name in String::from_utf8(listed.stdout)?.split('\0').filter(|name| !name.is_empty()) {
            // A file that is deleted and not yet committed is listed too.
            let Ok(bytes) = std::fs::read(from.join(name)) else { continue };
            let to = copy.source.join(name);
            wanted.insert(to.clone());
            // What has not changed keeps its time, so that it is not compiled again.
            if std::fs::read(&to).ok().as_ref() != Some(&bytes) {
                std::fs::create_dir_all(to.parent().unwrap_or(&copy.source))?;
                std::fs::write(&to, bytes)?;
            }
        }
        remove_others(&copy.source, &wanted)?;
        copy.warm(&from)?;
        Ok(copy)
    }

    /// The first time, begins with what the workspace has compiled of other people's crates.
    fn warm(&self, from: &Path) -> Result<()> {
        let (warm, cold) = (from.join("target/debug"), self.target.join("debug"));
        if warm.exists() && !cold.exists() {
            std::fs::create_dir_all(&cold)?;
            for part in ["deps", "build", ".fingerprint"] {
                // The times have to stay: they are what cargo goes by. Without the copy it compiles everything.
                Command::new("cp").args(["-a", "--reflink=auto"]).arg(warm.join(part)).arg(&cold).status()?;
            }
        }
        Ok(())
    }

    fn check(&self, build: &Build) -> Result<String> {
        let path = self.source.join(build.file);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", build.file))?;
        match text.matches(build.find).count() {
            1 => Ok(text),
            count => bail!(
                "the build {:?} is out of date: {count} places in {} read\n{}",
                build.name,
                build.file,
                build.find
            ),
        }
    }

    fn break_it(&self, build: &Build) -> Result<Mended> {
        let text = self.check(build)?;
        let path = self.source.join(build.file);
        std::fs::write(&path, text.replacen(build.find, build.replace, 1))?;
        Ok(Mended { path, text })
    }

    fn cargo(&self, words: &[&str]) -> Result<Output> {
        let mut command = Command::new(torture::cargo());
        command.args(words).current_dir(&self.source).env("CARGO_TARGET_DIR", &self.target);
        command.output().context("cannot run cargo")
    }

    /// Runs tests; the first that fails, if one does. What does not compile has caught nothing.
    fn test(&self, which: &[&str], filter: &str) -> Result<Option<String>> {
        let words = |last: &[&'static str]| -> Vec<String> {
            let all = ["test", "--quiet"].iter().chain(which).chain(last);
            all.map(|word| (*word).to_owned()).collect()
        };
        let compile = words(&["--no-run"]);
        let compiled = self.cargo(&compile.iter().map(String::as_str).collect::<Vec<_>>())?;
        if !compiled.status.success() {
            bail!("does not compile:\n{}", String::from_utf8_lossy(&compiled.stderr));
        }
        let mut run = words(&[]);
        run.push(filter.to_owned());
        let Some((status, said)) = self.limited(&run)? else {
            return Ok(Some(format!("test {filter}: hangs")));
        };
        if status.success() {
            if !said.lines().any(|line| line.starts_with("test result") && !line.contains(" 0 passed")) {
                bail!("no test has the name {filter}");
            }
            return Ok(None);
        }
        let failed = said
            .lines()
            .skip_while(|line| *line != "failures:")
            .find_map(|line| line.strip_prefix("---- ").and_then(|rest| rest.split_whitespace().next()));
        Ok(Some(format!("test {}", failed.unwrap_or(filter))))
    }

    /// Runs cargo for a bounded time; `None` if it took longer and was ended with its children.
    fn limited(&self, words: &[String]) -> Result<Option<(ExitStatus, String)>> {
        let path = self.target.join("said");
        let said = std::fs::File::create(&path)?;
        let mut child = Command::new(torture::cargo())
            .args(words)
            .current_dir(&self.source)
            .env("CARGO_TARGET_DIR", &self.target)
            .stdout(said)
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot run cargo")?;
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Some((status, std::fs::read_to_string(&path)?)));
            }
            if begun.elapsed() > TEST_LIMIT {
                kill_process_group(Pid::from_child(&child), Signal::KILL)?;
                child.wait()?;
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn server(&self) -> Result<PathBuf> {
        let built = self.cargo(&torture::BUILD)?;
        if !built.status.success() {
            bail!("does not compile:\n{}", String::from_utf8_lossy(&built.stderr));
        }
        Ok(self.target.join("debug/tidings"))
    }
}

/// Puts the line back when it is dropped.
#[derive(Debug)]
struct Mended {
    path: PathBuf,
    text: String,
}

impl Drop for Mended {
    fn drop(&mut self) {
        if let Err(error) = std::fs::write(&self.path, &self.text) {
            eprintln!("sabotage: {} stays broken in the copy: {error}", self.path.display());
        }
    }
}

/// Removes what the workspace no longer has.
fn remove_others(folder: &Path, wanted: &HashSet<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(&path, wanted)?;
        } else if !wanted.contains(&path) {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}
