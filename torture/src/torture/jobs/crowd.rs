//! The worker processes: started, stopped for a while, killed, and started again under another name.
//!
//! Owns: their processes. Does not know: what they do.
//! Flow: `Crowd::start` → kills and stops from the seed → the end of all of them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use super::Run;
use crate::torture::{Phase, Random};

pub(super) struct Crowd {
    run: Rc<Run>,
    /// Where the journals are.
    folder: PathBuf,
    workers: Vec<Child>,
    started: u64,
    random: Random,
}

impl Crowd {
    pub(super) fn start(run: &Rc<Run>, folder: &Path, count: usize) -> Result<Self> {
        let random = Random::of(run.seed, 2);
        let mut crowd = Self {
            run: Rc::clone(run),
            folder: folder.to_path_buf(),
            workers: Vec::new(),
            started: 0,
            random,
        };
        for _ in 0..count {
            let worker = crowd.worker()?;
            crowd.workers.push(worker);
        }
        Ok(crowd)
    }

    fn worker(&mut self) -> Result<Child> {
        self.started += 1;
        let name = format!("w{}", self.started);
        // Not `current_exe`: the file may have been replaced by a build meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.args(["torture", "--jobs-worker", &self.run.address.to_string()]);
        command.arg(&self.folder).args([&name, &self.random.next().to_string()]);
        // Its standard input ends with this process, and it ends with its standard input.
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        child.context("a worker cannot be started")
    }

    /// Kills and stops workers until the faults are over, and returns the crowd, complete again.
    pub(super) async fn suffer(mut self) -> Result<Self> {
        while self.run.phase() == Phase::Faults {
            sleep(self.random.millis(100, 900)).await;
            let index = usize::try_from(self.random.below(self.workers.len() as u64))?;
            if self.random.percent(30) {
                let pid = self.workers.get(index).map(Pid::from_child).context("a worker")?;
                kill_process(pid, Signal::STOP)?;
                self.run.count("worker stops");
                let pause = self.random.millis(500, 3_500);
                let until_over = self.run.clone();
                // One at a time would be few; a worker that is killed meanwhile is none to go on with.
                tokio::task::spawn_local(async move {
                    sleep(pause).await;
                    if kill_process(pid, Signal::CONT).is_err() {
                        until_over.count("workers killed while stopped");
                    }
                });
                continue;
            }
            let next = self.worker()?;
            let Some(slot) = self.workers.get_mut(index) else { bail!("no worker {index}") };
            let mut killed = std::mem::replace(slot, next);
            if let Some(status) = killed.try_wait()? {
                bail!("a worker ended by itself with {status}");
            }
            killed.kill()?;
            killed.wait()?;
            self.run.count("worker kills");
        }
        // Whoever is still stopped goes on by itself.
        sleep(Duration::from_secs(4)).await;
        Ok(self)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            worker.kill().unwrap_or_default();
            worker.wait().map(drop).unwrap_or_default();
        }
    }
}
