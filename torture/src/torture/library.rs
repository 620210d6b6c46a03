//! A subscriber that uses `tidings-client`, which resumes by itself.
//!
//! Owns: nothing but the translation of its items. Does not know: connections.
//! Flow: `Subscription::next` → the trace; now and then the subscription is dropped and opened again with its last id.

use std::rc::Rc;
use std::time::Duration;

use tidings_client::{Client, From, Item, Retry, Subscription};
use tokio::time::{Instant, sleep_until};

use super::random::Random;
use super::reader::{Plan, enter, note};
use super::world::{EPHEMERAL, Phase, World, value_of};
use crate::checker::{Event, Reset, Seen, Session};

/// Runs a client until the run is over.
pub(crate) async fn run(world: Rc<World>, plan: Plan) {
    let number = enter(&world, &plan);
    let random = Random::of(world.seed, 1_000 + number as u64);
    let mut phase = world.phase.subscribe();
    let waits_for = plan.channels.len();
    let mut reader =
        Reader { world: Rc::clone(&world), plan, number, random, waits_for, asked: String::new() };
    tokio::select! {
        () = reader.live() => {}
        _ = phase.wait_for(|phase| *phase == Phase::Over) => {}
    }
}

struct Reader {
    world: Rc<World>,
    plan: Plan,
    number: usize,
    random: Random,
    waits_for: usize,
    /// The last id that was handed out.
    asked: String,
}

impl Reader {
    async fn live(&mut self) {
        loop {
            let Some(mut subscription) = self.open() else { return };
            let cut = Instant::now() + self.random.millis(2_000, 20_000);
            loop {
                let faults = self.world.phase() == Phase::Faults;
                let next = tokio::select! {
                    next = subscription.next() => next,
                    () = sleep_until(cut), if faults => break,
                };
                match next {
                    Ok(Some(item)) => self.take(item),
                    Ok(None) => return self.world.complain(format!("{} ended", self.plan.name)),
                    Err(error) => return self.world.complain(format!("{}: {error}", self.plan.name)),
                }
            }
            self.world.count("subscriptions dropped");
        }
    }

    fn open(&self) -> Option<Subscription> {
        let client = Client::new(&format!("http://{}", self.world.address)).ok()?;
        let names = self.plan.channels.iter().map(|&c| self.world.channel_name(c).to_string());
        let retry = Retry::default().base(Duration::from_millis(60)).max(Duration::from_secs(1));
        let mut subscribe = client.subscribe(names).retry(retry.floor_max(Duration::ZERO));
        if !self.asked.is_empty() {
            subscribe = subscribe.from(From::Id(self.asked.clone()));
        }
        match subscribe.open() {
            Ok(subscription) => Some(subscription),
            Err(error) => {
                self.world.complain(format!("{}: {error}", self.plan.name));
                None
            }
        }
    }

    fn take(&mut self, item: Item) {
        let world = Rc::clone(&self.world);
        match item {
            Item::Hello(hello) => {
                let session = Session { asked: world.id(&self.asked), ..Session::default() };
                if let Some(client) = world.clients.borrow_mut().get_mut(self.number) {
                    client.sessions.push(session);
                }
                note(&world, self.number, Seen::Hello(hello.id.as_deref().and_then(|id| world.id(id))));
                self.asked = hello.id.unwrap_or_default();
            }
            Item::Event(event) if event.data.starts_with(EPHEMERAL) && event.id.is_none() => {}
            Item::Event(event) => {
                let value = value_of(&event.data);
                let id = event.id.as_deref().and_then(|id| world.id(id));
                let channel = world.channel(&event.channel);
                note(&world, self.number, Seen::Event(Event { id, channel, value }));
                self.asked = event.id.unwrap_or_default();
                if value.is_some_and(|value| world.markers.borrow().contains(&value)) {
                    self.waits_for = self.waits_for.saturating_sub(1);
                    if self.waits_for == 0 {
                        world.done.set(world.done.get() + 1);
                    }
                }
            }
            Item::Reset(reset) => {
                let channels = reset.channels.iter().map(|c| world.channel(c)).collect();
                let id = reset.id.as_deref().and_then(|id| world.id(id));
                note(&world, self.number, Seen::Reset(Reset { reason: reset.reason, channels, id }));
            }
            Item::Disconnected { .. } => world.count("reconnects of the library"),
            _ => {}
        }
    }
}
