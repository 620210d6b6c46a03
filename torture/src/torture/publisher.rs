//! Publishers: events one by one, in batches, to several channels, with and without idempotency keys.
//!
//! Owns: what is published, retries, and what was answered. Does not know: the server's faults.
//! Flow: a choice → a publish in the trace → requests until it is settled → its outcome in the trace.

use std::rc::Rc;
use std::time::Duration;

use tidings_client::{Client, Publish, PublishError, Published};
use tokio::time::{sleep, timeout};

use super::random::Random;
use super::world::{EPHEMERAL, Phase, World, data};
use crate::checker::{Id, Item, Outcome};

/// Conflation keys, few, so that they are replaced often.
const KEYS: u64 = 3;

/// How one publish is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// One line or one object: one event.
    One,
    /// NDJSON: several events in one commit.
    Batch,
    /// One request, several channels, one event each.
    Many,
}

/// Something to publish.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) form: Form,
    pub(crate) items: Vec<Item>,
    /// Repeated under an idempotency key until it is answered.
    pub(crate) retried: bool,
    pub(crate) is_final: bool,
    /// The first attempt is given up this soon, so that its answer is lost.
    pub(crate) deaf: Option<Duration>,
}

/// A publisher.
pub(crate) struct Publisher {
    world: Rc<World>,
    client: Client,
    random: Random,
    name: String,
    jobs: u64,
}

impl Publisher {
    pub(crate) fn new(world: &Rc<World>, number: u64) -> Option<Self> {
        let client = world.client()?;
        let random = Random::of(world.seed, 100 + number);
        Some(Self { world: Rc::clone(world), client, random, name: format!("p{number}"), jobs: 0 })
    }

    /// Publishes until the faults are over, about so many milliseconds apart.
    pub(crate) async fn run(mut self, pause_ms: u64) {
        while self.world.phase() == Phase::Faults {
            let job = self.choose();
            self.publish(job).await;
            sleep(self.random.millis(0, 2 * pause_ms)).await;
        }
    }

    /// Publishes ephemeral events until the faults are over. They are written between frames to connections in step, which
    /// is what they are here for; whether they arrive is nobody's business.
    pub(crate) async fn whisper(mut self) {
        while self.world.phase() == Phase::Faults {
            let Some(&channel) = self.random.pick(&self.world.regular) else { return };
            let publish = Publish::to(self.world.channel_name(channel).to_string()).ephemeral();
            let text = format!("{EPHEMERAL}{}}}", self.jobs);
            self.jobs += 1;
            if self.client.publish(&publish.json(text)).await.is_ok() {
                self.world.count("ephemeral events");
            }
            sleep(self.random.millis(0, 8)).await;
        }
    }

    fn choose(&mut self) -> Job {
        let world = Rc::clone(&self.world);
        let regular = &world.regular;
        let form = match self.random.below(100) {
            0..=69 => Form::One,
            70..=87 => Form::Batch,
            _ => Form::Many,
        };
        let count = match form {
            Form::One => 1,
            Form::Batch if self.random.percent(10) => self.random.between(20, 80),
            Form::Batch => self.random.between(2, 12),
            Form::Many => self.random.between(2, 6),
        };
        let count = usize::try_from(count).unwrap_or(1);
        // The first channels are the busy ones.
        let busy = regular.get(..regular.len().min(4)).unwrap_or(regular);
        let from = if self.random.percent(30) { busy } else { regular };
        let channels: Vec<u16> = match form {
            Form::Many => self.random.some(regular, count),
            _ => (0..count).filter_map(|_| self.random.pick(from).copied()).collect(),
        };
        let key = self.random.percent(20).then(|| u8::try_from(self.random.below(KEYS)).unwrap_or(0));
        let shared = world.value();
        let value = || if form == Form::Many { shared } else { world.value() };
        let items = channels.into_iter().map(|channel| Item { channel, value: value(), key }).collect();
        let retried = self.random.percent(45);
        let deaf = (retried && self.random.percent(15)).then(|| self.random.millis(0, 4));
        Job { form, items, retried, is_final: false, deaf }
    }

    /// Publishes it and sees it through; `true` if it was acknowledged.
    pub(crate) async fn publish(&mut self, job: Job) -> bool {
        self.jobs += 1;
        let number = self.world.begin(job.items.clone());
        let mut attempts = 0_u32;
        loop {
            attempts += 1;
            let deaf = job.deaf.filter(|_| attempts == 1);
            let answer = match deaf {
                None => self.send(&job).await,
                Some(patience) => match timeout(patience, self.send(&job)).await {
                    Ok(answer) => answer,
                    Err(_) => {
                        self.world.count("answers thrown away");
                        Err(PublishError::NoAnswer("not waited for".into()))
                    }
                },
            };
            match answer {
                Ok((ids, duplicate)) => {
                    if duplicate {
                        self.world.count("duplicates recognised");
                    }
                    self.world.count("publishes acknowledged");
                    self.world.finish(number, Outcome::Acked(ids));
                    return true;
                }
                Err(error) => {
                    self.world.count("publishes that failed");
                    if let PublishError::Refused(problem) = &error
                        && problem.status < 500
                    {
                        self.world.complain(format!("{}: {error}", self.name));
                        self.world.finish(number, Outcome::Refused);
                        return false;
                    }
                    if !job.retried {
                        self.world.finish(number, verdict(&error));
                        return false;
                    }
                    if self.world.phase() == Phase::Over {
                        return false;
                    }
                    self.world.count("retries");
                    sleep(self.random.millis(5, 150)).await;
                }
            }
        }
    }

    async fn send(&self, job: &Job) -> Result<(Vec<Id>, bool), PublishError> {
        let name = |item: &Item| self.world.channel_name(item.channel).to_string();
        let dress = |mut publish: Publish, item: &Item, line: usize| {
            if let Some(key) = item.key.filter(|_| !job.is_final) {
                publish = publish.key(format!("k{key}"));
            }
            if job.is_final {
                publish = publish.finish();
            }
            if job.retried {
                publish = publish.idempotency_key(format!("{}-{}-{line}", self.name, self.jobs));
            }
            publish.json(data(item.value))
        };
        match (job.form, job.items.as_slice()) {
            (Form::One, [item]) => {
                let published = self.client.publish(&dress(Publish::to(name(item)), item, 0)).await?;
                Ok((self.ids(published.id.as_deref())?, published.duplicate))
            }
            (Form::Many, items) => {
                let Some(first) = items.first() else { return Ok((Vec::new(), false)) };
                let publish = dress(Publish::to_all(items.iter().map(name)), first, 0);
                let published = self.client.publish(&publish).await?;
                let ids = items.iter().map(|item| published.ids.get(&name(item)).map(String::as_str));
                let ids: Result<Vec<_>, _> = ids.map(|id| self.ids(id)).collect();
                Ok((ids?.concat(), published.duplicate))
            }
            (_, items) => {
                let lines: Vec<Publish> = items
                    .iter()
                    .enumerate()
                    .map(|(n, item)| dress(Publish::to(name(item)), item, n))
                    .collect();
                let results: Vec<Published> =
                    self.client.publish_batch(&lines).await?.into_iter().collect::<Result<_, _>>()?;
                let ids: Result<Vec<_>, _> = results.iter().map(|p| self.ids(p.id.as_deref())).collect();
                Ok((ids?.concat(), results.iter().any(|p| p.duplicate)))
            }
        }
    }

    fn ids(&self, text: Option<&str>) -> Result<Vec<Id>, PublishError> {
        let id = text.and_then(|text| self.world.id(text));
        id.map(|id| vec![id]).ok_or_else(|| PublishError::Answer(format!("{text:?} is no id")))
    }
}

/// What a failure without a retry says of the commit.
fn verdict(error: &PublishError) -> Outcome {
    match error {
        PublishError::Refused(problem) if problem.committed == Some(false) => Outcome::Refused,
        _ => Outcome::Unknown,
    }
}
