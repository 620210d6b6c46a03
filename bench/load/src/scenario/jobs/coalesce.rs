//! One job that is reported far more often than is stored, in turns with reports at the same rate that all are.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};
use tidings_core::limits::EVENT_PARSE_BYTES_MAX;
use tidings_core::wire::sse::parse::{Item, Parser};

use super::report::upsert;
use super::{NETWORK, ask};
use crate::calls::{Calls, Kind};
use crate::clock;
use crate::connect::Target;
use crate::quantiles::Quantiles;

/// Connections that report.
const REPORTERS: usize = 4;
/// Jobs of the calm turns: each is reported 4 times a second, so far below the limit of 10 that a hiccup of the machine
/// does not bring two reports of one together.
const CALM_JOBS: u64 = 250;
/// Events of the hot job that are kept; ten a second are due.
const EVENTS_MAX: usize = 100_000;

/// The shape of the run.
#[derive(Debug, Args)]
pub(crate) struct Coalesce {
    /// Where the server listens
    #[arg(long)]
    url: String,
    /// Reports per second
    #[arg(long, default_value_t = 1_000.0)]
    rate: f64,
    /// Turns of both kinds
    #[arg(long, default_value_t = 5)]
    turns: u32,
    /// Seconds of a turn
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
}

/// A progress event as it came.
#[derive(Debug, Clone, Copy)]
struct Shown {
    at: u64,
    progress: f64,
}

/// Runs it.
pub(super) fn run(args: &Coalesce) -> Result<Value> {
    let target = Target::parse(&args.url)?;
    let mut calls = Calls::new(target.clone(), NETWORK, REPORTERS)?;
    let prefix = format!("coalesce:{}", std::process::id());
    upsert(&mut calls, &prefix, 1 + CALM_JOBS as usize)?;
    // Behind an event of a job its progress is held back for a tenth of a second.
    std::thread::sleep(Duration::from_millis(300));
    let hot = format!("{prefix}:0");
    let shown = watch(&target, &hot)?;
    let all = args.rate * args.seconds * f64::from(args.turns) + 1.0;
    let (mut hot_us, mut calm_us, mut windows) = (Vec::new(), Vec::new(), Vec::new());
    let (mut reports, mut stored, mut last) = (0_u64, 0_u64, 0.0);
    for _ in 0..args.turns {
        let begun = clock::micros();
        turn(
            &mut calls,
            args,
            |index| {
                last = (reports + index + 1) as f64 / all * 100.0;
                (hot.clone(), last)
            },
            &mut |status, took| {
                stored += u64::from(status == 200);
                hot_us.push(took);
            },
        )?;
        reports = hot_us.len() as u64;
        windows.push((begun, clock::micros()));
        turn(
            &mut calls,
            args,
            |index| (format!("{prefix}:{}", 1 + index % CALM_JOBS), 1.0),
            &mut |status, took| {
                // One that was not stored would be cheaper.
                if status == 200 {
                    calm_us.push(took);
                }
            },
        )?;
    }
    let (calm, hot_all) = (calm_us.len(), hot_us.len());
    ensure!(calm * 10 > hot_all * 8, "of {hot_all} reports below the limit {calm} were stored");
    let events: Vec<Shown> = shown.try_iter().collect();
    let in_turns = events.iter().filter(|e| windows.iter().any(|w| (w.0..=w.1).contains(&e.at))).count();
    let newest = events.last().map(|shown| shown.progress);
    let mut end = Calls::new(target, NETWORK, 1)?;
    ask(&mut end, &format!("/v1/jobs/{hot}/complete"), "{}")?;
    let (hot_q, calm_q) = (Quantiles::of(hot_us), Quantiles::of(calm_us));
    let seconds: u64 = windows.iter().map(|(from, upto)| upto - from).sum();
    Ok(json!({
        "scenario": "coalesce",
        "reports": reports,
        "stored": stored,
        "events_per_s": in_turns as f64 / (seconds as f64 / 1e6),
        "is_last_exact": newest.is_some_and(|newest| (newest - last).abs() < 1e-9),
        "last": last,
        "newest": newest,
        "hot_us": hot_q,
        "calm_us": calm_q,
        "p99_ratio": hot_q.p99 as f64 / calm_q.p99.max(1) as f64,
    }))
}

/// Reports at the rate for one turn; `what` is the job and the progress of a report. Progress of one job only grows, so
/// that the last report is the one that counts, however they overtake each other.
fn turn(
    calls: &mut Calls,
    args: &Coalesce,
    mut what: impl FnMut(u64) -> (String, f64),
    on: &mut impl FnMut(u16, u64),
) -> Result<()> {
    let total = (args.rate * args.seconds) as u64;
    let mut free: Vec<usize> = (0..REPORTERS).collect();
    let (started, mut sent) = (clock::micros(), 0);
    while sent < total || free.len() < REPORTERS {
        let is_due = sent as f64 <= (clock::micros() - started) as f64 / 1e6 * args.rate;
        if sent < total
            && is_due
            && let Some(connection) = free.pop()
        {
            let (job, progress) = what(sent);
            let body = format!("{{\"progress\":{progress}}}");
            calls.post(connection, &format!("/v1/jobs/{job}/progress"), Kind::Json, body.as_bytes())?;
            sent += 1;
        }
        for answer in calls.answers(Duration::from_micros(100))? {
            let answer = answer.success()?;
            on(answer.status, answer.took_us);
            free.push(answer.connection);
        }
    }
    Ok(())
}

/// Follows the stream of a job on a thread of its own.
fn watch(target: &Target, job: &str) -> Result<Receiver<Shown>> {
    let mut stream = TcpStream::connect(target.address)?;
    let request = format!(
        "GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\n\r\n",
        target.host
    );
    stream.write_all(request.as_bytes())?;
    let (tell, shown) = sync_channel(EVENTS_MAX);
    let mut buffer = vec![0; 64 * 1024];
    let mut head = Vec::new();
    let at = loop {
        let read = stream.read(&mut buffer)?;
        ensure!(read > 0, "the stream of a job ended at once");
        head.extend_from_slice(&buffer[..read]);
        if let Some(at) = memchr::memmem::find(&head, b"\r\n\r\n") {
            break at + 4;
        }
    };
    if !head.starts_with(b"HTTP/1.1 200") {
        bail!("the stream of a job: {}", String::from_utf8_lossy(&head));
    }
    let rest = head.split_off(at);
    std::thread::spawn(move || follow(stream, rest, &tell).ok());
    Ok(shown)
}

fn follow(
    mut stream: TcpStream,
    mut bytes: Vec<u8>,
    tell: &std::sync::mpsc::SyncSender<Shown>,
) -> Result<()> {
    let mut parser = Parser::new("", EVENT_PARSE_BYTES_MAX);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let mut input = bytes.as_slice();
        while let Some(item) = parser.next(&mut input)? {
            let Item::Event(event) = item else { continue };
            if event.event == "progress" {
                let document: Value = serde_json::from_str(&event.data)?;
                let progress = document.get("progress").and_then(Value::as_f64).context("progress")?;
                tell.send(Shown { at: clock::micros(), progress })?;
            }
        }
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        bytes = buffer[..read].to_vec();
    }
}
