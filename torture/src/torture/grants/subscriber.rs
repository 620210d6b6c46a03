//! A subscriber with a token on a raw socket: what its parser dispatches, and how every token was answered, goes into the
//! trace.
//!
//! Owns: connections of one subscriber, when it shows which token, its position. Does not know: what is right.
//! Flow: a token → a stream → events → another token on the open stream, a new connection, or a refusal → again.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;
use tidings_core::wire::sse::parse::{Event as Parsed, Item, Parser};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::super::http;
use super::super::random::Random;
use super::super::reader::{Pace, SILENCE, note, read_head, seen};
use super::super::world::{Phase, World};
use super::office::Office;
use crate::checker::{Answer, Client, Seen, Session, Shown, Start};

/// What a subscriber does about the end of its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Habit {
    /// Shows another one on the open stream, when it is told that the end is near.
    Heeds,
    /// Shows another one on the open stream, at some time.
    Renews,
    /// Comes back with another one before.
    Returns,
    /// Nothing, until it is refused.
    Lapses,
}

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Cut by either side: come back.
    Cut,
    /// Refused, with the position of before.
    Refused,
    /// 204.
    Stopped,
}

/// How a token is brought along.
#[derive(Debug, Clone)]
enum Carrier {
    Head,
    Cookie,
    Ticket(String),
}

struct Subscriber {
    office: Rc<Office>,
    world: Rc<World>,
    who: u16,
    /// In the trace.
    number: usize,
    habit: Habit,
    pace: Pace,
    random: Random,
    last_id: String,
    token: Option<usize>,
    /// What this connection asks for.
    channels: Vec<u16>,
    /// The id of this connection, once it is known.
    connection: Option<String>,
    /// When another token is shown, or the connection is cut.
    due: Instant,
    /// It was refused, and has not been let in since.
    is_out: bool,
    /// It has the token with which it stays.
    is_settled: bool,
    /// It was let in with it.
    is_counted: bool,
    /// Channels whose last event came.
    marked: HashSet<u16>,
    is_done: bool,
}

/// Runs a subscriber until the run is over.
pub(super) async fn run(office: Rc<Office>, who: u16) {
    let world = Rc::clone(&office.world);
    let mut random = Random::of(world.seed, 1_000 + u64::from(who));
    let start = if random.percent(30) { Start::Oldest } else { Start::Now };
    let client = Client {
        name: format!("subscriber {who}"),
        // Whatever a connection did not ask for is foreign to it.
        channels: world.regular.clone(),
        start,
        sessions: Vec::new(),
        ended: false,
        must_end: false,
    };
    world.clients.borrow_mut().push(client);
    let habits = [Habit::Heeds, Habit::Renews, Habit::Returns, Habit::Lapses];
    let mut phase = world.phase.subscribe();
    let mut subscriber = Subscriber {
        number: world.clients.borrow().len() - 1,
        habit: habits.get(usize::from(who) % habits.len()).copied().unwrap_or(Habit::Lapses),
        pace: match who % 6 {
            0 => Pace::Slow,
            1 => Pace::Stalling,
            _ => Pace::Fast,
        },
        world: Rc::clone(&world),
        office,
        who,
        random,
        last_id: String::new(),
        token: None,
        channels: Vec::new(),
        connection: None,
        due: Instant::now(),
        is_out: false,
        is_settled: false,
        is_counted: false,
        marked: HashSet::new(),
        is_done: false,
    };
    tokio::select! {
        ended = subscriber.live(start) => if let Err(error) = ended {
            world.complain(format!("subscriber {who}: {error:#}"));
        },
        _ = phase.wait_for(|phase| *phase == Phase::Over) => {}
    }
}

impl Subscriber {
    async fn live(&mut self, start: Start) -> Result<()> {
        loop {
            self.choose_token()?;
            match self.connect(start).await {
                Ok(End::Cut) => {
                    self.world.count("reconnects");
                    sleep(self.random.millis(0, 250)).await;
                }
                // Some browsers come back with what they have, and are told to stop.
                Ok(End::Refused) if self.random.percent(60) => sleep(self.random.millis(0, 200)).await,
                Ok(End::Refused) => self.log_in_again().await,
                Ok(End::Stopped) => {
                    self.world.count("stops");
                    self.log_in_again().await;
                }
                Err(_) => {
                    self.world.count("failed attempts");
                    sleep(self.random.millis(0, 200)).await;
                }
            }
        }
    }

    async fn log_in_again(&mut self) {
        self.token = None;
        let wait = if self.is_settled { (50, 100) } else { (50, 1_000) };
        sleep(self.random.millis(wait.0, wait.1)).await;
    }

    /// The token of before, or another one. In the end one that lasts.
    fn choose_token(&mut self) -> Result<()> {
        let is_over = self.world.phase() != Phase::Faults && !self.is_settled;
        if is_over || self.token.is_none() {
            let token = self.office.badge(self.who, &[], &mut self.random)?;
            self.is_settled = self.world.phase() != Phase::Faults;
            self.token = Some(token);
        }
        Ok(())
    }

    async fn connect(&mut self, start: Start) -> Result<End> {
        let Some(token) = self.token else { bail!("there is no token") };
        let text = self.office.text(token);
        self.channels = self.office.token(token).map(|token| token.channels).unwrap_or_default();
        let is_prying = !self.is_settled && self.random.percent(6) && self.pry();
        let carrier = self.carrier(&text).await?;
        let mut stream = self.socket().await?;
        let (asked, is_marked) = (self.world.id(&self.last_id), self.last_id.ends_with("~s"));
        let shown = Shown {
            token,
            is_spent: false,
            sent: self.world.tick(),
            answered: u64::MAX,
            answer: Answer::None,
        };
        let session = Session {
            asked,
            is_marked,
            channels: self.channels.clone(),
            shown: vec![shown],
            seen: Vec::new(),
        };
        if let Some(client) = self.world.clients.borrow_mut().get_mut(self.number) {
            client.sessions.push(session);
        }
        let request = self.request(start, &text, &carrier);
        stream.write_all(request.as_bytes()).await?;
        let (status, rest) = timeout(SILENCE, read_head(&mut stream)).await??;
        match status {
            200 => {}
            204 => {
                self.answered(0, Answer::Stopped);
                return Ok(End::Stopped);
            }
            other => {
                self.world.complain(format!("subscriber {}: a stream was answered {other}", self.who));
                bail!("status {other}");
            }
        }
        self.connection = None;
        let end = self.read(stream, rest).await?;
        if end == End::Refused && is_prying {
            self.world.count("prying refused");
        }
        if let Carrier::Ticket(query) = &carrier {
            if self.connection.is_some() {
                self.world.count("tickets used");
            }
            self.try_again(token, query).await;
        }
        Ok(end)
    }

    /// Asks for one channel more than the token covers; best for one whose name begins like that of another.
    fn pry(&mut self) -> bool {
        let own: Vec<u16> = self.channels.clone();
        let others: Vec<u16> = self.world.regular.iter().copied().filter(|c| !own.contains(c)).collect();
        let is_longer = |channel: &u16| {
            let name = self.world.channel_name(*channel);
            own.iter().any(|&c| name.starts_with(&*self.world.channel_name(c)))
        };
        let longer: Vec<u16> = others.iter().copied().filter(is_longer).collect();
        let from = if longer.is_empty() || self.random.percent(30) { &others } else { &longer };
        let Some(&channel) = self.random.pick(from) else { return false };
        self.channels.push(channel);
        true
    }

    async fn carrier(&mut self, text: &str) -> Result<Carrier> {
        match self.random.below(10) {
            0..=5 => Ok(Carrier::Head),
            6..=8 => Ok(Carrier::Cookie),
            _ => {
                let lines = format!("authorization: Bearer {text}\r\n");
                let (status, answer) =
                    http::ask(self.world.address, ("POST", "/v1/tickets"), &lines, "").await?;
                let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
                match answer.get("ticket").and_then(Value::as_str).filter(|_| status == 201) {
                    Some(ticket) => Ok(Carrier::Ticket(format!("&ticket={ticket}"))),
                    // A token that is over gets none, and is refused like any other.
                    None => Ok(Carrier::Head),
                }
            }
        }
    }

    /// A ticket that was used opens nothing.
    async fn try_again(&self, token: usize, query: &str) {
        let channels = self.office.token(token).map(|token| token.channels).unwrap_or_default();
        let channels = channels.get(..1).unwrap_or_default();
        let shown = self.office.probe(channels, "", query, token, true).await;
        if shown.answer == Answer::Refused {
            self.world.count("used tickets refused");
        }
    }

    async fn socket(&self) -> Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        if self.pace != Pace::Fast {
            socket.set_recv_buffer_size(4_096)?;
        }
        Ok(timeout(SILENCE, socket.connect(self.world.address)).await??)
    }

    fn request(&self, start: Start, text: &str, carrier: &Carrier) -> String {
        let names = self.channels.iter().map(|&c| self.world.channel_name(c));
        let names: Vec<String> = names.map(|name| format!("channel={}", http::escape(&name))).collect();
        let from = if start == Start::Oldest { "&from=start" } else { "" };
        let id = match self.last_id.as_str() {
            "" => String::new(),
            id => format!("last-event-id: {id}\r\n"),
        };
        let (who, ticket) = match carrier {
            Carrier::Head => (format!("authorization: Bearer {text}\r\n"), ""),
            Carrier::Cookie => (format!("cookie: a=b; tidings={text}\r\n"), ""),
            Carrier::Ticket(query) => (String::new(), query.as_str()),
        };
        let (host, query) = (self.world.address, names.join("&"));
        format!(
            "GET /events?{query}{from}{ticket} HTTP/1.1\r\nhost: {host}\r\naccept: text/event-stream\r\n{who}{id}\r\n"
        )
    }

    /// Reads until somebody cuts or refuses.
    async fn read(&mut self, mut stream: TcpStream, rest: Vec<u8>) -> Result<End> {
        let mut parser = Parser::new(&self.last_id, tidings_core::limits::EVENT_PARSE_BYTES_MAX);
        let cut = Instant::now() + self.life();
        self.due = self.next_due();
        if self.take(&mut parser, &rest)? {
            return Ok(End::Refused);
        }
        let mut phase = self.world.phase.subscribe();
        let mut buffer = vec![0; if self.pace == Pace::Slow { 512 } else { 16 * 1024 }];
        loop {
            let faults = self.world.phase() == Phase::Faults;
            if faults {
                self.pace.dawdle(&self.world, &mut self.random, 4_000).await;
            }
            let count = tokio::select! {
                read = timeout(SILENCE, stream.read(&mut buffer)) => match read {
                    Ok(read) => read?,
                    Err(_) => {
                        self.world.count("silences");
                        return Ok(End::Cut);
                    }
                },
                () = sleep_until(cut), if faults => return self.cut(stream).await,
                () = sleep_until(self.due), if faults => {
                    if self.habit == Habit::Returns {
                        self.token = None;
                        return self.cut(stream).await;
                    }
                    self.show_another().await?;
                    continue;
                }
                // Everybody comes back once more, with a token that lasts.
                _ = phase.wait_for(|phase| *phase != Phase::Faults), if !self.is_settled => {
                    return Ok(End::Cut);
                }
            };
            if count == 0 {
                return Ok(End::Cut);
            }
            if self.take(&mut parser, buffer.get(..count).unwrap_or_default())? {
                return Ok(End::Refused);
            }
        }
    }

    /// How long this connection lives before its client cuts it.
    fn life(&mut self) -> Duration {
        match self.random.below(10) {
            0 => self.random.millis(0, 300),
            1 | 2 => self.random.millis(300, 3_000),
            _ => self.random.millis(5_000, 25_000),
        }
    }

    /// When it does something about its token, if it is one who does.
    fn next_due(&mut self) -> Instant {
        let never = Duration::from_secs(86_400);
        let token = self.token.and_then(|token| self.office.token(token));
        let left = token.map_or(0, |token| token.expires.saturating_sub(self.world.tick()));
        let part = match self.habit {
            Habit::Renews | Habit::Returns => self.random.between(30, 85),
            Habit::Heeds | Habit::Lapses => return Instant::now() + never,
        };
        Instant::now() + Duration::from_micros(left / 100 * part)
    }

    async fn cut(&mut self, mut stream: TcpStream) -> Result<End> {
        match self.random.below(3) {
            0 => {}
            1 => stream.set_zero_linger()?,
            _ => stream.shutdown().await?,
        }
        self.world.count("disconnects");
        Ok(End::Cut)
    }

    /// Another token on the open stream.
    async fn show_another(&mut self) -> Result<()> {
        let Some(connection) = self.connection.clone() else {
            // Too early: hello has yet to come.
            self.due = Instant::now() + Duration::from_millis(50);
            return Ok(());
        };
        // Most grants go on or grow; one that shrinks ends the stream.
        let kept = if self.random.percent(80) { self.channels.clone() } else { Vec::new() };
        let token = self.office.badge(self.who, &kept, &mut self.random)?;
        let sent = self.world.tick();
        let shown = Shown { token, is_spent: false, sent, answered: u64::MAX, answer: Answer::None };
        let index = self.with_session(|session| {
            session.shown.push(shown);
            session.shown.len() - 1
        });
        let lines = format!("authorization: Bearer {}\r\n", self.office.text(token));
        let path = format!("/v1/connections/{connection}/auth");
        let answer = match http::ask(self.world.address, ("POST", &path), &lines, "").await {
            Ok((200, _)) => Answer::Granted,
            Ok((401, _)) => Answer::Rejected,
            Ok((403, _)) => Answer::Refused,
            Ok((404, _)) => Answer::Gone,
            Ok(_) | Err(_) => Answer::None,
        };
        self.answered(index, answer);
        if answer == Answer::Granted {
            self.world.count("open streams that went on with another token");
        }
        self.token = Some(token);
        self.due = self.next_due();
        Ok(())
    }

    fn with_session<T: Default>(&self, work: impl FnOnce(&mut Session) -> T) -> T {
        let mut clients = self.world.clients.borrow_mut();
        let session = clients.get_mut(self.number).and_then(|client| client.sessions.last_mut());
        session.map(work).unwrap_or_default()
    }

    fn answered(&self, index: usize, answer: Answer) {
        let at = self.world.tick();
        self.with_session(|session| {
            if let Some(shown) = session.shown.get_mut(index) {
                (shown.answer, shown.answered) = (answer, at);
            }
        });
    }

    /// `true` if the stream was refused.
    fn take(&mut self, parser: &mut Parser, mut bytes: &[u8]) -> Result<bool> {
        let mut refused = false;
        while let Some(item) = parser.next(&mut bytes)? {
            let Item::Event(parsed) = item else { continue };
            if parsed.event == "tidings.auth_expiring" {
                self.world.count("warnings of the end");
                if self.habit == Habit::Heeds {
                    self.due = Instant::now();
                }
            }
            let Some(seen) = seen(&self.world, &parsed) else { continue };
            match &seen {
                Seen::Hello(_) => self.let_in(&parsed),
                Seen::Unauthorized(..) => {
                    refused = true;
                    self.put_out(&parsed);
                }
                Seen::Event(event) => self.count_down(event.channel, event.value),
                Seen::Reset(_) => {}
            }
            note(&self.world, self.number, seen);
        }
        self.last_id.clear();
        self.last_id.push_str(parser.last_event_id());
        Ok(refused)
    }

    fn let_in(&mut self, hello: &Parsed) {
        self.answered(0, Answer::Granted);
        let data: Value = serde_json::from_str(&hello.data).unwrap_or_default();
        self.connection = data.get("connection").and_then(Value::as_str).map(str::to_owned);
        if std::mem::take(&mut self.is_out) {
            self.world.count("resumes behind a refusal");
        }
        if self.is_settled && !std::mem::replace(&mut self.is_counted, true) {
            self.office.settled.set(self.office.settled.get() + 1);
        }
        self.finish();
    }

    fn put_out(&mut self, refusal: &Parsed) {
        self.is_out = true;
        if self.connection.is_none() {
            self.answered(0, Answer::Refused);
            return self.world.count("streams refused at once");
        }
        let data: Value = serde_json::from_str(&refusal.data).unwrap_or_default();
        let is_revoked = data.get("code").and_then(Value::as_str) == Some("token_revoked");
        // A slow reader reads late what was said at once.
        if let Some(token) = self.token.filter(|_| is_revoked && self.pace == Pace::Fast) {
            self.office.ended(token);
        }
        self.world.count(match data.get("code").and_then(Value::as_str) {
            Some("token_expired") => "streams that ended with their token",
            Some("token_revoked") => "streams that were revoked",
            Some("forbidden") => "open streams that a smaller grant ended",
            _ => "streams that ended for another reason",
        });
    }

    fn count_down(&mut self, channel: u16, value: Option<u64>) {
        if value.is_some_and(|value| self.world.markers.borrow().contains(&value)) {
            self.marked.insert(channel);
            self.finish();
        }
    }

    /// Whether it has all that it waits for.
    fn finish(&mut self) {
        let has_all = self.channels.iter().all(|channel| self.marked.contains(channel));
        if self.is_settled && has_all && !self.is_done {
            self.is_done = true;
            self.world.done.set(self.world.done.get() + 1);
        }
    }
}
