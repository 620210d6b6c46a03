//! What judging credentials costs: opening 10,000 streams without any, and with each kind.
//!
//! Owns: keys of the run, the application that is asked, the rows. Does not know: how load is made.
//! Flow: one server that knows all kinds → each kind in turns → medians, and ratios to nobody's · streams that are held →
//! how often the application was asked.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::peer::{Kind, Peer, binary};
use super::rows::{Table, figure, median};

/// Turns of each kind.
const ROUNDS: usize = 7;
/// Subjects of the forward-auth streams.
const SUBJECTS: &str = "100";
/// Seconds that an answer of the application is kept, where asks are counted.
const KEPT_S: u32 = 30;
/// Seconds that streams are held there.
const HELD_S: u32 = 100;
/// Keys of the binary's own tests.
const KEYS: &str = "crates/tidings-server/tests/keys";

/// All rows.
pub(super) fn auth(table: &mut Table) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let application = Application::start()?;
    let files = Files::make(folder.path())?;
    let cost = Peer::start(Kind::Guarded, &words(&files.flags(&application.url, 30)))?;
    let kinds: [(&str, Vec<String>); 6] = [
        ("nobody", vec![]),
        ("JWT cookie, HS256", vec!["--jwt".into(), format!("HS256={}", files.secret)]),
        ("JWT cookie, ES256", vec!["--jwt".into(), format!("ES256={KEYS}/es256.key")]),
        ("JWT cookie, RS256", vec!["--jwt".into(), format!("RS256={KEYS}/rs256.key")]),
        ("API key", vec!["--bearer".into(), files.key.clone()]),
        ("forward-auth, 100 subjects", vec!["--session".into(), "--subjects".into(), SUBJECTS.into()]),
    ];
    let mut results: Vec<Vec<Value>> = vec![Vec::new(); kinds.len()];
    for _ in 0..ROUNDS {
        for ((_, flags), results) in kinds.iter().zip(&mut results) {
            results.push(cost.load(&words(&[vec!["open".into()], flags.clone()].concat()))?);
        }
    }
    let base = results.first().context("no runs")?;
    let (nobody_s, nobody_us) = (median(base, "/open_s")?, median(base, "/open_cpu_us")?);
    for ((name, _), results) in kinds.iter().zip(&results) {
        let (all_s, each_us) = (median(results, "/open_s")?, median(results, "/open_cpu_us")?);
        table.row(
            &format!("opening 10,000 streams, {name}"),
            "seconds; CPU each; ÷ nobody",
            format!("{all_s:.2} s; {each_us:.1} µs; {:.2} and {:.2}", all_s / nobody_s, each_us / nobody_us),
        );
    }
    Ok(())
}

/// 10,000 streams of 100 subjects that are held over several periods.
pub(super) fn asks(table: &mut Table) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let application = Application::start()?;
    let files = Files::make(folder.path())?;
    let peer = Peer::start(Kind::Guarded, &words(&files.flags(&application.url, KEPT_S)))?;
    let held = HELD_S.to_string();
    let result = peer.load(&["open", "--session", "--subjects", SUBJECTS, "--seconds", &held])?;
    ensure!(figure(&result, "/open")? == 1e4, "not all streams were held: {result}");
    let asked = application.asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
    table.row(
        &format!("10,000 forward-auth streams of 100 subjects, held {HELD_S} s, answers kept {KEPT_S} s"),
        "asks in all; per period",
        format!("{}; {:.0}", asked.len(), per_period(&asked)?),
    );
    Ok(())
}

/// How often it was asked in a period: everybody's first question only begins one.
#[allow(clippy::cast_precision_loss, reason = "some hundreds")]
fn per_period(times: &[Instant]) -> Result<f64> {
    let (first, last) = times.first().zip(times.last()).context("nobody was asked")?;
    let periods = last.duration_since(*first).as_secs_f64() / f64::from(KEPT_S);
    Ok((times.len() as f64 - SUBJECTS.parse::<f64>()?) / periods)
}

fn words(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}

/// What a server that knows all kinds is started with.
struct Files {
    secret: String,
    keys: String,
    key: String,
}

impl Files {
    fn make(folder: &Path) -> Result<Self> {
        let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let (secret, keys) = (path("secret"), path("keys"));
        tidings(&["token", "secret", &secret])?;
        let key = tidings(&["key", "new", "load", "--subscribe", "*", "--file", &keys])?;
        Ok(Self { secret, keys, key })
    }

    fn flags(&self, application: &str, kept_s: u32) -> Vec<String> {
        let pairs = [
            ("--anonymous", "load:*".to_owned()),
            ("--jwt-key", format!("HS256={}", self.secret)),
            ("--jwt-key", format!("ES256={KEYS}/es256.pub")),
            ("--jwt-key", format!("RS256={KEYS}/rs256.pub")),
            ("--api-key-file", self.keys.clone()),
            ("--forward-auth", application.to_owned()),
            ("--forward-auth-cache-s", kept_s.to_string()),
            // What is measured is judging, not waiting for a turn.
            ("--streams-per-second", "1000000".to_owned()),
            ("--streams-per-subject", "20000".to_owned()),
            ("--streams-per-address", "20000".to_owned()),
        ];
        pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
    }
}

fn tidings(args: &[&str]) -> Result<String> {
    let output = Command::new(binary("tidings")).args(args).output()?;
    ensure!(output.status.success(), "{} failed", args.join(" "));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// An application that knows everybody by the number of their session, and notes when it is asked.
struct Application {
    url: String,
    asked: Arc<Mutex<Vec<Instant>>>,
}

impl Application {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let url = format!("http://{}/auth", listener.local_addr()?);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&asked);
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let note = Arc::clone(&note);
                std::thread::spawn(move || answer(socket, &note));
            }
        });
        Ok(Self { url, asked })
    }
}

/// Answers the questions of one connection until it ends.
fn answer(socket: TcpStream, asked: &Mutex<Vec<Instant>>) -> Option<()> {
    let mut lines = BufReader::new(socket.try_clone().ok()?).lines();
    let (mut socket, mut session) = (socket, None);
    while let Some(Ok(line)) = lines.next() {
        if let Some(cookie) = line.to_ascii_lowercase().strip_prefix("cookie: session=") {
            session = Some(cookie.to_owned());
        }
        if !line.is_empty() {
            continue;
        }
        asked.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
        let body = format!(r#"{{"sub":"{}","subscribe":["load:*"]}}"#, session.take()?);
        let length = body.len();
        socket
            .write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}").as_bytes())
            .ok()?;
    }
    Some(())
}
