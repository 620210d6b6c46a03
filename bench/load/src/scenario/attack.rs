//! One process of attackers: connections that ask little and take long.
//!
//! Owns: what they do, once a second each, until standard input ends. Does not know: who else uses the server.
//! Flow: in ← a kind and a count · out → how many there were, and how often the server closed one.

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use mio::net::TcpStream;
use serde_json::{Value, json};

use super::{ATTACKERS, Server};
use crate::connect::Target;

/// Each connection is looked at once in so many steps.
const STEPS: usize = 50;
const STEP: Duration = Duration::from_millis(20);

/// What a connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Sends nothing
    Silent,
    /// Sends the head of a request byte by byte
    Head,
    /// Sends the body of a publish byte by byte
    Body,
    /// Begins HTTP/2, closes its side or stays idle, in turns
    Half,
    /// Opens a stream and reads nothing
    Reader,
}

/// The shape of the attack.
#[derive(Debug, Args)]
pub(crate) struct Attack {
    #[command(flatten)]
    server: Server,
    /// What each connection does
    #[arg(long, value_enum)]
    kind: Kind,
    /// Connections
    #[arg(long, default_value_t = 1_000)]
    count: usize,
}

#[derive(Debug)]
struct Attacker {
    stream: TcpStream,
    sent: usize,
}

/// Attacks until standard input ends.
pub(crate) fn run(args: &Attack) -> Result<Value> {
    let target = Target::parse(&args.server.url)?;
    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&over);
    std::thread::spawn(move || {
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).map(drop).unwrap_or_default();
        told.store(true, Ordering::Release);
    });
    let script = script(args.kind, &target, &args.server.prefix);
    let mut attackers: Vec<Attacker> = Vec::new();
    let (mut closed, mut turn) = (0_u64, 0);
    while !over.load(Ordering::Acquire) {
        let wanted = (args.count * (turn + 1)).div_ceil(STEPS).min(args.count);
        while attackers.len() < wanted {
            attackers
                .push(Attacker { stream: target.connect(network(args.kind), attackers.len())?, sent: 0 });
        }
        for index in (turn % STEPS..attackers.len()).step_by(STEPS) {
            let Some(attacker) = attackers.get_mut(index) else { continue };
            if !attacker.goes_on(args.kind, index, &script) {
                closed += 1;
                *attacker = Attacker { stream: target.connect(network(args.kind), index)?, sent: 0 };
            }
        }
        turn += 1;
        std::thread::sleep(STEP);
    }
    Ok(json!({ "connections": attackers.len(), "closed_by_the_server": closed }))
}

/// Each kind has source addresses of its own.
fn network(kind: Kind) -> u8 {
    ATTACKERS + kind as u8
}

fn script(kind: Kind, target: &Target, prefix: &str) -> Vec<u8> {
    let host = &target.host;
    match kind {
        Kind::Silent => Vec::new(),
        Kind::Head => {
            format!("GET /events?channel={prefix} HTTP/1.1\r\nHost: {host}\r\nX: {}", "x".repeat(1_000))
                .into()
        }
        Kind::Body => {
            let head = "Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n{\"channel\":\"a\",";
            format!("POST /v1/publish HTTP/1.1\r\nHost: {host}\r\n{head}").into()
        }
        Kind::Half => format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n").into(),
        Kind::Reader => {
            let channel = crate::traffic::channel(&super::hostile::slow(prefix), 0);
            target.stream_request(&format!("channel={channel}&from=start"), None)
        }
    }
}

impl Attacker {
    /// Does a little more; `false` once the server has closed the connection.
    fn goes_on(&mut self, kind: Kind, index: usize, script: &[u8]) -> bool {
        let begun = self.sent;
        let next = match kind {
            Kind::Silent => &[][..],
            Kind::Head => script.get(begun..begun + 1).unwrap_or_default(),
            // The head at once, the body byte by byte.
            Kind::Body if begun == 0 => script,
            Kind::Body => b" ",
            Kind::Half if begun == 0 && index.is_multiple_of(3) => {
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"
            }
            Kind::Half if begun == 0 => script,
            Kind::Reader if begun == 0 => script,
            Kind::Half | Kind::Reader => &[],
        };
        if !next.is_empty() {
            match self.stream.write(next) {
                Ok(sent) => self.sent += sent,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {}
                Err(_) => return false,
            }
        }
        if kind == Kind::Half && index % 3 == 1 && begun > 0 {
            self.stream.shutdown(std::net::Shutdown::Write).unwrap_or_default();
        }
        if kind == Kind::Reader {
            return self.stream.take_error().is_ok_and(|error| error.is_none());
        }
        let mut piece = [0; 4_096];
        match self.stream.read(&mut piece) {
            Ok(0) => false,
            Ok(_) => true,
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected),
        }
    }
}
