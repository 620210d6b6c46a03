//! Random publishers, deletions, retention and twenty clients that are cut, stall and resume, on a real server.
//!
//! Owns: the rule that everything else here is an instance of: what a client got is the log without other channels, from
//! where it began, once, in order; and what is missing is gone from the log, and a reset said so.
//!
//! A failing run prints its seed; `TIDINGS_SEED=n` repeats the same plan.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::client::{Stream, seq};
use crate::http::request;
use crate::server::{Engine, Server, keep};

const CHANNELS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const CLIENTS: u64 = 20;
const STEPS: usize = 250;
const RETAINED: usize = 40;

on_each_engine! {
    every_client_gets_its_part_of_the_log_once_and_in_order,
}

/// splitmix64: small, and good enough to choose.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// What was acknowledged.
#[derive(Default)]
struct Truth {
    /// Channel and number by sequence.
    events: BTreeMap<u64, (String, u64)>,
    /// How far each channel was deleted.
    deleted: BTreeMap<String, u64>,
}

impl Truth {
    /// Whether the log may no longer have an event: deleted, or with enough newer ones of its channel.
    fn may_be_gone(&self, at: u64) -> bool {
        let channel = &self.events[&at].0;
        let newer = self.events.range(at + 1..).filter(|(_, (c, _))| c == channel).count();
        newer >= RETAINED || self.deleted.get(channel).is_some_and(|upto| at <= *upto)
    }
}

/// What a client saw, in order.
#[derive(Debug)]
enum Seen {
    Event {
        at: u64,
        channel: String,
        number: u64,
    },
    /// These channels (all, if empty) may have lost events behind the position.
    Reset {
        at: u64,
        channels: Vec<String>,
    },
}

async fn every_client_gets_its_part_of_the_log_once_and_in_order(engine: Engine) {
    let seeds: Vec<u64> = match std::env::var("TIDINGS_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (1..=6).collect(),
    };
    for seed in seeds {
        eprintln!("TIDINGS_SEED={seed}");
        run(engine, seed).await;
    }
}

async fn run(engine: Engine, seed: u64) {
    let tail_bytes = if seed.is_multiple_of(2) { 1 } else { 16 << 20 };
    let keep_events = keep(RETAINED as u64);
    let server =
        Server::start_with(engine, |s| s.retention(keep_events).tail_bytes(tail_bytes).shards(2)).await;
    let mut clients = JoinSet::new();
    for n in 0..CLIENTS {
        let addr = server.addr;
        clients.spawn(async move { client(addr, Random(seed * 1_000 + n)).await });
    }
    let truth = Arc::new(publish(&server, Random(seed)).await);
    while let Some(done) = clients.join_next().await {
        let (channels, seen) = done.unwrap();
        check(&truth, &channels, &seen);
    }
}

async fn publish(server: &Server, mut random: Random) -> Truth {
    let mut truth = Truth::default();
    let mut number = 0;
    for _ in 0..STEPS {
        let channel = CHANNELS[random.below(6) as usize];
        if random.below(30) == 0 {
            let head = server.get(&format!("/v1/channels?channel={channel}")).await.json()["head"].clone();
            assert_eq!(server.delete(&format!("/v1/channels?channel={channel}")).await.status, 204);
            if let Some(head) = head.as_str() {
                truth.deleted.insert(channel.to_owned(), seq(head));
            }
            continue;
        }
        let pad = "x".repeat([10, 10, 10, 10_000][random.below(4) as usize]);
        let mut lines = Vec::new();
        let mut sent = Vec::new();
        for _ in 0..=[0, 0, 2, 30][random.below(4) as usize] {
            let channel = if random.below(2) == 0 { channel } else { CHANNELS[random.below(6) as usize] };
            lines.push(json!({"channel": channel, "text": format!("{number} {pad}")}).to_string());
            sent.push((channel.to_owned(), number));
            number += 1;
        }
        let answers = server.batch(&lines.join("\n")).await.lines();
        for (answer, sent) in answers.iter().zip(sent) {
            truth.events.insert(seq(answer["id"].as_str().unwrap()), sent);
        }
        if random.below(5) == 0 {
            tokio::time::sleep(Duration::from_millis(random.below(5))).await;
        }
    }
    server.publish(json!({"channel": "end", "text": "0"})).await;
    truth
}

async fn client(addr: SocketAddr, mut random: Random) -> (BTreeSet<String>, Vec<Seen>) {
    let mut channels: BTreeSet<String> =
        CHANNELS.iter().filter(|_| random.below(2) == 0).map(|c| (*c).to_owned()).collect();
    channels.insert(CHANNELS[random.below(6) as usize].to_owned());
    let query: String = channels.iter().map(|c| format!("channel={c}&")).collect();
    let from = ["now", "start", "last:7"][random.below(3) as usize];
    let query = format!("{query}channel=end&from={from}");
    let mut seen: Vec<Seen> = Vec::new();
    let mut last_id = String::new();
    tokio::time::sleep(Duration::from_millis(random.below(50))).await;
    loop {
        if last_id.is_empty() {
            // It begins: what is not retained is no loss.
            seen = vec![Seen::Reset { at: 0, channels: Vec::new() }];
        }
        let id = Some(last_id.as_str()).filter(|id| !id.is_empty());
        let mut stream = match random.below(3) {
            0 => crate::slow::reader(addr, &query, id).await,
            _ => Stream::open(addr, &query, id).await,
        };
        let life = random.below(120);
        for _ in 0..=life {
            let Some(event) = stream.next().await else { break };
            let at = (!event.last_event_id.is_empty()).then(|| seq(&event.last_event_id));
            match &*event.event {
                "tidings.hello" if last_id.is_empty() && at.is_some() => {
                    seen = vec![Seen::Reset { at: 0, channels: Vec::new() }];
                    seen.push(Seen::Event { at: at.unwrap(), channel: String::new(), number: 0 });
                }
                "tidings.reset" => seen.push(reset(&event.data, at.unwrap())),
                "message" if event.channel.as_deref() == Some("end") => return (channels, seen),
                "message" => seen.push(Seen::Event {
                    at: at.unwrap(),
                    channel: event.channel.clone().unwrap(),
                    number: event.data.split(' ').next().unwrap().parse().unwrap(),
                }),
                _ => {}
            }
            if random.below(40) == 0 {
                tokio::time::sleep(Duration::from_millis(random.below(20))).await;
            }
        }
        last_id.clone_from(&stream.last_id);
        if random.below(4) == 0 {
            let name: Vec<Value> = connections(addr).await;
            if let Some(id) = name.first().and_then(|c| c["id"].as_str()) {
                request(addr, "DELETE", &format!("/v1/connections/{id}"), &[], b"").await;
            }
        }
    }
}

async fn connections(addr: SocketAddr) -> Vec<Value> {
    let all = request(addr, "GET", "/v1/connections", &[], b"").await.json();
    all["connections"].as_array().unwrap().clone()
}

fn reset(data: &str, at: u64) -> Seen {
    let data: Value = serde_json::from_str(data).unwrap();
    assert!(["expired", "deleted"].contains(&data["reason"].as_str().unwrap()), "{data}");
    let names = data["channels"].as_array().cloned().unwrap_or_default();
    Seen::Reset { at, channels: names.iter().map(|n| n.as_str().unwrap().to_owned()).collect() }
}

/// The rule.
fn check(truth: &Truth, channels: &BTreeSet<String>, seen: &[Seen]) {
    let mut newest = 0;
    // Where the client began: `from=now` says so in hello.
    let mut begin = 0;
    for item in seen {
        if let Seen::Event { at, channel, number } = item {
            if channel.is_empty() {
                (begin, newest) = (*at, *at);
                continue;
            }
            assert!(*at > newest, "{at} behind {newest}");
            newest = *at;
            assert!(channels.contains(channel), "{channel} is foreign");
            assert_eq!(truth.events.get(at), Some(&(channel.clone(), *number)));
        }
    }
    for channel in channels {
        let owed = truth.events.range(begin + 1..).filter(|(_, (c, _))| c == channel);
        let got: BTreeSet<u64> = of(seen, channel).collect();
        for (&at, _) in owed.filter(|(at, _)| !got.contains(at)) {
            assert!(
                truth.may_be_gone(at) || is_before_begin(seen, at),
                "{at} of {channel} is lost, and the log has it: {channels:?} {:?}",
                near(seen, at)
            );
            assert!(is_told(seen, channel, at), "{at} of {channel} is gone in silence: {:?}", near(seen, at));
        }
    }
}

fn of<'a>(seen: &'a [Seen], wanted: &'a str) -> impl Iterator<Item = u64> + 'a {
    seen.iter().filter_map(move |s| match s {
        Seen::Event { at, channel, .. } if channel == wanted => Some(*at),
        Seen::Event { .. } | Seen::Reset { .. } => None,
    })
}

/// `last:7` and `start` begin somewhere: before the first event of all.
fn is_before_begin(seen: &[Seen], at: u64) -> bool {
    let first = seen.iter().find_map(|s| match s {
        Seen::Event { at, .. } => Some(*at),
        Seen::Reset { .. } => None,
    });
    first.is_none_or(|first| at < first)
}

/// A reset that means the channel lies between what came of it before the gap and what came behind it.
fn is_told(seen: &[Seen], channel: &str, gap: u64) -> bool {
    let behind = seen
        .iter()
        .position(|s| matches!(s, Seen::Event { at, channel: c, .. } if c == channel && *at > gap));
    let before = seen
        .iter()
        .rposition(|s| matches!(s, Seen::Event { at, channel: c, .. } if c == channel && *at < gap));
    let between = &seen[before.map_or(0, |i| i + 1)..behind.unwrap_or(seen.len())];
    between.iter().any(|s| match s {
        Seen::Reset { at, channels } => {
            *at < gap && (channels.is_empty() || channels.iter().any(|c| c == channel))
        }
        Seen::Event { .. } => false,
    })
}

/// What came around a position, for the message of a failure.
fn near(seen: &[Seen], at: u64) -> Vec<&Seen> {
    let of = |s: &&Seen| match s {
        Seen::Event { at: here, .. } | Seen::Reset { at: here, .. } => here.abs_diff(at) < 15,
    };
    seen.iter().filter(of).collect()
}
