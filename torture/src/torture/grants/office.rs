//! The application: it logs people in, hands out tokens, and revokes what it has handed out.
//!
//! Owns: keys, which token was made when and covers what, revocations, and trying tokens that are dead. Does not know: who
//! listens, what the server should do.
//! Flow: in ← who wants a token · out → its number in the trace and its text; revocations → `POST /v1/revocations`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, bail};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::super::http;
use super::super::random::Random;
use super::super::world::{Phase, World};
use crate::checker::{Answer, Probe, Revocation, Revoked, Shown, Token};

/// Microseconds.
const SECOND: u64 = 1_000_000;
/// Dead tokens that are tried after a restart.
const PROBES: usize = 6;

/// What the server checks credentials with, and what they are made with.
pub(super) struct Keys {
    secret: EncodingKey,
    files: [String; 2],
    pub(super) api_key: String,
}

impl Keys {
    /// Makes them as an operator would, with the commands of the binary.
    pub(super) fn make(binary: &Path, folder: &Path) -> Result<Self> {
        let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let (secret, keys) = (path("jwt.secret"), path("api.keys"));
        let run = |arguments: &[&str]| -> Result<String> {
            let output = Command::new(binary).args(arguments).env_remove("TIDINGS_LOG").output()?;
            if !output.status.success() {
                bail!("tidings {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
            }
            Ok(String::from_utf8(output.stdout)?.trim().to_owned())
        };
        run(&["token", "secret", &secret])?;
        let rights = ["--publish", "*", "--subscribe", "*", "--admin"];
        let api_key = run(&[&["key", "new", "torture", "--file", keys.as_str()], &rights[..]].concat())?;
        let mode = std::fs::metadata(&keys)?.permissions().mode();
        if mode & 0o077 != 0 {
            bail!("the file of keys has the mode {mode:o}");
        }
        let text = std::fs::read_to_string(&secret)?;
        let secret_key = EncodingKey::from_secret(text.trim_end().as_bytes());
        Ok(Self { secret: secret_key, files: [secret, keys], api_key })
    }

    /// The flags of a server that knows them.
    pub(super) fn flags(&self) -> Vec<String> {
        let [secret, keys] = &self.files;
        vec!["--jwt-key".into(), format!("HS256={secret}"), "--api-key-file".into(), keys.clone()]
    }
}

/// What a subject is called.
pub(super) fn subject(number: u16) -> String {
    format!("s{number}")
}

/// The application.
pub(super) struct Office {
    pub(super) world: Rc<World>,
    /// Subscribers whose last token will not end in this run.
    pub(super) settled: Cell<usize>,
    keys: Keys,
    random: RefCell<Random>,
    /// The text of each token.
    texts: RefCell<Vec<Rc<str>>>,
    /// The token that each subscriber has now, and the log-in that it belongs to.
    badges: RefCell<Vec<Option<usize>>>,
    sessions: Cell<u32>,
    is_closing: Cell<bool>,
    /// How long behind the answer to a revocation a quick reader's stream ended, in microseconds, by what was revoked.
    ends: RefCell<BTreeMap<&'static str, Vec<u64>>>,
}

impl Office {
    pub(super) fn new(world: &Rc<World>, keys: Keys, subscribers: u16) -> Rc<Self> {
        Rc::new(Self {
            world: Rc::clone(world),
            settled: Cell::default(),
            keys,
            random: RefCell::new(Random::of(world.seed, 2)),
            texts: RefCell::default(),
            badges: RefCell::new(vec![None; usize::from(subscribers)]),
            sessions: Cell::default(),
            is_closing: Cell::default(),
            ends: RefCell::default(),
        })
    }

    /// A new token for a subscriber, whose channels are chosen anew beside those that it keeps. In the end, one that lasts.
    pub(super) fn badge(&self, who: u16, kept: &[u16], random: &mut Random) -> Result<usize> {
        let world = &self.world;
        let subject = who / 2;
        let mut patterns = patterns(random);
        patterns.extend(kept.iter().map(|&channel| world.channel_name(channel).to_string()));
        let own = format!("user:{}", self::subject(subject));
        let covers = |name: &str| {
            name == own
                || patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
                    Some(beginning) => name.starts_with(beginning),
                    None => name == pattern,
                })
        };
        let channels: Vec<u16> =
            world.regular.iter().copied().filter(|&c| covers(&world.channel_name(c))).collect();
        let now = world.tick();
        let life = match (world.phase(), random.percent(75)) {
            (Phase::Faults, true) => random.between(2, 10),
            // Some outlive restarts, so that only a revocation can end them.
            (Phase::Faults, false) => random.between(20, 60),
            _ => 3_600,
        };
        let (session, issued) = self.log_in(who, subject, now);
        let expires = now / SECOND + life;
        let number = world.grants.borrow().tokens.len();
        let claims = json!({
            "sub": self::subject(subject), "sid": format!("login-{session}"), "jti": format!("token-{number}"),
            "iat": issued, "exp": expires, "tidings": { "subscribe": patterns },
        });
        let text = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.keys.secret)?;
        let (issued, expires) = (issued * SECOND, expires * SECOND);
        world.grants.borrow_mut().tokens.push(Token { subject, session, channels, issued, expires });
        self.texts.borrow_mut().push(text.into());
        if let Some(badge) = self.badges.borrow_mut().get_mut(usize::from(who)) {
            *badge = Some(number);
        }
        world.count("tokens");
        Ok(number)
    }

    /// The log-in of a new token, and the second when it was issued. Behind a revocation, a new log-in, whose token is of
    /// the next second: those of the same are refused.
    fn log_in(&self, who: u16, subject: u16, now: u64) -> (u32, u64) {
        let grants = self.world.grants.borrow();
        let before = self.badges.borrow().get(usize::from(who)).copied().flatten();
        let session = before.and_then(|number| Some(grants.tokens.get(number)?.session));
        let last = |is_meant: &dyn Fn(Revoked) -> bool| {
            let meant = grants.revocations.iter().filter(|r| is_meant(r.what));
            meant.map(|r| r.answered.unwrap_or(r.sent)).max()
        };
        let is_out = session.is_none_or(|session| last(&|what| what == Revoked::Session(session)).is_some());
        let session = session.filter(|_| !is_out).unwrap_or_else(|| {
            self.sessions.set(self.sessions.get() + 1);
            self.sessions.get()
        });
        let second = now / SECOND;
        let revoked = last(&|what| what == Revoked::Subject(subject));
        let is_fresh = revoked.is_some_and(|at| at / SECOND >= second);
        (session, if is_fresh { second + 1 } else { second })
    }

    pub(super) fn text(&self, token: usize) -> Rc<str> {
        self.texts.borrow().get(token).cloned().unwrap_or_else(|| "".into())
    }

    pub(super) fn token(&self, token: usize) -> Option<Token> {
        self.world.grants.borrow().tokens.get(token).cloned()
    }

    /// A stream with this token has just ended because it was revoked.
    pub(super) fn ended(&self, token: usize) {
        let Some(own) = self.token(token) else { return };
        let grants = self.world.grants.borrow();
        let is_meant = |what: Revoked| match what {
            Revoked::Token(number) => number == token,
            Revoked::Session(session) => session == own.session,
            Revoked::Subject(subject) => subject == own.subject,
        };
        let Some(last) = grants.revocations.iter().rev().find(|revocation| is_meant(revocation.what)) else {
            return;
        };
        let kind = match last.what {
            Revoked::Token(_) => "token",
            Revoked::Session(_) => "log-in",
            Revoked::Subject(_) => "subject",
        };
        // Where the answer is still on its way, the stream was quicker.
        let late = last.answered.map_or(0, |answered| self.world.tick().saturating_sub(answered));
        self.ends.borrow_mut().entry(kind).or_default().push(late);
    }

    /// One line for each kind of revocation: how long behind its answer streams ended.
    pub(super) fn ends(&self) -> String {
        let line = |(kind, late): (&&str, &mut Vec<u64>)| {
            late.sort_unstable();
            let at = |part: usize| late.get((late.len() * part / 100).min(late.len().saturating_sub(1)));
            let ms = |part| at(part).map_or(0.0, |&us| Duration::from_micros(us).as_secs_f64() * 1e3);
            let (count, [half, most, all]) = (late.len(), [50, 99, 100].map(ms));
            format!(
                "{kind} revoked and answered → stream ended: {count} times, p50 {half:.1} ms, p99 {most:.1} ms, max {all:.1} ms\n"
            )
        };
        self.ends.borrow_mut().iter_mut().map(line).collect()
    }

    /// Nothing new is revoked.
    pub(super) fn close(&self) {
        self.is_closing.set(true);
    }

    /// Revokes tokens, log-ins and subjects, each until that is answered.
    pub(super) async fn revoke(self: Rc<Self>) {
        while !self.is_closing.get() {
            let (pause, what) = {
                let mut random = self.random.borrow_mut();
                (random.millis(150, 800), self.choose(&mut random))
            };
            sleep(pause).await;
            let Some((what, body)) = what else { continue };
            while !self.revoke_once(what, &body).await {
                sleep(Duration::from_millis(30)).await;
            }
        }
    }

    fn choose(&self, random: &mut Random) -> Option<(Revoked, Value)> {
        let number = random.pick(&self.badges.borrow()).copied().flatten()?;
        let token = self.token(number)?;
        Some(match random.below(10) {
            0..=5 => (Revoked::Token(number), json!({ "token": format!("token-{number}") })),
            6 | 7 => {
                (Revoked::Session(token.session), json!({ "session": format!("login-{}", token.session) }))
            }
            _ => (Revoked::Subject(token.subject), json!({ "subject": subject(token.subject) })),
        })
    }

    async fn revoke_once(&self, what: Revoked, body: &Value) -> bool {
        let world = &self.world;
        let number = world.grants.borrow().revocations.len();
        world.grants.borrow_mut().revocations.push(Revocation { what, sent: world.tick(), answered: None });
        let request = ("POST", "/v1/revocations");
        match http::ask(world.address, request, &world.authorization(), &body.to_string()).await {
            Ok((200, answer)) => {
                let answered = Some(world.tick());
                if let Some(revocation) = world.grants.borrow_mut().revocations.get_mut(number) {
                    revocation.answered = answered;
                }
                world.count("revocations answered");
                let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
                if answer.get("closed").and_then(Value::as_u64).unwrap_or_default() > 0 {
                    world.count("revocations that ended a stream");
                }
                true
            }
            Ok((status, _)) if status < 500 => {
                world.complain(format!("a revocation was answered {status}"));
                true
            }
            Ok(_) | Err(_) => {
                world.count("revocations without an answer");
                false
            }
        }
    }

    /// Tries some tokens that are dead: revoked ones that would still hold, and others. A restart forgets nothing.
    pub(super) async fn probe_the_dead(&self) {
        for number in self.dead() {
            let Some(token) = self.token(number) else { continue };
            let channels = token.channels.get(..1).unwrap_or_default().to_vec();
            let lines = format!("authorization: Bearer {}\r\n", self.text(number));
            let shown = self.probe(&channels, &lines, "", number, false).await;
            if shown.answer == Answer::Refused {
                self.world.count("dead tokens refused after a restart");
            }
        }
    }

    fn dead(&self) -> Vec<usize> {
        let now = self.world.tick();
        let grants = self.world.grants.borrow();
        let is_revoked = |number: usize, token: &Token| {
            grants.revocations.iter().filter(|r| r.answered.is_some()).any(|r| match r.what {
                Revoked::Token(named) => named == number,
                Revoked::Session(session) => session == token.session && token.issued <= r.sent,
                Revoked::Subject(subject) => subject == token.subject && token.issued <= r.sent,
            })
        };
        let lives =
            |(number, token): &(usize, &Token)| token.expires > now + SECOND && is_revoked(*number, token);
        let revoked: Vec<usize> = grants.tokens.iter().enumerate().filter(lives).map(|(n, _)| n).collect();
        let over = grants.tokens.iter().position(|token| token.expires < now.saturating_sub(SECOND));
        let mut random = self.random.borrow_mut();
        let mut chosen = random.some(&revoked, PROBES);
        chosen.extend(over);
        chosen
    }

    /// Asks for a stream and reads no more than how it is answered.
    pub(super) async fn probe(
        &self,
        channels: &[u16],
        lines: &str,
        query: &str,
        token: usize,
        is_spent: bool,
    ) -> Shown {
        let world = &self.world;
        let names = channels.iter().map(|&c| format!("channel={}", http::escape(&world.channel_name(c))));
        let path = format!("/events?{}{query}", names.collect::<Vec<_>>().join("&"));
        let sent = world.tick();
        let lines = format!("accept: text/event-stream\r\n{lines}");
        // One that is refused ends at once; one that is opened does not end, and has its answer in its first bytes.
        let answer = http::begin(world.address, &path, &lines).await.map_or(
            Answer::None,
            |(status, text)| match status {
                200 if text.contains("event: tidings.hello") => Answer::Granted,
                200 if text.contains("event: tidings.unauthorized") => Answer::Refused,
                200 => Answer::Gone,
                204 => Answer::Stopped,
                _ => Answer::None,
            },
        );
        let shown = Shown { token, is_spent, sent, answered: world.tick(), answer };
        world.grants.borrow_mut().probes.push(Probe { channels: channels.to_vec(), shown });
        shown
    }
}

/// What a token lets its bearer hear: some channels by name, and now and then all with a beginning.
fn patterns(random: &mut Random) -> Vec<String> {
    let all: Vec<u16> = (0..super::CHANNELS).collect();
    let count = usize::try_from(random.between(1, 5)).unwrap_or(1);
    let mut patterns: Vec<String> =
        random.some(&all, count).into_iter().map(|n| format!("torture:{n}")).collect();
    // The first is a busy one.
    patterns.push("torture:1".into());
    if random.percent(15) {
        patterns.push("torture:1*".into());
    }
    patterns
}
