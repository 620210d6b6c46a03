//! Channels that are used once: some events, a final one, and a reader whose stream has to end for good.
//!
//! Owns: their making. Does not know: how publishers and readers work.
//! Flow: a fresh channel → a reader of it → events → the final event → 204.

use std::rc::Rc;

use tokio::time::sleep;

use super::publisher::{Form, Job, Publisher};
use super::random::Random;
use super::reader::{self, Pace, Plan};
use super::world::{Phase, World};
use crate::checker::{Item, Start};

/// Makes one-off channels until the faults are over.
pub(crate) async fn run(world: Rc<World>, number: u64) {
    let mut random = Random::of(world.seed, 200 + number);
    let Some(mut publisher) = Publisher::new(&world, 50 + number) else { return };
    let mut made = 0;
    while world.phase() == Phase::Faults {
        made += 1;
        let channel = world.channel(&format!("once:{number}:{made}"));
        let plan = Plan {
            name: format!("once:{number}:{made}"),
            channels: vec![channel],
            start: Start::Oldest,
            pace: *random.pick(&[Pace::Fast, Pace::Slow]).unwrap_or(&Pace::Fast),
            must_end: true,
            cuts: true,
        };
        tokio::task::spawn_local(reader::run(Rc::clone(&world), plan));
        // Some readers are there before the first event, some come when all is over.
        sleep(random.millis(0, 200)).await;
        for _ in 0..random.between(1, 4) {
            let items: Vec<Item> = (0..random.between(1, 5)).map(|_| item(&world, channel)).collect();
            publisher.publish(job(items, false)).await;
            sleep(random.millis(0, 100)).await;
        }
        if publisher.publish(job(vec![item(&world, channel)], true)).await {
            world.count("finals");
        }
        sleep(random.millis(100, 900)).await;
    }
}

fn item(world: &World, channel: u16) -> Item {
    Item { channel, value: world.value(), key: None }
}

fn job(items: Vec<Item>, is_final: bool) -> Job {
    let form = if items.len() == 1 { Form::One } else { Form::Batch };
    Job { form, items, retried: true, is_final, deaf: None }
}
