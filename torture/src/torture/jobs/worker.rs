//! A worker process: leases jobs over HTTP and does with them what workers do, the bad ones too.
//!
//! Owns: the loop of leases, and how each lease is lived. Does not know: the checker, other workers.
//! Flow: `xtask torture --jobs-worker …` → leases → writes and silence → the journal; ends with its standard input.

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::sleep;

use super::connection::Connection;
use super::journal::{Journal, micros};
use super::trace::{Lease, Line};
use super::writer::{Held, Told, Writer};
use super::{QUEUES, TYPES};
use crate::torture::Random;

/// Leases that a worker has at once.
const LEASES_MAX: usize = 3;

/// Runs until standard input ends: `ADDRESS FOLDER NAME SEED`.
pub(super) fn run(arguments: &[String]) -> Result<ExitCode> {
    let [address, folder, name, seed] = arguments else {
        anyhow::bail!("a worker needs ADDRESS FOLDER NAME SEED");
    };
    let address: SocketAddr = address.parse()?;
    let journal = Rc::new(Journal::open(Path::new(folder), name)?);
    let random = Random::of(seed.parse()?, 0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = LocalSet::new().block_on(&runtime, async {
        // The process that started this one has ended, however it did.
        let over = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]));
        tokio::select! {
            result = live(address, &journal, name, random) => result,
            _ = over => Ok(()),
        }
    });
    // Standard input is read on a thread that does not end by itself.
    runtime.shutdown_background();
    result.map(|()| ExitCode::SUCCESS)
}

async fn live(address: SocketAddr, journal: &Rc<Journal>, worker: &str, mut random: Random) -> Result<()> {
    let mut connection = Connection::new(address);
    let mut jobs: JoinSet<Result<()>> = JoinSet::new();
    loop {
        while jobs.len() >= LEASES_MAX {
            jobs.join_next().await.transpose()?.transpose()?;
        }
        while let Some(done) = jobs.try_join_next() {
            done??;
        }
        let max = random.between(1, u64::try_from(LEASES_MAX - jobs.len())?);
        let queue = random.pick(QUEUES).copied().unwrap_or_default();
        let mut ask = json!({ "worker_id": worker, "max": max, "wait_ms": random.between(0, 1_200) });
        if random.percent(30)
            && let Some(ask) = ask.as_object_mut()
        {
            ask.insert("types".into(), json!(random.some(TYPES, 3)));
        }
        let sent = micros();
        let path = format!("/v1/queues/{queue}/lease");
        let Ok(answer) = connection.post(&path, &ask.to_string()).await else {
            sleep(random.millis(50, 200)).await;
            continue;
        };
        if answer.status != 200 {
            sleep(random.millis(0, 50)).await;
            continue;
        }
        let answer: Value = serde_json::from_str(&answer.body)?;
        for job in answer.get("jobs").and_then(Value::as_array).into_iter().flatten() {
            let held = held(job).with_context(|| format!("a job as it is leased: {job}"))?;
            let Held { job, token, attempt, lease_ms } = held.clone();
            journal.enter(&Line::Lease(Lease { job, token, attempt, lease_ms, sent, answered: micros() }))?;
            let writer = Writer {
                held,
                journal: Rc::clone(journal),
                connection: Connection::new(address),
                worker: worker.to_owned(),
            };
            jobs.spawn_local(Life { writer, random: Random::of(random.next(), 1) }.live());
        }
    }
}

fn held(job: &Value) -> Option<Held> {
    let text = |at: &str| job.pointer(at).and_then(Value::as_str).map(str::to_owned);
    Some(Held {
        job: text("/id")?,
        token: text("/lease/token")?,
        attempt: job.get("attempt")?.as_u64()?,
        // The maker wrote it into the input, where the answer has no place for it.
        lease_ms: job.pointer("/input/lease_ms")?.as_u64()?,
    })
}

/// How a lease is lived.
struct Life {
    writer: Writer,
    random: Random,
}

/// What is done beside progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Work,
    FailAuto,
    FailNever,
    FailLater,
    Release,
    /// Says nothing for longer than the lease, then goes on as if nothing had been.
    Silent,
    /// Forgets it.
    Abandon,
    /// Renews for longer than the lease, and says nothing else.
    Renew,
    /// Writes on behind the end.
    Zombie,
    /// Reports far more often than is stored.
    Flood,
}

impl Life {
    async fn live(mut self) -> Result<()> {
        let mood = match self.random.below(100) {
            0..=49 => Mood::Work,
            50..=56 => Mood::FailAuto,
            57..=58 => Mood::FailNever,
            59..=62 => Mood::FailLater,
            63..=68 => Mood::Release,
            69..=79 => Mood::Silent,
            80..=83 => Mood::Abandon,
            84..=88 => Mood::Renew,
            89..=93 => Mood::Zombie,
            _ => Mood::Flood,
        };
        let told = self.work(mood).await?;
        match told {
            // A worker that does not believe it.
            Told::Lost if self.random.percent(30) => drop(self.writer.log().await?),
            Told::Cancel => self.cancelled().await?,
            _ => {}
        }
        Ok(())
    }

    /// Steps of progress with the mood's own things in between.
    async fn work(&mut self, mood: Mood) -> Result<Told> {
        let steps = self.random.between(1, 6);
        let special = self.random.below(steps);
        for step in 0..steps {
            sleep(self.random.millis(5, 180)).await;
            let done = 100.0 * f64::from(u32::try_from(step)?) / f64::from(u32::try_from(steps)?);
            let told = match self.random.below(10) {
                0 => self.writer.log().await?,
                1 => self.writer.heartbeat().await?,
                2 => self.writer.batch(done).await?,
                _ => self.writer.progress(done).await?,
            };
            if told == Told::Lost || told == Told::Cancel && !self.random.percent(30) {
                return Ok(told);
            }
            if step == special {
                match mood {
                    Mood::FailAuto => return self.writer.fail(json!({})).await,
                    Mood::FailNever => return self.writer.fail(json!({ "retry": "never" })).await,
                    Mood::FailLater => {
                        let after_ms = self.random.between(0, 900);
                        return self.writer.fail(json!({ "retry": { "after_ms": after_ms } })).await;
                    }
                    Mood::Release => {
                        let delay_ms = if self.random.percent(50) { 0 } else { self.random.between(1, 500) };
                        return self.writer.release(delay_ms).await;
                    }
                    Mood::Abandon => return Ok(Told::GoOn),
                    Mood::Silent => self.silence().await,
                    Mood::Renew => {
                        let told = self.renew().await?;
                        if told == Told::Lost {
                            return Ok(told);
                        }
                    }
                    Mood::Flood => self.flood(done).await?,
                    Mood::Work | Mood::Zombie => {}
                }
            }
        }
        let told = self.writer.complete().await?;
        if mood == Mood::Zombie {
            self.writer.progress(99.0).await?;
            self.writer.log().await?;
            self.writer.renew().await?;
        }
        // The job has ended: there is nothing to cancel.
        Ok(if told == Told::Cancel { Told::GoOn } else { told })
    }

    async fn silence(&mut self) {
        let lease_ms = self.writer.held.lease_ms;
        sleep(self.random.millis(lease_ms + 300, lease_ms + 1_800)).await;
    }

    async fn renew(&mut self) -> Result<Told> {
        let lease_ms = self.writer.held.lease_ms;
        for _ in 0..self.random.between(4, 9) {
            sleep(Duration::from_millis(lease_ms / 3)).await;
            let told = self.writer.renew().await?;
            if told != Told::GoOn && told != Told::Unknown {
                return Ok(told);
            }
        }
        Ok(Told::GoOn)
    }

    async fn flood(&mut self, from: f64) -> Result<()> {
        for step in 0..30 {
            if self.writer.progress(from + f64::from(step) / 10.0).await? != Told::GoOn {
                break;
            }
        }
        Ok(())
    }

    /// Most stop, some fail with an error of their own, some do not listen.
    async fn cancelled(&mut self) -> Result<()> {
        match self.random.below(10) {
            0..=6 => drop(self.writer.fail(json!({ "state": "cancelled" })).await?),
            7 => drop(self.writer.fail(json!({ "retry": "auto" })).await?),
            _ => {
                sleep(self.random.millis(100, 2_500)).await;
                self.writer.complete().await?;
            }
        }
        Ok(())
    }
}
