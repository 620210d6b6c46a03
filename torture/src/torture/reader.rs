//! A subscriber on a raw socket: everything its parser dispatches goes into the trace, and no library cleans it up.
//!
//! Owns: connections of one client, their faults, its position. Does not know: what is right.
//! Flow: connect → head → bytes → events → the trace; then again with the last id, as a browser does.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, bail};
use tidings_core::wire::sse::parse::{Event as Parsed, Item, Parser};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::http;
use super::random::Random;
use super::world::{EPHEMERAL, Phase, World, value_of};
use crate::checker::{Client, Event, Id, Reset, Seen, Session, Start};

/// Silence after which a connection is given up, as our own clients do: 2.5 keep-alives of 2 s, and some for a busy
/// machine.
pub(super) const SILENCE: Duration = Duration::from_secs(8);
const EVENT_BYTES_MAX: usize = tidings_core::limits::EVENT_PARSE_BYTES_MAX;

/// How a client reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As fast as it can.
    Fast,
    /// Small bites out of a small buffer.
    Slow,
    /// Nothing at all for seconds, now and then.
    Stalling,
}

/// Who subscribes to what.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) channels: Vec<u16>,
    pub(crate) start: Start,
    pub(crate) pace: Pace,
    /// All channels will be finished: it ends with a 204.
    pub(crate) must_end: bool,
    /// It cuts its connections now and then.
    pub(crate) cuts: bool,
}

impl Pace {
    /// Waits between two bites; one that stalls does so for at most so long, and not beyond the faults.
    pub(super) async fn dawdle(self, world: &World, random: &mut Random, stall_ms_max: u64) {
        match self {
            Self::Fast => {}
            Self::Slow => sleep(random.millis(1, 12)).await,
            Self::Stalling if random.percent(2) => {
                world.count("stalls");
                let mut phase = world.phase.subscribe();
                tokio::select! {
                    () = sleep(random.millis(500, stall_ms_max)) => {}
                    _ = phase.wait_for(|phase| *phase != Phase::Faults) => {}
                }
            }
            Self::Stalling => {}
        }
    }
}

/// Enters a client into the trace; returns its number.
pub(crate) fn enter(world: &World, plan: &Plan) -> usize {
    let mut clients = world.clients.borrow_mut();
    clients.push(Client {
        name: plan.name.clone(),
        channels: plan.channels.clone(),
        start: plan.start,
        sessions: Vec::new(),
        ended: false,
        must_end: plan.must_end,
    });
    clients.len() - 1
}

/// Runs a client until the run is over or its stream is.
pub(crate) async fn run(world: Rc<World>, plan: Plan) {
    let number = enter(&world, &plan);
    let mut reader = Reader {
        random: Random::of(world.seed, 1_000 + number as u64),
        waits_for: if plan.must_end { usize::MAX } else { plan.channels.len() },
        number,
        plan,
        last_id: String::new(),
        world: Rc::clone(&world),
    };
    let mut phase = world.phase.subscribe();
    tokio::select! {
        () = reader.live() => {}
        _ = phase.wait_for(|phase| *phase == Phase::Over) => {}
    }
}

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Cut by either side: come back.
    Cut,
    /// 204: never come back.
    Stop,
}

struct Reader {
    world: Rc<World>,
    plan: Plan,
    number: usize,
    random: Random,
    last_id: String,
    /// Markers that have yet to come.
    waits_for: usize,
}

impl Reader {
    async fn live(&mut self) {
        loop {
            match self.connect().await {
                Ok(End::Stop) => {
                    if let Some(client) = self.world.clients.borrow_mut().get_mut(self.number) {
                        client.ended = true;
                    }
                    self.world.count("streams that ended for good");
                    if self.plan.must_end {
                        self.world.done.set(self.world.done.get() + 1);
                    }
                    return;
                }
                Ok(End::Cut) => self.world.count("reconnects"),
                Err(_) => self.world.count("failed attempts"),
            }
            let wait = if self.random.percent(3) { (1_000, 4_000) } else { (0, 300) };
            sleep(self.random.millis(wait.0, wait.1)).await;
        }
    }

    async fn connect(&mut self) -> Result<End> {
        let socket = TcpSocket::new_v4()?;
        if self.plan.pace != Pace::Fast {
            socket.set_recv_buffer_size(4_096)?;
        }
        let mut stream = timeout(SILENCE, socket.connect(self.world.address)).await??;
        stream.write_all(self.request().as_bytes()).await?;
        let (status, rest) = timeout(SILENCE, read_head(&mut stream)).await??;
        match status {
            200 => {}
            204 => return Ok(End::Stop),
            other => {
                self.world.complain(format!("{}: a stream was answered {other}", self.plan.name));
                bail!("status {other}");
            }
        }
        let session = Session { asked: self.world.id(&self.last_id), ..Session::default() };
        if let Some(client) = self.world.clients.borrow_mut().get_mut(self.number) {
            client.sessions.push(session);
        }
        let mut parser = Parser::new(&self.last_id, EVENT_BYTES_MAX);
        self.take(&mut parser, &rest)?;
        self.read(stream, parser).await?;
        Ok(End::Cut)
    }

    fn request(&self) -> String {
        let query: Vec<String> = self
            .plan
            .channels
            .iter()
            .map(|&c| format!("channel={}", http::escape(&self.world.channel_name(c))))
            .collect();
        let from = match self.plan.start {
            Start::Now => String::new(),
            Start::Oldest => "&from=start".into(),
            Start::Last(count) => format!("&from=last:{count}"),
        };
        let id = match self.last_id.as_str() {
            "" => String::new(),
            id => format!("last-event-id: {id}\r\n"),
        };
        let host = self.world.address;
        let query = query.join("&");
        format!("GET /events?{query}{from} HTTP/1.1\r\nhost: {host}\r\naccept: text/event-stream\r\n{id}\r\n")
    }

    /// Reads until somebody cuts.
    async fn read(&mut self, mut stream: TcpStream, mut parser: Parser) -> Result<()> {
        let cut = Instant::now() + self.life();
        let mut buffer = vec![0; if self.plan.pace == Pace::Slow { 512 } else { 16 * 1024 }];
        loop {
            let faults = self.world.phase() == Phase::Faults;
            if faults {
                self.plan.pace.dawdle(&self.world, &mut self.random, 6_000).await;
            }
            let read = timeout(SILENCE, stream.read(&mut buffer));
            let count = tokio::select! {
                read = read => match read {
                    Ok(read) => read?,
                    Err(_) => {
                        self.world.count("silences");
                        return Ok(());
                    }
                },
                () = sleep_until(cut), if faults && self.plan.cuts => {
                    return self.cut(stream).await;
                }
            };
            if count == 0 {
                return Ok(());
            }
            self.take(&mut parser, buffer.get(..count).unwrap_or_default())?;
        }
    }

    /// How long this connection lives before the client cuts it.
    fn life(&mut self) -> Duration {
        match self.random.below(10) {
            // Often before the first event, and right in the replay.
            0 | 1 => self.random.millis(0, 30),
            2..=4 => self.random.millis(30, 1_500),
            _ => self.random.millis(1_500, 15_000),
        }
    }

    /// The three ways to go: FIN, RST, and half a close whose other half is still read.
    async fn cut(&mut self, mut stream: TcpStream) -> Result<()> {
        match self.random.below(3) {
            0 => self.world.count("disconnects"),
            1 => {
                stream.set_zero_linger()?;
                self.world.count("connection resets");
            }
            _ => {
                stream.shutdown().await?;
                self.world.count("half closes");
                // Whatever still comes is thrown away together with the position that it would have brought.
                let mut rest = [0; 4_096];
                while timeout(SILENCE, stream.read(&mut rest)).await?? > 0 {}
            }
        }
        Ok(())
    }

    fn take(&mut self, parser: &mut Parser, mut bytes: &[u8]) -> Result<()> {
        while let Some(item) = parser.next(&mut bytes)? {
            let Item::Event(parsed) = item else { continue };
            if parsed.data.starts_with(EPHEMERAL) {
                self.hear(&parsed);
                continue;
            }
            if let Some(seen) = seen(&self.world, &parsed) {
                if let Seen::Event(Event { value: Some(value), .. }) = seen {
                    self.count_down(value);
                }
                note(&self.world, self.number, seen);
            }
        }
        self.last_id.clear();
        self.last_id.push_str(parser.last_event_id());
        Ok(())
    }

    /// An ephemeral event has no id, so it moves nothing; but it is not for others.
    fn hear(&self, parsed: &Parsed) {
        self.world.count("ephemeral deliveries");
        let channel = self.world.channel(parsed.channel.as_deref().unwrap_or("?"));
        if !self.plan.channels.contains(&channel) {
            self.world.complain(format!("{} got {parsed:?}", self.plan.name));
        }
    }

    fn count_down(&mut self, value: u64) {
        if self.world.markers.borrow().contains(&value) {
            self.waits_for = self.waits_for.saturating_sub(1);
            if self.waits_for == 0 {
                self.world.done.set(self.world.done.get() + 1);
            }
        }
    }
}

/// Enters what came into the trace.
pub(crate) fn note(world: &World, client: usize, seen: Seen) {
    let mut clients = world.clients.borrow_mut();
    if let Some(session) = clients.get_mut(client).and_then(|c| c.sessions.last_mut()) {
        session.seen.push(seen);
    }
}

/// What a dispatched event means to the checker; `None` for control events that are none of its business.
pub(crate) fn seen(world: &World, parsed: &Parsed) -> Option<Seen> {
    let id: Option<Id> = world.id(&parsed.last_event_id);
    match parsed.event.as_str() {
        "tidings.hello" => Some(Seen::Hello(id)),
        "tidings.reset" => Some(Seen::Reset(reset(world, &parsed.data, id))),
        "tidings.unauthorized" => Some(Seen::Unauthorized(id, world.tick())),
        control if control.starts_with("tidings.") => None,
        _ => {
            let channel = world.channel(parsed.channel.as_deref().unwrap_or("?"));
            Some(Seen::Event(Event { id, channel, value: value_of(&parsed.data) }))
        }
    }
}

fn reset(world: &World, data: &str, id: Option<Id>) -> Reset {
    let data: serde_json::Value = serde_json::from_str(data).unwrap_or_default();
    let channels = data.get("channels").and_then(|c| c.as_array()).into_iter().flatten();
    Reset {
        reason: data.get("reason").and_then(|r| r.as_str()).unwrap_or_default().to_owned(),
        channels: channels.filter_map(|c| c.as_str()).map(|c| world.channel(c)).collect(),
        id,
    }
}

/// Reads the head of an answer; returns what came behind it as well.
pub(super) async fn read_head(stream: &mut TcpStream) -> Result<(u16, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some((status, body)) = http::head(&bytes) {
            return Ok((status, bytes.split_off(body)));
        }
        let mut piece = [0; 1_024];
        let count = stream.read(&mut piece).await?;
        if count == 0 || bytes.len() > 64 * 1024 {
            bail!("no head");
        }
        bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
    }
}
